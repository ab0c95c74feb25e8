"""Clouds for the table of bad input, and the cells that are the same wherever clouds are taken."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from bad_input import Cell, Right, Same, by_content, by_type, by_value, without_key

KEY = jr.key(0)
XS = jnp.array([[0.5, -1.0], [1.5, 0.5], [-0.5, 2.0], [2.0, 1.0]])
YS = jnp.array([[1.0, 1.0], [0.0, -0.5], [2.5, 0.5], [-1.0, 0.0], [0.5, 2.0]])
INTS = np.array([[0, 3], [2, 1], [5, 4], [1, 7]])
MORE_INTS = np.array([[1, 1], [0, 2], [6, 5], [3, 0], [2, 8]])
TS, INT_TS = np.array([0.0, 1.0]), np.array([0, 1])
# Columns that few functions take.
SCALARS = ("not positive definite", "no ratio estimator", "outside the domain")
NO_H, NO_TS = "h does not increase", "ts does not increase"
KEYLESS = (*SCALARS, "key missing")
# Tested once for each way in which arguments become arrays, not once for each function.
CONVERSIONS = ("integers", "numpy arrays")


def same(u):
    return u


def down(u):
    return -u


def vector(t, x, args):  # where a function must return one number
    return x


def decay(t, xs, args):
    return -xs


def first_row(t, xs, args):
    return xs[:1]


def to_the_mean(t, x, xs, args):
    return 0.5 * jnp.mean(jnp.sum((x - xs) ** 2, axis=-1))


def broken(xs, value=jnp.nan):
    return jnp.asarray(xs).at[(0,) * xs.ndim].set(value)


def swapped(arguments, i, value):
    return (*arguments[:i], value, *arguments[i + 1 :])


def floats(arguments):
    return jax.tree.map(lambda x: jnp.asarray(x, float), arguments)


def every(call, verdict, *arguments):
    """One cell for each of several arguments."""
    return [Cell(call, each, verdict) for each in arguments]


def closed(call, *pairs):
    """Cells of arguments and the closed form of the answer."""
    return [Cell(call, arguments, Right(value)) for arguments, value in pairs]


def keyless(call, owner, arguments, argument="key"):
    """Cells of a function without its key, and with many."""
    many = Cell(partial(call, **{argument: jr.split(KEY)}), arguments, by_type(owner, argument))
    return [Cell(call, arguments, without_key()), many]


def options(call, arguments, **wrong):
    """Cells of wrong options: the name, then each value and its refusal."""
    pairs = [({name: value}, verdict) for name in wrong for value, verdict in wrong[name]]
    return [Cell(partial(call, **option), arguments, verdict) for option, verdict in pairs]


def wrong_values(call, owner, arguments, **values):
    """Cells of options whose refusal names the option and its value."""
    refused = {n: [(v, by_value(owner, f"`{n}` is {v!r}"))] for n, v in values.items()}
    return options(call, arguments, **refused)


def contents(call, owner, names, good):
    """No samples, in all clouds where they come in pairs, and samples that are not finite."""
    pairs, ends = len({x.shape[0] for x in good}) == 1, {0: jnp.nan, len(names) - 1: jnp.inf}
    without = [tuple(x[:0] if j == i or pairs else x for j, x in enumerate(good))
               for i in range(len(names))]  # fmt: skip
    return {
        "empty": every(call, by_value(owner, "has no samples", "at least one"), *without),
        "nan and inf": [
            Cell(
                call,
                swapped(good, i, broken(good[i], value)),
                by_content(owner, f"`{names[i]}` has NaN or inf", "drop those samples"),
            )
            for i, value in ends.items()
        ],
    }


def kinds(call, owner, names, good):
    """Of another rank or dtype, and lists: refused by the type hook."""
    swaps = {
        "wrong rank": [(i, jnp.ones(())) for i in range(len(names))],
        "wrong dtype": [*((i, good[i] > 0) for i in range(len(names))), (0, "a cloud"), (0, None)],
        "python floats": [(0, np.asarray(good[0]).tolist())],
    }
    return {
        column: [Cell(call, swapped(good, i, v), by_type(owner, names[i])) for i, v in pairs]
        for column, pairs in swaps.items()
    }


def equals(call, good, ints, rtol=1e-5, atol=1e-6):
    """Integers and numpy arrays give what float arrays of JAX give."""
    as_numpy = jax.tree.map(np.asarray, good)
    return {
        "integers": [Cell(call, ints, Same(floats(ints), rtol, atol))],
        "numpy arrays": [Cell(call, as_numpy, Same(good, rtol, atol))],
    }


def of_clouds(call, owner, names, good, ints=None, rtol=1e-5):
    """All columns about clouds; those of conversions only where `ints` are given."""
    cells = {**kinds(call, owner, names, good), **contents(call, owner, names, good)}
    return cells if ints is None else {**cells, **equals(call, good, ints, rtol)}
