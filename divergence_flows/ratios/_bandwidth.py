"""How wide a kernel is: the median rule, a covariance, and checks of samples and widths.

A shifted Cholesky QR of the standardised samples finds columns that depend on each other; their
covariance would not, since its own rounding hides it.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import centred, check_samples, constant, raise_first, spacing
from .._types import (
    AnyFloat,
    BoolScalar,
    Matrix,
    Numbers,
    RowsLike,
    Scalar,
    ScalarLike,
    Values,
    ValuesLike,
    Vector,
)

Samples = RowsLike
Rows = Float[Array, "_ dim"]
XsQ = Float[Array, "n dim"]
XsP = Float[Array, "m dim"]
Bandwidth = Numbers
Ridge = ScalarLike | None

# In units of dim * eps: what makes the first factor exist, and the least eigenvalue of the second,
# which is below 1 for samples in a plane, and above 1e5 where a covariance makes sense (measured).
_SHIFT, _FLOOR = 16.0, 32.0
# Columns that were computed from others are off by some spacings of their floats.
_SPACINGS = 4.0


def two_clouds(caller: str, **clouds: Samples) -> tuple[Rows, ...]:
    """Checked samples, in one dtype."""
    checked = check_samples(caller, **clouds)
    dtype = jnp.result_type(*checked)
    return tuple(xs.astype(dtype) for xs in checked)


def check_supports(caller: str, xs_q: Samples, xs_p: Samples) -> tuple[XsQ, XsP]:
    """As `two_clouds`; refuses a column that is constant in one only: there is no ratio p/q."""
    xs_q, xs_p = two_clouds(caller, xs_q=xs_q, xs_p=xs_p)
    here, there = constant(xs_q), constant(xs_p)
    apart = here & ~(there & (xs_q[0] == xs_p[0]))
    alone = there & ~here & ~jnp.any(xs_q == xs_p[0], axis=0)
    words = f"{caller}: a coordinate is the same for all samples of %s and not for the other, so p"
    words += " has no density in q: there is no ratio; drop it, or use a witness of an MMD."
    faults = {words % "`xs_q`": jnp.any(apart), words % "`xs_p`": jnp.any(alone)}
    return raise_first((xs_q, xs_p), faults)


def check_spans(what: str, xs: XsQ, *, constants: str | None, planes: str) -> XsQ:
    """Refuses samples in a plane; constant coordinates too, unless `constants` is None."""
    faults = {}
    if constants is not None:
        words = f"{what}: a coordinate is the same for all samples; drop it{constants}."
        faults[words] = jnp.any(constant(xs))
    words = (
        f"{what}: coordinates depend on each other, or no more samples than coordinates, so all "
        f"samples lie in a plane; drop a coordinate that others determine{planes}."
    )
    faults[words] = ~_spanning(jax.lax.stop_gradient(xs))
    return raise_first(xs, faults)


@jax.jit
def _spanning(xs: XsQ) -> BoolScalar:
    """Whether columns that are not constant are independent."""
    _, _, again, floor = _factors(xs)
    # The factor of what is left exists where the least eigenvalue is above the floor.
    left = again - floor * jnp.eye(len(again), dtype=xs.dtype)
    return jnp.all(jnp.isfinite(jnp.linalg.cholesky(left)))


def covariance_factor(xs: XsQ) -> tuple[Vector, Matrix]:
    """Mean of samples, and the lower triangular factor of their covariance, to all its digits."""
    mean, first, again, _ = _factors(xs)
    factor = jnp.matmul(first, jnp.linalg.cholesky(again), precision="highest")
    return mean, factor * math.sqrt(len(xs) / max(len(xs) - 1, 1))


def _factors(xs: XsQ) -> tuple[AnyFloat, ...]:
    """Mean; L and A with L A L^T the covariance; and up to where A's least eigenvalue is zero."""
    n, dim = xs.shape
    eps, eye = jnp.finfo(xs.dtype).eps, jnp.eye(dim, dtype=xs.dtype)
    mean, spread, unit = standardised(xs)
    still = jnp.where(constant(xs), eye, 0.0)
    top = jnp.max(jnp.abs(xs), axis=0)
    rounding = jnp.where(constant(xs), 0.0, _SPACINGS * spacing(top) / spread)
    rounding = jax.lax.stop_gradient(jnp.sum(rounding**2))
    shift = rounding + _SHIFT * dim * eps
    gram = jnp.matmul(unit.T, unit, precision="highest") / n
    first = jnp.linalg.cholesky(gram + still + shift * eye)
    rows = jax.scipy.linalg.solve_triangular(first, unit.T, lower=True)
    again = jnp.matmul(rows, rows.T, precision="highest") / n + still
    floor = _FLOOR * dim * eps + rounding / (rounding + shift)
    return mean, spread[:, None] * first, again, floor


def standardised(xs: XsQ) -> tuple[AnyFloat, ...]:
    """Mean, deviation and samples in their units; one and zeros for a constant coordinate."""
    mean, half, unit = centred(xs)
    size = jnp.sqrt(jnp.where(half > 0, jnp.mean(unit**2, axis=0), 1.0))
    return mean, jnp.where(half > 0, half, 1.0) * size, unit / size


def positive(caller: str, name: str, value: ValuesLike, dtype: Any) -> Values:
    """Numbers as an array, refused where they are not positive and finite."""
    found = jnp.asarray(value, dtype)
    bad = ~jnp.all((found > 0) & jnp.isfinite(found))
    return eqx.error_if(found, bad, f"{caller}: `{name}` must be positive and finite.")


def widths(caller: str, bandwidth: Bandwidth | None, xs: XsQ, ys: XsP) -> Float[Array, " widths"]:
    """Bandwidths as an array: those given, or the median rule's."""
    if bandwidth is None:
        return median_of(caller, xs, ys)[None]
    found = jnp.atleast_1d(jnp.asarray(bandwidth))
    if found.ndim > 1 or found.size < 1:
        words = f"`bandwidth` has shape {jnp.shape(bandwidth)}; pass a number or several."
        raise ValueError(f"{caller}: {words}")
    return positive(caller, "bandwidth", found, xs.dtype)


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
    clouds = {"xs": xs} if ys is None else {"xs": xs, "ys": ys}
    return median_of(caller, *two_clouds(caller, **clouds), size=size)


def median_of(caller: str, *clouds: Rows, size: int = 1024) -> Scalar:
    """The median rule on checked samples."""
    count = sum(map(len, clouds))
    if count < 2:
        raise ValueError(f"{caller}: one sample has no median distance; pass two or a `bandwidth`.")
    some = np.unique(np.linspace(0, count - 1, min(size, count)).astype(int))
    found = _median(jnp.concatenate(clouds)[some])
    message = (
        f"{caller}: the median distance between samples is zero, so most of them are equal; "
        "pass a positive `bandwidth`, or samples that differ."
    )
    return eqx.error_if(found, ~(found > 0), message)


@jax.jit
def _median(points: XsQ) -> Scalar:
    squares = jax.lax.map(lambda x: jnp.sum((points - x) ** 2, axis=1), points)
    return jnp.sqrt(jnp.median(squares[np.triu_indices(len(points), 1)]))
