r"""How wide a kernel is: the median rule, a covariance, and checks of samples and widths.

Everywhere a kernel is $k(x, y) = e^{-|x-y|^2 / 2 b^2}$ of bandwidth b, or the mean of such kernels
where several are given.

Whether columns depend on each other is asked of a triangular factor of the standardised samples,
never of their covariance, whose own rounding hides it: a shifted Cholesky QR, two products long.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from .._checks import centred, check_samples, constant, raise_first, spacing
from .._types import Scalar

Samples = Real[ArrayLike, "_ dim"]
Bandwidth = Real[ArrayLike, "*widths"]

# In units of dim * eps: what makes the first factor exist, and the least eigenvalue of the second.
# Of samples in a plane it is below 1, of others that are worth a covariance above 1e5 (measured).
_SHIFT, _FLOOR = 16.0, 32.0
# Columns that were computed from others are off by some spacings of their floats.
_SPACINGS = 4.0


def two_clouds(
    caller: str, xs_q: Samples, xs_p: Samples, names: tuple[str, str] = ("xs_q", "xs_p")
) -> tuple[Float[Array, "n dim"], Float[Array, "m dim"]]:
    """Samples of q and of p, checked, in one dtype."""
    one, other = check_samples(caller, **dict(zip(names, (xs_q, xs_p), strict=True)))
    dtype = jnp.result_type(one, other)
    return one.astype(dtype), other.astype(dtype)


def check_supports(
    caller: str, xs_q: Float[Array, "n dim"], xs_p: Float[Array, "m dim"]
) -> tuple[Float[Array, "n dim"], Float[Array, "m dim"]]:
    """Refuses samples of which no ratio p/q exists: a column that stands still in one of them."""
    own, goal = jax.lax.stop_gradient((xs_q, xs_p))
    still, there = constant(own), constant(goal)
    apart = still & ~(there & (own[0] == goal[0]))
    alone = there & ~still & ~jnp.any(own == goal[0], axis=0)
    words = (
        f"{caller}: a coordinate is the same for all samples of %s and not for the other, so p has "
        "no density with respect to q and there is no ratio; drop it, or use a witness of an MMD, "
        "which needs none."
    )
    faults = {words % "`xs_q`": jnp.any(apart), words % "`xs_p`": jnp.any(alone)}
    return raise_first((xs_q, xs_p), faults)


def check_spans(
    what: str, xs: Float[Array, "n dim"], *, constants: str | None, planes: str
) -> Float[Array, "n dim"]:
    """Refuses samples in a plane; of constant coordinates too, unless `constants` has no remedy."""
    depend = (
        f"{what}: coordinates depend on each other, or no more samples than coordinates, so all "
        f"samples lie in a plane; drop a coordinate that others determine{planes}."
    )
    faults = {depend: ~_spanning(jax.lax.stop_gradient(xs))}
    if constants is not None:
        words = f"{what}: a coordinate is the same for all samples; drop it{constants}."
        faults = {words: jnp.any(constant(xs)), **faults}
    return raise_first(xs, faults)


@jax.jit
def _spanning(xs: Float[Array, "n dim"]) -> Bool[Array, ""]:
    """Whether columns that are not constant are independent."""
    _, _, again, floor = _factors(xs)
    # The factor of what is left exists where the least eigenvalue is above the floor.
    return jnp.all(
        jnp.isfinite(jnp.linalg.cholesky(again - floor * jnp.eye(len(again), dtype=xs.dtype)))
    )


def covariance_factor(
    xs: Float[Array, "n dim"],
) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
    """Mean of samples, and the lower triangular factor of their covariance, to all its digits."""
    mean, first, again, _ = _factors(xs)
    count = jnp.asarray(xs.shape[0], xs.dtype)
    factor = jnp.matmul(first, jnp.linalg.cholesky(again), precision="highest")
    return mean, factor * jnp.sqrt(count / (count - 1))


def _factors(
    xs: Float[Array, "n dim"],
) -> tuple[
    Float[Array, " dim"], Float[Array, "dim dim"], Float[Array, "dim dim"], Float[Array, ""]
]:
    """Mean; L and A with L A L^T the covariance; and the least eigenvalue of A that is none."""
    dim = xs.shape[1]
    mean, half, unit = centred(xs)
    still = jnp.diag(jnp.where(half > 0, 0.0, 1.0)).astype(xs.dtype)
    size = jnp.sqrt(jnp.where(half > 0, jnp.mean(unit**2, axis=0), 1.0))
    top = jnp.max(jnp.abs(xs), axis=0)
    rounding = _SPACINGS * spacing(top) / jnp.where(half > 0, half * size, jnp.inf)
    rounding = jax.lax.stop_gradient(jnp.sum(rounding**2))
    shift = rounding + _SHIFT * dim * jnp.finfo(xs.dtype).eps
    rows = (unit / size).T
    first = jnp.linalg.cholesky(_gram(rows) + still + shift * jnp.eye(dim, dtype=xs.dtype))
    again = _gram(jax.scipy.linalg.solve_triangular(first, rows, lower=True)) + still
    floor = _FLOOR * dim * jnp.finfo(xs.dtype).eps + rounding / (rounding + shift)
    return mean, (half * size)[:, None] * first, again, floor


def _gram(rows: Float[Array, "dim n"]) -> Float[Array, "dim dim"]:
    return jnp.matmul(rows, rows.T, precision="highest") / rows.shape[1]


def widths(
    caller: str, bandwidth: Bandwidth | None, xs: Float[Array, "n dim"], ys: Float[Array, "m dim"]
) -> Float[Array, " widths"]:
    """Bandwidths as an array: those given, or the median rule's."""
    if bandwidth is None:
        return median_of(caller, xs, ys, 1024)[None]
    found = jnp.atleast_1d(jnp.asarray(bandwidth, xs.dtype))
    if found.ndim > 1 or found.size < 1:
        raise ValueError(
            f"{caller}: `bandwidth` has shape {jnp.shape(bandwidth)}; pass a number or several."
        )
    bad = ~jnp.all((found > 0) & jnp.isfinite(found))
    return eqx.error_if(found, bad, f"{caller}: `bandwidth` must be positive and finite.")


def median_bandwidth(xs: Samples, ys: Samples | None = None, *, size: int = 1024) -> Scalar:
    """The median rule: root of the median squared distance between different samples.

    At most `size` samples are used, at even steps through `xs` followed by `ys`, so that the
    result is the same each time; shuffle samples that come sorted.

    Args:
        xs: Samples [units of x].
        ys: More samples, for the bandwidth of a ratio; none by default.
        size: Samples used at most; the cost grows with its square.

    Returns:
        The bandwidth [units of x].

    Raises:
        ValueError: If there are fewer than two samples, or `size` is below 2.
        EquinoxRuntimeError: If a sample is not finite, or half of the samples or more are equal.

    References:
        Gretton et al., A kernel two-sample test, JMLR 2012.
    """
    caller = "median_bandwidth"
    if size < 2:
        raise ValueError(f"{caller}: `size` is {size}; pass at least 2.")
    if ys is None:
        first = check_samples(caller, xs=xs)[0]
        return median_of(caller, first, first[:0], size)
    return median_of(caller, *two_clouds(caller, xs, ys, ("xs", "ys")), size)


def median_of(
    caller: str, xs: Float[Array, "n dim"], ys: Float[Array, "m dim"], size: int
) -> Scalar:
    """The median rule on samples that were checked."""
    count = xs.shape[0] + ys.shape[0]
    if count < 2:
        raise ValueError(f"{caller}: one sample has no median distance; pass two or a `bandwidth`.")
    return _median(caller, xs, ys, min(size, count))


@eqx.filter_jit
def _median(caller: str, xs: Float[Array, "n dim"], ys: Float[Array, "m dim"], size: int) -> Scalar:
    """The median over pairs of `size` samples at even steps."""
    count = xs.shape[0] + ys.shape[0]
    some = np.unique(np.linspace(0, count - 1, size).astype(int))
    first = some[some < xs.shape[0]]
    points = jnp.concatenate([xs[first], ys[some[first.size :] - xs.shape[0]]])
    squares = jax.lax.map(Partial(_squares, points), points)
    found = jnp.sqrt(jnp.median(squares[np.triu_indices(some.size, 1)]))
    message = (
        f"{caller}: the median distance between samples is zero, so most of them are equal; "
        "pass a positive `bandwidth`, or samples that differ."
    )
    return eqx.error_if(found, ~(found > 0), message)


def _squares(points: Float[Array, "n dim"], x: Float[Array, " dim"]) -> Float[Array, " n"]:
    return jnp.sum((points - x) ** 2, axis=1)
