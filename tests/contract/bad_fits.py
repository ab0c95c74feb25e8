"""Bad input for rules of nodes, fields of Gaussians and forward-backward steps."""

from functools import partial

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
NO_SUM = by_content("Nodes", "`weights` must sum to 1", "divide")
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
        Cell(nodes, (POINTS, WEIGHTS, jnp.ones(3)), by_value("Nodes", "`batches` has shape (3,)")),
    ],
    "empty": [
        Cell(nodes, (POINTS[:0], NONE), by_value("Nodes", "`points` is empty, of shape (0, 1)"))
    ],
    "nan and inf": [
        Cell(nodes, (POINTS * NAN, WEIGHTS), by_content("Nodes", "`points` must be finite")),
        Cell(nodes, (POINTS, WEIGHTS * INF), NO_SUM),
    ],
    # numpy checks its own arrays.
    "integers": [Cell(nodes, (np.array([[1], [-1]]), WEIGHTS), Right((POINTS, WEIGHTS)))],
    "numpy arrays": [
        Cell(nodes, (np.array([[1.0], [-1.0]]), np.array([0.5, 0.5])), Right((POINTS, WEIGHTS))),
        Cell(nodes, (np.ones((2, 1)), np.ones(2)), NO_SUM),
    ],
    "wrong value": [Cell(nodes, (POINTS, jnp.ones(2)), NO_SUM)],
}

# Rules: good sizes, options, and sizes that are too large.
RULES = {
    "cubature": ({"dim": 2}, {}, []),
    "gauss_hermite": (
        {"dim": 1, "order": 3},
        {},
        [
            ((1, 181), "`order` is 181", "use `trapezoid`"),
            ((9, 9), "9^9 nodes are too many", "use `sobol_nodes`"),
        ],
    ),
    "trapezoid": ({"dim": 1}, {}, [((3,), "`dim` is 3", "use `sobol_nodes`")]),
    "normal_nodes": ({"n": 4, "dim": 2}, {"key": KEY}, []),
    "sobol_nodes": (
        {"n": 4, "dim": 2},
        {"key": KEY},
        [((4, 30000), "`dim` is 30000", "at most 21201")],
    ),
}


def _row_of_rule(name):
    sizes, options, too_large = RULES[name]
    make = getattr(df, name)
    call, good = partial(make, **options), tuple(sizes.values())

    def cell(argument, value, verdict):
        return Cell(call, tuple((sizes | {argument: value}).values()), verdict)

    row = {
        "wrong rank": [cell("dim", jnp.ones(2), by_type(name, "dim"))],
        # A size is a Python integer, which a trace can see.
        "wrong dtype": [
            *[cell(each, bad, by_type(name, each)) for each in sizes for bad in (2.0, "2")],
            *[cell("dim", bad, by_type(name, "dim")) for bad in (jnp.asarray(2), np.array(2))],
        ],
        "nan and inf": [cell("dim", NAN, by_type(name, "dim"))],
        "wrong value": [
            *[
                cell(each, bad, by_value(name, f"`{each}` is {bad}"))
                for each in sizes
                for bad in (0, -1)
            ],
            *[Cell(call, values, by_value(name, *words)) for values, *words in too_large],
        ],
    }
    if options:
        row["key missing"] = [Cell(make, good, without_key())]
        row["wrong dtype"].append(Cell(partial(make, key=0), good, by_type(name, "key")))
    return row


ROWS |= {name: _row_of_rule(name) for name in RULES}


# Targets


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


# A target whose support ends; its gradient outside is 0, and finite.
OUTSIDE = Partial(beyond, jnp.zeros(()))


def times(by):
    """A target whose scale is an array: a NaN of it compiles nothing new."""
    return Partial(scaled, jnp.asarray(by))


# Fields: a state, states that have no density, and states of many times.
PAIR = (ORIGIN, EYE)
FIELDS = {
    "gaussian_field": (Q, [FLAT, LINE], MANY),
    "fisher_rao_field": (Q, [FLAT, LINE], MANY),
    "bures_field": (PAIR, [(ORIGIN, jnp.array([[1.0, 2.0], [2.0, 1.0]]))], None),
    "mixture_field": (MIX, [df.Mixture(ORIGIN, EYE, 0 * EYE)], MIXES),
}
RULE, WIDE = df.cubature(2), df.cubature(3)


def _row_of_field(name):
    law, singular, many = FIELDS[name]
    make = getattr(df, name)
    pair, mixture = name == "bures_field", name == "mixture_field"
    inside, state = ("_covariance_rates", "state") if pair else ("_rates", "q")
    option, good = ("metric", "euclidean") if mixture else ("estimator", "price")
    wide = by_value(name, "`nodes` have dimension 3", "make nodes")
    falls = by_content(name, "`h` decreases", "Give an increasing h")
    unknown = by_value(name, f"`{option}` is 'best'", "give", good)

    def at(target, rule, law, t=0.0, **options):
        return make(target, rule, **options)(t, law, None)

    def mean(target, rule, law):
        rates = at(target, rule, law)
        return rates[0] if pair else rates.means[0] if mixture else rates.mean

    def no_number(law):
        return jnp.isnan(mean(log_p, RULE, law)).any()

    def refused(verdict, **options):
        return Cell(partial(at, **options), (log_p, RULE, law), verdict)

    row = {
        "wrong rank": [
            Cell(at, (log_p, RULE, ORIGIN), by_type(inside, state)),
            Cell(at, (vector, RULE, law), by_value(name, "`log_p` returns", "must")),
        ],
        "wrong dtype": [
            Cell(partial(at, 3.0), (RULE, law), by_type(name, "log_p")),
            Cell(at, (log_p, ONES, law), by_type(name, "nodes")),
            refused(by_type(inside, "t"), t="now"),
            refused(by_type(name, "h"), h=3.0),
        ],
        "mismatched shapes": [Cell(at, (log_p, WIDE, law), wide)],
        # A field has no check of values in it; what solves it has, and reports.
        "nan and inf": [Cell(mean, (lost, RULE, law), Right(np.array([NAN, NAN])))],
        "not positive definite": [Cell(no_number, (one,), Right(True)) for one in singular],
        "h does not increase": [refused(falls, h=jnp.negative)],
        # A target of integers, a constant for one, has a rate too.
        "integers": [Cell(mean, (nothing, RULE, law), Right(np.array([0.0, 0.0])))],
        "wrong value": [
            refused(by_type(name, "h"), h=df.divergences.kl_qp),
            refused(unknown, **{option: "best"}),
            refused(by_type(name, option), **{option: 3}),
        ],
    }
    if pair:
        whole = (np.zeros(2, int), np.eye(2, dtype=int))
        row["integers"].append(Cell(mean, (jnp.sum, RULE, whole), Right(ONES, atol=1e-5)))
        wide = (log_p, RULE, (ORIGIN, jnp.eye(3)))
        row["mismatched shapes"].append(Cell(at, wide, by_type(inside, state)))
    else:
        row["wrong rank"].append(Cell(at, (log_p, RULE, many), by_value(name, "jax.vmap")))
    return row


ROWS |= {name: _row_of_field(name) for name in FIELDS}

_STEP = "forward_backward_step"
ETA = jnp.asarray(0.1)
NO_STEP = by_content(_STEP, "`step` must be positive and at most")
SINGULAR = by_content(_STEP, "`q` has a singular", "not finite", "pass one")


def step(target, rule, q, size=0.1, **options):
    return df.forward_backward_step(target, rule, q, step=size, **options)


def _step(verdict, target=log_p, rule=RULE, q=Q, size=ETA):
    return Cell(step, (target, rule, q, size), verdict)


ROWS[_STEP] = {
    "wrong rank": [
        _step(by_type(_STEP, "step"), size=jnp.ones(2)),
        _step(by_value(_STEP, "(4, 2)", "jax.vmap"), q=MANY),
        _step(by_value(_STEP, "`log_p` returns", "must return"), vector),
    ],
    "wrong dtype": [
        _step(by_type(_STEP, "step"), size="small"),
        _step(by_type(_STEP, "q"), q=PAIR),
        _step(by_type(_STEP, "nodes"), rule=ONES),
        Cell(partial(step, 3.0), (RULE, Q), by_type(_STEP, "log_p")),
    ],
    "mismatched shapes": [
        _step(by_value(_STEP, "`nodes` have dimension 3", "make nodes"), rule=WIDE)
    ],
    "nan and inf": [
        _step(by_content(_STEP, "`log_p`", "not finite at nodes", "start"), times(NAN)),
        _step(by_content(_STEP, "-inf at nodes of `q`", "support"), OUTSIDE),
        _step(by_content(_STEP, "derivatives", "sums overflow"), times(3e38)),
        _step(SINGULAR, times(1.0), q=LOST),
        _step(NO_STEP, times(1.0), size=ETA * NAN),
    ],
    "not positive definite": [_step(SINGULAR, times(1.0), q=law) for law in (FLAT, LINE)],
    # At the optimum the step rests, whatever its size.
    "integers": [_step(Right(Q), times(1.0), size=1)],
    "wrong value": [
        *[_step(NO_STEP, times(1.0), size=jnp.asarray(size)) for size in (-0.1, 3.0)],
        Cell(
            partial(step, estimator="best"),
            (log_p, RULE, Q),
            by_value(_STEP, "`estimator` is 'best'", "give"),
        ),
    ],
}
TABLE = ROWS
