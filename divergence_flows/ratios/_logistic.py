r"""Ratios r = p/q fitted to samples in closed form or by Newton steps, linear in their number.

Logistic regression on features gives log r and is the default; uLSIF gives r, which may be
negative. Sums over samples run in blocks, so memory is that of a block and of a square matrix of
features.

References:
    Sugiyama, Suzuki & Kanamori, Density ratio estimation in machine learning, 2012.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real

from .._checks import check_counts
from .._types import LogRatioFn, Scalar
from ._bandwidth import Bandwidth, Samples, check_spans, check_supports, two_clouds, widths
from ._block_sums import Blocks, blocks, total
from ._features import (
    MOST_MONOMIALS,
    FeatureMap,
    check_features,
    fourier,
    linear,
    monomials,
    values,
)

# Loss, gradient and Hessian of the logistic loss, without the penalty.
Sums = tuple[Scalar, Float[Array, " features"], Float[Array, "features features"]]


def rff_log_ratio(
    xs_q: Samples,
    xs_p: Samples,
    *,
    features: int | None = None,
    degree: int | None = None,
    bandwidth: Bandwidth | None = None,
    ridge: Real[ArrayLike, ""] | None = None,
    newton_steps: int = 8,
    block: int = 4096,
    key: PRNGKeyArray,
) -> LogRatioFn:
    r"""Log ratio by ridge logistic regression on random Fourier features and monomials.

    $u(x) = c^T \varphi(x)$ minimises, with n samples of q and m of p,
    $$\tfrac{1}{n+m} \Big(\sum_q \mathrm{sp}(u + \log\tfrac mn)
    + \sum_p \mathrm{sp}(-u - \log\tfrac mn)\Big) + \tfrac{ridge}{2} |c|^2,$$
    so u estimates log p/q whatever n and m are. Fourier features alone neither grow nor settle
    far from the samples, where log ratios of densities with Gaussian tails are quadratic: hence
    the monomials. The constant is not penalised: as `ridge` grows, u tends to 0.

    What is left out is chosen by the sizes, so that few samples are not fitted to the letter;
    `ratio_check` on samples that were held out says how well that went. With k = min(n, m):

    - `features` is 256, or half of k if that is less;
    - `degree` is 2 where k is 100 monomials' number or more, 1 where it is 10 dim, else 0;
    - `ridge` is max(1, dim / 5) / (n + m), and 1e-4 at least.

    In the plane that is 256 features, degree 2 and 1e-4 from 5,000 samples of each on.

    Args:
        xs_q: Samples of q [units of x].
        xs_p: Samples of p; there may be more or fewer [units of x].
        features: Number of Fourier features, even. Time grows with its square. None: by the sizes.
        degree: Monomials beside them: 0 none, 1 the coordinates, 2 their products too, exact for
            any two Gaussians. Their number, dim (dim + 3) / 2, may not exceed 2048. None: by the
            sizes.
        bandwidth: Of the kernel that the features approximate; several share them out; None is
            the median rule of both samples [units of x].
        ridge: Penalty on the coefficients, per sample. None: by the sizes.
        newton_steps: Passes over the samples after the first; a step that would raise the loss is
            cut to a quarter and counts too.
        block: Samples summed at once; it changes time and memory, not the result.
        key: Randomness of the frequencies; the same key gives the same features.

    Returns:
        `log_r(t, x, args)` of one point, the same at all times [nats].

    Raises:
        ValueError: If there are no samples, or an option is not what it should be.
        EquinoxRuntimeError: If a sample is not finite, numbers are too large for their floats,
            `bandwidth` or `ridge` is not positive, a coordinate is the same for all samples (of
            both, and `degree` is not 0, or of one only: then there is no ratio), coordinates
            depend on each other, there are no more samples than coordinates, or the Hessian is
            singular to working precision.

    References:
        Rahimi & Recht, NeurIPS 2007; Qin, Inferences for case-control and semiparametric
        two-sample density ratio models, Biometrika 1998.
    """
    caller = "rff_log_ratio"
    check_counts(caller, {"newton_steps": newton_steps, "block": block})
    one, other = check_supports(caller, *two_clouds(caller, xs_q, xs_p))
    features, degree, ridge = by_sizes(one, other, features, degree, ridge)
    check_features(caller, one.shape[1], features, degree)
    found = widths(caller, bandwidth, one, other)
    pooled = pooled_spans(caller, one, other, degree)
    waves = fourier(pooled, found, features, degree, key)
    on_q, on_p = (jnp.ones(len(xs), xs.dtype) for xs in (one, other))
    data = sided(pooled, on_q, on_p, block)
    coefficients = logistic(caller, waves, data, positive(caller, ridge, one.dtype), newton_steps)
    return Partial(linear, waves, coefficients)


def by_sizes(
    xs_q: Float[Array, "n dim"],
    xs_p: Float[Array, "m dim"],
    features: int | None,
    degree: int | None,
    ridge: Real[ArrayLike, ""] | None,
) -> tuple[int, int, Real[ArrayLike, ""]]:
    """Numbers of things and the penalty that samples of these sizes can bear, where None."""
    (n, dim), m = xs_q.shape, len(xs_p)
    fewer = min(n, m)
    if features is None:
        features = min(256, max(2, 2 * (fewer // 4)))
    if degree is None:
        products = monomials(dim)
        degree = int(fewer >= 10 * dim) + (100 * products <= fewer and products <= MOST_MONOMIALS)
    return features, degree, max(1e-4, max(1, dim / 5) / (n + m)) if ridge is None else ridge


def pooled_spans(
    caller: str, xs_q: Float[Array, "n dim"], xs_p: Float[Array, "m dim"], degree: int
) -> Float[Array, "total dim"]:
    """Samples of q, then of p, refused if they lie in a plane."""
    what, pooled = f"{caller}: `xs_q` and `xs_p` together", jnp.concatenate([xs_q, xs_p])
    constants = ", or pass degree=0 to leave monomials out" if degree else None
    return check_spans(what, pooled, constants=constants, planes=", or take `mmd_witness`")


def sided(
    pooled: Float[Array, "total dim"],
    on_q: Float[Array, " n"],
    on_p: Float[Array, " m"],
    block: int,
) -> Blocks:
    """Samples of q and then of p with two weights each: as one of q, and as one of p."""
    sides = (jnp.pad(on_q, (0, on_p.size)), jnp.pad(on_p, (on_q.size, 0)))
    return blocks(pooled, jnp.stack(sides, axis=1), block)


def positive(caller: str, ridge: Real[ArrayLike, ""], dtype: Any) -> Scalar:
    """A penalty as an array, refused if it is none."""
    penalty = jnp.asarray(ridge, dtype)
    words = f"{caller}: `ridge` must be positive and finite."
    return eqx.error_if(penalty, ~((penalty > 0) & jnp.isfinite(penalty)), words)


@eqx.filter_jit
def logistic(
    caller: str, feature_map: FeatureMap, data: Blocks, ridge: Scalar, steps: int
) -> Float[Array, " features"]:
    """Coefficients of the log ratio that minimise the penalised loss, a constant first."""
    size = jax.eval_shape(feature_map, data.rows[0, 0])
    penalty = jnp.full(size.shape, ridge, size.dtype).at[0].set(0)
    start = jnp.zeros(size.shape, size.dtype)
    evaluate = Partial(_penalised, caller, feature_map, data, penalty)
    step = Partial(_newton, evaluate)
    first = (start, *evaluate(start), jnp.ones((), size.dtype))
    return jax.lax.scan(step, first, length=steps)[0][0]


def _newton(evaluate: Any, state: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], None]:
    """Goes along the last good direction, and keeps the new point if the loss fell."""
    best, loss, direction, length = state
    trial = best - length * direction
    new_loss, new_direction = evaluate(trial)
    slack = 10 * jnp.finfo(loss.dtype).eps * jnp.abs(loss)
    good = new_loss <= loss + slack
    kept = (trial, new_loss, new_direction, jnp.minimum(1.0, 4 * length))
    cut = (best, loss, direction, 0.25 * length)
    return jax.tree.map(Partial(jnp.where, good), kept, cut), None


def _penalised(
    caller: str,
    feature_map: FeatureMap,
    data: Blocks,
    penalty: Float[Array, " features"],
    coefficients: Float[Array, " features"],
) -> tuple[Scalar, Float[Array, " features"]]:
    """The loss, and Newton's direction."""
    offset, scale = _prior(data)
    loss, slope, curve = total(Partial(_sums, feature_map, coefficients, offset), data)
    loss = loss * scale + 0.5 * jnp.sum(penalty * coefficients**2)
    slope = slope * scale + penalty * coefficients
    return loss, solve(caller, curve * scale + jnp.diag(penalty), slope)


def _prior(data: Blocks) -> tuple[Scalar, Scalar]:
    """log m/n, and one over the number of samples."""
    n, m = jnp.sum(data.weights, axis=(0, 1))
    return jnp.log(m) - jnp.log(n), 1 / (n + m)


def _sums(
    feature_map: FeatureMap,
    coefficients: Float[Array, " features"],
    offset: Scalar,
    rows: Float[Array, "n dim"],
    weights: Float[Array, "n sides"],
) -> Sums:
    phi = values(feature_map, rows)
    logits = jnp.matmul(phi, coefficients, precision="highest") + offset
    on_q, on_p = jax.nn.sigmoid(logits), -jax.nn.sigmoid(-logits)
    slope = weights[:, 0] * on_q + weights[:, 1] * on_p
    curve = -jnp.sum(weights, axis=1) * on_q * on_p
    gradient = jnp.matmul(slope, phi, precision="highest")
    return _log_loss(logits, weights), gradient, jnp.matmul(phi.T * curve, phi, precision="highest")


def solve(
    caller: str, matrix: Float[Array, "k k"], vector: Float[Array, " k"]
) -> Float[Array, " k"]:
    """Solves the normal equations by Cholesky, and refuses a matrix that is singular."""
    operator = lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)
    found = lx.linear_solve(operator, vector, lx.Cholesky(), throw=False).value
    words = (
        f"{caller}: the normal equations are singular to working precision; raise `ridge`, lower "
        "`features`, or use float64."
    )
    return eqx.error_if(found, ~jnp.all(jnp.isfinite(found)), words)


def logistic_loss(
    feature_map: FeatureMap, coefficients: Float[Array, " features"], data: Blocks
) -> Scalar:
    """Mean logistic loss on samples [nats]; for choosing among fits on others."""
    offset, scale = _prior(data)
    return scale * total(Partial(_loss, feature_map, coefficients, offset), data)


def _loss(
    feature_map: FeatureMap,
    coefficients: Float[Array, " features"],
    offset: Scalar,
    rows: Float[Array, "n dim"],
    weights: Float[Array, "n sides"],
) -> Scalar:
    logits = jnp.matmul(values(feature_map, rows), coefficients, precision="highest") + offset
    return _log_loss(logits, weights)


def _log_loss(logits: Float[Array, " n"], weights: Float[Array, "n sides"]) -> Scalar:
    """Of one side sp(logit), of the other sp(-logit)."""
    return jnp.sum(weights * jax.nn.softplus(jnp.stack([logits, -logits], axis=1)))
