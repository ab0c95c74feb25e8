r"""Losses: arrays in, a scalar out that goes down.

A discriminator maximises $E_p[\phi(d)] + E_q[\psi(d)]$; a generator maximises $E_q[h_T(d)]$, or
regresses onto particles that the velocity has moved: the two gradients are the same.
"""

from typing import Any

import jax
import jax.numpy as jnp

from .._checks import check_shapes, check_some
from .._types import AnyCloudLike, Cloud, Function, Numbers, Scalar, ScalarFn, ScalarLike
from ._pair import PAIR_NO_RATIO, PairGAN

NO_RATIO = (
    "the critic of an IPM gives a velocity, grad h_t(d(x)), but no ratio: T, h and the "
    "dissipation of KL do not apply to it. Where you need log r, train a GAN of `gans`."
)
_NO_F = (
    " E_q[f(r)] of a learned or detached r is no generator loss: it descends h_eff' = -r f'(r), "
    "the wrong way for JS, Pearson and KL(p||q). `gans.f_gan(div)` descends f."
)


def require_fields(caller: str, gan: Any, *names: str) -> None:
    """Refuses what is not a GAN, with the reason; a game of pairs has no fields of a ratio."""
    if isinstance(gan, PairGAN):
        if missing := [name for name in names if name not in ("phi", "psi", "h_t")]:
            words = f"`gan` is a PairGAN, which has no `{missing[0]}`: {PAIR_NO_RATIO}"
            raise ValueError(f"{caller}: {words}")
        return
    missing = [name for name in names if not callable(getattr(gan, name, None))]
    if missing:
        words = f"which has no `{missing[0]}`; pass a GAN, that is, a triple (phi, psi, h_t)."
        why = _NO_F if hasattr(gan, "log_f") else ""
        if missing[0] == "log_t" and not why:
            why = f" If it is one of an IPM, {NO_RATIO}"
        raise ValueError(f"{caller}: `gan` is a {type(gan).__name__}, {words}{why}")


def require_p(caller: str, gan: Any, name: str, values: Any) -> None:
    """Refuses a generator of pairs without samples of p."""
    if isinstance(gan, PairGAN) and values is None:
        words = f"`{name}` is None, and the generator of a PairGAN looks at samples of p too"
        raise ValueError(f"{caller}: {words}; pass `{name}`.")


def h_t_of(gan: Any, d_p: Function) -> ScalarFn:
    """h_T; that of a game of pairs is made of what `d_p()` returns, the values at samples of p."""
    return gan.against(d_p()) if isinstance(gan, PairGAN) else gan.h_t


def discriminator_loss(gan: Any, d_p: Numbers, d_q: Numbers) -> Scalar:
    r"""What a discriminator minimises: $-(E_p[\phi(d)] + E_q[\psi(d)])$.

    At the optimum it is minus the divergence that `gan.measures`, up to a constant: for the
    logistic pairs, 2 log 2 - 2 JS. Of a `PairGAN` it is the mean over all pairs of `d_p` and
    `d_q`.

    Args:
        gan: The GAN; its `phi` and `psi` are used, or the `critic` of a `PairGAN`.
        d_p: Raw discriminator values, never probabilities, at samples of p.
        d_q: The same at samples of q.

    Returns:
        The loss [nats for the logistic pairs]; NaN or infinite if phi or psi is, at a value outside
        their domain.

    Raises:
        ValueError: If `gan` has no phi and psi, or there are no values.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, equation 10.
    """
    require_fields("discriminator_loss", gan, "phi", "psi")
    check_some("discriminator_loss", "d_p", d_p)
    check_some("discriminator_loss", "d_q", d_q)
    if isinstance(gan, PairGAN):
        return -jnp.mean(gan.critic(jnp.ravel(d_p)[:, None] - jnp.ravel(d_q)))
    return -(jnp.mean(gan.phi(d_p)) + jnp.mean(gan.psi(d_q)))


def generator_loss(gan: Any, d_q: Numbers, d_p: Numbers | None = None) -> Scalar:
    r"""What a generator minimises with the discriminator frozen: $-E_q[h_T(d)]$.

    Its gradient moves samples along the MonoFlow of $h = h_T \circ T^{-1}$, so it descends
    `gan.descends`. That of a `PairGAN` is a mean over all pairs, and follows the MonoFlow of an h
    that depends on p.

    Args:
        gan: The GAN; its `h_t` is used, or the `generator` of a `PairGAN`. A divergence is refused.
        d_q: Raw discriminator values at generated samples.
        d_p: The same at samples of p, for a `PairGAN`; others ignore them.

    Returns:
        The loss; NaN if a value is outside the domain of d, as d <= 0 is for a ratio.

    Raises:
        ValueError: If there are no values, a `PairGAN` comes without `d_p`, or `gan` is no GAN; a
            `Divergence` gets the reason.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, section 4.
    """
    require_fields("generator_loss", gan, "phi", "psi", "h_t")
    check_some("generator_loss", "d_q", d_q)
    require_p("generator_loss", gan, "d_p", d_p)
    return -jnp.mean(h_t_of(gan, lambda: d_p)(d_q))


def distillation_loss(xs: AnyCloudLike, vs: AnyCloudLike, eps: ScalarLike) -> Scalar:
    r"""Regression of samples onto themselves, moved: $\tfrac12 E|x - sg(x + \epsilon v)|^2$.

    Its gradient in a generator's parameters is $-\epsilon E[(\partial_\theta g)^T v]$, for any
    network and batch: with $v = \nabla h_T(d)$ it is eps times the gradient of `generator_loss`.
    For several generator steps on one target keep the target instead, as `gan_step` does.

    Args:
        xs: Samples of the generator, summed over event axes, averaged over the batch [units of x].
        vs: Velocities at these samples [units of x per unit of flow time].
        eps: Euler step [units of flow time].

    Returns:
        The loss [units of x, squared].

    Raises:
        ValueError: If there are no samples, or not as many velocities of their shape.

    References:
        Gao et al., Deep generative learning via variational gradient flow, ICML 2019; slides,
        "Distillation".
    """
    xs, vs = check_shapes("distillation_loss", xs=xs, vs=vs)
    check_some("distillation_loss", "xs", xs)
    target = jax.lax.stop_gradient(xs + jnp.asarray(eps, xs.dtype) * vs)
    return regression_loss(xs, target)


def regression_loss(xs: Cloud, targets: Cloud) -> Scalar:
    r"""Half the mean squared distance to targets: $\tfrac12 E|x - y|^2$."""
    return 0.5 * jnp.sum((xs - targets) ** 2) / xs.shape[0]
