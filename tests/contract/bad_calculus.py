"""Bad input for what is elementwise: the calculus, divergences, gans, and losses of them."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
from bad_input import Cell, Refused, Right, by_content, by_type, by_value
from catalogue import ROWS, F
from jaxtyping import TypeCheckError

import divergence_flows as df

NAN, INF = np.nan, np.inf
NONE = jnp.zeros(0)
# What no elementwise function takes; the rows below strike out what they do take.
NEVER = ("not positive definite", "ts does not increase", "key missing")


def by_result(function):
    """The hook's word on a function that is not elementwise, found where its result comes back."""
    words = (f"return value of divergence_flows.{function}.", "Actual value", "Expected type")
    return Refused(TypeCheckError, words)


def elementwise(call, inside, argument, truth, edges, limits):
    """Cells of one function of one number: `truth` is its closed form, `edges` go to `limits`.

    Three numbers each, so that the cells share what is compiled. NaN goes in as an array, for as a
    literal in a program XLA's CPU compiler may fold e^NaN into a number (jax 0.10.2).
    """
    some = np.array([[0.5, 1.5, 2.0]])
    return {
        "wrong rank": [Cell(call, (jnp.asarray(some),), Right(truth(some)))],
        "wrong dtype": [
            Cell(call, (1j,), by_type(inside, argument)),
            Cell(call, ([1.0],), by_type(inside, argument)),
            Cell(call, ("1",), by_type(inside, argument)),
        ],
        "empty": [Cell(call, (NONE,), Right(np.zeros(0)))],
        "nan and inf": [Cell(call, (jnp.asarray(edges),), Right(np.asarray(limits)))],
        "integers": [Cell(call, (np.array([1, 2, 3]),), Right(truth(np.array([1.0, 2.0, 3.0]))))],
        "python floats": [Cell(call, (0.5,), Right(truth(0.5)))],
        "numpy arrays": [Cell(call, (some[0],), Right(truth(some[0])))],
    }


# The calculus


def r_log_r(r):
    return r * jnp.log(r)


def softplus(d):
    return jax.nn.softplus(d)


def log_sigmoid(d):
    return -jax.nn.softplus(-d)


def minus_softplus(d):
    return -jax.nn.softplus(d)


def hinge_p(d):
    return jnp.minimum(0.0, d - 1)


def hinge_q(d):
    return jnp.minimum(0.0, -d - 1)


def minus_square_to_one(d):
    return -((d - 1) ** 2)


def minus_square(d):
    return -(d**2)


def double(d):
    return 2 * d


def half(u):
    return u / 2


def flat(d):
    return 0 * d


def of_what(make):
    """Makes and calls a function at once, so that the refusal of what it is made of is a cell."""

    def call(*functions):
        return make(*functions)(0.5)

    return call


LOGISTIC = (log_sigmoid, minus_softplus)
LEAST_SQUARES = (minus_square_to_one, minus_square)
VALUES = jnp.array([0.5, 1.5])
_H = df.f_to_h(r_log_r)
_F = df.h_to_f(jnp.exp)
_V = df.first_variation(r_log_r)
_STAR = df.conjugate(r_log_r)
_LOG_T, _T = df.log_ratio(*LOGISTIC), df.ratio(*LOGISTIC)
_INVERSE = df.inverse_log_ratio(double)
_LIFTED, _LOWERED = df.lift(jnp.exp, jnp.log), df.lower(jnp.exp, double)


def _rows_of_calculus():
    e = np.exp
    nan3 = (NAN, INF, -INF)
    rows = {
        # Far out u -> f(e^u) of a user's own f overflows, and its h with it: NaN, never a number.
        "f_to_h": elementwise(_H, "_h_of_f", "u", e, nan3, (NAN,) * 3),
        "h_to_f": elementwise(
            _F, "_f_of_h", "r", lambda r: r * np.log(r) - r + 1, nan3, (NAN, INF, NAN)
        ),
        "first_variation": elementwise(_V, "_variation", "r", lambda r: -r, nan3, (NAN,) * 3),
        "conjugate": elementwise(
            _STAR, "conjugate_at", "s", lambda s: e(s - 1), nan3, (NAN, INF, 0.0)
        ),
        "log_ratio": elementwise(_LOG_T, "_log_t", "d", lambda d: d, nan3, nan3),
        "ratio": elementwise(_T, "_exp_of", "d", e, nan3, (NAN, INF, 0.0)),
        # No finite d has an infinite log ratio.
        "inverse_log_ratio": elementwise(
            _INVERSE, "_invert", "u", lambda u: u / 2, nan3, (NAN,) * 3
        ),
        "lift": elementwise(_LIFTED, "_compose", "x", lambda d: d, nan3, (NAN, INF, NAN)),
        "lower": elementwise(_LOWERED, "_compose", "x", lambda u: e(u / 2), nan3, (NAN,) * 3),
    }
    for name, made_of in {
        "f_to_h": ("f",),
        "h_to_f": ("h",),
        "first_variation": ("f",),
        "conjugate": ("f",),
        "log_ratio": ("phi", "psi"),
        "ratio": ("phi", "psi"),
        "inverse_log_ratio": ("log_t",),
        "lift": ("h", "log_t"),
        "lower": ("h_t", "log_t"),
    }.items():
        make = getattr(df, name)
        for i, argument in enumerate(made_of):
            functions = [jnp.exp] * len(made_of)
            functions[i] = 3.0
            cell = Cell(of_what(make), tuple(functions), by_type(name, argument))
            rows[name]["wrong dtype"].append(cell)
        judged_by = {
            "f_to_h": "_calculus._log_space",
            "conjugate": "_calculus._log_space",
            "inverse_log_ratio": "_types.elementwise",
            "lift": "_estimators._compose",
            "lower": "_types.elementwise",
        }.get(name, "_quadrature.derivative")
        sums = make(*[jnp.sum] * len(made_of))
        rows[name]["mismatched shapes"] = [Cell(sums, (VALUES,), by_result(judged_by))]
    return rows


CALCULUS = _rows_of_calculus()
CALCULUS["f_to_h"] |= {
    "h does not increase": [
        Cell(
            df.f_to_h(jnp.log), (0.3,), by_content("f_to_h", "`f` is not strictly convex", "Give")
        ),
        Cell(df.f_to_h(lambda r: abs(r - 1)), (0.3,), by_content("f_to_h", "total variation")),
    ],
    "wrong value": [
        Cell(of_what(df.f_to_h), (df.divergences.kl_qp,), by_type("f_to_h", "f")),
    ],
}
CALCULUS["h_to_f"] |= {
    "h does not increase": [
        Cell(df.h_to_f(jnp.negative), (2.0,), by_content("h_to_f", "`h` decreases", "Give an")),
    ],
    "outside the domain": [Cell(_F, (jnp.full(3, -1.0),), Right(np.full(3, NAN)))],
}
CALCULUS["first_variation"] |= {
    "h does not increase": [Cell(df.first_variation(jnp.log), (1.0,), Right(-1.0))],
    "outside the domain": [Cell(_V, (-1.0,), Right(NAN))],
}
CALCULUS["conjugate"] |= {
    "h does not increase": [
        Cell(df.conjugate(jnp.log), (1.0,), by_content("conjugate", "`f` is not convex", "Give")),
    ],
    "outside the domain": [
        # f = -log r: f* = -1 - log(-s) for s < 0, and no r is best above.
        Cell(
            df.conjugate(lambda r: -jnp.log(r)),
            (jnp.array([-2.0, 1.0]),),
            Right(np.array([-1.6931472, INF])),
        ),
    ],
}
for _name in ("log_ratio", "ratio"):
    _make = getattr(df, _name)
    CALCULUS[_name] |= {
        "no ratio estimator": [
            Cell(
                _make(hinge_p, hinge_q), (0.5,), by_content("log_ratio", "is flat", "Give a pair")
            ),
            Cell(_make(double, jnp.negative), (0.5,), by_content("log_ratio", "is flat", "Give")),
        ],
        "outside the domain": [Cell(_make(*LEAST_SQUARES), (2.0,), Right(NAN))],
    }
CALCULUS["inverse_log_ratio"] |= {
    "no ratio estimator": [Cell(df.inverse_log_ratio(flat), (0.5,), Right(NAN))],
    "outside the domain": [Cell(df.inverse_log_ratio(jnp.log, upper=2), (1.0,), Right(NAN))],
    "wrong value": [
        Cell(
            lambda: df.inverse_log_ratio(double, lower=1.0, upper=0.0),
            (),
            by_value("inverse_log_ratio", "`lower`=1.0 must be below `upper`=0.0"),
        ),
        Cell(
            lambda: df.inverse_log_ratio(double, lower=NAN),
            (),
            by_value("inverse_log_ratio", "`lower`=nan must be below"),
        ),
        Cell(
            lambda: df.inverse_log_ratio(double, lower="0"),
            (),
            by_type("inverse_log_ratio", "lower"),
        ),
    ],
}
CALCULUS["lift"] |= {
    # A composition and no more: h_to_f(h) is where a decreasing h is refused.
    "h does not increase": [Cell(df.lift(jnp.negative, jnp.log), (jnp.e,), Right(-1.0))],
    "no ratio estimator": [Cell(df.lift(jnp.exp, flat), (0.5,), Right(1.0))],
    "outside the domain": [Cell(_LIFTED, (-1.0,), Right(NAN))],
}
CALCULUS["lower"] |= {
    "h does not increase": [
        Cell(
            df.h_to_f(df.lower(jnp.negative, double, inverse=half)),
            (2.0,),
            by_content("h_to_f", "`h` decr"),
        ),
    ],
    "no ratio estimator": [Cell(df.lower(jnp.exp, flat), (0.5,), Right(NAN))],
    "outside the domain": [
        Cell(
            df.lower(jnp.exp, jnp.log, inverse=df.inverse_log_ratio(jnp.log, upper=2)),
            (1.0,),
            Right(NAN),
        ),
    ],
}
# Divergences


def by_mpmath(name, r):
    """f, f' and f'' at numbers, from the formula; for arcsinh f'' = h'/r^2 alone."""
    if name == "arcsinh":
        return 1 / (r**2 * np.hypot(1, np.log(r)))[None]
    with mpmath.workdps(30):
        at = [np.vectorize(partial(_derivative_of, F[name], n))(r) for n in range(3)]
    return np.array(at)


def _derivative_of(f, order, r):
    return float(mpmath.diff(f, mpmath.mpf(r), order))


class Methods(eqx.Module):
    """Several fields of a divergence or a GAN at one array, stacked."""

    owner: object
    names: tuple = eqx.field(static=True)

    def __call__(self, x):
        return jnp.stack([getattr(self.owner, name)(x) for name in self.names])


# f at 0 and inf, h at inf and -inf, whether f' is bounded, so that f* ends, and f* elementary.
LIMITS = {
    "kl_qp": (INF, -INF, INF, -INF, True, True),
    "kl_pq": (0.0, INF, INF, 0.0, False, True),
    "jensen_shannon": (np.log(2) / 2, INF, INF, 0.0, True, True),
    "softened_reverse_kl": (INF, -INF, 0.0, -INF, True, False),
    "squared_hellinger": (1.0, INF, INF, 0.0, True, True),
    "pearson": (1.0, INF, INF, 0.0, False, True),
    "neyman": (INF, INF, 0.0, -INF, True, True),
    "le_cam": (1.0, INF, 3.0, -1.0, True, True),
    "jeffreys": (INF, INF, INF, -INF, False, False),
    "least_squares": (-0.5, INF, 0.0, -1.0, True, False),
    "arcsinh": (INF, INF, INF, -INF, True, False),
    "alpha_3": (1 / 3, INF, INF, -1 / 3, False, True),
    "shifted_0": (np.log(2), INF, INF, 0.0, True, True),
}


def _row_of_divergence(name):
    div, (at_0, at_inf, top, bottom, ends, closed) = ROWS[name], LIMITS[name]
    some = np.array([[0.5, 1.5]])
    fs, us = (
        Methods(div, ("f", "f_prime", "f_second")),
        Methods(div, ("h", "h_prime", "activation")),
    )
    floats = jnp.array([1.0, 2.0])
    if name == "arcsinh":  # its f is by quadrature; f'' = h' / r^2 is elementary
        fs = Methods(div, ("f_second",))
    exact, at_integers = (by_mpmath(name, r) for r in (some, np.array([1.0, 2.0])))
    # A conjugate that is solved for is `conjugate`'s, in a row of its own.
    nan = Methods(div, ("f", "h", "activation", *(["conjugate"] if closed else [])))
    return {
        "wrong rank": [Cell(fs, (jnp.asarray(some),), Right(exact, rtol=2e-5, atol=1e-5))],
        "wrong dtype": [
            *[Cell(getattr(div, m), (1j,), by_type(m, "r")) for m in ("f", "f_prime", "f_second")],
            *[
                Cell(getattr(div, m), ([1.0],), by_type("elementwise", "x"))
                for m in ("h", "h_prime", "activation", "conjugate", "standard", "log_f")
            ],
        ],
        "empty": [Cell(us, (NONE,), Right(np.zeros((3, 0))))],
        "nan and inf": [
            Cell(nan, (floats * NAN,), Right(np.full((len(nan.names), 2), NAN))),
            Cell(div.h, (jnp.array([INF, -INF]),), Right(np.array([top, bottom]))),
        ],
        "outside the domain": [
            Cell(fs, (-floats,), Right(np.full((len(fs.names), 2), NAN))),
            Cell(div.f, (jnp.array([0.0, INF]),), Right(np.array([at_0, at_inf]))),
            *(
                [Cell(div.conjugate, (floats + 2,), Right(np.full(2, INF)))]
                if closed and ends
                else []
            ),
        ],
        "integers": [Cell(fs, (np.array([1, 2]),), Right(at_integers, rtol=2e-5, atol=1e-5))],
        "python floats": [Cell(fs, (0.5,), Right(exact[:, 0, 0], rtol=2e-5, atol=1e-5))],
        "numpy arrays": [Cell(fs, (some[0],), Right(exact[:, 0], rtol=2e-5, atol=1e-5))],
    }


DIVERGENCES = {f"divergences.{name}": _row_of_divergence(name) for name in list(LIMITS)[:11]}
for _name, _of, _argument, _h_of_1 in (
    ("alpha", "alpha_3", "a", np.expm1(2) / 2),
    ("shifted_vanilla", "shifted_0", "c", np.logaddexp(0, 3)),
):
    _make = getattr(df.divergences, _name)
    _row = _row_of_divergence(_of)
    _row["wrong rank"].append(Cell(_make, (jnp.ones(2),), by_type(_name, _argument)))
    _row["wrong dtype"].append(Cell(_make, ("3",), by_type(_name, _argument)))
    _row["wrong dtype"].append(Cell(_make, (1j,), by_type(_name, _argument)))
    _row["nan and inf"].append(Cell(lambda a, make=_make: make(a).h(1.0), (NAN,), Right(NAN)))
    _row["integers"].append(Cell(lambda a, make=_make: make(a).h(1.0), (2,), Right(_h_of_1)))
    DIVERGENCES[f"divergences.{_name}"] = _row
_MINE = df.Divergence(r_log_r)
DIVERGENCES["Divergence"] = {
    **elementwise(_MINE.h, "elementwise", "x", np.exp, (NAN, INF, -INF), (NAN,) * 3),
    "mismatched shapes": [
        Cell(df.Divergence(jnp.sum).f, (VALUES,), by_result("_types.elementwise")),
        Cell(df.Divergence(h=jnp.sum).h, (VALUES,), by_result("_types.elementwise")),
    ],
    "h does not increase": [
        Cell(df.Divergence(h=jnp.negative).f, (2.0,), by_content("h_to_f", "`h` decreases")),
        Cell(df.Divergence(jnp.log).h, (0.5,), by_content("f_to_h", "`f` is not strictly convex")),
    ],
    "outside the domain": [Cell(_MINE.f, (-1.0,), Right(NAN))],
    "wrong value": [
        Cell(df.Divergence, (), by_value("Divergence", "give exactly one of f", "f=None")),
        Cell(lambda: df.Divergence(jnp.exp, log_f=jnp.exp), (), by_value("Divergence", "give ex")),
        Cell(df.Divergence, (3.0,), by_type("__init__", "f")),
    ],
}

TABLE = CALCULUS | DIVERGENCES
