"""What a divergence is: f, its MonoFlow h and its conjugate, evaluated from u = log r."""

import equinox as eqx
from jax.tree_util import Partial

from .._types import Scalar, ScalarFn, Values, ValuesLike, as_elementwise, evaluated, split_partial
from ..calculus._duality import conjugate_at, f_to_h, h_to_f, in_log_space, slope_in_r
from ..calculus._quadrature import derivative, standard_f
from ._label import Label, label_of
from ._stable import Sloped, at_log, evaluate


class Divergence(eqx.Module):
    r"""An f-divergence $F(q) = E_q[f(r)]$, r = p/q, with its MonoFlow and its conjugate.

    Fields are functions, elementwise, of u = log r [nats] or of a slope s; leaves are arrays only.
    `conjugate` is $f^*(s) = \sup_{r \ge 0} s r - f(r)$, inf outside its domain; `activation` is
    $f'(e^v)$, which maps a raw network's output v onto the domain of f* so that v = log r at the
    optimum.

    References:
        Nowozin, Cseke & Tomioka, f-GAN, NeurIPS 2016; Yi, Zhu & Liu, MonoFlow, ICML 2023.
    """

    log_f: ScalarFn
    h: ScalarFn
    h_prime: ScalarFn
    activation: ScalarFn
    conjugate: ScalarFn
    standard: ScalarFn
    _of_ratio: ScalarFn
    _label: Label

    def __init__(
        self,
        f: ScalarFn | None = None,
        *,
        h: ScalarFn | None = None,
        log_f: ScalarFn | None = None,
        h_prime: ScalarFn | None = None,
        activation: ScalarFn | None = None,
        conjugate: ScalarFn | None = None,
        standard: ScalarFn | None = None,
        curvature: ScalarFn | None = None,
    ):
        """Builds a divergence from one of f, log_f and h; what is missing is derived.

        Args:
            f: Strictly convex function of r; elementwise.
            h: Increasing function of u = log r.
            log_f: u -> f(e^u), such as the `discrepancy_fn(logu)` of TFP.
            h_prime: Derivative of h.
            activation: v -> f'(e^v).
            conjugate: The convex conjugate on r >= 0.
            standard: u -> f(e^u) with f(1) = f'(1) = 0.
            curvature: u -> f''(e^u); with `activation` it gives the derivatives of f in r, which
                otherwise come by autodiff.

        Raises:
            ValueError: If none of f, log_f and h is given, or both f and log_f.
        """
        given = {"f": f, "log_f": log_f, "h": h}
        self._label = label_of(**{key: value for key, value in given.items() if value is not None})
        f, log_f, h = (value and split_partial(value) for value in given.values())
        if f is not None and log_f is None:
            log_f = in_log_space(f, False)
        elif log_f is None and h is not None:
            log_f = in_log_space(h_to_f(h), False)
        elif log_f is None or f is not None:
            raise ValueError(
                "Divergence: give exactly one of f (a function of r) and log_f (of u = log r), or h"
                f" alone; got f={f}, log_f={log_f}, h={h}."
            )
        self.log_f = as_elementwise(log_f)
        self.h = as_elementwise(h or f_to_h(log_f, log_space=True))
        self.h_prime = as_elementwise(h_prime or Partial(derivative, self.h))
        self.activation = as_elementwise(activation or Partial(slope_in_r, self.log_f))
        derived = Partial(conjugate_at, self.log_f, self.activation)
        self.conjugate = as_elementwise(conjugate or derived)
        self.standard = as_elementwise(standard or Partial(standard_f, self.h_prime))
        if activation is not None and curvature is not None:
            derivatives = (self.log_f, self.activation, as_elementwise(curvature))
            self._of_ratio = Partial(_in_r, derivatives)
        elif f is not None:
            self._of_ratio = as_elementwise(f)
        else:
            self._of_ratio = Partial(at_log, self.log_f)

    def __repr__(self) -> str:
        return f"Divergence({self._label})"

    def f(self, r: ValuesLike) -> Values:
        """The convex function itself at a ratio r >= 0, with f(1) = 0; NaN for r < 0."""
        return evaluated(self._of_ratio, r)

    def f_prime(self, r: ValuesLike) -> Values:
        """First derivative of f at a ratio r > 0; NaN for r < 0."""
        return evaluated(Partial(derivative, self._of_ratio), r)

    def f_second(self, r: ValuesLike) -> Values:
        """Second derivative of f at a ratio r > 0, h'(log r) / r^2; NaN for r < 0."""
        return evaluated(Partial(derivative, Partial(derivative, self._of_ratio)), r)


def _in_r(derivatives: tuple[ScalarFn, ...], r: Values) -> Values:
    """The first of `derivatives` at u = log r; the next is its derivative in r."""
    if len(derivatives) == 1:
        return at_log(derivatives[0], r)
    # No derivative of log r comes in: 1/r would overflow where f'(r) is finite.
    return evaluate(lambda d, r: at_log(d[0], r), lambda d, r: _in_r(d[1:], r), derivatives, r)


def closed_forms(name: str, *parameters: Scalar, h: Sloped, **forms: ScalarFn) -> Divergence:
    """A divergence of functions of `(*parameters, u)`, or of a slope s for `conjugate`.

    The parameters become array leaves; `log_f` is `standard` unless that is given.
    """
    forms = {"h": h, "h_prime": h.slope, "standard": forms["log_f"]} | forms
    made = Divergence(**{key: Partial(form, *parameters) for key, form in forms.items()})
    return eqx.tree_at(lambda div: div._label, made, Label(repr(name), {}))
