"""Gaussian fits at an equal budget: how near each comes with at most half a million gradients.

One JSON line a target and peer. `ours` and `baseline` are gaps as in gaussian.py; the gradients
that each used stand beside them. Ours takes the largest number of nodes, a power of two, that stays
within the budget, up to 4,096 (16,384 on Gaussian targets); peers by Adam 5,000 steps of 100 draws
at the best of three learning rates. GSM, 1,000 batches of 100, and Pathfinder end long before.
Nothing is timed, so that the machine need not be idle:
`python benchmarks/gaussian_budget.py [--only "gaussian 4" ...]`.
"""

import argparse

import blackjax
import gaussian
import jax
import jax.numpy as jnp
import jax.random as jr
from _line import tell
from _ours import evaluations, fit
from _peers import RATES, STEPS, _adam, _fit_blackjax, _fit_numpyro
from _targets import targets
from gsmvi.gsm import GSM
from numpyro.infer.autoguide import AutoLowRankMultivariateNormal

DRAWS = 100
BUDGET = STEPS * DRAWS
GSM_STEPS = 1000


def _ours(target):
    """The fit with the most nodes that the budget allows; fewer gradients than nodes are no fit."""
    n = 2**14 if target.gaussian else 2**12
    while True:
        q, info = fit(target, n, None)
        used = evaluations(info.steps, n, target.dim)
        if used <= BUDGET or n == 32:
            return [(used, q.mean, q.covariance)]
        n //= 2


def _adam_peer(fit):
    def run(target):
        prepared = _adam(fit, DRAWS)(target)
        traces = [prepared.run(rate) for rate in RATES]
        return [(int(t.evaluations[-1]), t.means[-1], t.covariances[-1]) for t in traces]

    return run


def _low_rank(draws, log_prob, mean, rate):
    """As `_fit_numpyro`, with the guide of low rank plus diagonal; rank sqrt(dim), its default."""
    return _fit_numpyro(draws, log_prob, mean, rate, AutoLowRankMultivariateNormal)


def _pathfinder(target):
    """Its defaults: 30 iterations of L-BFGS with a memory of 10; more change nothing here."""
    state, info = jax.jit(blackjax.pathfinder.approximate, static_argnums=1)(
        jr.key(0), target.log_prob, target.mean
    )
    h = jnp.diag(state.alpha) + state.beta @ state.gamma @ state.beta.T
    # Points of the path, each with one gradient at least; line searches add some.
    used = int(jnp.sum(jnp.isfinite(info.path.elbo)))
    return [(used, state.position - h @ state.grad_position, h)]


def _gsm(target):
    gsm = GSM(D=target.dim, lp=None, lp_g=jax.jit(jax.vmap(jax.grad(target.log_prob))))
    start = target.mean, target.scale @ target.scale.T
    options = {"niter": GSM_STEPS - 1, "batch_size": DRAWS, "verbose": False}
    return [(GSM_STEPS * DRAWS, *gsm.fit(jr.PRNGKey(0), *start, **options))]


METHODS = {
    gaussian.OURS: _ours,
    "blackjax.fullrank_vi": _adam_peer(_fit_blackjax),
    "blackjax.pathfinder": _pathfinder,
    "numpyro.AutoMultivariateNormal": _adam_peer(_fit_numpyro),
    "numpyro.AutoLowRankMultivariateNormal": _adam_peer(_low_rank),
    "gsmvi.GSM": _gsm,
}


def report(target):
    runs = {name: run(target) for name, run in METHODS.items()}
    loss = lambda run: gaussian.loss(target, gaussian.FINAL, *run[1:])
    best = {name: min(each, key=loss) for name, each in runs.items()}
    losses = {name: loss(run) for name, run in best.items()}
    if target.gaussian:
        floor = 0.0
    else:
        known = [target.optimum] if target.optimum else []
        floor = min(*losses.values(), *(loss((0, *end)) for end in known), float("inf"))
    kind = "KL(q||p)" if target.gaussian else "ELBO gap"
    for name in METHODS:
        if name == gaussian.OURS:
            continue
        ours, theirs = losses[gaussian.OURS] - floor, losses[name] - floor
        line = {
            "case": target.name,
            "metric": f"final {kind} at {BUDGET} gradients",
            "value": gaussian.finite(ours - theirs),
            "goal": None,
            "ours": gaussian.finite(ours),
            "baseline": gaussian.finite(theirs),
            "baseline_name": name,
            "unit": "nats",
            "ours_gradients": best[gaussian.OURS][0],
            "baseline_gradients": best[name][0],
        }
        tell(**line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", choices=[*targets()], default=[*targets()])
    for name in parser.parse_args().only:
        report(targets()[name]())
        jax.clear_caches()
