"""Bad input for rules of nodes, fields of Gaussians, fits and path gradients."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from bad_calculus import INF, NAN, NONE
from bad_gaussians import EYE, FLAT, LINE, LOST, MANY, MIX, MIXES, ONES, ORIGIN, Q
from bad_input import Cell, Right, by_content, by_type, by_value, without_key
from jax.tree_util import Partial

import divergence_flows as df

KEY = jr.key(0)
POINTS, WEIGHTS = jnp.array([[1.0], [-1.0]]), jnp.array([0.5, 0.5])
ROWS = {}


def nodes(*values):
    """The arrays of a rule, which its `batches` of None have none of."""
    return df.Nodes(*values)


ROWS["Nodes"] = {
    "wrong rank": [
        Cell(nodes, (POINTS[:, 0], WEIGHTS), by_type("__init__", "points")),
        Cell(nodes, (POINTS, 1.0), by_type("__init__", "weights")),
    ],
    "wrong dtype": [
        Cell(nodes, (POINTS + 0j, WEIGHTS), by_type("__init__", "points")),
        Cell(nodes, ([[1.0], [-1.0]], WEIGHTS), by_type("__init__", "points")),
    ],
    "mismatched shapes": [
        Cell(nodes, (POINTS, jnp.ones(3) / 3), by_type("__init__", "weights")),
        Cell(
            nodes,
            (POINTS, WEIGHTS, jnp.ones(3)),
            by_value("Nodes", "`batches` has shape (3,)", "mini"),
        ),
    ],
    "empty": [
        Cell(
            nodes,
            (POINTS[:0], NONE),
            by_value("Nodes", "`points` is empty, of shape (0, 1)", "pass"),
        ),
    ],
    "nan and inf": [
        Cell(nodes, (POINTS * NAN, WEIGHTS), by_content("Nodes", "`points` must be finite")),
        Cell(nodes, (POINTS, WEIGHTS * INF), by_content("Nodes", "`weights` must sum to 1")),
    ],
    "integers": [Cell(nodes, (np.array([[1], [-1]]), WEIGHTS), Right((POINTS, WEIGHTS)))],
    "python floats": [Cell(nodes, (1.0, 1.0), by_type("__init__", "points"))],
    "numpy arrays": [
        Cell(nodes, (np.array([[1.0], [-1.0]]), np.array([0.5, 0.5])), Right((POINTS, WEIGHTS))),
        Cell(nodes, (np.ones((2, 1)), np.ones(2)), by_content("Nodes", "`weights` must sum to 1")),
    ],
    "wrong value": [
        Cell(
            nodes, (POINTS, jnp.ones(2)), by_content("Nodes", "`weights` must sum to 1", "divide")
        ),
    ],
}


def counted(make, **options):
    """A rule of numbers, which are part of its shape and so static under jit."""

    def call(*numbers):
        return make(*numbers, **options)

    return call


RULES = {
    "cubature": ({"dim": 2}, {}),
    "gauss_hermite": ({"dim": 1, "order": 3}, {}),
    "trapezoid": ({"dim": 1}, {}),
    "normal_nodes": ({"n": 4, "dim": 2}, {"key": KEY}),
    "sobol_nodes": ({"n": 4, "dim": 2}, {"key": KEY}),
}
TOO_MANY = {
    "gauss_hermite": [
        ((1, 181), "`order` is 181", "use `trapezoid`"),
        ((9, 9), "9^9 nodes are too many", "use `sobol_nodes`"),
    ],
    "trapezoid": [((3,), "`dim` is 3", "use `sobol_nodes`")],
    "sobol_nodes": [((4, 30000), "`dim` is 30000", "at most 21201")],
}


def _row_of_rule(name):
    sizes, options = RULES[name]
    make = getattr(df, name)

    def with_(argument, value):
        return tuple(value if argument == each else good for each, good in sizes.items())

    row = {
        "wrong rank": [
            Cell(counted(make, **options), with_("dim", jnp.ones(2)), by_type(name, "dim"))
        ],
        "wrong dtype": [
            *[
                Cell(counted(make, **options), with_(each, 2.0), by_type(name, each))
                for each in sizes
            ],
            *[
                Cell(counted(make, **options), with_(each, "2"), by_type(name, each))
                for each in sizes
            ],
        ],
        "nan and inf": [Cell(counted(make, **options), with_("dim", NAN), by_type(name, "dim"))],
        "integers": [
            # A size is a Python integer, which a trace can see.
            Cell(counted(make, **options), with_("dim", jnp.asarray(2)), by_type(name, "dim")),
        ],
        "python floats": [Cell(counted(make, **options), with_("dim", 2.0), by_type(name, "dim"))],
        "numpy arrays": [
            Cell(counted(make, **options), with_("dim", np.array(2)), by_type(name, "dim")),
        ],
        "wrong value": [
            *[
                Cell(
                    counted(make, **options), with_(each, bad), by_value(name, f"`{each}` is {bad}")
                )
                for each in sizes
                for bad in (0, -1)
            ],
            *[
                Cell(counted(make, **options), values, by_value(name, *words))
                for values, *words in TOO_MANY.get(name, [])
            ],
        ],
    }
    if options:
        numbers = tuple(sizes.values())
        row["key missing"] = [Cell(counted(make), numbers, without_key())]
        row["wrong dtype"].append(Cell(counted(make, key=0), numbers, by_type(name, "key")))
    return row


ROWS |= {name: _row_of_rule(name) for name in RULES}


# Fields


def log_p(x):
    return -0.5 * jnp.sum(x**2)


def vector(x):
    return x


def lost(x):
    return NAN * jnp.sum(x)


def nothing(x):
    return 0


def scaled(by, x):
    return by * log_p(x)


def times(by):
    """A target whose scale is an array: a NaN of it compiles nothing new."""
    return Partial(scaled, jnp.asarray(by))


def at(make, law, **options):
    """Makes a field of a target and nodes, and asks it at a law."""

    def call(target, rule, law):
        return make(target, rule, **options)(0.0, law, None)

    return call


# Target, state, its fields as arrays, and the states that have no density.
PAIR = (ORIGIN, EYE)
FIELDS = {
    "gaussian_field": (Q, [FLAT, LINE]),
    "fisher_rao_field": (Q, [FLAT, LINE]),
    "bures_field": (PAIR, [(ORIGIN, jnp.array([[1.0, 2.0], [2.0, 1.0]]))]),
    "mixture_field": (MIX, [df.Mixture(ORIGIN, EYE, 0 * EYE)]),
}
RULE, WIDE = df.cubature(2), df.cubature(3)


def _row_of_field(name):
    law, singular = FIELDS[name]
    make = getattr(df, name)
    call = at(make, law)
    many = MIXES if name == "mixture_field" else MANY
    inside = "_covariance_rates" if name == "bures_field" else "_rates"
    state = "state" if name == "bures_field" else "q"

    def mean(target, rule, law):
        rates = make(target, rule)(0.0, law, None)
        return (
            rates.means[0]
            if name == "mixture_field"
            else (rates[0] if name == "bures_field" else rates.mean)
        )

    def drift(x):
        return jnp.sum(x)

    row = {
        "wrong rank": [
            Cell(call, (log_p, RULE, ORIGIN), by_type(inside, state)),
            Cell(
                call,
                (vector, RULE, law),
                by_value(name, "`log_p` returned an array of shape (2,)", "must"),
            ),
        ],
        "wrong dtype": [
            Cell(lambda law: make(3.0, RULE)(0.0, law, None), (law,), by_type(name, "log_p")),
            Cell(call, (log_p, ONES, law), by_type(name, "nodes")),
            Cell(lambda law: make(log_p, RULE)("now", law, None), (law,), by_type(inside, "t")),
            Cell(at(make, law, h=3.0), (log_p, RULE, law), by_type(name, "h")),
        ],
        "mismatched shapes": [
            Cell(
                call, (log_p, WIDE, law), by_value(name, "`nodes` have dimension 3", "make nodes")
            ),
        ],
        "nan and inf": [
            # A field has no check of values in it; what solves it has, and reports.
            Cell(mean, (lost, RULE, law), Right(np.array([NAN, NAN]))),
        ],
        "not positive definite": [
            Cell(lambda law, m=mean: jnp.isnan(m(log_p, RULE, law)).any(), (one,), Right(True))
            for one in singular
        ],
        "h does not increase": [
            Cell(
                at(make, law, h=jnp.negative),
                (log_p, RULE, law),
                by_content(name, "`h` decreases", "Give an increasing h"),
            ),
        ],
        "integers": [
            # A target of integers, a constant for one, has a rate too.
            Cell(mean, (nothing, RULE, law), Right(np.array([0.0, 0.0]))),
        ],
        "python floats": [Cell(mean, (drift, RULE, law), Right(np.array([1.0, 1.0]), atol=1e-5))],
        "wrong value": [
            Cell(at(make, law, h=df.divergences.kl_qp), (log_p, RULE, law), by_type(name, "h")),
        ],
    }
    if name == "bures_field":
        whole, floats = (np.zeros(2, int), np.eye(2, dtype=int)), (np.zeros(2), np.eye(2))
        row["integers"].append(
            Cell(mean, (drift, RULE, whole), Right(np.array([1.0, 1.0]), atol=1e-5))
        )
        row["numpy arrays"] = [
            Cell(mean, (drift, RULE, floats), Right(np.array([1.0, 1.0]), atol=1e-5))
        ]
        wide = (ORIGIN, jnp.eye(3))
        row["mismatched shapes"].append(Cell(call, (log_p, RULE, wide), by_type(inside, state)))
    else:
        row["wrong rank"].append(Cell(call, (log_p, RULE, many), by_value(name, "jax.vmap")))
        rule = df.Nodes(np.asarray(RULE.points), np.asarray(RULE.weights))
        row["numpy arrays"] = [
            Cell(mean, (drift, rule, law), Right(np.array([1.0, 1.0]), atol=1e-5))
        ]
    option, good = ("metric", "euclidean") if name == "mixture_field" else ("estimator", "price")
    row["wrong value"] += [
        Cell(
            at(make, law, **{option: "best"}),
            (log_p, RULE, law),
            by_value(name, f"`{option}` is 'best'", "give", good),
        ),
        Cell(at(make, law, **{option: 3}), (log_p, RULE, law), by_type(name, option)),
    ]
    return row


ROWS |= {name: _row_of_field(name) for name in FIELDS}


def step(target, rule, q, size=0.1, **options):
    return df.forward_backward_step(target, rule, q, step=size, **options)


_STEP = "forward_backward_step"
ETA = jnp.asarray(0.1)
ROWS[_STEP] = {
    "wrong rank": [
        Cell(step, (log_p, RULE, Q, jnp.ones(2)), by_type(_STEP, "step")),
        Cell(step, (log_p, RULE, MANY), by_value(_STEP, "(4, 2)", "jax.vmap")),
        Cell(step, (vector, RULE, Q), by_value(_STEP, "`log_p` returned an array", "must return")),
    ],
    "wrong dtype": [
        Cell(step, (log_p, RULE, Q, "small"), by_type(_STEP, "step")),
        Cell(step, (log_p, RULE, PAIR), by_type(_STEP, "q")),
        Cell(step, (log_p, ONES, Q), by_type(_STEP, "nodes")),
        Cell(lambda q: step(3.0, RULE, q), (Q,), by_type(_STEP, "log_p")),
    ],
    "mismatched shapes": [
        Cell(step, (log_p, WIDE, Q), by_value(_STEP, "`nodes` have dimension 3", "make nodes")),
    ],
    "nan and inf": [
        Cell(
            step,
            (times(NAN), RULE, Q, ETA),
            by_content(_STEP, "`log_p`", "not finite at nodes", "start"),
        ),
        Cell(
            step, (times(1.0), RULE, LOST, ETA), by_content(_STEP, "`q`", "not finite", "pass one")
        ),
        Cell(step, (times(1.0), RULE, Q, ETA * NAN), by_content(_STEP, "`step` must be positive")),
    ],
    "not positive definite": [
        Cell(
            step, (times(1.0), RULE, law, ETA), by_content(_STEP, "`q` has a singular", "pass one")
        )
        for law in (FLAT, LINE)
    ],
    # At the optimum the step rests, whatever its size.
    "integers": [Cell(step, (times(1.0), RULE, Q, 1), Right(Q))],
    "python floats": [Cell(step, (times(1.0), RULE, Q, 0.5), Right(Q))],
    "numpy arrays": [Cell(step, (times(1.0), RULE, Q, np.array(0.5)), Right(Q))],
    "wrong value": [
        *[
            Cell(
                step,
                (times(1.0), RULE, Q, jnp.asarray(size)),
                by_content(_STEP, "`step` must be positive and at most"),
            )
            for size in (-0.1, 3.0)
        ],
        Cell(
            lambda q: step(log_p, RULE, q, estimator="best"),
            (Q,),
            by_value(_STEP, "`estimator` is 'best'", "give"),
        ),
    ],
}


# Fits and losses


def fit(**options):
    """The mean of a fit of few nodes: a long program."""

    def call(target, q0, **more):
        wanted = {"n": 32, "key": jr.key(0), **options, **more}
        return df.fit_gaussian(target, q0, **wanted)[0].mean

    return call


_FIT = "fit_gaussian"
START = df.Gaussian(jnp.zeros(1), jnp.ones(1))
FIT = fit(nodes=df.cubature(1))
AGAIN = "it would compile the program of numpy's cell again: before it, all become floats"
ROWS[_FIT] = {
    "wrong rank": [
        Cell(fit(), (log_p, MANY), by_value(_FIT, "(4, 2)", "jax.vmap")),
        Cell(
            fit(nodes=df.cubature(1)),
            (lambda x: jnp.stack([x, x]), START),
            by_value(_FIT, "`log_p` returned"),
        ),
        Cell(lambda q: fit()(log_p, q, tol=jnp.ones(2)), (START,), by_type(_FIT, "tol")),
    ],
    "wrong dtype": [
        Cell(lambda q: fit()(3.0, q), (START,), by_type(_FIT, "log_p")),
        Cell(fit(), (log_p, {"a": "1"}), by_type(_FIT, "q0")),
        Cell(fit(), (log_p, ONES + 0j), by_type(_FIT, "q0")),
        Cell(lambda q: fit(key=3)(log_p, q), (START,), by_type(_FIT, "key")),
        Cell(fit(n=32.0), (log_p, START), by_type(_FIT, "n")),
    ],
    "mismatched shapes": [
        Cell(
            lambda q: fit()(log_p, q, nodes=WIDE),
            (START,),
            by_value(_FIT, "`nodes` have dimension 3", "make nodes"),
        ),
    ],
    "empty": [Cell(fit(), (log_p, {}), by_value(_FIT, "`q0` is {}", "pass where to start"))],
    "nan and inf": [
        Cell(FIT, (times(NAN), START), by_content(_FIT, "`log_p`", "not finite at nodes of `q0`")),
        Cell(
            FIT,
            (times(1.0), df.Gaussian(jnp.array([NAN]), jnp.ones(1))),
            by_content(_FIT, "`q0`", "not finite", "Start"),
        ),
    ],
    "not positive definite": [
        Cell(
            FIT,
            (times(1.0), df.Gaussian(jnp.zeros(1), jnp.zeros(1))),
            by_content(_FIT, "`q0` has a singular", "Start"),
        ),
    ],
    "key missing": [Cell(lambda q: df.fit_gaussian(log_p, q), (START,), without_key())],
    "integers": [Cell(FIT, (times(1.0), np.array(1)), Right(np.zeros(1), atol=1e-2), AGAIN)],
    "python floats": [Cell(FIT, (times(1.0), 1.0), Right(np.zeros(1), atol=1e-2), AGAIN)],
    "numpy arrays": [Cell(FIT, (times(1.0), np.array(1.0)), Right(np.zeros(1), atol=1e-2))],
    "wrong value": [
        Cell(fit(geometry="flat"), (log_p, START), by_value(_FIT, "`geometry` is 'flat'", "give")),
        Cell(
            fit(estimator="best"), (log_p, START), by_value(_FIT, "`estimator` is 'best'", "give")
        ),
        Cell(fit(n=3), (log_p, START), by_value(_FIT, "`n` makes 3 draws", "25")),
        Cell(fit(max_steps=0), (log_p, START), by_value(_FIT, "`max_steps` is 0", "pass")),
        Cell(fit(tol=-1.0), (log_p, START), by_value(_FIT, "`tol` is -1.0", "pass a positive")),
        Cell(fit(solver="rk4"), (log_p, START), by_type(_FIT, "solver")),
    ],
}


def loss(z, q=Q, target=log_p, h=None):
    return df.stl_loss(target, q, z, h=h)


_STL = "stl_loss"
Z = jnp.ones((4, 2))
HERE = -np.log(2 * np.pi)  # log q - log p, wherever z is
ROWS[_STL] = {
    "wrong rank": [
        Cell(loss, (1.0,), by_type(_STL, "z")),
        Cell(loss, (Z, MANY), by_value("Gaussian.push", "(4, 2)", "jax.vmap")),
        Cell(lambda z: loss(z, target=vector), (Z,), by_value(_STL, "`log_p` returned an array")),
        Cell(
            lambda z: loss(z, h=lambda u: jnp.stack([u, u])),
            (Z,),
            by_value(_STL, "`h` returned an array of shape (2,)", "must return a scalar"),
        ),
    ],
    "wrong dtype": [
        Cell(loss, (Z + 0j,), by_type(_STL, "z")),
        Cell(loss, ([[1.0]],), by_type(_STL, "z")),
        Cell(lambda z: loss(z, target=3.0), (Z,), by_type(_STL, "log_p")),
    ],
    "mismatched shapes": [
        *[
            Cell(loss, (jnp.ones((4, n)),), by_value("Gaussian.push", "`z` has shape", "pass one"))
            for n in (1, 3)
        ],
        Cell(loss, (WIDE,), by_value("Gaussian.push", "`z` has shape (3,)", "pass one")),
        Cell(loss, (jnp.ones((4, 3)), MIX), by_value("Mixture.push", "`z` has shape (3,)", "pass")),
    ],
    "empty": [Cell(loss, (Z[:0],), by_value(_STL, "`z` is empty, of shape (0, 2)", "pass one"))],
    "nan and inf": [Cell(loss, (Z * NAN,), Right(NAN))],
    "not positive definite": [Cell(loss, (Z, law), Right(NAN)) for law in (FLAT, LINE)],
    "h does not increase": [
        Cell(lambda z: loss(z, h=jnp.negative), (Z,), by_content(_STL, "`h` decreases", "It must")),
    ],
    "integers": [Cell(loss, (np.ones((4, 2), int),), Right(HERE))],
    "python floats": [Cell(loss, (1.0,), by_type(_STL, "z"))],
    "numpy arrays": [Cell(loss, (np.ones((4, 2)),), Right(HERE))],
    "wrong value": [
        Cell(lambda z: loss(z, q=3), (Z,), by_value(_STL, "`q` is a int", "give a model")),
        *[
            Cell(lambda z, h=h: loss(z, h=h), (Z,), by_value(_STL, "`h` is", remedy))
            for h, remedy in (
                (df.divergences.kl_qp, "pass its `.h`"),
                (df.gans.logit(), "pass its `.h`"),
                (df.divergences.kl_qp.f, "pass `.h`"),
                (3.0, "give an increasing function"),
            )
        ],
    ],
}
TABLE = ROWS
