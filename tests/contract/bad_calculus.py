"""Bad input for what is elementwise: the calculus and divergences."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from bad_input import COLUMNS, Cell, Refused, Right, Same, by_content, by_type, by_value
from catalogue import ROWS
from jaxtyping import TypeCheckError

import divergence_flows as df

NAN, INF = np.nan, np.inf
NONE, VALUES = jnp.zeros(0), jnp.array([0.5, 1.5])
EDGES = (NAN, INF, -INF)


def one(call, x, verdict):
    """The only cell of a column: a call of one argument."""
    return [Cell(call, (x,), verdict)]


def joined(*rows):
    """One row that has all cells of these."""
    every = {column: [cell for row in rows for cell in row.get(column, ())] for column in COLUMNS}
    return {column: cells for column, cells in every.items() if any(column in row for row in rows)}


def elementwise(call, truth, limits):
    """Cells of one function of one number: `truth` is its closed form, EDGES go to `limits`.

    NaN goes in as an array, for as a literal in a program XLA's CPU compiler may fold e^NaN into a
    number (jax 0.10.2).
    """
    some = np.array([[0.5, 1.5, 2.0]])
    return {
        "wrong rank": one(call, jnp.asarray(some), Right(truth(some))),
        "wrong dtype": [Cell(call, (bad,), NOT_REAL) for bad in (1j, [1.0], "1")],
        "empty": one(call, NONE, Right(NONE)),
        "nan and inf": one(call, jnp.array(EDGES), Right(np.array(limits))),
        "wrong value": [],
    }


def numbers(call, truth):
    """Integers, floats and numpy arrays: all elementwise functions convert them in one place."""
    return {
        "integers": one(call, np.array([1, 2, 3]), Right(truth(np.array([1.0, 2.0, 3.0])))),
        "python floats": one(call, 0.5, Right(truth(0.5))),
        "numpy arrays": one(call, np.array([0.5, 1.5]), Right(truth(np.array([0.5, 1.5])))),
    }


# Of a function of one number, whatever its argument is called.
NOT_REAL = Refused(TypeCheckError, ("divergence_flows.", "Actual value", "Expected type"))
# A function that is not elementwise is found where its result comes back.
BY_RESULT = Refused(
    TypeCheckError, ("return value of divergence_flows.", "Actual value", "Expected type")
)


def made_of(make, *arguments):
    """Of what is no function, and of functions that are not elementwise."""
    call = lambda *functions: make(*functions)(0.5)
    wrong = []
    for i, argument in enumerate(arguments):
        functions = [jnp.exp] * len(arguments)
        functions[i] = 3.0
        wrong.append(Cell(call, tuple(functions), by_type(make.__name__, argument)))
    sums = make(*[jnp.sum] * len(arguments))
    return {"wrong dtype": wrong, "mismatched shapes": one(sums, VALUES, BY_RESULT)}


# The calculus

r_log_r = lambda r: r * jnp.log(r)
softplus = lambda d: jax.nn.softplus(d)
log_sigmoid = lambda d: -jax.nn.softplus(-d)
minus_softplus = lambda d: -jax.nn.softplus(d)
double = lambda d: 2 * d
half = lambda u: u / 2
flat = lambda d: 0 * d
HINGES = (lambda d: jnp.minimum(0.0, d - 1), lambda d: jnp.minimum(0.0, -d - 1))
LOGISTIC = (log_sigmoid, minus_softplus)
LEAST_SQUARES = (lambda d: -((d - 1) ** 2), lambda d: -(d**2))
FLAT_PAIRS = (HINGES, (double, jnp.negative))
H, PAIR, DOMAIN = "h does not increase", "no ratio estimator", "outside the domain"
NO_RATIO = by_content("log_ratio", "is flat", "Give a pair")
NOT_CONVEX = by_content("f_to_h", "`f` is not strictly convex", "Give")
FALLS = by_content("h_to_f", "`h` decreases", "Give an")
_H, _F, _V = df.f_to_h(r_log_r), df.h_to_f(jnp.exp), df.first_variation(r_log_r)
_LIFTED = df.lift(jnp.exp, jnp.log)


def _row_of_ratio(make, truth, limits):
    """`log_ratio` or `ratio`."""
    call = make(*LOGISTIC)
    refused = {
        PAIR: [Cell(make(*pair), (0.5,), NO_RATIO) for pair in FLAT_PAIRS],
        DOMAIN: one(make(*LEAST_SQUARES), 2.0, Right(NAN)),
    }
    return joined(elementwise(call, truth, limits), made_of(make, "phi", "psi"), refused)


CALCULUS = {
    # Far out u -> f(e^u) of a user's own f overflows, and its h with it: NaN, never a number.
    "f_to_h": joined(
        elementwise(_H, np.exp, (NAN,) * 3),
        numbers(_H, np.exp),
        made_of(df.f_to_h, "f"),
        {
            H: [
                Cell(df.f_to_h(jnp.log), (0.3,), NOT_CONVEX),
                Cell(df.f_to_h(lambda r: abs(r - 1)), (0.3,), by_content("f_to_h", "total varia")),
            ],
            "wrong value": one(df.f_to_h, df.divergences.kl_qp, by_type("f_to_h", "f")),
        },
    ),
    "h_to_f": joined(
        elementwise(_F, lambda r: r * np.log(r) - r + 1, (NAN, INF, NAN)),
        made_of(df.h_to_f, "h"),
        {
            H: one(df.h_to_f(jnp.negative), 2.0, FALLS),
            DOMAIN: one(_F, jnp.full(3, -1.0), Right(np.full(3, NAN))),
        },
    ),
    "first_variation": joined(
        elementwise(_V, np.negative, (NAN,) * 3),
        made_of(df.first_variation, "f"),
        {H: one(df.first_variation(jnp.log), 1.0, Right(-1.0)), DOMAIN: one(_V, -1.0, Right(NAN))},
    ),
    "conjugate": joined(
        elementwise(df.conjugate(r_log_r), lambda s: np.exp(s - 1), (NAN, INF, 0.0)),
        made_of(df.conjugate, "f"),
        {
            H: one(
                df.conjugate(jnp.log), 1.0, by_content("conjugate", "`f` is not convex", "Give")
            ),
            # f = -log r: f* = -1 - log(-s) for s < 0, and no r is best above.
            DOMAIN: one(
                df.conjugate(lambda r: -jnp.log(r)),
                jnp.array([-2.0, 1.0]),
                Right(np.array([-1 - np.log(2), INF])),
            ),
        },
    ),
    "log_ratio": _row_of_ratio(df.log_ratio, lambda d: d, EDGES),
    "ratio": _row_of_ratio(df.ratio, np.exp, (NAN, INF, 0.0)),
    "inverse_log_ratio": joined(
        # No finite d has an infinite log ratio.
        elementwise(df.inverse_log_ratio(double), half, (NAN,) * 3),
        made_of(df.inverse_log_ratio, "log_t"),
        {
            PAIR: one(df.inverse_log_ratio(flat), 0.5, Right(NAN)),
            DOMAIN: one(df.inverse_log_ratio(jnp.log, upper=2), 1.0, Right(NAN)),
            "wrong value": [
                Cell(partial(df.inverse_log_ratio, double, **ends), (), verdict)
                for ends, verdict in (
                    (
                        {"lower": 1.0, "upper": 0.0},
                        by_value("inverse_log_ratio", "`lower`=1.0 must be below `upper`=0.0"),
                    ),
                    ({"lower": NAN}, by_value("inverse_log_ratio", "`lower`=nan must be below")),
                    ({"lower": "0"}, by_type("inverse_log_ratio", "lower")),
                )
            ],
        },
    ),
    "lift": joined(
        elementwise(_LIFTED, lambda d: d, (NAN, INF, NAN)),
        made_of(df.lift, "h", "log_t"),
        {
            # A composition and no more: h_to_f(h) is where a decreasing h is refused.
            H: one(df.lift(jnp.negative, jnp.log), jnp.e, Right(-1.0)),
            PAIR: one(df.lift(jnp.exp, flat), 0.5, Right(1.0)),
            DOMAIN: one(_LIFTED, -1.0, Right(NAN)),
        },
    ),
    "lower": joined(
        elementwise(df.lower(jnp.exp, double), lambda u: np.exp(u / 2), (NAN,) * 3),
        made_of(df.lower, "h_t", "log_t"),
        {
            H: one(df.h_to_f(df.lower(jnp.negative, double, inverse=half)), 2.0, FALLS),
            PAIR: one(df.lower(jnp.exp, flat), 0.5, Right(NAN)),
            DOMAIN: one(
                df.lower(jnp.exp, jnp.log, inverse=df.inverse_log_ratio(jnp.log, upper=2)),
                1.0,
                Right(NAN),
            ),
        },
    ),
}

# Divergences


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


OF_R = ("f", "f_prime", "f_second")


def _row_of_divergence(name):
    div, (at_0, at_inf, top, bottom, ends, closed) = ROWS[name], LIMITS[name]
    floats = jnp.array([1.0, 2.0])
    # The f of arcsinh is by quadrature; f'' = h' / r^2 is elementary.
    of_r = ("f_second",) if name == "arcsinh" else OF_R
    # A conjugate that is solved for is `conjugate`'s, in a row of its own.
    fields = ("f", "h", "activation", *["conjugate"] * closed)
    elsewhere = one(div.conjugate, floats + 2, Right(np.full(2, INF)))
    in_a_row = lambda x: jnp.ravel(Methods(div, of_r)(x))
    return {
        "wrong rank": one(in_a_row, floats[None], Same((floats,))),
        "wrong dtype": [
            Cell(getattr(div, field), (wrong,), NOT_REAL)
            for field in (*OF_R, "h", "h_prime", "activation", "conjugate", "standard", "log_f")
            for wrong in (1j, [1.0])
        ],
        "mismatched shapes": [],
        "empty": one(Methods(div, ("f", "h", "h_prime")), NONE, Right(np.zeros((3, 0)))),
        "nan and inf": [
            Cell(Methods(div, fields), (floats * NAN,), Right(np.full((len(fields), 2), NAN))),
            Cell(div.h, (jnp.array([INF, -INF]),), Right(np.array([top, bottom]))),
        ],
        DOMAIN: [
            Cell(Methods(div, of_r), (-floats,), Right(np.full((len(of_r), 2), NAN))),
            Cell(div.f, (jnp.array([0.0, INF]),), Right(np.array([at_0, at_inf]))),
            *(elsewhere if closed and ends else []),
        ],
        "wrong value": [],
    }


def of_number(make, h, argument, h_of_2):
    """What is made of one number: `h` of it at 1."""
    return {
        "wrong rank": one(make, jnp.ones(2), by_type(make.__name__, argument)),
        "wrong dtype": [Cell(make, (bad,), by_type(make.__name__, argument)) for bad in ("3", 1j)],
        "nan and inf": one(lambda a: getattr(make(a), h)(1.0), NAN, Right(NAN)),
        "integers": one(lambda a: getattr(make(a), h)(1.0), 2, Right(h_of_2)),
    }


_MINE = df.Divergence(r_log_r)
DIVERGENCES = {f"divergences.{name}": _row_of_divergence(name) for name in list(LIMITS)[:11]}
DIVERGENCES |= {
    "divergences.alpha": joined(
        _row_of_divergence("alpha_3"), of_number(df.divergences.alpha, "h", "a", np.expm1(2) / 2)
    ),
    "divergences.shifted_vanilla": joined(
        _row_of_divergence("shifted_0"),
        of_number(df.divergences.shifted_vanilla, "h", "c", np.logaddexp(0, 3)),
    ),
    "Divergence": joined(
        elementwise(_MINE.h, np.exp, (NAN,) * 3),
        numbers(_MINE.h, np.exp),
        {
            "mismatched shapes": [
                Cell(df.Divergence(jnp.sum).f, (VALUES,), BY_RESULT),
                Cell(df.Divergence(h=jnp.sum).h, (VALUES,), BY_RESULT),
            ],
            H: [
                Cell(df.Divergence(h=jnp.negative).f, (2.0,), FALLS),
                Cell(df.Divergence(jnp.log).h, (0.5,), NOT_CONVEX),
            ],
            DOMAIN: one(_MINE.f, -1.0, Right(NAN)),
            "wrong value": [
                Cell(df.Divergence, (), by_value("Divergence", "give exactly one of f", "f=None")),
                Cell(
                    partial(df.Divergence, jnp.exp, log_f=jnp.exp),
                    (),
                    by_value("Divergence", "give exactly one"),
                ),
                Cell(df.Divergence, (3.0,), by_type("__init__", "f")),
            ],
        },
    ),
}
TABLE = CALCULUS | DIVERGENCES
