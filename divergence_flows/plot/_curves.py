"""f and h of a game or a divergence."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Real

from .._types import AnyArray, AnyFloat, Scalar
from ..divergences._divergence import Divergence
from ..gans._gan import GAN
from ._axes import COLORS, AxesRow, Options, check_not_traced, look, on_host, row_of_axes
from ._names import AT, name_of, slopes

_FALLS = "#CC79A7"
_US = np.linspace(-3.0, 3.0, 121)


def curves(
    subject: GAN | Divergence,
    *,
    us: Real[AnyArray, " n"] = _US,
    axes: AxesRow = None,
    **options: Options,
) -> AxesRow:
    r"""Draws f over r = p/q, and h over u = log r.

    Every f is drawn with f(1) = f'(1) = 0 and f''(1) = 1, for f + a (r - 1) and c f descend alike,
    and every h with h(0) = 0. A GAN has two f: what its discriminator measures, in grey, and what
    its generator descends. Where h falls it is dashed: samples are driven the wrong way, and no f
    belongs to such an h.

    Args:
        subject: A GAN or a divergence; your own is `GAN(phi, psi, h_t)` or `Divergence(f)`.
        us: Increasing log ratios to draw at [nats].
        axes: Two axes, for f and for h; None in the place of one leaves it out. A new figure by
            default.
        **options: For matplotlib's `plot`, of what is descended and of h.

    Returns:
        The axes.

    Raises:
        ValueError: If inside a trace.
        EquinoxRuntimeError: If the discriminator's pair is no ratio estimator.
        ImportError: If matplotlib is missing.
    """
    us = on_host("curves", "us", us)
    check_not_traced("curves", "subject", subject)
    of_f, of_h = axes = row_of_axes("curves", axes, 2)
    at = jnp.asarray(np.concatenate([us, AT]), float)
    found = slopes(subject, at)
    falls = np.asarray(found.descended)[: len(us)] < 0
    style = {"color": COLORS["moved"], "linewidth": 1.8}
    if of_f is not None:
        r, one = np.exp(us), len(us) + len(AT) // 2
        if isinstance(subject, GAN):
            f = np.asarray(_measured(subject, at) / found.measured[one])[: len(us)]
            label = _label("measured", found.measured[-len(AT) :])
            of_f.plot(r, f, color=COLORS["p"], linewidth=5.0, label=label)
        if not np.any(falls):
            f = np.asarray(_descended(subject, at) / found.descended[one])[: len(us)]
            label = _label("descended", found.descended[-len(AT) :])
            of_f.plot(r, f, **look("curves", "lines.Line2D", style | {"label": label}, options))
        of_f.set(xscale="log", ylim=(-0.1, 4), xlabel="r = p/q", ylabel="f, scaled to f''(1) = 1")
        of_f.legend(loc="upper center", handlelength=1.2)
    if of_h is not None:
        h = np.asarray(_h(subject, at))[: len(us)]
        style = look("curves", "lines.Line2D", style, options)
        of_h.plot(us, np.where(falls, np.nan, h), **style)
        if np.any(falls):
            style |= {"color": _FALLS, "linestyle": "--", "label": "h falls: no divergence"}
            of_h.plot(us, np.where(falls, h, np.nan), **style)
            of_h.legend()
        of_h.set(xlabel="u = log p/q [nats]", ylabel="h(u) - h(0)")
    return axes


def _label(role: str, found: AnyFloat) -> str:
    name = name_of(np.asarray(found))
    return f"{role}: {name}" if name else role


@eqx.filter_jit
def _h(subject: GAN | Divergence, us: AnyFloat) -> AnyFloat:
    h = jax.vmap(subject.h)(us)
    return h - h[_zero(us)]


def _zero(us: AnyFloat) -> int:
    """Where `AT`, the last of these log ratios, is 0."""
    return len(us) - 1 - len(AT) // 2


@eqx.filter_jit
def _descended(subject: GAN | Divergence, us: AnyFloat) -> AnyFloat:
    """The standardised f at the ratios e^us: f(1) = f'(1) = 0."""
    if isinstance(subject, Divergence):
        return subject.standard(us)
    return jax.vmap(subject.descends)(jnp.exp(us))


@eqx.filter_jit
def _measured(gan: GAN, us: AnyFloat) -> AnyFloat:
    """The same of what the discriminator measures, whose slope at 1 is phi(d)."""
    slope: Scalar = gan.phi(gan.inverse(jnp.zeros((), us.dtype)))
    return jax.vmap(gan.measures)(jnp.exp(us)) - slope * jnp.expm1(us)
