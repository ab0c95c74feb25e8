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


def beyond(edge, x):
    return jnp.where(x[0] > edge, log_p(x), -jnp.inf)


def outside(edge):
    """A target whose support ends; its gradient outside is 0, and finite."""
    return Partial(beyond, jnp.asarray(edge))


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
                by_value(name, "`log_p` returns", "must"),
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
        Cell(step, (vector, RULE, Q), by_value(_STEP, "`log_p` returns", "must return")),
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
            step, (outside(0.0), RULE, Q, ETA), by_content(_STEP, "-inf at nodes of `q`", "support")
        ),
        Cell(step, (times(3e38), RULE, Q, ETA), by_content(_STEP, "derivatives", "sums overflow")),
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

TABLE = ROWS
