"""A row of the catalogue: closed forms side by side, each with its derivative in closed form."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from .._types import ScalarFn, as_partial
from ..calculus._inverse import inverse_of_increasing
from ._divergence import Divergence
from ._stable import Curve, Sloped, below, evaluate


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """Functions of `(*parameters, u)`, or of a slope s for `conjugate`; made once, at import."""

    f: ScalarFn
    slope_of_f: ScalarFn
    activation: ScalarFn
    slope_of_activation: ScalarFn
    h: ScalarFn
    h_prime: ScalarFn
    curvature: ScalarFn
    conjugate: ScalarFn
    standard: ScalarFn | None = None  # f itself, if it is standardised
    slope_of_standard: ScalarFn | None = None

    @functools.cached_property
    def functions(self) -> dict[str, ScalarFn]:
        """What a divergence is built of; made once, or every call would be traced anew."""
        log_f = standard = Sloped(self.f, self.slope_of_f)
        if self.standard is not None and self.slope_of_standard is not None:
            standard = Sloped(self.standard, self.slope_of_standard)
        return {
            "log_f": log_f,
            "standard": standard,
            "activation": Sloped(self.activation, self.slope_of_activation),
            "h": Sloped(self.h, self.h_prime),
            "h_prime": self.h_prime,
            "curvature": self.curvature,
            "conjugate": self.conjugate,
        }

    def __call__(self, *parameters: Float[Array, ""]) -> Divergence:
        """The divergence at these parameters, which are array leaves of it."""
        return Divergence(
            **{name: Partial(function, *parameters) for name, function in self.functions.items()}
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Solved:
    """A conjugate that is not elementary: f*(s) = r f' - f, as `value`, where f'(e^u) = s."""

    activation: ScalarFn
    rate: ScalarFn
    value: ScalarFn
    top: float

    def __call__(self, s: Curve) -> Curve:
        """The conjugate; inf from `top` on."""
        return below(self.top, self._inside, s)

    def _inside(self, s: Curve) -> Curve:
        return evaluate(self._value, self._ratio, s)

    def _value(self, s: Curve) -> Curve:
        return self.value(self._log_r(s))

    def _ratio(self, s: Curve) -> Curve:
        return jnp.exp(self._log_r(s))

    def _log_r(self, s: Curve) -> Curve:
        return evaluate(self._solve, self._inverse_rate, s)

    def _solve(self, s: Curve) -> Curve:
        end = 0.99 * float(np.log(float(jnp.finfo(s.dtype).max)))
        return inverse_of_increasing(as_partial(self.activation), s, end)

    def _inverse_rate(self, s: Curve) -> Curve:
        return 1 / self.rate(self._log_r(s))
