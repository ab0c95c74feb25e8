"""Bad input for matrices and Gaussians: bures, laws, rules of nodes, fields and fits."""

import jax.numpy as jnp
import numpy as np
from bad_calculus import INF, NAN, NONE
from bad_input import Cell, Right, by_content, by_type, by_value

import divergence_flows as df

# bures: names of arguments, good ones, and what each matrix must be

A = jnp.array([[2.0, 0.5], [0.5, 1.0]])
B = jnp.array([[1.0, 0.0], [0.0, 3.0]])
INDEFINITE = jnp.array([[1.0, 2.0], [2.0, 1.0]])
SINGULAR = jnp.ones((2, 2))
# Diagonal ones, of integers, where all has a closed form: what becomes of diag(4, 1), diag(1, 9).
WHOLE = np.diag([4, 1]), np.diag([1, 9])
BECOMES = {
    "submersion": np.diag([16.0, 1.0]),
    "horizontal": np.diag([1.0, 9.0]),
    "vertical": np.zeros((2, 2)),
    "inner": 20.3125,
    "exp": np.diag([5.0625, 30.25]),
    "log": np.diag([-4.0, 4.0]),
    "brenier_map": np.diag([0.5, 3.0]),
    "geodesic": np.diag([2.25, 4.0]),
    "distance": 5**0.5,
    "squared_distance": 5.0,
}
DEFINITE, SEMI, INVERTIBLE, ANY, SHORT = "not positive", "negative", "singular", None, "leaves"
BURES = {
    "submersion": (("s", A, ANY),),
    "horizontal": (("s", A, INVERTIBLE), ("x", B, ANY)),
    "vertical": (("s", A, INVERTIBLE), ("x", B, ANY)),
    "inner": (("sigma", A, DEFINITE), ("u", B, ANY), ("v", B, ANY)),
    "exp": (("sigma", A, DEFINITE), ("u", B, SHORT)),
    "log": (("sigma", A, DEFINITE), ("other", B, SEMI)),
    "brenier_map": (("a", A, DEFINITE), ("b", B, SEMI)),
    "geodesic": (("a", A, DEFINITE), ("b", B, SEMI)),
    "distance": (("a", A, SEMI), ("b", B, SEMI)),
    "squared_distance": (("a", A, SEMI), ("b", B, SEMI)),
}


def halfway(a, b):
    return df.bures.geodesic(0.5, a, b)


def _row_of_bures(name):
    call = halfway if name == "geodesic" else getattr(df.bures, name)
    names, good, kinds = zip(*BURES[name], strict=True)
    where, first = f"bures.{name}", names[0]
    shape = () if name in ("inner", "distance", "squared_distance") else (2, 2)
    checked = [i for i, kind in enumerate(kinds) if kind]
    empty = (jnp.zeros((0, 0)),) * len(good)

    def with_(i, matrix):
        return (*good[:i], matrix, *good[i + 1 :])

    def refused(i, matrix):
        return Cell(call, with_(i, matrix), by_content(where, f"`{names[i]}`", kinds[i]))

    def typed(i, matrix):
        return Cell(call, with_(i, matrix), by_type(name, names[i]))

    row = {
        "wrong rank": [typed(i, good[0][0]) for i in range(len(names))],
        "wrong dtype": [*[typed(i, A + 0j) for i in range(len(names))], typed(0, [[1.0]])],
        "empty": [
            Cell(call, empty, by_value(where, f"`{first}` is empty, of shape (0, 0)", "pass a mat"))
        ],
        "nan and inf": [
            *[refused(i, good[i].at[0, 1].set(bad)) for i in checked for bad in (NAN, INF)],
            *[
                Cell(call, with_(i, good[i] * NAN), Right(np.full(shape, NAN)))
                for i, kind in enumerate(kinds)
                if kind is ANY
            ],
        ],
        "not positive definite": [
            *[refused(i, INDEFINITE) for i in checked if kinds[i] in (DEFINITE, SEMI)],
            *[refused(i, SINGULAR) for i in checked if kinds[i] in (DEFINITE, INVERTIBLE)],
        ],
        # Every function converts its matrices by itself.
        "integers": [Cell(call, (*WHOLE, WHOLE[1])[: len(good)], Right(BECOMES[name], atol=1e-5))],
    }
    if len(good) > 1:
        row["mismatched shapes"] = [typed(1, jnp.eye(3))]
    return row


ROWS = {f"bures.{name}": _row_of_bures(name) for name in BURES}
ROWS["bures.submersion"] |= {
    "empty": [Cell(df.bures.submersion, (jnp.zeros((0, 0)),), Right(np.zeros((0, 0))))],
    # A factor is any square matrix: its product with its transpose is what is semidefinite.
    "not positive definite": [Cell(df.bures.submersion, (SINGULAR,), Right(2 * SINGULAR))],
    "python floats": [Cell(df.bures.submersion, (2.0,), by_type("submersion", "s"))],
}
LEAVES = by_content("bures.exp", "`u` leaves the geodesic", "Take a sh")
ROWS["bures.exp"]["outside the domain"] = [Cell(df.bures.exp, (B, -3 * B), LEAVES)]
ROWS["bures.geodesic"]["wrong rank"].append(
    Cell(df.bures.geodesic, (jnp.ones(2), A, B), by_type("geodesic", "t"))
)
ROWS["bures.geodesic"]["wrong dtype"].append(
    Cell(df.bures.geodesic, ("half", A, B), by_type("geodesic", "t"))
)
BEYOND = by_content("bures.geodesic", "`t` is beyond the end", "Take `t` between 0 and 1")
ROWS["bures.geodesic"]["outside the domain"] = [
    Cell(df.bures.geodesic, (t, B, B / 4), BEYOND) for t in (2.5, NAN)
]
for _name, _far in (("distance", 2.0), ("squared_distance", 4.0)):
    # A singular covariance is a Gaussian on a subspace, and has a distance: here from a point.
    ROWS[f"bures.{_name}"]["not positive definite"].append(
        Cell(getattr(df.bures, _name), (0 * A, B), Right(_far))
    )

# Laws

ORIGIN, EYE, ONES = jnp.zeros(2), jnp.eye(2), jnp.ones(2)
Q = df.Gaussian(ORIGIN, EYE)
MANY = df.Gaussian(jnp.zeros((4, 2)), jnp.ones((4, 2)))
FLAT, LINE = df.Gaussian(ORIGIN, SINGULAR), df.Gaussian(ORIGIN, jnp.array([1.0, 0.0]))
LOST = df.Gaussian(ORIGIN * NAN, EYE)
LOG_TWO_PI = np.log(2 * np.pi)
MIX = df.Mixture(ORIGIN, jnp.zeros((2, 2)), jnp.ones((2, 2)))
MIXES = df.Mixture(jnp.zeros((4, 2)), jnp.zeros((4, 2, 2)), jnp.ones((4, 2, 2)))
METHODS = {"push": "z", "standardise": "x", "log_prob": "x", "log_prob_of_push": "z"}


def method(law, name):
    """A method as a function of the law too, so that both are arguments under jit."""

    def call(law, point):
        return getattr(law, name)(point)

    return call


def _points(law, many, owner, methods):
    """Cells of points that are not one point of the law, and of laws of many times."""

    def cells(law, point, verdict):
        return [Cell(method(law, name), (law, point), verdict(name)) for name in methods]

    return {
        "wrong rank": [
            Cell(getattr(law, name), (EYE,), by_type(name, x)) for name, x in methods.items()
        ],
        "wrong dtype": [
            Cell(getattr(law, name), (ONES + 0j,), by_type(name, x)) for name, x in methods.items()
        ],
        "mismatched shapes": [
            *[
                cell
                for n in (1, 3)
                for cell in cells(
                    law, jnp.ones(n), lambda m: by_value(f"{owner}.{m}", f"`{methods[m]}` has sh")
                )
            ],
            *cells(many, ONES, lambda m: by_value(f"{owner}.{m}", "(4, 2", "jax.vmap")),
        ],
    }


def _with(row, other):
    """A row with the cells of another one."""
    return row | {column: [*row[column], *cells] for column, cells in other.items()}


EMPTY_MEAN = by_value("Gaussian", "`mean` is empty, of shape (0,)", "pass")
ROWS["Gaussian"] = _with(
    {
        "wrong rank": [
            Cell(df.Gaussian, (0.0, 1.0), by_type("__init__", "mean")),
            Cell(Q.push, (1.0,), by_type("push", "z")),
        ],
        "wrong dtype": [
            Cell(df.Gaussian, (ORIGIN + 0j, EYE), by_type("__init__", "mean")),
            Cell(df.Gaussian, (ORIGIN, [1.0, 1.0]), by_type("__init__", "scale")),
        ],
        "mismatched shapes": [
            Cell(df.Gaussian, (ORIGIN, jnp.eye(3)), by_type("__init__", "scale")),
            Cell(df.Gaussian, (ORIGIN, jnp.ones(1)), by_type("__init__", "scale")),
            Cell(df.Gaussian, (jnp.zeros((4, 2)), jnp.ones((3, 2))), by_type("__init__", "scale")),
            Cell(MANY.log_det, (), by_value("Gaussian.log_det", "(4, 2)", "jax.vmap")),
        ],
        "empty": [Cell(df.Gaussian, (NONE, NONE), EMPTY_MEAN)],
        "nan and inf": [
            Cell(Q.log_prob, (jnp.array([NAN, 0.0]),), Right(NAN)),
            Cell(df.Gaussian(ORIGIN, ONES).log_prob, (jnp.array([INF, 0.0]),), Right(-INF)),
            Cell(LOST.push, (ONES,), Right(np.array([NAN, NAN]))),
        ],
        "not positive definite": [
            # A factor has no sign, and a singular one is a law without a density.
            Cell(df.Gaussian(ORIGIN, -EYE).log_prob, (ORIGIN,), Right(-LOG_TWO_PI)),
            *[Cell(law.log_prob, (ONES,), Right(NAN)) for law in (FLAT, LINE)],
            *[Cell(law.log_det, (), Right(-INF)) for law in (FLAT, LINE)],
        ],
        "integers": [
            Cell(df.Gaussian, (np.zeros(2, int), np.eye(2, dtype=int)), Right(Q)),
            Cell(Q.log_prob, (np.array([1, 0]),), Right(-LOG_TWO_PI - 0.5)),
        ],
        "python floats": [Cell(df.Gaussian, (ORIGIN, 1.0), by_type("__init__", "scale"))],
        "numpy arrays": [Cell(df.Gaussian, (np.zeros(2), np.eye(2)), Right(Q))],
    },
    _points(Q, MANY, "Gaussian", METHODS),
)
_WIDE = df.Gaussian(jnp.zeros(3), jnp.eye(3))
_SINGULAR = by_content("gaussian_kl", "`p` has a singular", "Pass")
ROWS["gaussian_kl"] = {
    "wrong rank": [
        Cell(df.gaussian_kl, (MANY, Q), by_value("gaussian_kl", "`q`", "(4, 2)", "jax.vmap")),
        Cell(df.gaussian_kl, (Q, MANY), by_value("gaussian_kl", "`p`", "(4, 2)", "jax.vmap")),
    ],
    "wrong dtype": [
        Cell(df.gaussian_kl, (EYE, Q), by_type("gaussian_kl", "q")),
        Cell(df.gaussian_kl, (Q, (ORIGIN, EYE)), by_type("gaussian_kl", "p")),
    ],
    "mismatched shapes": [
        Cell(df.gaussian_kl, (Q, _WIDE), by_value("gaussian_kl", "`q` has dimension 2 and `p` 3")),
    ],
    "nan and inf": [
        Cell(df.gaussian_kl, (LOST, Q), Right(NAN)),
        Cell(df.gaussian_kl, (Q, LOST), by_content("gaussian_kl", "`p`", "not finite", "Pass")),
    ],
    "not positive definite": [
        *[Cell(df.gaussian_kl, (law, Q), Right(INF)) for law in (FLAT, LINE)],
        *[Cell(df.gaussian_kl, (Q, law), _SINGULAR) for law in (FLAT, LINE)],
    ],
}
NOBODY = NONE, jnp.zeros((0, 2)), jnp.zeros((0, 2))
# A logit of -inf is a weight of zero.
ALONE = df.Mixture(jnp.array([0.0, -INF]), EYE, jnp.ones((2, 2)))
ROWS["Mixture"] = _with(
    {
        "wrong rank": [Cell(df.Mixture, (0.0, ORIGIN, ONES), by_type("__init__", "logits"))],
        "wrong dtype": [
            Cell(df.Mixture, (ORIGIN + 0j, EYE, EYE), by_type("__init__", "logits")),
            Cell(df.Mixture, (ORIGIN, EYE, [[1.0]]), by_type("__init__", "scales")),
        ],
        "mismatched shapes": [
            Cell(df.Mixture, (ORIGIN, jnp.ones((3, 2)), EYE), by_type("__init__", "means")),
            Cell(df.Mixture, (ORIGIN, EYE, jnp.ones((2, 3))), by_type("__init__", "scales")),
        ],
        "empty": [Cell(df.Mixture, NOBODY, by_value("Mixture", "`means` is empty", "pass"))],
        "nan and inf": [
            Cell(MIX.log_prob, (ONES * NAN,), Right(NAN)),
            Cell(ALONE.log_prob, (EYE[0],), Right(-LOG_TWO_PI)),
        ],
        "not positive definite": [
            Cell(df.Mixture(ORIGIN, EYE, 0 * EYE).log_prob, (ONES,), Right(NAN)),
        ],
        "integers": [
            Cell(df.Mixture, (np.zeros(2, int), np.zeros((2, 2)), np.ones((2, 2))), Right(MIX)),
            Cell(MIX.log_prob, (np.zeros(2, int),), Right(-LOG_TWO_PI)),
        ],
        "python floats": [Cell(df.Mixture, (ORIGIN, EYE, 1.0), by_type("__init__", "scales"))],
    },
    _points(MIX, MIXES, "Mixture", {"push": "z", "log_prob": "x"}),
)
TABLE = ROWS
