"""Which bandwidth: the one whose ratio has the least loss on samples that it was not fitted to."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer, PRNGKeyArray, Real

from .._checks import check_counts, check_positive
from .._types import Scalar, ScalarLike
from ._bandwidth import Samples, check_supports, median_of, two_clouds
from ._features import Centres, check_features, fourier
from ._least_squares import bumps_by_sizes, least_squares, least_squares_loss, some_of, weighted
from ._logistic import by_sizes, logistic, logistic_loss, pooled_spans, positive, sided

_MULTIPLES = (0.125, 0.25, 0.5, 1.0, 2.0)


def ratio_bandwidth(
    xs_q: Samples,
    xs_p: Samples,
    *,
    loss: str = "logistic",
    multiples: Sequence[ScalarLike] = _MULTIPLES,
    folds: int = 3,
    features: int | None = None,
    degree: int | None = None,
    ridge: Real[ArrayLike, ""] | None = None,
    newton_steps: int = 8,
    block: int = 4096,
    key: PRNGKeyArray,
) -> Scalar:
    r"""Bandwidth chosen by the cross-validated loss of the ratio, among multiples of the median.

    All candidates are fitted side by side, so under `jit` the choice costs no extra trace; it
    takes `folds * len(multiples)` fits and as many times their memory. Inside a flow the choice
    would jump: make it once, before.

    Args:
        xs_q: Samples of q, in any order that has no pattern: folds are dealt in turn
            [units of x].
        xs_p: Samples of p, likewise [units of x].
        loss: "logistic", for `rff_log_ratio`, or "ulsif", for `ulsif_ratio`.
        multiples: Of the median distance between samples.
        folds: Parts of the samples, each left out once.
        features: As `rff_log_ratio`; for "ulsif", the number of centres.
        degree: As `rff_log_ratio`; not used by "ulsif".
        ridge: As in the function whose bandwidth is chosen; None is its default here too, at the
            sizes of all samples, as it is of `features` and `degree`.
        newton_steps: As `rff_log_ratio`; not used by "ulsif".
        block: Samples summed at once.
        key: Randomness of features; use the same for the ratio itself.

    Returns:
        The bandwidth [units of x].

    Raises:
        ValueError: If `loss` is unknown, there are fewer samples of either than `folds`, which
            are two at least, or another option is not what it should be.
        EquinoxRuntimeError: As the function whose bandwidth is chosen.

    References:
        Sugiyama, Suzuki & Kanamori, 2012, chapter 4.
    """
    caller = "ratio_bandwidth"
    check_counts(caller, {"newton_steps": newton_steps, "block": block, "features": features})
    one, other = check_supports(caller, *two_clouds(caller, xs_q, xs_p))
    if loss not in ("logistic", "ulsif"):
        raise ValueError(f'{caller}: `loss` is {loss!r}; pass "logistic" or "ulsif".')
    if not 2 <= folds <= min(len(one), len(other)):
        raise ValueError(
            f"{caller}: `folds` is {folds}; pass 2 at least, and no more than the samples of "
            "either."
        )
    if len(multiples) < 1:
        raise ValueError(f"{caller}: `multiples` holds none; pass one at least.")
    for each in multiples:
        check_positive(caller, multiples=each)
    if loss == "logistic":
        features, degree, ridge = by_sizes(one, other, features, degree, ridge)
        check_features(caller, one.shape[1], features, degree)
        pooled = pooled_spans(caller, one, other, degree)
        one, other = pooled[: len(one)], pooled[len(one) :]
        penalty, options = (
            positive(caller, ridge, one.dtype),
            (features, degree, newton_steps, block),
        )
        score = functools.partial(_logistic_score, one, other, penalty, folds, options, key)
    else:
        features, ridge = bumps_by_sizes(one, features, ridge)
        penalty, points = positive(caller, ridge, one.dtype), some_of(other, features, key)
        score = functools.partial(_ulsif_score, one, other, penalty, folds, points, block)
    found = median_of(caller, one, other, 1024) * jnp.asarray(multiples, one.dtype)
    scores = jax.vmap(jax.vmap(score, (None, 0)), (0, None))(found, jnp.arange(folds))
    best = found[jnp.argmin(jnp.mean(scores, axis=1))]
    return jnp.where(jnp.isfinite(penalty), best, jnp.nan)  # looked at, also for a choice of one


def _kept(xs: Float[Array, "n dim"], folds: int, part: Integer[Array, ""]) -> Float[Array, " n"]:
    """One for samples to fit to, zero for those left out."""
    return (np.arange(len(xs)) % folds != part).astype(xs.dtype)


def _logistic_score(
    xs_q: Float[Array, "n dim"],
    xs_p: Float[Array, "m dim"],
    ridge: Scalar,
    folds: int,
    options: tuple[int, int, int, int],
    key: PRNGKeyArray,
    width: Scalar,
    part: Integer[Array, ""],
) -> Scalar:
    """Loss of one bandwidth on one part."""
    features, degree, steps, block = options
    xs = jnp.concatenate([xs_q, xs_p])
    waves = fourier(xs, width[None], features, degree, key)
    on_q, on_p = (_kept(each, folds, part) for each in (xs_q, xs_p))
    inside, outside = sided(xs, on_q, on_p, block), sided(xs, 1 - on_q, 1 - on_p, block)
    return logistic_loss(waves, logistic("ratio_bandwidth", waves, inside, ridge, steps), outside)


def _ulsif_score(
    xs_q: Float[Array, "n dim"],
    xs_p: Float[Array, "m dim"],
    ridge: Scalar,
    folds: int,
    points: Float[Array, "centres dim"],
    block: int,
    width: Scalar,
    part: Integer[Array, ""],
) -> Scalar:
    """Loss of one bandwidth on one part."""
    bumps = Centres(points, width[None])
    on_q, on_p = (_kept(each, folds, part) for each in (xs_q, xs_p))
    inside = weighted(xs_q, on_q, block), weighted(xs_p, on_p, block)
    outside = weighted(xs_q, 1 - on_q, block), weighted(xs_p, 1 - on_p, block)
    fitted = least_squares("ratio_bandwidth", bumps, *inside, ridge)
    return least_squares_loss(bumps, fitted, *outside)
