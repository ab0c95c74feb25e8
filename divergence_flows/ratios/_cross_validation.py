"""Which bandwidth: the one whose ratio has the least loss on samples that it was not fitted to."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_counts, check_positive
from .._types import Scalar, ScalarLike
from ._bandwidth import Samples, check_supports, median_of
from ._features import Centres, check_solved, fourier
from ._least_squares import both, bumps_by_sizes, least_squares, least_squares_loss
from ._logistic import logistic, logistic_loss, sided, waves_by_sizes

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
    ridge: ScalarLike | None = None,
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
        ridge: As in the function whose bandwidth is chosen, at the sizes of all samples.
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
    xs_q, xs_p = check_supports(caller, xs_q, xs_p)
    if loss not in ("logistic", "ulsif"):
        raise ValueError(f'{caller}: `loss` is {loss!r}; pass "logistic" or "ulsif".')
    if not 2 <= folds <= min(len(xs_q), len(xs_p)):
        words = "pass 2 at least, and no more than the samples of either."
        raise ValueError(f"{caller}: `folds` is {folds}; {words}")
    if len(multiples) < 1:
        raise ValueError(f"{caller}: `multiples` holds none; pass one at least.")
    for multiple in multiples:
        check_positive(caller, multiples=multiple)
    if loss == "logistic":
        options = (features, degree, ridge)
        pooled, features, degree, penalty = waves_by_sizes(caller, xs_q, xs_p, *options)
        made = functools.partial(fourier, pooled, features=features, degree=degree, key=key)
        deal: Any = functools.partial(sided, pooled, block)
        fit: Any = functools.partial(logistic, ridge=penalty, steps=newton_steps)
        loss_of: Any = logistic_loss
    else:
        points, penalty = bumps_by_sizes(caller, xs_q, xs_p, features, ridge, key)
        made, deal = functools.partial(Centres, points), functools.partial(both, xs_q, xs_p, block)
        fit, loss_of = functools.partial(least_squares, ridge=penalty), least_squares_loss
    found = median_of(caller, xs_q, xs_p) * jnp.asarray(multiples, xs_q.dtype)
    parts = np.arange(folds)[:, None]
    on_q, on_p = (jnp.asarray(np.arange(len(x)) % folds != parts, x.dtype) for x in (xs_q, xs_p))

    def score(width: Scalar, on_q: Float[Array, " n"], on_p: Float[Array, " m"]) -> Scalar:
        """Loss of one bandwidth on samples that its fit leaves out, whose weights are zero."""
        feature_map = made(width[None])
        coefficients = fit(feature_map, deal(on_q, on_p))
        return loss_of(feature_map, deal(1 - on_q, 1 - on_p), coefficients)

    losses = jax.vmap(jax.vmap(score, (None, 0, 0)), (0, None, None))(found, on_q, on_p)
    best = found[jnp.argmin(jnp.mean(losses, axis=1))]
    return check_solved(caller, best, ~jnp.isnan(losses))
