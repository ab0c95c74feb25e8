"""Table 1 of the slides. Add a GAN here: one function, one block of closed forms in d."""

from typing import Any

import jax.numpy as jnp
from jax.tree_util import Partial

from .._types import ScalarFn, ScalarLike, Values, as_float, identity
from ..calculus._log_ratio import inverse_log_ratio, lift
from ..calculus._quadrature import derivative, integral_of_slope
from ..divergences import _table as divergences
from ..divergences._divergence import Divergence
from ..divergences._families import shifted_vanilla
from ..divergences._label import labelled
from ..divergences._stable import at_log, logit as log_odds, sigmoid, softplus
from ._gan import GAN


def _row(div: Divergence, *parameters: Any, **forms: ScalarFn) -> GAN:
    """The GAN of functions of `(*parameters, d)` whose generator descends a divergence."""
    given = {name: Partial(form, *parameters) for name, form in forms.items()}
    h_t = lift(div.h, given["log_t"])
    known = {"h_t": h_t, "h": div.h, "descends": Partial(at_log, div.standard)}
    return GAN(**(known | given))


def _exact_h(div: Divergence, u: Values) -> Values:
    """r f'(r) - f(r), from the tabled h and its value at u = 0, where f = 0."""
    zero = jnp.zeros_like(u)
    return div.h(u) - div.h(zero) + div.activation(zero) - div.log_f(zero)


# d = log r at the optimum: sigmoid(d) is the probability of p
_LOGISTIC = dict(
    phi=lambda d: -softplus(-d), psi=lambda d: -softplus(d), log_t=identity, inverse=identity
)


@labelled
def vanilla(shift: ScalarLike = 0.0) -> GAN:
    """The saturating GAN, h_T = softplus(d + shift): descends 2 JS at shift 0.

    Args:
        shift: C of the shift trick [nats]; an array leaf. Towards KL(q||p) as it grows.

    Returns:
        The GAN.

    References:
        Goodfellow et al., NeurIPS 2014; slides, "An Embarrassingly Simple Trick".
    """
    return _row(shifted_vanilla(as_float(shift)), **_LOGISTIC)


@labelled
def non_saturating() -> GAN:
    """The non-saturating GAN, h_T = log sigmoid(d): descends the softened reverse KL.

    References:
        Goodfellow et al., NeurIPS 2014.
    """
    return _row(divergences.softened_reverse_kl, **_LOGISTIC)


@labelled
def logit() -> GAN:
    """Logistic discriminator with h_T = d: the KL(q||p) flow, Langevin's marginals.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023.
    """
    return _row(divergences.kl_qp, **_LOGISTIC)


@labelled
def arcsinh() -> GAN:
    """Logistic discriminator with h_T = arcsinh(d).

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023.
    """
    return _row(divergences.arcsinh, **_LOGISTIC)


@labelled
def mle() -> GAN:
    """Logistic discriminator with h_T = e^d: descends KL(p||q).

    References:
        Goodfellow, NeurIPS 2016 tutorial.
    """
    return _row(divergences.kl_pq, **_LOGISTIC)


_F_GAN_RAW = {
    "phi": lambda div, v: div.activation(v),
    "psi": lambda div, v: -_exact_h(div, v),
    "h_t": _exact_h,
    "log_t": lambda div, v: v,
    "inverse": lambda div, u: u,
    "measures": lambda div, r: div.f(r),
}
_F_GAN_TABLE = {
    "phi": lambda div, d: d,
    "psi": lambda div, d: -div.conjugate(d),
    "h_t": lambda div, d: div.conjugate(d),
    "log_t": lambda div, d: jnp.log(derivative(div.conjugate, d)),
    "inverse": lambda div, u: div.activation(u),
    "measures": lambda div, r: div.f(r),
}


@labelled
def f_gan(div: Divergence, saturating: bool = True, *, raw: bool = True) -> GAN:
    r"""The f-GAN of a divergence.

    Table 1 writes it in d = f'(r), which a network's raw output leaves the domain of. With `raw`
    the network's output v passes through `div.activation` first, so v = log r at the optimum and
    phi = f'(e^v), psi = f(e^v) - e^v f'(e^v): closed and safe for every row.

    Args:
        div: The divergence.
        saturating: True descends f itself, h_T = f*(d); False is Nowozin's heuristic h_T = d, the
            slides' row, which descends the divergence with second derivative f''/r.
        raw: Whether d is the raw network's v, or Table 1's own f'(r).

    Returns:
        The GAN.

    Example:
        ```python
        gan = df.gans.f_gan(df.divergences.pearson)  # f is (r - 1)^2
        print(gan.measures(3.0), gan.descends(3.0))  # 4.0 4.0
        ```

    References:
        Nowozin, Cseke & Tomioka, f-GAN, NeurIPS 2016.
    """
    forms = _F_GAN_RAW if raw else _F_GAN_TABLE
    if saturating:
        return _row(div, div, h=_exact_h, **forms)
    heuristic = {name: Partial(form, div) for name, form in forms.items()}
    heuristic["h_t"] = heuristic["phi"]
    return GAN(h=div.activation, **heuristic)


_B_GAN = {
    "phi": lambda div, d: div.f_prime(d),
    "psi": lambda div, d: -_exact_h(div, jnp.log(d)),
    "h_t": lambda div, d: _exact_h(div, jnp.log(d)),
    "log_t": lambda div, d: jnp.log(d),
    "inverse": lambda div, u: jnp.exp(u),
    "h": _exact_h,
    "measures": lambda div, r: div.f(r),
}


@labelled
def b_gan(div: Divergence) -> GAN:
    """The b-GAN of a divergence: d > 0 is the ratio itself, and f is descended.

    Args:
        div: The divergence.

    Returns:
        The GAN; give it a positive network (exp or softplus last).

    References:
        Uehara et al., Generative adversarial nets from a density ratio estimation perspective,
        2016.
    """
    return _row(div, div, **_B_GAN)


_LEAST_SQUARES = dict(
    phi=lambda d: -((d - 1) ** 2),
    psi=lambda d: -(d**2),
    h_t=lambda d: -((d - 1) ** 2),
    log_t=log_odds,
    inverse=sigmoid,
)


@labelled
def least_squares() -> GAN:
    """The least-squares GAN with labels 0 and 1: 0 < d < 1 is p/(p + q) at the optimum.

    References:
        Mao et al., Least squares generative adversarial networks, ICCV 2017.
    """
    return _row(divergences.least_squares, **_LEAST_SQUARES)


_EBM = {
    "phi": lambda lam, d: -(d + lam),
    "psi": lambda lam, d: -jnp.exp(-(d + lam)),
    "log_t": lambda lam, d: -(d + lam),
    "inverse": lambda lam, u: -(u + lam),
}


@labelled
def ebm(lam: ScalarLike = 0.0) -> GAN:
    """The generalised energy-based model (KL): d = -log r - lam, descends KL(p||q).

    Args:
        lam: Log normalising constant of the energy [nats]; an array leaf.

    Returns:
        The GAN.

    References:
        Arbel, Zhou & Gretton, Generalized energy based models, ICLR 2021.
    """
    return _row(divergences.kl_pq, as_float(lam), **_EBM)


_NWJ = dict(
    phi=identity, psi=lambda d: -jnp.exp(d - 1), log_t=lambda d: d - 1, inverse=lambda u: u + 1
)


@labelled
def nwj(div: Divergence = divergences.kl_qp) -> GAN:
    """The NWJ (KLIEP) estimator, T = e^(d - 1), with the generator of a divergence.

    Args:
        div: What the generator descends.

    Returns:
        The GAN.

    References:
        Nguyen, Wainwright & Jordan, IEEE Trans. IT, 2010.
    """
    return _row(div, **_NWJ)


_ULSIF = {"phi": identity, "psi": lambda d: -(d**2) / 2, "log_t": jnp.log, "inverse": jnp.exp}


@labelled
def ulsif(div: Divergence = divergences.kl_qp) -> GAN:
    """Least-squares importance fitting, T = d > 0, with the generator of a divergence.

    Args:
        div: What the generator descends.

    Returns:
        The GAN.

    References:
        Kanamori, Hido & Sugiyama, JMLR 2009.
    """
    return _row(div, **_ULSIF)


_EXPONENTIAL = dict(
    phi=lambda d: -jnp.exp(-d),
    psi=lambda d: -jnp.exp(d),
    log_t=lambda d: 2 * d,
    inverse=lambda u: u / 2,
)


@labelled
def exponential(div: Divergence = divergences.kl_qp) -> GAN:
    """The exponential (boosting) loss, T = e^(2 d), with the generator of a divergence.

    Args:
        div: What the generator descends.

    Returns:
        The GAN.

    References:
        Menon & Ong, Linking losses for density ratio and class-probability estimation, ICML 2016.
    """
    return _row(div, **_EXPONENTIAL)


def _mirror_log_t(div: Divergence, d: Values) -> Values:
    return inverse_log_ratio(div.h)(d)


_MIRROR = {
    "phi": lambda div, d: d,
    "psi": lambda div, d: (
        -integral_of_slope(div.h_prime, lambda u, v: jnp.exp(v), _mirror_log_t(div, d))
    ),
    "h_t": lambda div, d: d,
    "log_t": _mirror_log_t,
    "inverse": lambda div, u: div.h(u),
}


@labelled
def mirror(div: Divergence) -> GAN:
    r"""The pair whose optimal discriminator is h(log r) itself: its gradient is the velocity.

    The discriminator maximises the f-GAN bound of the g with g' = h(log r), so phi = d and
    $\psi(d) = -\int_0^{u} h'(v) e^v dv$ at $u = h^{-1}(d)$, by quadrature and root finding.

    Args:
        div: The divergence whose flow the gradient of d is.

    Returns:
        The GAN, with h_T = d.

    References:
        Liu et al., Minimizing f-divergences by interpolating velocity fields, ICML 2024.
    """
    return _row(div, div, **_MIRROR)
