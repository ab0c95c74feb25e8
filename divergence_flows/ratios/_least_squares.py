"""The ratio itself by least squares, in closed form: uLSIF."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_counts
from .._types import LogRatioFn, Scalar, ScalarLike, Vector
from ._bandwidth import Bandwidth, Ridge, Samples, XsP, XsQ, check_supports, positive, widths
from ._block_sums import Blocks, blocks, total, weighted_sum
from ._features import Centres, Coefficients, FeatureMap, check_solved, linear, solve


def ulsif_ratio(
    xs_q: Samples,
    xs_p: Samples,
    *,
    centres: int | None = None,
    bandwidth: Bandwidth | None = None,
    ridge: ScalarLike | None = None,
    block: int = 4096,
    key: PRNGKeyArray,
) -> LogRatioFn:
    r"""The ratio r = p/q, not its logarithm, by unconstrained least squares (uLSIF).

    $r(x) = c_0 + \sum_j c_j k(x, y_j)$, the centres $y_j$ drawn from `xs_p`, minimises
    $$\tfrac12 E_q[r^2] - E_p[r] + \tfrac{ridge}{2} |c_{j>0}|^2.$$
    Far from samples of p r settles at a constant. It is not penalised, so p = q is exact: as
    `ridge` grows, r tends to 1.

    **r may be zero or negative**, most of all where p has little mass; its logarithm is then NaN.
    `velocity(h, r)` with h the identity is the flow of KL(p||q), whose h is e^u = r; with the
    square it is that of Pearson's divergence, whose velocity 2 r grad r points the wrong way
    where r < 0. For any other h use `rff_log_ratio`, which is better at grad log r by far.

    Args:
        xs_q: Samples of q [units of x].
        xs_p: Samples of p; there may be more or fewer [units of x].
        centres: Number of kernels, or all samples of p if they are fewer. Time grows with its
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
            same for all of one only, or the equations are singular to working precision.

    Example:
        ```python
        xs_q, xs_p = jr.normal(jr.key(0), (1000, 1)), jr.normal(jr.key(1), (1000, 1)) + 1.0
        ratio = df.ulsif_ratio(xs_q, xs_p, centres=32, key=jr.key(2))
        print(ratio(0.0, jnp.array([0.5]), None))  # 1
        ```

    References:
        Kanamori, Hido & Sugiyama, A least-squares approach to direct importance estimation,
        JMLR 2009.
    """
    caller = "ulsif_ratio"
    check_counts(caller, {"centres": centres, "block": block})
    xs_q, xs_p = check_supports(caller, xs_q, xs_p)
    points, penalty = bumps_by_sizes(caller, xs_q, xs_p, centres, ridge, key)
    bumps = Centres(points, widths(caller, bandwidth, xs_q, xs_p))
    on_q, on_p = (jnp.ones(len(xs), xs.dtype) for xs in (xs_q, xs_p))
    found = least_squares(bumps, both(xs_q, xs_p, block, on_q, on_p), penalty)
    return Partial(linear, bumps, check_solved(caller, found, jnp.isfinite(found)))


def bumps_by_sizes(
    caller: str, xs_q: XsQ, xs_p: XsP, centres: int | None, ridge: Ridge, key: PRNGKeyArray
) -> tuple[Float[Array, "centres dim"], Scalar]:
    """Draws centres and checks the penalty; where None, by the number of samples of q."""
    n = len(xs_q)
    if centres is None:
        centres = min(256, max(1, n // 4))
    penalty = positive(caller, "ridge", max(1e-3, 8 / n) if ridge is None else ridge, xs_q.dtype)
    return xs_p[jax.random.permutation(key, len(xs_p))[:centres]], penalty


def both(
    xs_q: XsQ, xs_p: XsP, block: int, on_q: Float[Array, " n"], on_p: Float[Array, " m"]
) -> tuple[Blocks, Blocks]:
    """Samples of q and of p in blocks, each with weights scaled to add up to one."""
    return blocks(xs_q, on_q / jnp.sum(on_q), block), blocks(xs_p, on_p / jnp.sum(on_p), block)


@eqx.filter_jit
def least_squares(
    feature_map: FeatureMap, data: tuple[Blocks, Blocks], ridge: Scalar
) -> Coefficients:
    """Coefficients that solve uLSIF's normal equations, a constant first."""
    on_q, on_p = data
    mean = weighted_sum(feature_map, on_p)
    penalty = jnp.full(mean.shape, ridge, mean.dtype).at[0].set(0)

    def products(rows: XsQ, weights: Float[Array, " n"]) -> Float[Array, "features features"]:
        phi = jax.vmap(feature_map)(rows)
        return jnp.matmul(phi.T * weights, phi, precision="highest")

    return solve(total(products, on_q) + jnp.diag(penalty), mean)


def least_squares_loss(
    feature_map: FeatureMap, data: tuple[Blocks, Blocks], c: Coefficients
) -> Scalar:
    """uLSIF's loss of a ratio on samples; for choosing among fits on others."""
    on_q, on_p = data
    square = weighted_sum(Partial(_square, feature_map, c), on_q)
    return 0.5 * square - jnp.dot(c, weighted_sum(feature_map, on_p))


def _square(feature_map: FeatureMap, c: Coefficients, x: Vector) -> Scalar:
    return jnp.dot(c, feature_map(x), precision="highest") ** 2
