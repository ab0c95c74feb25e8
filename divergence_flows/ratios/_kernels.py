r"""Kernel sums over samples, exact and in blocks: a density, and the witness of an MMD.

Each value costs a pass over all samples; memory is that of one block, for gradients too.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_counts, check_input, check_samples
from .._types import LogRatioFn, Matrix, Scalar, ScalarFn, ScalarLike, Vector, VectorLike, as_float
from ._bandwidth import Bandwidth, Samples, check_spans, covariance_factor, two_clouds, widths
from ._block_sums import Blocks, blocks, total, weighted_sum
from ._check import Witness
from ._features import Widths, check_features, fourier, gaussian_kernel, linear

_OR = ", pass more samples, that vary in every direction, or pass `bandwidth`"


def kde_log_prob(
    xs: Samples, *, bandwidth: ScalarLike | None = None, block: int = 1024
) -> ScalarFn:
    r"""Log density of a Gaussian kernel estimate: $\log \tfrac1n \sum_i N(x; x_i, b^2 I)$.

    Finite wherever the logarithm itself is. For a cloud of points say `jax.vmap`, or `jax.lax.map`
    with a `batch_size` where their number times `block` would fill the memory.

    Args:
        xs: Samples [units of x].
        bandwidth: b, the same in every direction [units of x]. None is Scott's rule:
            $n^{-2/(d+4)}$ times the samples' covariance, as in `scipy.stats.gaussian_kde`.
        block: Samples summed at once; it changes time and memory, not the result.

    Returns:
        `log_prob(x)` of one point [nats].

    Raises:
        ValueError: If there are no samples, or `block` is not positive.
        EquinoxRuntimeError: If a sample is not finite, numbers are too large for their floats,
            `bandwidth` is not positive, or there is none and the samples lie in a plane.

    Example:
        ```python
        log_q = df.kde_log_prob(jr.normal(jr.key(0), (1000, 1)))
        print(log_q(jnp.zeros(1)))  # -0.9
        ```

    References:
        Scott, Multivariate density estimation, 1992.
    """
    caller = "kde_log_prob"
    check_counts(caller, {"block": block})
    xs = check_samples(caller, xs=xs)[0]
    n, dim = xs.shape
    if bandwidth is None:
        what = f"{caller}: the covariance of `xs` has no inverse"
        xs = check_spans(what, xs, constants=_OR, planes=_OR)
        centre, factor = covariance_factor(xs)
        factor = factor * n ** (-1 / (dim + 4))
    else:
        centre = jnp.mean(xs, axis=0)
        factor = widths(caller, bandwidth, xs, xs) * jnp.eye(dim, dtype=xs.dtype)
    unit = jax.vmap(Partial(_in_units, factor, centre))(xs)
    data = blocks(unit, jnp.full(n, 1 / n, xs.dtype), block)
    return Partial(_kde, factor, centre, data)


def _in_units(factor: Matrix, centre: Vector, x: Vector) -> Vector:
    return jax.scipy.linalg.solve_triangular(factor, x - centre, lower=True)


def _kde(factor: Matrix, centre: Vector, data: Blocks, x: VectorLike) -> Scalar:
    unit = _in_units(factor, centre, as_float(x))
    size = jnp.sum(jnp.log(jnp.diagonal(factor))) + 0.5 * unit.size * jnp.log(2 * jnp.pi)

    def log_sum(rows: Float[Array, "n dim"], weights: Float[Array, " n"]) -> Scalar:
        return jax.nn.logsumexp(jnp.log(weights) - 0.5 * jnp.sum((rows - unit) ** 2, axis=1))

    return total(log_sum, data, jnp.logaddexp, -jnp.inf) - size


def mmd_witness(
    xs_q: Samples,
    xs_p: Samples,
    *,
    bandwidth: Bandwidth | None = None,
    features: int | None = None,
    block: int = 1024,
    key: PRNGKeyArray | None = None,
) -> LogRatioFn:
    r"""The witness of a maximum mean discrepancy: $d(x) = E_p[k(x, y)] - E_q[k(x, y)]$.

    Its gradient is the velocity of the flow of MMD^2 / 2, `velocity(h, mmd_witness(xs_q, xs_p))`
    with h the identity, and its value is no log ratio: `ratio_check` refuses it. Exact, a value
    costs a pass over all samples; with `features` it costs that many operations, after one pass.

    Args:
        xs_q: Samples of q [units of x].
        xs_p: Samples of p; there may be more or fewer [units of x].
        bandwidth: Of the Gaussian kernel; several make the mean of kernels; None is the median
            rule of both samples [units of x].
        features: None for the exact kernel, or an even number of random Fourier features for it.
        block: Samples summed at once; it changes time and memory, not the result.
        key: Randomness of the features; without them it may be left out.

    Returns:
        `witness(t, x, args)` of one point, the same at all times [dimensionless].

    Raises:
        ValueError: If there are no samples, `block` is not positive, or `features` is odd or comes
            without `key`.
        EquinoxRuntimeError: If a sample is not finite, numbers are too large for their floats,
            `bandwidth` is not positive, or there is none and most samples are equal.

    References:
        Gretton et al., JMLR 2012; Arbel et al., Maximum mean discrepancy gradient flow,
        NeurIPS 2019.
    """
    caller = "mmd_witness"
    check_counts(caller, {"block": block})
    xs_q, xs_p = two_clouds(caller, xs_q=xs_q, xs_p=xs_p)
    found = widths(caller, bandwidth, xs_q, xs_p)
    n, m = len(xs_q), len(xs_p)
    weights = jnp.full(n + m, 1 / m, xs_q.dtype).at[:n].set(-1 / n)
    pooled = jnp.concatenate([xs_q, xs_p])
    data = blocks(pooled, weights, block)
    if features is None:
        return Witness(Partial(_exact_witness, found, data))
    if key is None:
        raise ValueError(f"{caller}: `features` draws frequencies; pass `key` too.")
    check_features(caller, pooled.shape[1], features, 0)
    waves = fourier(pooled, found, features, 0, key)
    return Witness(Partial(linear, waves, weighted_sum(waves, data)))


def _exact_witness(found: Widths, data: Blocks, t: ScalarLike, x: VectorLike, args: Any) -> Scalar:
    point = as_float(x)
    check_input("the fitted function", "x", point, data.rows.shape[-1])
    return weighted_sum(Partial(_kernel, point, found), data)


def _kernel(x: Vector, found: Widths, row: Vector) -> Scalar:
    return gaussian_kernel(jnp.sum((row - x) ** 2), found)
