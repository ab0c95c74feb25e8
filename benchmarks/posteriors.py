"""Posteriors whose moments Stan has sampled: what each kind of Gaussian loses, at the same cost.

One JSON line a posterior, law of ours and baseline: `value` is the largest error of a mean of the
model's own parameters, in units of Stan's deviations, or its ratio to a peer's. `of_ours` and
`of_baseline` have the rest: the ELBO, errors of means and of deviations, k-hat, all by the same
fresh draws from each law, gradients of log p, and time, which leaves compilation out. All start at
N(0, 0.1^2 I), and ours rests at a gap of 1e-3 nat. The peers are numpyro's guides of the same
structure, with Adam, and blackjax's Pathfinder. A guide goes on until it has had as many gradients
as ours, and as much time; up to 1,000 dimensions it has the better of two learning rates, free.
Pathfinder ends by itself. `nox -s bench -- posteriors`, or
`python benchmarks/posteriors.py [--tiny] [--only NAME ...] [--laws NAME ...]`.
"""

import argparse
import functools
import math
import time
from typing import NamedTuple

import blackjax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro
import numpyro.distributions as dist
from _gradients import evaluations
from _gym import POSTERIORS
from _line import tell
from numpyro.infer import SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import AutoDiagonalNormal, AutoLowRankMultivariateNormal

import divergence_flows as df
from divergence_flows.fits._pareto import pareto_k

jax.config.update("jax_enable_x64", True)

RANKS = (5, 20, 50)
LARGEST_FULL = 1000  # dimensions; beyond, a full covariance takes too long
SHARED = 20  # the rank that ours and numpyro's guide share
RATES = (1e-2, 1e-3)  # beyond that dimension the first alone, for time's sake
DRAWS = 10  # of a step of Adam
PIECE = 50  # steps between two looks at the clock
PATHS = {"maxiter": 100, "num_samples": 50}  # of Pathfinder; it ends when L-BFGS does
START = 0.1  # deviations, in every coordinate
TOL = 1e-3  # nats, at which ours rests
MEASURE = "largest error of a mean"
GOALS = {("item response", f"rank {SHARED}"): 0.1}


class Fit(NamedTuple):
    law: df.Gaussian | df.LowRankGaussian
    gradients: int
    seconds: float
    more: dict


@eqx.filter_jit
def _seen(posterior, q, keys):
    """Of pairs z and -z: log p - log q of each, and averages of quantities and of their squares."""
    low_rank = isinstance(q, df.LowRankGaussian)
    size = q.latent_size if low_rank else q.mean.size
    shift = jnp.asarray(posterior.mean)

    def one(z):
        x = q.push(z)
        return posterior.log_prob(x) - q.log_prob_of_push(z), posterior.quantities(x) - shift

    def block(sums, key):
        z = jr.normal(key, (64, size))
        weights, off = jax.vmap(one)(jnp.concatenate([z, -z]))
        return (sums[0] + off.sum(0), sums[1] + jnp.sum(off**2, 0)), weights

    zeros = jnp.zeros_like(shift)
    sums, weights = jax.lax.scan(block, (zeros, zeros), keys)
    n = weights.size
    return weights, sums[0] / n, sums[1] / n


def judged(posterior, q, draws):
    """The metrics of a law that depend on it alone, from fresh draws."""
    weights, off, square = _seen(posterior, q, jr.split(jr.key(1), draws // 128))
    pairs = weights.reshape(-1, 2, 64).mean(1).ravel()
    means = off / posterior.deviation
    deviations = jnp.sqrt(square - off**2) / posterior.deviation - 1
    flat = weights.ravel()
    size = jnp.abs(jnp.mean(flat)) + q.mean.size
    k_hat = pareto_k(flat, jnp.full_like(flat, jnp.finfo(flat.dtype).eps * size))
    rms = lambda x: jnp.sqrt(jnp.mean(x**2))
    found = {
        "ELBO": jnp.mean(pairs),
        "error of means, rms": rms(means),
        MEASURE: jnp.max(jnp.abs(means)),
        "error of deviations, rms": rms(deviations),
        "largest error of a deviation": jnp.max(jnp.abs(deviations)),
        "k-hat": k_hat,
    }
    error = float(jnp.std(pairs) / math.sqrt(pairs.size))
    return {name: float(value) for name, value in found.items()}, error


def structures(dim):
    """Names of our laws, as far as they make sense in so many dimensions."""
    full = ["full"] if dim <= LARGEST_FULL else []
    return ["mean field", *(f"rank {k}" for k in RANKS if k < dim), *full]


def ours(posterior, name, nodes):
    """`fit_gaussian` with its defaults, from the start that numpyro's guides have of their own."""
    dim = posterior.dim
    full = name == "full"
    q0 = df.Gaussian(jnp.zeros(dim), START * (jnp.eye(dim) if full else jnp.ones(dim)))
    rank = int(name.split()[1]) if name.startswith("rank") else None
    n = nodes or (max(1024, 2 * dim) if full else 1024)
    fit = functools.partial(
        df.fit_gaussian, posterior.log_prob, q0, rank=rank, n=n, throw=False, key=jr.key(0)
    )
    jax.block_until_ready(fit(tol=1e30))  # compiles, and ends where it starts
    start = time.perf_counter()
    q, info = jax.block_until_ready(fit(tol=TOL))
    seconds = time.perf_counter() - start
    least = 4 * dim if full else 16 * (rank or 0)
    used = evaluations(info.steps, n, dim + (rank or 0), least)
    more = {"rested": bool(info.rested), "steps": info.steps.tolist(), "gap": float(info.gap)}
    return Fit(q, used, seconds, more)


def _low_rank(model, **options):
    return AutoLowRankMultivariateNormal(model, rank=SHARED, **options)


GUIDES = {  # of the same structure as a law of ours
    "mean field": ("AutoDiagonalNormal", AutoDiagonalNormal),
    f"rank {SHARED}": ("AutoLowRankMultivariateNormal", _low_rank),
}


def _guide(posterior, make, rate):
    """numpyro's own initial scale, 0.1, and Adam; it starts where ours does."""

    def model():
        flat = dist.ImproperUniform(dist.constraints.real_vector, (), (posterior.dim,))
        numpyro.factor("log_p", posterior.log_prob(numpyro.sample("x", flat)))

    start = init_to_value(values={"x": jnp.zeros(posterior.dim)})
    guide = make(model, init_loc_fn=start)
    loss = Trace_ELBO(num_particles=DRAWS)
    return guide, SVI(model, guide, numpyro.optim.Adam(rate), loss)


def _law_of(found):
    if isinstance(found, dist.LowRankMultivariateNormal):
        return df.LowRankGaussian(found.loc, found.cov_factor, jnp.sqrt(found.cov_diag))
    return df.Gaussian(found.loc, found.scale)


def guided(posterior, make, rate, gradients, seconds):
    """The guide's law after so many gradients, and after so many seconds."""
    guide, svi = _guide(posterior, make, rate)
    state = svi.init(jr.key(0))
    advance = jax.jit(
        lambda state, count: jax.lax.fori_loop(0, count, lambda _, s: svi.update(s)[0], state)
    )
    jax.block_until_ready(advance(state, 0))  # compiles
    steps, done, used, found = max(1, gradients // DRAWS), 0, 0.0, {}
    while done < steps or used < seconds:
        piece = min(PIECE, steps - done) if done < steps else PIECE
        start = time.perf_counter()
        state = jax.block_until_ready(advance(state, piece))
        used, done = used + time.perf_counter() - start, done + piece
        law = _law_of(guide.get_posterior(svi.get_params(state)))
        if done == steps:
            found["equal gradients"] = Fit(law, DRAWS * done, used, {"rate": rate})
        if used >= seconds and "equal time" not in found:
            found["equal time"] = Fit(law, DRAWS * done, used, {"rate": rate})
    return found


def best_guided(posterior, make, gradients, seconds, draws):
    """The better learning rate at each budget, by the ELBO; one that is not finite is the worst."""
    rates = RATES if posterior.dim <= LARGEST_FULL else RATES[:1]
    runs = [guided(posterior, make, rate, gradients, seconds) for rate in rates]

    def elbo(fit):
        value = judged(posterior, fit.law, draws)[0]["ELBO"]
        return value if math.isfinite(value) else -math.inf

    return {budget: max((run[budget] for run in runs), key=elbo) for budget in runs[0]}


@functools.partial(jax.jit, static_argnums=1)
def _path(key, log_prob, start):
    """Its law of highest ELBO, and how long the path is.

    Where all of the path is a result, 200 points of it, XLA on a CPU waits for ever.
    """
    state, info = blackjax.pathfinder.approximate(key, log_prob, start, **PATHS)
    return state, jnp.sum(jnp.isfinite(info.path.elbo))


def pathfinder(posterior):
    """Its law of highest ELBO along L-BFGS's path; H is dense here, to judge it as the others."""
    given = jr.key(0), posterior.log_prob, jnp.zeros(posterior.dim)
    jax.block_until_ready(_path(*given))  # compiles
    start = time.perf_counter()
    state, points = jax.block_until_ready(_path(*given))
    seconds = time.perf_counter() - start
    h = jnp.diag(state.alpha) + state.beta @ state.gamma @ state.beta.T
    law = df.Gaussian(state.position - h @ state.grad_position, jnp.linalg.cholesky(h))
    # Points of the path, each with one gradient at least; line searches add some.
    return Fit(law, int(points), seconds, {})


def numbers(posterior, fit, draws):
    """All that is known of a fit; what is not finite is None."""
    found, error = judged(posterior, fit.law, draws)
    found |= {"ELBO's standard error": error, "gradients": fit.gradients, "time": fit.seconds}
    return {name: each if math.isfinite(each) else None for name, each in found.items()} | fit.more


def report(posterior, law, mine, peer=None, theirs=None):
    """One line: ours alone, whose baseline is Stan's own standard error, or beside a peer's."""
    ours, goal = mine[MEASURE], None
    if theirs is None:
        baseline, value = max(posterior.error / posterior.deviation), ours
        goal = GOALS.get((posterior.name, law))
    else:
        baseline = theirs[MEASURE]
        value = None if ours is None or baseline is None else ours / baseline
    line = {
        "case": f"{posterior.name}, {posterior.dim:,} d: {law}",
        "metric": MEASURE,
        "value": value,
        "goal": goal,
        "ours": ours,
        "baseline": baseline,
        "baseline_name": peer or "Stan's standard error",
        "unit": "Stan's deviations",
        "of_ours": mine,
    }
    tell(**line, **({} if theirs is None else {"of_baseline": theirs}))


def run(posterior, laws, nodes, draws):
    """Our laws one after another, and beside two of them the peers' at the same cost."""
    for law in laws:
        fit = ours(posterior, law, nodes)
        mine = numbers(posterior, fit, draws)
        report(posterior, law, mine)
        if law in GUIDES:
            name, make = GUIDES[law]
            others = best_guided(posterior, make, fit.gradients, fit.seconds, draws)
            for budget, other in others.items():
                theirs = numbers(posterior, other, draws)
                report(posterior, law, mine, f"numpyro.{name}, {budget}", theirs)
        if law == f"rank {SHARED}":
            theirs = numbers(posterior, pathfinder(posterior), draws)
            report(posterior, law, mine, "blackjax.pathfinder", theirs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", choices=[*POSTERIORS], default=[*POSTERIORS])
    parser.add_argument("--laws", nargs="*", help="of ours; all by default")
    parser.add_argument("--tiny", action="store_true", help="few nodes and draws, to try it")
    options = parser.parse_args()
    for name in options.only:
        posterior = POSTERIORS[name]()
        laws = options.laws or structures(posterior.dim)
        run(posterior, laws, 64 if options.tiny else None, 2**10 if options.tiny else 2**14)
        jax.clear_caches()
