r"""Ratios of a joint law to its marginals, learned from simulations: posteriors without densities.

Of K parameters of the prior one has made x: it is theta_i with odds r(theta_i, x), whatever K is.
So critics are trained to find it, and simulations that they have not seen judge them exactly.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from .._checks import (
    Network,
    check_clouds,
    check_counts,
    check_input,
    check_samples,
    scalar_of,
)
from .._types import (
    AnyCloudLike,
    Function,
    IntScalar,
    LogDensity,
    Numbers,
    Scalar,
    Vector,
    as_float,
    split_partial,
)
from ..divergences._stable import softplus
from ..gans._losses import discriminator_loss
from ..gans._table import logit
from ..training._update import Optimizer
from ._cross_fit import (
    Columns,
    Folds,
    Rows,
    Trainer,
    asked,
    descended,
    of_all,
    over_seeds,
    units_of,
)

# Held-out simulations that judge, and the parameters of which each has to find its own.
_JUDGES, _LINEUP = 1000, 500
# The chance that a calibrated ratio is not believed, for all that is asked together.
_CHANCE = 0.01


class ConditionalRatio(eqx.Module):
    r"""log r(theta, x) = log p(theta, x) / (p(theta) p(x)), a function of one pair [nats].

    The other fields tell what critics made of simulations that no step of theirs has seen, in
    lineups of 500 parameters of which one has made x. `information` is a lower bound of the mutual
    information of theta and x, up to its standard error `error` [nats]; it is a score of a ratio
    too, by which to choose a critic. `levels` has the posterior probability of all that has a
    higher ratio than the parameter that made x: uniform on [0, 1] where posteriors are calibrated.

    `believe` asks for that, for the same of each coordinate of theta, and that no coordinate of x,
    nor its square, tells how posterior means of the coordinates of theta and of their squares err.
    A ratio that says nothing has uniform levels, and fails there. It is no promise for one x.
    """

    critics: PyTree
    gan: Any
    units: tuple[Float[Array, "2 _"], Float[Array, "2 _"]]  # means and deviations
    information: Scalar
    error: Scalar
    levels: Float[Array, " n"]
    believe: Bool[Array, ""]
    rest: Any = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = eqx.field(static=True)

    def __call__(self, theta: Numbers, x: Numbers) -> Scalar:
        """Evaluates one pair; `jax.vmap` takes many."""
        pair = {"theta": as_float(theta), "x": as_float(x)}
        flat = []
        for (name, value), shape, units in zip(pair.items(), self.shapes, self.units, strict=True):
            check_input("ConditionalRatio", name, value, *shape)
            flat.append((value.ravel() - units[0]) / units[1])
        of_one = partial(_log_r, self.gan, self.rest, jnp.concatenate(flat))
        return jnp.mean(jax.vmap(of_one)(self.critics))


def _log_r(gan: Any, rest: PyTree, pair: Vector, critic: PyTree) -> Scalar:
    return gan.log_t(eqx.combine(critic, rest)(pair))


def conditional_ratio(
    thetas: AnyCloudLike,
    xs: AnyCloudLike,
    *,
    critic: Network | None = None,
    gan: Any = None,
    contrasts: int = 15,
    folds: int = 5,
    seeds: int = 1,
    steps: int = 2000,
    batch_size: int = 64,
    optimizer: Optimizer | None = None,
    key: PRNGKeyArray,
) -> ConditionalRatio:
    r"""Learns $\log p(\theta, x) / (p(\theta) p(x))$ from simulations, for all x at once.

    A posterior is p(theta | x) = p(theta) r(theta, x): `log_posterior` makes it. A step takes some
    simulations, and gives each x the parameters of others beside its own. Critics say which of
    these has made it, or that none has if its own is left out, a softmax that the true ratio
    solves for any number of parameters. Each fold has critics that train on the other folds and
    stop where they are best on it; their log ratios are averaged.

    Args:
        thetas: Parameters, draws of the prior, one axis in front [units of theta].
        xs: What the simulator made of each [units of x].
        critic: A network d of one flat, standardised theta and x side by side, from which all
            start. By default each seed has its own `networks.Discriminator(dim, quadratic=True)`.
        gan: A pair (phi, psi) in place of the softmax, for instance `gans.vanilla()`: p are the
            simulations, q the pairs of an x with a parameter of another.
        contrasts: Parameters of others that each x of a step is paired with, fewer than
            `batch_size`.
        folds: Parts of the simulations, at least 2.
        seeds: Critics of each fold.
        steps: Steps of the optimiser.
        batch_size: Simulations of a step.
        optimizer: Any optax optimiser; Adam down a cosine by default.
        key: Randomness of folds, weights and batches.

    Returns:
        A `ConditionalRatio`, `ratio(theta, x)` [nats], with what unseen simulations say of it.

    Raises:
        ValueError: If there is not one x for each parameter, a count is too small, `gan` has no
            ratio, or the critic makes no number of a pair.
        EquinoxRuntimeError: If a simulation is not finite, or numbers are too large for their
            floats.

    Example:
        ```python
        thetas = jr.normal(jr.key(0), (1000, 1))
        xs = thetas + 0.5 * jr.normal(jr.key(1), (1000, 1))
        ratio = df.conditional_ratio(thetas, xs, folds=2, steps=300, key=jr.key(2))
        print(ratio.information.round(1), ratio.believe)  # 0.8 True
        ```

    References:
        Hermans, Begy & Louppe, ICML 2020; Durkan, Murray & Papamakarios, ICML 2020; Miller, Weniger
        & Forre, Contrastive neural ratio estimation, NeurIPS 2022.
    """
    caller = "conditional_ratio"
    (thetas,), (xs,) = check_samples(caller, thetas=thetas), check_samples(caller, xs=xs)
    if len(thetas) != len(xs):
        words = f"`thetas` has {len(thetas)} parameters and `xs` {len(xs)} samples"
        raise ValueError(f"{caller}: {words}; pass one x for each theta.")
    shapes = thetas.shape[1:], xs.shape[1:]
    thetas, xs = (each.reshape(len(each), -1) for each in (thetas, xs))
    # The softmax has d = log r at the optimum, as logistic pairs have.
    pair = logit() if gan is None else gan
    how = (critic, pair, folds, seeds, steps, batch_size, optimizer, None)
    both = jnp.concatenate([thetas, xs], axis=1)
    trainer, key = asked(caller, how, both, len(both), key)
    check_counts(caller, {"contrasts": contrasts})
    fewest = min(batch_size, len(xs) // folds - 1)
    if contrasts >= fewest:
        words = f"`contrasts` is {contrasts} and the least batch has {fewest} simulations"
        raise ValueError(f"{caller}: {words}; pass fewer contrasts, or more simulations.")
    found = _learned(trainer, gan is None, contrasts, thetas, xs, key)
    return ConditionalRatio(*found, rest=trainer.rest, shapes=shapes)


@eqx.filter_jit
def _learned(
    how: Trainer, softmax: bool, contrasts: int, thetas: Rows, xs: Rows, key: PRNGKeyArray
) -> tuple:
    """The arrays of a ratio: trained, and judged by each fold."""
    known = tuple(map(units_of, (thetas, xs)))
    thetas, xs = (
        (each - unit[0]) / unit[1] for each, unit in zip((thetas, xs), known, strict=True)
    )
    of_folds, of_steps, of_ties = jr.split(key, 3)
    folds = Folds(jr.permutation(of_folds, len(xs)), how.folds)
    loss = partial(_loss_of_lineups, how, softmax, contrasts)

    def of_seed(critic: PyTree, key: PRNGKeyArray, fold: IntScalar) -> PyTree:
        rows, own = folds.split(fold)

        def batch(key: PRNGKeyArray) -> Columns:
            some = rows[_comb(rows.size, how.batch_size, key)]
            return thetas[some], xs[some]

        return descended(how, critic, loss, batch, (thetas[own], xs[own]), key)

    critics = of_all(how, of_seed, of_steps)
    verdict = _judged(how, critics, thetas, xs, folds, of_ties)
    critics = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), critics)
    return critics, how.gan, known, *verdict


def _comb(n: int, size: int, key: PRNGKeyArray) -> Int[Array, " size"]:
    """Different numbers below n, so many or all, at equal distances: no sort at each step."""
    of_start, of_stride = jr.split(key)
    size = min(size, n)
    stride = jr.randint(of_stride, (), 1, n // size + 1)
    return (jr.randint(of_start, (), 0, n) + stride * jnp.arange(size)) % n


def _loss_of_lineups(
    how: Trainer, softmax: bool, contrasts: int, data: Columns, critic: PyTree
) -> Scalar:
    """That of a critic which is shown each x with its own parameter, and with those of others."""
    thetas, xs = data
    beside = jnp.arange(len(xs))[:, None] + jnp.arange(contrasts + 1)
    d = jax.vmap(partial(_of_lineup, how.values(critic)))(thetas[beside % len(xs)], xs)
    if not softmax:
        return discriminator_loss(how.gan, d[:, 0], d[:, 1:])
    # "None of these" has as much weight as all of the K others, e^d / K each.
    with_own, without = (
        jax.nn.logsumexp(each, 1) - jnp.log(each.shape[1]) for each in (d, d[:, 1:])
    )
    missed = softplus(with_own) - d[:, 0] + jnp.log(contrasts + 1.0)
    return jnp.mean(missed) + jnp.mean(softplus(without))


def _of_lineup(values: Function, thetas: Rows, x: Vector) -> Float[Array, " k"]:
    """What a critic makes of one x with each of some parameters."""
    repeated = jnp.broadcast_to(x, (len(thetas), x.size))
    return values(jnp.concatenate([thetas, repeated], axis=1))


def _judged(
    how: Trainer, critics: PyTree, thetas: Rows, xs: Rows, folds: Folds, key: PRNGKeyArray
) -> tuple:
    """Information, its error, levels, and whether all is calibrated."""

    def of_fold(critics: PyTree, fold: IntScalar, key: PRNGKeyArray) -> tuple:
        _, own = folds.split(fold)
        lineup, judges = thetas[own[:_LINEUP]], xs[own[: min(_LINEUP, _JUDGES // how.folds)]]
        u = jax.lax.map(partial(_of_seeds, how, critics, lineup), judges)
        weights = jax.nn.softmax(u, axis=1)
        gains = jnp.diagonal(jax.nn.log_softmax(u, axis=1)) + jnp.log(len(lineup))
        draws = jr.uniform(key, (len(judges),), judges.dtype)
        levels = partial(_levels, weights, draws)
        ranks = [levels(jnp.broadcast_to(theta, u.shape)) for theta in lineup.T]
        features = jnp.concatenate([lineup, lineup**2], axis=1)
        errors = features[: len(judges)] - weights @ features
        known = jnp.concatenate([jnp.ones_like(draws)[:, None], judges, judges**2 - 1], axis=1)
        products = (errors[:, :, None] * known[:, None]).reshape(len(judges), -1)
        return gains, jnp.stack([levels(u), *ranks], axis=1), products

    one_by_one = (critics, jnp.arange(how.folds), jr.split(key, how.folds))
    found = jax.lax.map(lambda each: of_fold(*each), one_by_one)
    gains, levels, products = (each.reshape(-1, *each.shape[2:]) for each in found)
    n = gains.size
    steps = (jnp.arange(n) + 0.5)[:, None] / n
    apart = jnp.max(jnp.abs(jnp.sort(levels, axis=0) - steps), axis=0) + 0.5 / n
    off = jnp.abs(jnp.mean(products, axis=0)) * n**0.5
    asked_of = levels.shape[1] + products.shape[1]
    wide = jnp.log(2 * asked_of / _CHANCE)
    believe = jnp.all(apart <= (wide / (2 * n)) ** 0.5)
    believe &= jnp.all(off <= (2 * wide) ** 0.5 * jnp.std(products, axis=0))
    return jnp.mean(gains), jnp.std(gains) / n**0.5, levels[:, 0], believe


def _of_seeds(how: Trainer, critics: PyTree, lineup: Rows, x: Vector) -> Float[Array, " k"]:
    """The mean of log r over seeds, at one x with each of some parameters."""
    return over_seeds(how, lambda values: how.gan.log_t(_of_lineup(values, lineup, x)), critics)


def _levels(
    weights: Float[Array, "n k"], draws: Float[Array, " n"], values: Float[Array, "n k"]
) -> Float[Array, " n"]:
    """The weight of values above a row's own, the diagonal, and a part of those that equal it."""
    own = jnp.diagonal(values)[:, None]
    above, same = (jnp.sum(weights * which, axis=1) for which in (values > own, values == own))
    return above + draws * same


def log_posterior(ratio: ConditionalRatio, log_prior: LogDensity, x: Numbers) -> LogDensity:
    r"""The log posterior of an observation, log p(theta) + log r(theta, x), of one theta.

    It is a pytree and a function of arrays, which samplers differentiate, `jit` and `vmap`, and
    `fit_gaussian` and `langevin` take.

    Args:
        ratio: What `conditional_ratio` has learned.
        log_prior: The log density of the prior from which the simulations were drawn; -inf outside
            of its support, where the ratio means nothing [nats].
        x: The observation [units of x].

    Returns:
        `log_p(theta)` [nats], normalised as far as the ratio is right.

    Raises:
        ValueError: If `x` has not the shape of one simulation; from the function, if `theta` has
            not that of one parameter, or `log_prior` returns no number.
        EquinoxRuntimeError: If `x` is not finite.

    References:
        Hermans, Begy & Louppe, ICML 2020.
    """
    x = as_float(x)
    check_input("log_posterior", "x", x, *ratio.shapes[1])
    (x,) = check_clouds("log_posterior", x=x)
    return Partial(_log_posterior, ratio, split_partial(log_prior), x)


def _log_posterior(
    ratio: ConditionalRatio, log_prior: LogDensity, x: Numbers, theta: Numbers
) -> Scalar:
    theta = as_float(theta)
    check_input("log_posterior", "theta", theta, *ratio.shapes[0])
    return scalar_of("log_posterior", "log_prior", log_prior, theta) + ratio(theta, x)
