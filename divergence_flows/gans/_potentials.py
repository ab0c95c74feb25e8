"""Potentials of a trained network, `(t, x, args) -> scalar`, whose gradients are velocities."""

from collections.abc import Callable
from typing import Any

from jax.tree_util import Partial
from jaxtyping import PyTree

from .._checks import Network, scalar_of
from .._types import Function, LogRatioFn, SampleLike, Scalar, ScalarLike, as_float
from ..ratios._check import Witness
from ._losses import require_fields


def _given(condition: PyTree) -> tuple[PyTree, ...]:
    return () if condition is None else (condition,)


def _log_r(
    gan: Any, network: PyTree, condition: PyTree, t: ScalarLike, x: SampleLike, args: Any
) -> Scalar:
    return gan.log_t(network(as_float(x), *_given(condition)))


def learned_log_ratio(gan: Any, discriminator: Network, condition: PyTree = None) -> LogRatioFn:
    """The log ratio that a discriminator has learned, log T(d(x)), at all times.

    Args:
        gan: The GAN that it was trained with.
        discriminator: A module d(x) of one sample; its leaves should be arrays only.
        condition: The condition c of all points, if the module is d(x, c).

    Returns:
        `log_r(t, x, args)` of one point [nats], for `velocity` and `ratio_check`.

    Raises:
        ValueError: If `gan` has no log T: an `IPM` gives no ratio, a `PairGAN` one up to a
            constant, and `witness` is for both.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, Lemma 3.4.
    """
    require_fields("learned_log_ratio", gan, "log_t")
    return Partial(_log_r, gan, discriminator, condition)


def _log_r_at(
    gan: Any, network: PyTree, condition: PyTree, t: ScalarLike, x: SampleLike, args: Any
) -> Scalar:
    return gan.log_t(network(t, as_float(x), *_given(condition)))


def flow_log_ratio(gan: Any, discriminator: Network, condition: PyTree = None) -> LogRatioFn:
    r"""The log ratio that a time-conditioned discriminator has learned, log T(d(t, x)).

    `velocity(gan.h, flow_log_ratio(gan, state.ema))` is the field. Where log p is known,
    log q_t(x) = log p(x) - log_r(t, x).

    Args:
        gan: The GAN that it was trained with.
        discriminator: A module d(t, x) of one time and one sample.
        condition: The condition c of all points, if the module is d(t, x, c).

    Returns:
        `log_r(t, x, args)` of one point [nats].

    Raises:
        ValueError: If `gan` has no log T.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, Lemma 3.4.
    """
    require_fields("flow_log_ratio", gan, "log_t")
    return Partial(_log_r_at, gan, discriminator, condition)


def _witness(
    discriminator: Function, condition: PyTree, t: ScalarLike, x: SampleLike, args: Any
) -> Scalar:
    inputs = as_float(x), *_given(condition)
    return scalar_of("witness", "discriminator", discriminator, *inputs)


def witness(discriminator: Callable[..., Any], condition: PyTree = None) -> LogRatioFn:
    r"""A critic's value as a potential at all times: `velocity(gan.h_t, witness(d))` moves.

    The velocity is $\nabla h_T(d(x))$, for an `IPM` as for a `GAN`; the value is no log ratio.
    h_T of a `PairGAN` is `gan.against(d_p)`; its value is log r up to a constant.

    Args:
        discriminator: A module d(x) of one sample; its leaves should be arrays only.
        condition: The condition c of all points, if the module is d(x, c).

    Returns:
        `witness(t, x, args)` of one point [units of d].

    Raises:
        ValueError: From the witness, if d(x) is no scalar.

    References:
        Arbel et al., Maximum mean discrepancy gradient flow, NeurIPS 2019.
    """
    return Witness(Partial(_witness, discriminator, condition))
