"""Clouds for the table of bad input, and the cells that read the same wherever clouds are asked."""

import functools

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
NO_KEYS = (0, None, jr.split(KEY))


TS = np.array([0.0, 1.0])
INT_TS = np.array([0, 1])
# Columns that few functions have anything to do with.
SCALARS = ("not positive definite", "no ratio estimator", "outside the domain")
NO_H = "h does not increase"
NO_TS = "ts does not increase"
KEYLESS = (*SCALARS, "key missing")


def same(u):
    return u


def down(u):
    return -u


def broken(xs, value=jnp.nan):
    return jnp.asarray(xs).at[(0,) * xs.ndim].set(value)


def swapped(arguments, i, value):
    return (*arguments[:i], value, *arguments[i + 1 :])


def floats(arguments):
    return jax.tree.map(lambda x: jnp.asarray(x, float), arguments)


def every(call, verdict, *arguments):
    """One cell for each of several arguments."""
    return [Cell(call, each, verdict) for each in arguments]


def keyless(call, owner, arguments, argument="key"):
    """Cells of a function whose key is missing, or none."""
    cells = [Cell(call, arguments, without_key())]
    for key in NO_KEYS:
        cells.append(Cell(functools.partial(call, key=key), arguments, by_type(owner, argument)))
    return cells


def options(call, arguments, **wrong):
    """Cells of wrong options: the name, then what is passed and what must be said."""
    return [
        Cell(functools.partial(call, **{name: value}), arguments, verdict)
        for name, pairs in wrong.items()
        for value, verdict in pairs
    ]


def vector(t, x, args):  # where one number is asked
    return x


def decay(t, xs, args):
    return -xs


def first_row(t, xs, args):
    return xs[:1]


def to_the_mean(t, x, xs, args):
    return 0.5 * jnp.mean(jnp.sum((x - xs) ** 2, axis=-1))


def without(good, names, i):
    """Clouds of which one is empty; its partners too, where they come in pairs."""
    pairs = len({x.shape[0] for x in good}) == 1
    return tuple(x[:0] if j == i or pairs else x for j, x in enumerate(good))


def contents(call, owner, names, good):
    """Nothing, and what is not finite."""
    first, last = 0, len(names) - 1
    infinite = swapped(good, last, broken(good[last], jnp.inf))
    return {
        "empty": [
            Cell(call, without(good, names, i), by_value(owner, "has no samples", "at least one"))
            for i, name in enumerate(names)
        ],
        "nan and inf": [
            Cell(
                call,
                swapped(good, first, broken(good[first])),
                by_content(owner, f"`{names[first]}` has NaN or inf", "drop those samples"),
            ),
            Cell(call, infinite, by_content(owner, f"`{names[last]}` has NaN or inf")),
        ],
    }


def kinds(call, owner, names, good):
    """Of another rank or kind; by the hook."""
    bools = [(i, good[i] > 0) for i in range(len(names))]
    others = [(0, "a cloud"), (0, None)]
    return {
        "wrong rank": [
            Cell(call, swapped(good, i, jnp.ones(())), by_type(owner, name))
            for i, name in enumerate(names)
        ],
        "wrong dtype": [
            Cell(call, swapped(good, i, value), by_type(owner, names[i]))
            for i, value in (*bools, *others)
        ],
        "python floats": [
            Cell(call, swapped(good, 0, value), by_type(owner, names[0]))
            for value in (1.5, np.asarray(good[0]).tolist())
        ],
    }


def equals(call, good, ints, rtol=1e-5, atol=1e-6):
    """Integers and numpy arrays, which mean what float arrays of JAX mean."""
    as_numpy = jax.tree.map(np.asarray, good)
    return {
        "integers": [Cell(call, ints, Same(floats(ints), rtol, atol))],
        "numpy arrays": [Cell(call, as_numpy, Same(good, rtol, atol))],
    }


def of_clouds(call, owner, names, good, ints, rtol=1e-5):
    """All columns that ask about clouds, for a function that looks at their contents."""
    rest = {**kinds(call, owner, names, good), **contents(call, owner, names, good)}
    return {**rest, **equals(call, good, ints, rtol)}


def closed(call, *pairs):
    """Cells of arguments and the closed form of the answer."""
    return [Cell(call, arguments, Right(value)) for arguments, value in pairs]
