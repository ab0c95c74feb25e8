"""Potentials of a trained network, `(t, x, args) -> scalar`, whose gradients are velocities."""

from collections.abc import Callable
from typing import Any

from jax.tree_util import Partial
from jaxtyping import PyTree

from .._checks import Network, scalar_of
from .._types import Function, LogRatioFn, SampleLike, Scalar, ScalarLike, as_float
from ..ratios._check import Witness
from ._losses import require_fields


def _log_r(gan: Any, discriminator: PyTree, t: ScalarLike, x: SampleLike, args: Any) -> Scalar:
    return gan.log_t(discriminator(as_float(x)))


def learned_log_ratio(gan: Any, discriminator: Network) -> LogRatioFn:
    """The log ratio that a discriminator has learned, log T(d(x)), at all times.

    Args:
        gan: The GAN that it was trained with.
        discriminator: A module d(x) of one sample; its leaves should be arrays only.

    Returns:
        `log_r(t, x, args)` of one point [nats], for `velocity` and `ratio_check`.

    Raises:
        ValueError: If `gan` has no log T: an `IPM` gives no ratio, and `witness` is for it.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, Lemma 3.4.
    """
    require_fields("learned_log_ratio", gan, "log_t")
    return Partial(_log_r, gan, discriminator)


def _log_r_at(gan: Any, discriminator: PyTree, t: ScalarLike, x: SampleLike, args: Any) -> Scalar:
    return gan.log_t(discriminator(t, as_float(x)))


def flow_log_ratio(gan: Any, discriminator: Network) -> LogRatioFn:
    r"""The log ratio that a time-conditioned discriminator has learned, log T(d(t, x)).

    `velocity(gan.h, flow_log_ratio(gan, state.ema))` is the field. Where log p is known,
    log q_t(x) = log p(x) - log_r(t, x).

    Args:
        gan: The GAN that it was trained with.
        discriminator: A module d(t, x) of one time and one sample.

    Returns:
        `log_r(t, x, args)` of one point [nats].

    Raises:
        ValueError: If `gan` has no log T.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, Lemma 3.4.
    """
    require_fields("flow_log_ratio", gan, "log_t")
    return Partial(_log_r_at, gan, discriminator)


def _witness(discriminator: Function, t: ScalarLike, x: SampleLike, args: Any) -> Scalar:
    return scalar_of("witness", "discriminator", discriminator, as_float(x))


def witness(discriminator: Callable[..., Any]) -> LogRatioFn:
    r"""A critic's value as a potential at all times: `velocity(gan.h_t, witness(d))` moves.

    The velocity is $\nabla h_T(d(x))$, for an `IPM` as for a `GAN`; the value is no log ratio.

    Args:
        discriminator: A module d(x) of one sample; its leaves should be arrays only.

    Returns:
        `witness(t, x, args)` of one point [units of d].

    Raises:
        ValueError: From the witness, if d(x) is no scalar.

    References:
        Arbel et al., Maximum mean discrepancy gradient flow, NeurIPS 2019.
    """
    return Witness(Partial(_witness, discriminator))
