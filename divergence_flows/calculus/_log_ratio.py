"""(phi, psi) -> T and back: the ratio as a function of an optimal discriminator's value.

Elementwise, by autodiff and root finding, so any pair works; `gans` has closed forms.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from .._types import ScalarFn, Values, ValuesLike, as_elementwise, as_float, as_partial, evaluated
from ._inverse import domain, inverse_on
from ._quadrature import derivative, value_and_slope


def _log_t(phi: ScalarFn, psi: ScalarFn, d: ValuesLike) -> Values:
    d = as_float(d)
    on_p, bend_p = value_and_slope(Partial(derivative, phi), d)
    on_q, bend_q = value_and_slope(Partial(derivative, psi), d)
    log_t = jnp.log(jnp.abs(on_q)) - jnp.log(jnp.abs(on_p))
    log_t = jnp.where(on_p * jnp.sign(on_q) <= 0, log_t, jnp.nan)
    # Outside the domain T may be flat: trial points of the inverse go there.
    flat = jnp.isfinite(log_t) & (bend_q / on_q == bend_p / on_p)
    message = (
        "log_ratio: T = -psi'/phi' is flat in d, as for the hinge and Wasserstein pairs, so "
        "(phi, psi) is no ratio estimator. Give a pair with T strictly monotone."
    )
    return eqx.error_if(log_t, jnp.any(flat), message)


def log_ratio(phi: ScalarFn, psi: ScalarFn) -> ScalarFn:
    r"""log r as a function of an optimal discriminator's value: $\log(-\psi'(d)/\phi'(d))$.

    By autodiff, so in float32 the logistic pair is right to about |d| = 87; tables have closed
    forms. NaN where T <= 0: there d is outside the domain.

    Args:
        phi: What the discriminator maximises on samples of p; elementwise.
        psi: What it maximises on samples of q; elementwise.

    Returns:
        log T, a function of d [nats].

    Raises:
        EquinoxRuntimeError: When evaluated where phi' and psi' are finite, nonzero and of
            opposite signs, and T is flat, as for the hinge and Wasserstein pairs.

    Example:
        ```python
        log_t = df.log_ratio(jax.nn.log_sigmoid, lambda d: jax.nn.log_sigmoid(-d))
        print(log_t(1.5))  # 1.5
        ```

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, Lemma 3.4; slides, Table 1.
    """
    return Partial(evaluated, Partial(_log_t, as_partial(phi), as_partial(psi)))


def _exp_of(log_t: ScalarFn, d: ValuesLike) -> Values:
    return jnp.exp(log_t(d))


def ratio(phi: ScalarFn, psi: ScalarFn) -> ScalarFn:
    r"""The density ratio of an optimal discriminator, $T(d) = -\psi'(d)/\phi'(d)$.

    Args:
        phi: What the discriminator maximises on samples of p; elementwise.
        psi: What it maximises on samples of q; elementwise.

    Returns:
        T, a function of d; NaN where it would not be positive.

    Raises:
        EquinoxRuntimeError: As `log_ratio`.
    """
    return Partial(evaluated, Partial(_exp_of, log_ratio(phi, psi)))


def _invert(log_t: ScalarFn, place: ScalarFn, u: ValuesLike) -> Values:
    u = as_float(u)
    d, inside = inverse_on(log_t, place, 0.98 * float(np.log(float(jnp.finfo(u.dtype).max))), u)
    return jnp.where(inside, d, jnp.nan)


def inverse_log_ratio(
    log_t: ScalarFn,
    *,
    lower: float | int | np.number = -np.inf,
    upper: float | int | np.number = np.inf,
) -> ScalarFn:
    """The optimal discriminator as a function of u = log r: the inverse of log T, numerically.

    Args:
        log_t: Strictly monotone, rising or falling; NaN outside its domain; elementwise.
        lower: Lower end of the domain of d.
        upper: Upper end; with finite ends the result keeps relative precision there.

    Returns:
        A function of u [nats]; NaN where no d in the domain has that log ratio, so everywhere if
        log_t is flat.

    Raises:
        ValueError: If `lower` is not below `upper`.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, Lemma 3.4.
    """
    if not lower < upper:
        words = f"`lower`={lower} must be below `upper`={upper}; they bound d."
        raise ValueError(f"inverse_log_ratio: {words}")
    place = domain(float(lower), float(upper))
    return Partial(evaluated, Partial(_invert, as_elementwise(log_t), place))


def _compose(outer: ScalarFn, inner: ScalarFn, x: ValuesLike) -> Values:
    return outer(inner(as_float(x)))


def lift(h: ScalarFn, log_t: ScalarFn) -> ScalarFn:
    r"""The generator's map of a divergence: $h_T(d) = h(\log T(d))$.

    Args:
        h: Increasing function of u = log r; elementwise. Not checked here: `h_to_f(h)` refuses one
            that decreases.
        log_t: log ratio as a function of the discriminator's value.

    Returns:
        h_T, a function of d; NaN where log T is, outside the domain of d.
    """
    return Partial(evaluated, Partial(_compose, as_partial(h), as_partial(log_t)))


def lower(h_t: ScalarFn, log_t: ScalarFn, *, inverse: ScalarFn | None = None) -> ScalarFn:
    r"""The MonoFlow of a generator's loss: $h(u) = h_T(T^{-1}(e^u))$.

    With `h_to_f` it gives the divergence that a GAN's generator descends.

    Args:
        h_t: What the generator maximises, as a function of d; elementwise.
        log_t: log ratio as a function of d.
        inverse: u -> d if known; `inverse_log_ratio(log_t)` otherwise.

    Returns:
        h, a function of u [nats]; NaN where no d has that log ratio. `h_to_f` checks that it
        increases.

    Example:
        ```python
        gan = df.gans.non_saturating()
        f = df.h_to_f(df.lower(gan.h_t, gan.log_t, inverse=gan.inverse))  # descended
        print(f(2.0), gan.descends(2.0))  # 0.137 0.137
        ```

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, section 4.
    """
    inverse = inverse_log_ratio(log_t) if inverse is None else as_partial(inverse)
    return Partial(evaluated, Partial(_compose, as_partial(h_t), inverse))
