"""The ratio itself by least squares, in closed form: uLSIF."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real

from .._checks import check_counts
from .._types import LogRatioFn, Scalar
from ._bandwidth import Bandwidth, Samples, check_supports, two_clouds, widths
from ._block_sums import Blocks, blocks, total
from ._features import Centres, FeatureMap, first_moment, linear, second_moment, values
from ._logistic import positive, solve


def ulsif_ratio(
    xs_q: Samples,
    xs_p: Samples,
    *,
    centres: int | None = None,
    bandwidth: Bandwidth | None = None,
    ridge: Real[ArrayLike, ""] | None = None,
    block: int = 4096,
    key: PRNGKeyArray,
) -> LogRatioFn:
    r"""The ratio r = p/q, not its logarithm, by unconstrained least squares (uLSIF).

    $r(x) = c_0 + \sum_j c_j k(x, y_j)$, the centres $y_j$ drawn from `xs_p`, minimises
    $$\tfrac12 E_q[r^2] - E_p[r] + \tfrac{ridge}{2} |c_{j>0}|^2.$$
    Bumps at samples of p, not Fourier features: r settles at a constant far from them instead of
    oscillating, and is large where p is. The constant is not penalised, so p = q is exact: as
    `ridge` grows, r tends to 1.

    **r may be zero or negative**, most of all where p has little mass; its logarithm is then NaN.
    `velocity(h, r)` with h the identity is the flow of KL(p||q), whose h is e^u = r; with the
    square it is that of Pearson's divergence, whose velocity 2 r grad r points the wrong way
    where r < 0. For any other h use `rff_log_ratio`, which is better at grad log r by far.

    Args:
        xs_q: Samples of q [units of x].
        xs_p: Samples of p; there may be more or fewer [units of x].
        centres: How many kernels, or all samples of p if they are fewer. Time grows with its
            square. None: 256, or a quarter of the samples of q if that is less.
        bandwidth: Of the kernels; several make the mean of kernels; None is the median rule of
            both samples [units of x].
        ridge: Penalty on the coefficients. None: 8 / n for n samples of q, and 1e-3 at least.
        block: Samples summed at once; it changes time and memory, not the result.
        key: Randomness of the centres; the same key gives the same ones.

    Returns:
        `ratio(t, x, args)` of one point, the same at all times [dimensionless].

    Raises:
        ValueError: If there are no samples, or a number is not positive.
        EquinoxRuntimeError: If a sample is not finite, numbers are too large for their floats,
            `bandwidth` or `ridge` is not positive, most samples are equal, a coordinate is the
            same for all samples of one only (then there is no ratio), or the equations are
            singular to working precision.

    References:
        Kanamori, Hido & Sugiyama, A least-squares approach to direct importance estimation,
        JMLR 2009.
    """
    caller = "ulsif_ratio"
    check_counts(caller, {"centres": centres, "block": block})
    one, other = check_supports(caller, *two_clouds(caller, xs_q, xs_p))
    centres, ridge = bumps_by_sizes(one, centres, ridge)
    found = widths(caller, bandwidth, one, other)
    bumps = Centres(some_of(other, centres, key), found)
    on_q, on_p = (weighted(xs, jnp.ones(len(xs), xs.dtype), block) for xs in (one, other))
    penalty = positive(caller, ridge, one.dtype)
    coefficients = least_squares(caller, bumps, on_q, on_p, penalty)
    return Partial(linear, bumps, coefficients)


def bumps_by_sizes(
    xs_q: Float[Array, "n dim"], centres: int | None, ridge: Real[ArrayLike, ""] | None
) -> tuple[int, Real[ArrayLike, ""]]:
    """How many centres and which penalty samples of q can bear, where None."""
    n = len(xs_q)
    most = min(256, max(1, n // 4)) if centres is None else centres
    return most, max(1e-3, 8 / n) if ridge is None else ridge


def some_of(
    xs: Float[Array, "n dim"], count: int, key: PRNGKeyArray
) -> Float[Array, "centres dim"]:
    """Draws samples without replacement, all if there are no more."""
    return xs[jax.random.permutation(key, len(xs))[:count]]


def weighted(xs: Float[Array, "n dim"], weights: Float[Array, " n"], block: int) -> Blocks:
    """Samples in blocks, their weights scaled to add up to one."""
    return blocks(xs, weights / jnp.sum(weights), block)


@eqx.filter_jit
def least_squares(
    caller: str, feature_map: FeatureMap, on_q: Blocks, on_p: Blocks, ridge: Scalar
) -> Float[Array, " features"]:
    """Coefficients of the ratio that solve uLSIF's normal equations.

    Args:
        caller: Who asks, for the message.
        feature_map: Features of one sample, a constant first.
        on_q: Samples of q; their weights add up to one.
        on_p: Samples of p, likewise.
        ridge: The penalty.

    Returns:
        The coefficients.
    """
    mean = first_moment(feature_map, on_p)
    penalty = jnp.full(mean.shape, ridge, mean.dtype).at[0].set(0)
    return solve(caller, second_moment(feature_map, on_q) + jnp.diag(penalty), mean)


def least_squares_loss(
    feature_map: FeatureMap, coefficients: Float[Array, " features"], on_q: Blocks, on_p: Blocks
) -> Scalar:
    """uLSIF's loss of a ratio on samples; for choosing among fits on others."""
    square = total(Partial(_squares, feature_map, coefficients), on_q)
    return 0.5 * square - jnp.dot(coefficients, first_moment(feature_map, on_p))


def _squares(
    feature_map: FeatureMap,
    coefficients: Float[Array, " features"],
    rows: Float[Array, "n dim"],
    weights: Float[Array, " n"],
) -> Scalar:
    r = jnp.matmul(values(feature_map, rows), coefficients, precision="highest")
    return jnp.dot(weights, r**2)
