"""What a divergence GAN is: two functions for the discriminator and one for the generator."""

import equinox as eqx
import jax.numpy as jnp
from jax.tree_util import Partial

from .._types import ScalarFn, Values, ValuesLike, as_elementwise, as_float, split_partial
from ..calculus._duality import h_to_f
from ..calculus._log_ratio import inverse_log_ratio, log_ratio, lower
from ..divergences._label import Label, label_of


def _attained(gan: "GAN", r: ValuesLike) -> Values:
    r = as_float(r)
    d, d_one = gan.inverse(jnp.log(r)), gan.inverse(jnp.zeros_like(r))
    return (r * gan.phi(d) - gan.phi(d_one)) + (gan.psi(d) - gan.psi(d_one))


class GAN(eqx.Module):
    r"""A divergence GAN: what the discriminator maximises, and what the generator does.

    All fields are elementwise functions; the only leaves are arrays. `log_t` gives log r from the
    value d of an optimal discriminator, `inverse` goes back.

    Example:
        ```python
        sigmoid = jax.nn.log_sigmoid
        gan = df.GAN(sigmoid, lambda d: sigmoid(-d), jnp.tanh)  # h_T of our own; d is log r
        print(gan.log_t(0.7), gan.h_t(0.7))  # 0.7 0.604
        ```

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, Lemma 3.4 and Table 1.
    """

    phi: ScalarFn
    psi: ScalarFn
    h_t: ScalarFn
    log_t: ScalarFn
    inverse: ScalarFn
    _h: ScalarFn | None
    _f: ScalarFn | None
    _measured: ScalarFn | None
    _label: Label

    def __init__(
        self,
        phi: ScalarFn,
        psi: ScalarFn,
        h_t: ScalarFn,
        *,
        log_t: ScalarFn | None = None,
        inverse: ScalarFn | None = None,
        h: ScalarFn | None = None,
        descends: ScalarFn | None = None,
        measures: ScalarFn | None = None,
    ):
        """Wraps plain callables; what is missing is derived by the calculus.

        Numbers bound by a `functools.partial` become leaves, so that `jax.vmap` takes them.

        Args:
            phi: Maximised by the discriminator on samples of p, a function of its value d.
            psi: Maximised by the discriminator on samples of q.
            h_t: Maximised by the generator; increasing in log r.
            log_t: d -> log r; from phi and psi by autodiff if not given.
            inverse: log r -> d; by `inverse_log_ratio` if not given.
            h: log r -> h_T(T^{-1}(r)); composed of the two if not given, which may overflow in d
                where h and its slope do not.
            descends: r -> standardised f of that h; by quadrature if not given.
            measures: r -> what the discriminator attains, 0 at r = 1; from phi and psi if not
                given.

        Raises:
            EquinoxRuntimeError: When a derived `log_t` meets a pair that is no ratio estimator.
        """
        self._label = label_of(phi, psi, h_t)
        phi, psi, h_t = map(split_partial, (phi, psi, h_t))
        self.phi = as_elementwise(phi)
        self.psi = as_elementwise(psi)
        self.h_t = as_elementwise(h_t)
        self.log_t = as_elementwise(log_t or log_ratio(phi, psi))
        self.inverse = as_elementwise(inverse or inverse_log_ratio(self.log_t))
        self._h = h and as_elementwise(h)
        self._f = descends and as_elementwise(descends)
        self._measured = measures and as_elementwise(measures)

    def __repr__(self) -> str:
        return f"GAN({self._label})"

    @property
    def h(self) -> ScalarFn:
        """The MonoFlow that the generator follows, h(u) = h_T(T^{-1}(e^u))."""
        return self._h or lower(self.h_t, self.log_t, inverse=self.inverse)

    @property
    def descends(self) -> ScalarFn:
        """Standardised f of the divergence that the generator descends, a function of r > 0."""
        return self._f or h_to_f(self.h)

    @property
    def measures(self) -> ScalarFn:
        r"""f of what the discriminator attains, $\sup_d r\phi(d) + \psi(d)$, shifted: f(1) = 0."""
        return self._measured or Partial(_attained, self)
