"""Table 1 of the slides. Add a GAN here: one function, one block of closed forms in d."""

from jax.tree_util import Partial

from .._types import ScalarFn, ScalarLike, as_float as _as_float
from ..calculus._log_ratio import inverse_log_ratio as _inverse_log_ratio, lift as _lift
from ..divergences import _table as _divergences
from ..divergences._stable import at_log as _at_log
from ..divergences._table import Divergence, kl_qp as _kl_qp
from . import _links as link
from ._gan import GAN


def _standard(div: Divergence) -> ScalarFn:
    """Standardised f of a divergence, as a function of r."""
    return Partial(_at_log, div.standard)


def _known(div: Divergence) -> dict[str, ScalarFn]:
    """Closed forms of a GAN whose generator descends a divergence."""
    return {"h": div.h, "descends": _standard(div)}


def _logistic(h_t: ScalarFn, div: Divergence) -> GAN:
    phi, psi, same = link.log_sigmoid, link.log_other, link.identity
    return GAN(phi, psi, h_t, log_t=same, inverse=same, descends=_standard(div))


def vanilla(shift: ScalarLike = 0.0) -> GAN:
    """The saturating GAN, h_T = softplus(d + shift): descends 2 JS at shift 0.

    Args:
        shift: C of the shift trick [nats]; an array leaf. Towards KL(q||p) as it grows.

    Returns:
        The GAN.

    References:
        Goodfellow et al., NeurIPS 2014; slides, "An Embarrassingly Simple Trick".
    """
    shift = _as_float(shift)
    return _logistic(Partial(link.shifted_softplus, shift), _divergences.shifted_vanilla(shift))


def non_saturating() -> GAN:
    """The non-saturating GAN, h_T = log sigmoid(d): descends the softened reverse KL.

    Returns:
        The GAN.

    References:
        Goodfellow et al., NeurIPS 2014.
    """
    return _logistic(link.log_sigmoid, _divergences.softened_reverse_kl)


def logit() -> GAN:
    """Logistic discriminator with h_T = d: the KL(q||p) flow, Langevin's marginals.

    Returns:
        The GAN.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023.
    """
    return _logistic(link.identity, _divergences.kl_qp)


def arcsinh() -> GAN:
    """Logistic discriminator with h_T = arcsinh(d).

    Returns:
        The GAN.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023.
    """
    return _logistic(link.arcsinh, _divergences.arcsinh)


def mle() -> GAN:
    """Logistic discriminator with h_T = e^d: descends KL(p||q).

    Returns:
        The GAN.

    References:
        Goodfellow, NeurIPS 2016 tutorial.
    """
    return _logistic(link.exp, _divergences.kl_pq)


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

    References:
        Nowozin, Cseke & Tomioka, f-GAN, NeurIPS 2016.
    """
    exact = Partial(link.exact_h, div)
    h = exact if saturating else div.activation
    known = {
        "h": h,
        "measures": Partial(link.f_of, div),
        "descends": _standard(div) if saturating else None,
    }
    if raw:
        psi = Partial(link.negative, exact)
        return GAN(div.activation, psi, h, log_t=link.identity, inverse=link.identity, **known)
    h_t = div.conjugate if saturating else link.identity
    log_t = Partial(link.log_slope, div.conjugate)
    psi = Partial(link.negative, div.conjugate)
    return GAN(link.identity, psi, h_t, log_t=log_t, inverse=div.activation, **known)


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
    h_t = Partial(link.h_of_ratio, div)
    psi = Partial(link.negative, h_t)
    phi = Partial(link.slope_of_ratio, div)
    return GAN(
        phi,
        psi,
        h_t,
        log_t=link.log,
        inverse=link.exp,
        h=Partial(link.exact_h, div),
        descends=_standard(div),
        measures=Partial(link.f_of, div),
    )


def least_squares() -> GAN:
    """The least-squares GAN with labels 0 and 1: 0 < d < 1 is p/(p + q) at the optimum.

    Returns:
        The GAN.

    References:
        Mao et al., Least squares generative adversarial networks, ICCV 2017.
    """
    return GAN(
        link.minus_square_to_one,
        link.minus_square,
        link.minus_square_to_one,
        log_t=link.logit,
        inverse=link.sigmoid,
        h=_divergences.least_squares.h,
        descends=_standard(_divergences.least_squares),
    )


def ebm(lam: ScalarLike = 0.0) -> GAN:
    """The generalised energy-based model (KL): d = -log r - lam, descends KL(p||q).

    Args:
        lam: Log normalising constant of the energy [nats]; an array leaf.

    Returns:
        The GAN.

    References:
        Arbel, Zhou & Gretton, Generalized energy based models, ICLR 2021.
    """
    lam = _as_float(lam)
    weight = Partial(link.energy_weight, lam)
    energy = Partial(link.energy, lam)
    descends = _standard(_divergences.kl_pq)
    psi = Partial(link.negative, weight)
    return GAN(energy, psi, weight, log_t=energy, inverse=energy, descends=descends)


def nwj(div: Divergence = _kl_qp) -> GAN:
    """The NWJ (KLIEP) estimator, T = e^(d - 1), with the generator of a divergence.

    Args:
        div: What the generator descends.

    Returns:
        The GAN.

    References:
        Nguyen, Wainwright & Jordan, IEEE Trans. IT, 2010.
    """
    h_t = _lift(div.h, Partial(link.minus_one))
    return GAN(
        link.identity, link.nwj_psi, h_t, log_t=link.minus_one, inverse=link.plus_one, **_known(div)
    )


def ulsif(div: Divergence = _kl_qp) -> GAN:
    """Least-squares importance fitting, T = d > 0, with the generator of a divergence.

    Args:
        div: What the generator descends.

    Returns:
        The GAN.

    References:
        Kanamori, Hido & Sugiyama, JMLR 2009.
    """
    h_t = _lift(div.h, Partial(link.log))
    return GAN(
        link.identity, link.minus_half_square, h_t, log_t=link.log, inverse=link.exp, **_known(div)
    )


def exponential(div: Divergence = _kl_qp) -> GAN:
    """The exponential (boosting) loss, T = e^(2 d), with the generator of a divergence.

    Args:
        div: What the generator descends.

    Returns:
        The GAN.

    References:
        Menon & Ong, Linking losses for density ratio and class-probability estimation, ICML 2016.
    """
    h_t = _lift(div.h, Partial(link.double))
    phi, psi = link.minus_exp_minus, link.minus_exp
    return GAN(phi, psi, h_t, log_t=link.double, inverse=link.half, **_known(div))


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
    log_t = _inverse_log_ratio(div.h)
    psi = Partial(link.mirror_psi, div.h_prime, log_t)
    same = link.identity
    return GAN(same, psi, same, log_t=log_t, inverse=div.h, descends=_standard(div))
