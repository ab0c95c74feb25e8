r"""Divergences between samples and mutual information, each with its error and a verdict."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._checks import Network, check_samples
from .._types import AnyCloudLike, Cloud, Scalar
from ..divergences._divergence import Divergence
from ..divergences._table import kl_pq
from ..ratios._check import RatioCheck, effective_size, mean_of_exp
from ..training._update import Optimizer
from ._cross_fit import Columns, Folds, Trainer, asked, held_out, trained, units_of
from ._on_path import judged_on_path
from ._verdict import DEVIATIONS, FEWEST, LOOSEST, widened

# Waves cos(k x) and sin(k x) of each standardised coordinate are asked up to this k.
_WAVES = 3
# Pairings of a held-out fold that stand for the product of marginals.
_SHIFTS = 16


class DivergenceEstimate(eqx.Module):
    r"""What `divergence_between` finds; all of it by critics that have not seen the samples.

    `value` is the variational bound $E_p[f'(r)] - E_q[h(\log r)]$, below the divergence but for its
    standard error `error`; `plug_in` is $E_q[f(r)]$. `log_r_p` and `log_r_q` are the log ratios at
    the samples, of all pairings for `mutual_information` [nats].

    `believe` asks whether the ratio is calibrated: the two estimates agree, $E_q[r] = 1$ and
    $E_p[1/r] = 1$, and the ratio turns the means of each coordinate, of its square, of its waves
    cos(k x) and sin(k x) for k up to 3, and of log r under q into those under p (of mutual
    information also those of products of coordinates of x and y, and of their squares), all within
    three standard errors, on enough effective samples. The two estimates must also differ by no
    more than three of `error`, which holds nothing of a critic's own error. What a critic has
    missed and these means do not show, it cannot see: then the value is too small.

    With a `path` there is no bound. `value` is $E_p[f(r)/(1+r)] + E_q[f(r)/(1+r)]$, in which no
    weight exceeds 1; `plug_in` is the same with each leg's log ratio fitted again, to a parabola of
    log p/q, on held-out samples. `error` holds the samples, the critics (a jackknife over folds),
    the parabola's error and what it changes: it is wide, twice the deviation of the value in tests.
    `believe` asks for calibrated legs and that the two agree; `check` is of the worst leg. How log
    ratios go on from a leg to where p is, these judge by a parabola only.
    """

    value: Scalar
    error: Scalar
    plug_in: Scalar
    plug_in_error: Scalar
    check: RatioCheck
    believe: Bool[Array, ""]
    log_r_p: Float[Array, " n"]
    log_r_q: Float[Array, "*m"]


def divergence_between(
    xs_p: AnyCloudLike,
    xs_q: AnyCloudLike,
    div: Divergence,
    *,
    critic: Network | None = None,
    gan: Any = None,
    folds: int = 5,
    seeds: int = 1,
    steps: int = 1000,
    batch_size: int = 256,
    optimizer: Optimizer | None = None,
    gaussianise: bool = False,
    path: int | None = None,
    key: PRNGKeyArray,
) -> DivergenceEstimate:
    r"""Estimates $E_q[f(p/q)]$ from two samples, with a standard error and a verdict.

    Critics are trained on all folds but one, and judged on that one: each sample has a log ratio by
    critics that have not seen it. The variational bound of these is second order in the ratio's
    error, so that its standard error is that of two means.

    Args:
        xs_p: Samples of p, one axis in front [units of x].
        xs_q: Samples of q, of the same events.
        div: The divergence, E_q[f(p/q)] (KL(q||p) for `kl_qp`).
        critic: A network d(x) of one flat, standardised sample, from which all seeds start. By
            default each has its own `networks.Discriminator(dim, quadratic=True)`, which has every
            ratio of two Gaussians in its family.
        gan: The pair (phi, psi) that trains it and its log T; `gans.vanilla()` by default.
        folds: Parts of the samples, at least 2.
        seeds: Critics of each fold, whose log ratios are averaged.
        steps: Steps of the optimiser; the critic kept is that of the least loss on a fifth of the
            training rows, which no step sees.
        batch_size: Rows of each sample in a step, shared among the legs of a path.
        optimizer: Any optax optimiser; Adam down a cosine by default, from 2e-3, on a path 1e-2.
        gaussianise: Whether each coordinate is replaced by the normal score of its rank among both
            samples, equal values by their mean rank. An f-divergence is the same under increasing
            maps of coordinates, and heavy tails become easy.
        path: Legs of a path of densities from q to p, for samples so far apart that no sample of q
            lies where p is: samples between are $a x_q + b x_p$, $a^2 + b^2 = 1$, of pairs drawn
            anew in each step, and the pair (phi, psi) compares neighbours. A leg should change the
            log ratio by about a nat. `critic` is then d(t, x), the rate at which the log ratio
            grows with t in [0, 1]; by default `networks.TimeDiscriminator(dim)`. None compares p
            and q at once.
        key: Randomness of folds, weights and batches.

    Returns:
        A `DivergenceEstimate`: `value` and `error` [nats for the Kullback-Leibler divergences;
        divide by log 2 for bits], `plug_in`, `check`, `believe`, and the log ratios.

    Raises:
        ValueError: If a count is too small for the samples, `gan` has no ratio, or the critic makes
            no number of a flat sample.
        EquinoxRuntimeError: If a sample is not finite, or numbers are too large for their floats.

    Example:
        ```python
        xs_p, xs_q = jr.normal(jr.key(0), (2000, 1)), jr.normal(jr.key(1), (2000, 1)) + 1.0
        found = df.divergence_between(xs_p, xs_q, df.divergences.kl_qp, key=jr.key(2))
        print(found.value.round(1), found.error.round(2), found.believe)  # 0.5 0.04 True
        ```

    References:
        Nguyen, Wainwright & Jordan, IEEE TIT 2010, for the bound; Chernozhukov et al., 2018, for
        cross-fitting; Rhodes, Xu & Gutmann, Telescoping density-ratio estimation, NeurIPS 2020, and
        Choi et al., Density ratio estimation via infinitesimal classification, AISTATS 2022, for
        paths.
    """
    caller = "divergence_between"
    xs_p, xs_q = check_samples(caller, xs_p=xs_p, xs_q=xs_q)
    how = (critic, gan, folds, seeds, steps, batch_size, optimizer, path)
    xs_p, xs_q = (xs.reshape(len(xs), -1) for xs in (xs_p, xs_q))
    return _estimate(caller, div, xs_p, (xs_q,), how, gaussianise, key)


def mutual_information(
    xs: AnyCloudLike,
    ys: AnyCloudLike,
    *,
    div: Divergence = kl_pq,
    critic: Network | None = None,
    gan: Any = None,
    folds: int = 5,
    seeds: int = 1,
    steps: int = 1000,
    batch_size: int = 256,
    optimizer: Optimizer | None = None,
    gaussianise: bool = False,
    path: int | None = None,
    key: PRNGKeyArray,
) -> DivergenceEstimate:
    r"""Estimates the mutual information of x and y from pairs: joint law against its marginals.

    p is the joint law, q the product of its marginals. Each step pairs rows anew; a held-out fold
    is paired in up to 16 ways. In many dimensions `conditional_ratio(xs, ys).information`, a bound
    by many pairings of each y, is tighter.

    Args:
        xs: Samples of x, one axis in front [units of x].
        ys: Samples of y, as many [units of y].
        div: The divergence E_q[f(p/q)]; `kl_pq`, E_p[log p/q], is the mutual information.
        critic: As in `divergence_between`, of x and y flat and side by side.
        gan: As in `divergence_between`.
        folds: As in `divergence_between`.
        seeds: As in `divergence_between`.
        steps: As in `divergence_between`.
        batch_size: As in `divergence_between`.
        optimizer: As in `divergence_between`.
        gaussianise: As in `divergence_between`, each coordinate among its own sample.
        path: As in `divergence_between`; x stays and y is mixed, $a y' + b y$ with y' of another
            row. Information of many nats needs it.
        key: Randomness of folds, weights, batches and pairings.

    Returns:
        As `divergence_between`.

    Raises:
        ValueError: As `divergence_between`; or if `xs` and `ys` are not as many.
        EquinoxRuntimeError: As `divergence_between`.

    References:
        Belghazi et al., MINE, ICML 2018; Czyz et al., Beyond Normal, NeurIPS 2023.
    """
    caller = "mutual_information"
    (xs,), (ys,) = check_samples(caller, xs=xs), check_samples(caller, ys=ys)
    if len(xs) != len(ys):
        words = f"`xs` has {len(xs)} samples and `ys` {len(ys)}; pass one y for each x."
        raise ValueError(f"{caller}: {words}")
    xs, ys = (each.reshape(len(each), -1) for each in (xs, ys))
    how = (critic, gan, folds, seeds, steps, batch_size, optimizer, path)
    both = jnp.concatenate([xs, ys], axis=1)
    columns = both[:, : xs.shape[1]], both[:, xs.shape[1] :]
    return _estimate(caller, div, both, columns, how, gaussianise, key)


def _estimate(
    caller: str,
    div: Divergence,
    xs_p: Cloud,
    columns_q: Columns,
    how: tuple,
    gaussianise: bool,
    key: PRNGKeyArray,
) -> DivergenceEstimate:
    """Checks what is asked, and makes the critics."""
    fewest, product = min(len(xs_p), len(columns_q[0])), len(columns_q) > 1
    first = columns_q[0].shape[1] if product else 0
    trainer, key = asked(caller, how, xs_p, fewest, key, first)
    return _of_samples(trainer, div, xs_p, columns_q, gaussianise, key)


@eqx.filter_jit
def _of_samples(
    how: Trainer,
    div: Divergence,
    xs_p: Cloud,
    columns_q: Columns,
    gaussianise: bool,
    key: PRNGKeyArray,
) -> DivergenceEstimate:
    """Trains, and evaluates what the critics have not seen."""
    product = len(columns_q) > 1
    xs_p, columns_q = _prepared(xs_p, columns_q, gaussianise)
    of_p, of_q, of_steps, of_pairs = jr.split(key, 4)
    first = Folds(jr.permutation(of_p, len(xs_p)), how.folds)
    # Pairs of the joint law and of the product are held out together.
    second = first if product else Folds(jr.permutation(of_q, len(columns_q[0])), how.folds)
    critics = trained(how, xs_p, columns_q, (first, second), of_steps)
    if how.path is not None:
        folds = first, second
        found = judged_on_path(how, how.path, critics, div, xs_p, columns_q, folds)
        return DivergenceEstimate(**found)
    u_p = held_out(how, critics, xs_p, first.of_rows())
    if not product:
        u_q = held_out(how, critics, columns_q[0], second.of_rows())
        return _judged(div, u_p, u_q[:, None], xs_p, columns_q[0][:, None])
    pairs = _pairings(first, of_pairs)
    firsts = jnp.broadcast_to(columns_q[0][:, None], (*pairs.shape, columns_q[0].shape[1]))
    xs_q = jnp.concatenate([firsts, columns_q[1][pairs]], axis=2)
    seen = partial(held_out, how, critics, own=first.of_rows())
    u_q = jax.lax.map(seen, jnp.swapaxes(xs_q, 0, 1)).T
    return _judged(div, u_p, u_q, xs_p, xs_q, pairs, columns_q[0].shape[1])


def _prepared(xs_p: Cloud, columns_q: Columns, gaussianise: bool) -> tuple[Cloud, Columns]:
    """Coordinates of mean 0 and deviation 1, or their normal scores, by one map for p and q."""
    first, *others = columns_q
    pooled = xs_p if others else jnp.concatenate([xs_p, first])
    if gaussianise:
        pooled = jax.vmap(_normal_scores, 1, 1)(pooled)
    center, scale = units_of(pooled)
    pooled = (pooled - center) / scale
    if not others:
        return pooled[: len(xs_p)], (pooled[len(xs_p) :],)
    size = first.shape[1]
    return pooled, (pooled[:, :size], pooled[:, size:])


def _normal_scores(xs: Float[Array, " n"]) -> Float[Array, " n"]:
    """The normal quantile of each number's mean rank."""
    ordered = jnp.sort(xs)
    below, upto = (jnp.searchsorted(ordered, xs, side=side) for side in ("left", "right"))
    return jax.scipy.special.ndtri((below + upto) / (2 * xs.size))


def _pairings(folds: Folds, key: PRNGKeyArray) -> Array:
    """For each row of x so many others of its fold, in a random cycle."""
    n, own = folds.order.size, folds.of_rows()
    least = n // folds.count
    shifts = jr.permutation(key, jnp.arange(1, least))[:_SHIFTS]
    # Rows sorted by fold; a cycle within the fold's stretch.
    begins = jnp.searchsorted(jnp.sort(own), jnp.arange(folds.count + 1))
    place = jnp.zeros(n, own.dtype).at[folds.order].set(jnp.arange(n))
    start, size = begins[own], begins[own + 1] - begins[own]
    turned = (place - start)[:, None] + shifts
    return folds.order[start[:, None] + turned % size[:, None]]


def _asked_of(x: Array) -> Float[Array, "features ..."]:
    """A coordinate, its square, and its waves, which see what these do not: modes."""
    turns = range(1, _WAVES + 1)
    waves = [wave(k * x) for k in turns for wave in (jnp.cos, jnp.sin)]
    return jnp.stack([x, x**2, *waves])


def _judged(
    div: Divergence,
    u_p: Float[Array, " n"],
    u_q: Float[Array, "m ways"],
    xs_p: Cloud,
    xs_q: Float[Array, "m ways dim"],
    pairs: Array | None = None,
    first: int = 0,
) -> DivergenceEstimate:
    """Both estimates of the divergence, and whether they and the ratio hold together."""
    zero = jnp.zeros((), u_p.dtype)
    slopes = div.activation(u_p) - div.activation(zero)
    heights, values = div.h(u_q) - div.h(zero), div.standard(u_q)

    def spread(of_p: Array, of_q: Array) -> Scalar:
        """The standard error of a mean over p less one over q."""
        if pairs is None:
            return jnp.sqrt(jnp.var(of_p) / of_p.size + jnp.var(of_q) / of_q.size)
        # Each row is in the joint mean and, as x and as y, in the mean over pairings.
        as_y = jnp.zeros(len(of_q), of_q.dtype).at[pairs].add(of_q) / of_q.shape[1]
        each = of_p - jnp.mean(of_q, axis=1) - as_y
        return jnp.sqrt(jnp.var(each) / each.size)

    none = jnp.zeros_like(u_p)
    value, error = jnp.mean(slopes) - jnp.mean(heights), spread(slopes, heights)
    plug_in, plug_error = jnp.mean(values), spread(none, values)
    r, inverse = jnp.exp(u_q), jnp.exp(-u_p)
    # The ways in which a row is paired are no samples of their own.
    worth = effective_size(u_q) / u_q.shape[1], effective_size(-u_p)
    check = RatioCheck(mean_of_exp(u_q), mean_of_exp(-u_p), worth[0])

    def holds(of_p: Array, of_q: Array) -> Bool[Array, ""]:
        """Whether two means that a ratio makes equal are so; the more are asked, the wider."""
        off = jnp.abs(jnp.mean(of_p) - jnp.mean(of_q))
        return off <= wide * spread(of_p, of_q) + 64 * jnp.finfo(off.dtype).eps

    def coordinate_holds(of_x: tuple[Array, Array]) -> Bool[Array, ""]:
        """Whether this holds for all that is asked of a coordinate."""
        seen_p, seen_q = map(_asked_of, of_x)
        return jnp.all(jax.vmap(lambda p, q: holds(p, r * q))(seen_p, seen_q))

    def products_hold(of_x: tuple[Array, Array]) -> Bool[Array, " dims"]:
        """Whether this holds for one coordinate of x times each of y, and for their squares."""
        x_p, x_q = of_x
        each = jax.vmap(lambda p, q: holds(p, r * q) & holds(p**2, r * q**2))
        return each(x_p * xs_p.T[first:], x_q * columns[first:])

    columns, dim = jnp.moveaxis(xs_q, -1, 0), xs_p.shape[1]
    wide = widened((2 + 2 * _WAVES) * dim + 1 + 2 * first * (dim - first))
    good = holds(slopes, heights + values) & holds(jnp.ones_like(u_p), r)
    # What the two differ by is an error of the critic, which the error of a mean does not hold.
    good &= jnp.abs(value - plug_in) <= DEVIATIONS * error
    good &= holds(inverse, jnp.ones_like(u_q)) & holds(u_p, r * u_q)
    good &= jnp.all(jax.lax.map(coordinate_holds, (xs_p.T, columns)))
    if first:
        # Joint law and product have the same marginals: what tells them apart is in products.
        good &= jnp.all(jax.lax.map(products_hold, (xs_p.T[:first], columns[:first])))
    firm = (spread(none, r) < LOOSEST) & (spread(inverse, jnp.zeros_like(u_q)) < LOOSEST)
    believe = good & firm & (jnp.minimum(*worth) >= FEWEST)
    log_r_q = u_q[:, 0] if pairs is None else u_q
    return DivergenceEstimate(value, error, plug_in, plug_error, check, believe, u_p, log_r_q)
