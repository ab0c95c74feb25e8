"""Mixtures by `fit_mixture`, on targets whose normaliser is 1: how near the ELBO and the EUBO come.

Two JSON lines a target: `ours` is -ELBO and EUBO [nats] of a mixture of at most `most` components,
each with its error and by draws that decided nothing, so that KL(q || p) and KL(p || q) are what
they say; `baseline` is the same of one Gaussian, by `fit_gaussian` and the same draws. `goal` is
.05 where a mixture of so many can. Targets: of Yi & Liu (2023) and of Lambert et al. (2022), both
by what their code says; 40 Gaussians (Midgley et al., 2023), a mixture of ten Student t laws of two
degrees of freedom (Blessing et al., 2024), and Neal's funnel in ten dimensions. Float64, defaults.
`nox -s bench -- mixtures`, or `python benchmarks/mixtures.py [--only NAME ...]`.
"""

import argparse
import functools
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from _line import tell
from jax.scipy.stats import norm
from jax.tree_util import Partial

import divergence_flows as df

jax.config.update("jax_enable_x64", True)

NEAR = 0.05  # nats
DRAWS = 2**14
RESULTS = pathlib.Path(__file__).parent / "results" / "mixtures.jsonl"


class Target(NamedTuple):
    log_prob: Callable
    sample: Callable  # key -> DRAWS samples
    start: df.Gaussian
    most: int  # components
    reached: bool = True  # whether a mixture of so many comes near


def start(dim, width=1.0):
    return df.Gaussian(jnp.zeros(dim), width * jnp.eye(dim))


def of_mixture(weights, means, scales, most, width=1.0):
    p = df.Mixture(jnp.log(jnp.array(weights)), jnp.array(means), jnp.array(scales))
    draws = functools.partial(p.sample, shape=(DRAWS,))
    return Target(Partial(df.Mixture.log_prob, p), draws, start(p.means.shape[1], width), most)


def square(weights):
    """Four modes of covariance 2 I."""
    means = [[3.0, 3.0], [3.0, -3.0], [-3.0, 3.0], [-3.0, -3.0]]
    return of_mixture(weights, means, jnp.tile(2**0.5 * jnp.eye(2), (4, 1, 1)), 20)


def crossed():
    """Two modes, one of them long, the other wide."""
    scales = jnp.sqrt(jnp.array([[3.0, 1.0], [1.0, 3.0]]))
    return of_mixture([0.5, 0.5], [[5.0, 3.3], [5.0, -3.3]], scales, 20)


def three():
    """Modes on the line."""
    scales = jnp.array([[0.5], [0.5], [0.8]])
    return of_mixture([0.4, 0.3, 0.3], [[-1.0], [0.8], [3.0]], scales, 4)


def banana():
    """Rosenbrock's density of a = b = mu = 1."""

    def log_prob(x):
        return norm.logpdf(x[0], 1.0, 0.5**0.5) + norm.logpdf(x[1], x[0] ** 2, 0.5**0.5)

    def sample(key):
        z = 0.5**0.5 * jr.normal(key, (DRAWS, 2))
        return jnp.stack([1 + z[:, 0], (1 + z[:, 0]) ** 2 + z[:, 1]], axis=1)

    return Target(Partial(log_prob), sample, start(2), 20)


def forty():
    """Modes drawn on a square of side 80; the start is as wide as the square."""
    means = 80 * jr.uniform(jr.key(0), (40, 2)) - 40
    scale = jax.nn.softplus(1.0) ** 0.5
    return of_mixture(jnp.ones(40) / 40, means, scale * jnp.ones((40, 2)), 60, 20.0)


def student():
    """Tails so heavy that no mixture of Gaussians has them, and a mean without a variance."""
    means, dof = 20 * jr.uniform(jr.key(0), (10, 2)) - 10, 2.0

    def log_prob(x):
        squares = jnp.sum((x - means) ** 2, axis=1)
        logs = -jnp.log(2 * jnp.pi) - (dof + 2) / 2 * jnp.log1p(squares / dof)
        return jax.nn.logsumexp(logs) - jnp.log(10.0)

    def sample(key):
        which, heavy, own = jr.split(key, 3)
        width = jnp.sqrt(dof / (2 * jr.gamma(heavy, dof / 2, (DRAWS, 1))))
        z = width * jr.normal(own, (DRAWS, 2))
        return means[jr.randint(which, (DRAWS,), 0, 10)] + z

    return Target(Partial(log_prob), sample, start(2, 5.0), 40)


def funnel():
    """y ~ N(0, 9), nine others N(0, e^y)."""

    def log_prob(x):
        return norm.logpdf(x[0], 0.0, 3.0) + jnp.sum(norm.logpdf(x[1:], 0.0, jnp.exp(x[0] / 2)))

    def sample(key):
        z = jr.normal(key, (DRAWS, 10))
        return jnp.concatenate([3 * z[:, :1], jnp.exp(1.5 * z[:, :1]) * z[:, 1:]], axis=1)

    return Target(Partial(log_prob), sample, start(10), 40, reached=False)


TARGETS = {
    "three modes on the line (Yi & Liu)": three,
    "banana (Yi & Liu)": banana,
    "two crossed modes (Lambert et al.)": crossed,
    "four equal modes (Lambert et al.)": functools.partial(square, [0.25] * 4),
    "four modes (Lambert et al.)": functools.partial(square, [0.1, 0.4, 0.2, 0.3]),
    "40 Gaussians": forty,
    "ten Student t laws": student,
    "funnel, 10 dimensions": funnel,
}


@jax.jit
def bounds(log_prob, q, xs_q, xs_p):
    """-ELBO and EUBO, with their standard errors."""

    def mean_and_error(xs):
        values = jax.vmap(lambda x: log_prob(x) - q.log_prob(x))(xs)
        return jnp.mean(values), jnp.std(values) / len(values) ** 0.5

    (low, low_error), high = mean_and_error(xs_q), mean_and_error(xs_p)
    return (-low, low_error), high


def measured(target):
    """{law: its two bounds with their errors}, the fit's report and its seconds."""
    log_prob = target.log_prob
    keys = jr.split(jr.key(1), 4)
    one, _ = df.fit_gaussian(log_prob, target.start, throw=False, key=keys[0])
    seconds = []
    for _ in range(2):  # the first compiles
        begin = time.perf_counter()
        fit = df.fit_mixture(log_prob, target.most, target.start, throw=False, key=keys[0])
        q, info = jax.block_until_ready(fit)
        seconds.append(time.perf_counter() - begin)
    xs_p = target.sample(keys[1])
    laws = {"ours": q, "baseline": one}
    found = {
        name: bounds(log_prob, law, law.sample(keys[2], (DRAWS,)), xs_p)
        for name, law in laws.items()
    }
    return found, info, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=[*TARGETS], help="to no file")
    options = parser.parse_args()
    file = None if options.only else RESULTS.open("w")
    for name in options.only or TARGETS:
        target = TARGETS[name]()
        found, info, seconds = measured(target)
        for i, metric in enumerate(("-ELBO", "EUBO")):
            ours, baseline = (tuple(map(float, found[law][i])) for law in ("ours", "baseline"))
            tell(
                case=name,
                metric=metric,
                value=ours[0],
                goal=NEAR if target.reached else None,
                ours=ours[0],
                baseline=baseline[0],
                baseline_name="one Gaussian",
                unit="nats",
                error=ours[1],
                most=target.most,
                used=int(info.used),
                rested=bool(info.rested),
                k_hat=float(info.k_hat),
                gap=float(info.gap),
                first=seconds[0],
                again=seconds[1],
                file=file,
            )


if __name__ == "__main__":
    main()
