r"""How wide a kernel is: the median rule, and checks of samples and widths.

Everywhere a kernel is $k(x, y) = e^{-|x-y|^2 / 2 b^2}$ of bandwidth b, or the mean of such kernels
where several are given.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, Real

from ._doors import check_cloud, check_clouds
from ._types import Scalar, as_float

Samples = Real[ArrayLike, "_ dim"]
Bandwidth = Real[ArrayLike, "*widths"]


def two_clouds(
    owner: str, xs_q: Samples, xs_p: Samples, names: tuple[str, str] = ("xs_q", "xs_p")
) -> tuple[Float[Array, "n dim"], Float[Array, "m dim"]]:
    """Samples of q and of p, checked, in one dtype.

    Args:
        owner: Who asks, for the message.
        xs_q: Samples of q.
        xs_p: Samples of p.
        names: What the owner calls them.

    Returns:
        Both; use these.

    Raises:
        ValueError: If one has no samples.
        TypeCheckError: If their dimensions differ.
        EquinoxRuntimeError: If one is not finite.
    """
    xs_q, xs_p = as_float(xs_q), as_float(xs_p)
    dtype = jnp.result_type(xs_q, xs_p)
    clouds = dict(zip(names, (xs_q.astype(dtype), xs_p.astype(dtype)), strict=True))
    one, other = check_clouds(owner, **clouds)
    return one, other


def widths(
    owner: str, bandwidth: Bandwidth | None, xs: Float[Array, "n dim"], ys: Float[Array, "m dim"]
) -> Float[Array, " widths"]:
    """Bandwidths as an array: those given, or the median rule's.

    Args:
        owner: Who asks, for the message.
        bandwidth: One, several, or None [units of x].
        xs: Samples.
        ys: More of them.

    Returns:
        At least one [units of x].

    Raises:
        ValueError: If `bandwidth` is empty or has more than one axis.
        EquinoxRuntimeError: If one is not positive and finite.
    """
    if bandwidth is None:
        return median_of(owner, xs, ys, 1024)[None]
    found = jnp.atleast_1d(jnp.asarray(bandwidth, xs.dtype))
    if found.ndim > 1 or found.size < 1:
        raise ValueError(
            f"{owner}: `bandwidth` has shape {jnp.shape(bandwidth)}; pass a number or several."
        )
    bad = ~jnp.all((found > 0) & jnp.isfinite(found))
    return eqx.error_if(found, bad, f"{owner}: `bandwidth` must be positive and finite.")


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
    owner = "median_bandwidth"
    if size < 2:
        raise ValueError(f"{owner}: `size` is {size}; pass at least 2.")
    if ys is None:
        first = check_cloud(owner, "xs", as_float(xs))
        return median_of(owner, first, first[:0], size)
    return median_of(owner, *two_clouds(owner, xs, ys, ("xs", "ys")), size)


def median_of(
    owner: str, xs: Float[Array, "n dim"], ys: Float[Array, "m dim"], size: int
) -> Scalar:
    """The median rule on samples that were checked.

    Args:
        owner: Who asks, for the message.
        xs: Samples.
        ys: More of them, possibly none.
        size: Samples used at most.

    Returns:
        The bandwidth [units of x].
    """
    count = xs.shape[0] + ys.shape[0]
    if count < 2:
        raise ValueError(f"{owner}: one sample has no median distance; pass two or a `bandwidth`.")
    return _median(owner, xs, ys, min(size, count))


@eqx.filter_jit
def _median(owner: str, xs: Float[Array, "n dim"], ys: Float[Array, "m dim"], size: int) -> Scalar:
    """The median over pairs of `size` samples at even steps."""
    count = xs.shape[0] + ys.shape[0]
    some = np.unique(np.linspace(0, count - 1, size).astype(int))
    first = some[some < xs.shape[0]]
    points = jnp.concatenate([xs[first], ys[some[first.size :] - xs.shape[0]]])
    squares = jax.lax.map(Partial(_squares, points), points)
    found = jnp.sqrt(jnp.median(squares[np.triu_indices(some.size, 1)]))
    message = (
        f"{owner}: the median distance between samples is zero, so most of them are equal; "
        "pass a positive `bandwidth`, or samples that differ."
    )
    return eqx.error_if(found, ~(found > 0), message)


def _squares(points: Float[Array, "n dim"], x: Float[Array, " dim"]) -> Float[Array, " n"]:
    return jnp.sum((points - x) ** 2, axis=1)
