"""Log ratios by logistic regression on features, a few Newton steps over the samples.

Sums over samples run in blocks, so memory is that of a block and of a square matrix of features.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_counts
from .._types import LogRatioFn, Scalar, ScalarLike
from ._bandwidth import (
    Bandwidth,
    Ridge,
    Rows,
    Samples,
    XsP,
    XsQ,
    check_spans,
    check_supports,
    positive,
    widths,
)
from ._block_sums import Blocks, blocks, total
from ._features import (
    MOST_MONOMIALS,
    Coefficients,
    FeatureMap,
    check_features,
    check_solved,
    fourier,
    linear,
    monomials,
    solve,
)

Sums = tuple[Scalar, Coefficients, Float[Array, "features features"]]  # loss, gradient, Hessian


def rff_log_ratio(
    xs_q: Samples,
    xs_p: Samples,
    *,
    features: int | None = None,
    degree: int | None = None,
    bandwidth: Bandwidth | None = None,
    ridge: ScalarLike | None = None,
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

    Args:
        xs_q: Samples of q [units of x].
        xs_p: Samples of p; there may be more or fewer [units of x].
        features: Number of Fourier features, even. Time grows with its square. None: by the sizes.
        degree: Monomials beside them: 0 none, 1 the coordinates, 2 their products too, exact for
            any two Gaussians; dim (dim + 3) / 2 at most 2048. None: by the sizes.
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
            `bandwidth` or `ridge` is not positive, samples lie in a plane (or those of one only:
            then there is no ratio), there are no more samples than coordinates, or the Hessian is
            singular to working precision.

    Example:
        ```python
        xs_q, xs_p = jr.normal(jr.key(0), (1000, 1)), jr.normal(jr.key(1), (1000, 1)) + 2.0
        log_r = df.rff_log_ratio(xs_q, xs_p, features=16, key=jr.key(2))
        print(log_r(0.0, jnp.full(1, 1.5), None))  # 1
        ```

    References:
        Rahimi & Recht, NeurIPS 2007; Qin, Inferences for case-control and semiparametric
        two-sample density ratio models, Biometrika 1998.
    """
    caller = "rff_log_ratio"
    check_counts(caller, {"newton_steps": newton_steps, "block": block})
    xs_q, xs_p = check_supports(caller, xs_q, xs_p)
    options = (features, degree, ridge)
    pooled, features, degree, penalty = waves_by_sizes(caller, xs_q, xs_p, *options)
    waves = fourier(pooled, widths(caller, bandwidth, xs_q, xs_p), features, degree, key)
    on_q, on_p = (jnp.ones(len(xs), xs.dtype) for xs in (xs_q, xs_p))
    found = logistic(waves, sided(pooled, block, on_q, on_p), penalty, newton_steps)
    return Partial(linear, waves, check_solved(caller, found, jnp.isfinite(found)))


def waves_by_sizes(
    caller: str, xs_q: XsQ, xs_p: XsP, features: int | None, degree: int | None, ridge: Ridge
) -> tuple[Rows, int, int, Scalar]:
    """Checks all samples and options; where None, by the numbers of samples."""
    (n, dim), m = xs_q.shape, len(xs_p)
    fewer, products = min(n, m), monomials(dim)
    if features is None:
        features = min(256, max(2, 2 * (fewer // 4)))
    if degree is None:
        degree = int(fewer >= 10 * dim) + (100 * products <= fewer and products <= MOST_MONOMIALS)
    if ridge is None:
        ridge = max(1e-4, max(1, dim / 5) / (n + m))
    check_features(caller, dim, features, degree)
    pooled = check_spans(
        f"{caller}: `xs_q` and `xs_p` together",
        jnp.concatenate([xs_q, xs_p]),
        constants=", or pass degree=0 to leave monomials out" if degree else None,
        planes=", or take `mmd_witness`",
    )
    return pooled, features, degree, positive(caller, "ridge", ridge, pooled.dtype)


def sided(pooled: Rows, block: int, on_q: Float[Array, " n"], on_p: Float[Array, " m"]) -> Blocks:
    """Samples of q and then of p with two weights each: as one of q, and as one of p."""
    sides = (jnp.pad(on_q, (0, on_p.size)), jnp.pad(on_p, (on_q.size, 0)))
    return blocks(pooled, jnp.stack(sides, axis=1), block)


@eqx.filter_jit
def logistic(feature_map: FeatureMap, data: Blocks, ridge: Scalar, steps: int) -> Coefficients:
    """Coefficients that minimise the penalised loss, a constant first; NaN if it is singular."""
    like = jax.eval_shape(feature_map, data.rows[0, 0])
    start = jnp.zeros(like.shape, like.dtype)
    penalty = jnp.full(like.shape, ridge, like.dtype).at[0].set(0)

    def loss_and_direction(c: Coefficients) -> tuple[Scalar, Coefficients]:
        loss, slope, curve = _mean(feature_map, data, c)
        loss = loss + 0.5 * jnp.sum(penalty * c**2)
        return loss, solve(curve + jnp.diag(penalty), slope + penalty * c)

    def newton(state: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], None]:
        """Steps along the last good direction, and keeps the new point if the loss fell."""
        best, loss, direction, length = state
        trial = best - length * direction
        new_loss, new_direction = loss_and_direction(trial)
        good = new_loss <= loss + 10 * jnp.finfo(loss.dtype).eps * jnp.abs(loss)
        kept = (trial, new_loss, new_direction, jnp.minimum(1.0, 4 * length))
        cut = (best, loss, direction, 0.25 * length)
        return jax.tree.map(Partial(jnp.where, good), kept, cut), None

    first = (start, *loss_and_direction(start), jnp.ones((), like.dtype))
    best, _, direction, _ = jax.lax.scan(newton, first, length=steps)[0]
    return jnp.where(jnp.all(jnp.isfinite(direction)), best, jnp.nan)


def logistic_loss(feature_map: FeatureMap, data: Blocks, c: Coefficients) -> Scalar:
    """Mean logistic loss on samples [nats]; for choosing among fits on others."""
    return _mean(feature_map, data, c)[0]


def _mean(feature_map: FeatureMap, data: Blocks, c: Coefficients) -> Sums:
    """Mean logistic loss, its gradient and its Hessian, without the penalty."""
    n, m = jnp.sum(data.weights, axis=(0, 1))

    def sums(rows: XsQ, weights: Float[Array, "n sides"]) -> Sums:
        phi = jax.vmap(feature_map)(rows)
        logits = jnp.matmul(phi, c, precision="highest") + jnp.log(m) - jnp.log(n)
        loss = jnp.sum(weights * jax.nn.softplus(jnp.stack([logits, -logits], axis=1)))
        on_q, on_p = jax.nn.sigmoid(logits), -jax.nn.sigmoid(-logits)
        slope = weights[:, 0] * on_q + weights[:, 1] * on_p
        curve = -jnp.sum(weights, axis=1) * on_q * on_p
        gradient = jnp.matmul(slope, phi, precision="highest")
        return loss, gradient, jnp.matmul(phi.T * curve, phi, precision="highest")

    return jax.tree.map(lambda whole: whole / (n + m), total(sums, data))
