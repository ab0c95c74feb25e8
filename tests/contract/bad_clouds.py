"""Bad input for clouds: solves and distances; fields, ratios and training stand beside."""

import functools
import math

import bad_fields
import bad_networks
import bad_ratios
import bad_steps
import bad_training
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from bad_input import Cell, Right, by_content, by_type, by_value
from bad_samples import (
    INT_TS,
    INTS,
    KEY,
    KEYLESS,
    MORE_INTS,
    NO_H,
    NO_TS,
    SCALARS,
    TS,
    XS,
    YS,
    broken,
    closed,
    contents,
    decay,
    equals,
    every,
    first_row,
    keyless,
    kinds,
    of_clouds,
    options,
    same,
    vector,
)

import divergence_flows as df

# Two steps of Euler are exact here, and compile fastest.
EULER = {"solver": diffrax.Euler(), "dt0": 0.5}


def steady(t, xs, args):
    return jnp.ones_like(xs)


def steady_array(t, y, args):
    return jnp.ones(3)


def first_coordinate(t, x, args):
    return x[:1]


def shorter(x):
    return x[:1]


def tripled(x):
    return 3 * x


def follows(y0, ts=TS, field=decay, **more):
    return df.integrate(field, y0, ts, **{**EULER, **more}).ys


def rests(y0, field=decay, **more):
    return df.settle(field, y0, **{**EULER, **more}).ys


def diffuses(xs, ts=TS, score=decay, key=KEY, **more):
    return df.langevin(score, xs, ts, **{**EULER, **more}, key=key).ys


def length(xs, ts=TS, field=steady, **more):
    return df.curve_length(field, xs, ts, **{**EULER, **more})


def displaced(xs, transport_map=tripled, t=0.5):
    return df.displacement(transport_map, t, xs)


def solves(call, owner, state="y0"):
    """Cells of times and states, which every solve refuses alike."""
    increase = by_value(owner, "`ts` must increase, and goes from")
    return {
        "empty": [
            *every(call, by_value(owner, f"`{state}` holds no numbers"), (XS[:0],)),
            *every(call, by_value(owner, "`ts` holds 0 time(s)"), (XS, [])),
        ],
        "nan and inf": [
            *every(call, by_content(owner, f"`{state}` has NaN or inf"), (broken(XS),)),
            *every(call, increase, (XS, [0.0, math.inf]), (XS, [0.0, math.nan])),
        ],
        NO_TS: [
            *every(call, increase, (XS, [1.0, 0.0]), (XS, [0.0, 0.5, 0.5])),
            # Times on a device are looked at there.
            *every(call, by_content(owner, "`ts` must increase"), (XS, jnp.array([1.0, 0.0]))),
            *every(call, by_value(owner, "`ts` holds 1 time(s)"), (XS, [0.0])),
        ],
    }


def cheaper(cells):
    """Without times on a device: `integrate` looks at them in the same place."""
    where = cells[NO_TS]
    return {
        **cells,
        NO_TS: [cell for cell in where if not isinstance(cell.arguments[1], jax.Array)],
    }


def steps(call, owner):
    """Cells of steps that go nowhere."""
    return options(
        call,
        (XS,),
        dt0=[
            (-0.5, by_value(owner, "`dt0` is -0.5")),
            (math.nan, by_value(owner, "`dt0` is nan")),
            ("small", by_type(owner, "dt0")),
        ],
        max_steps=[(0, by_value(owner, "`max_steps` is 0"))],
    )


def at_times(ys, factor):
    return jnp.stack([jnp.asarray(ys, float), factor * jnp.asarray(ys, float)])


SOLVES = {
    "integrate": {
        **solves(follows, "integrate"),
        "wrong rank": every(follows, by_type("integrate", "ts"), (XS, jnp.ones((2, 2))), (XS, 1.0)),
        "wrong dtype": [
            *every(follows, by_type("integrate", "y0"), (XS > 0,), (XS + 0j,), ("a state",)),
            *every(follows, by_value("integrate", "`y0` holds no numbers"), (None,)),
            *every(follows, by_type("integrate", "ts"), (XS, "01"), (XS, None)),
        ],
        "mismatched shapes": every(
            follows,
            by_value("integrate", "`field` returns", "same structure and shapes"),
            (XS, TS, first_row),
            ((XS, XS[0]), TS, steady_array),
        ),
        "integers": closed(follows, ((INTS, INT_TS), at_times(INTS, 0.25))),
        "python floats": closed(follows, ((2.0, [0.0, 1.0]), at_times(2.0, 0.25))),
        "numpy arrays": closed(follows, ((np.asarray(XS),), at_times(XS, 0.25))),
        "wrong value": [
            *steps(follows, "integrate"),
            *every(follows, by_type("integrate", "field"), (XS, TS, None)),
            *options(
                follows, (XS,), dt0=[(None, by_value("integrate", "Euler takes", "dt0=0.01"))]
            ),
            *options(
                follows,
                (XS,),
                dt0=[(-jnp.ones(()), by_content("integrate", "`dt0` must be positive"))],
            ),
        ],
    },
    "settle": {
        "wrong rank": options(
            rests,
            (XS,),
            dt0=[(jnp.ones(2), by_type("settle", "dt0"))],
            rtol=[(jnp.ones(2), by_type("settle", "rtol"))],
        ),
        "wrong dtype": [
            *every(rests, by_type("settle", "y0"), (XS > 0,), (XS + 0j,), ("a state",)),
            *every(rests, by_value("settle", "`y0` holds no numbers"), (None,)),
        ],
        "mismatched shapes": [
            *every(rests, by_value("settle", "`field` returns float32[1,2]"), (XS, first_row)),
            *options(
                rests, (XS,), rest=[(vector, by_value("settle", "`rest` returns float32[4,2]"))]
            ),
        ],
        "empty": every(rests, by_value("settle", "`y0` holds no numbers"), (XS[:0],)),
        "nan and inf": [
            *every(rests, by_content("settle", "`y0` has NaN or inf"), (broken(XS, jnp.inf),)),
            *options(rests, (XS,), rtol=[(math.inf, by_value("settle", "`rtol` is inf"))]),
        ],
        "integers": [Cell(rests, (INTS,), Right(np.zeros((1, 4, 2)), atol=0.01))],
        "python floats": [Cell(rests, (2.0,), Right(np.zeros(1), atol=0.01))],
        "numpy arrays": [Cell(rests, (np.asarray(XS),), Right(np.zeros((1, 4, 2)), atol=0.01))],
        "wrong value": [
            *steps(rests, "settle"),
            *options(
                rests,
                (XS,),
                rtol=[(-1.0, by_value("settle", "`rtol` is -1.0"))],
                dense=[(True, by_value("settle", "`dense` is no option here"))],
                rest=[("now", by_type("settle", "rest"))],
            ),
        ],
    },
    "langevin": {
        **kinds(diffuses, "langevin", ("x0",), (XS,)),
        **cheaper(solves(diffuses, "langevin", "x0")),
        **equals(diffuses, (XS,), (INTS,), 1e-4),
        "mismatched shapes": every(
            diffuses,
            by_value("langevin", "`score` returns float32[4,1]"),
            (XS, TS, first_coordinate),
        ),
        "key missing": keyless(functools.partial(df.langevin, decay), "langevin", (XS, TS)),
        "wrong value": [
            *steps(diffuses, "langevin"),
            *options(
                diffuses, (XS,), dense=[(True, by_value("langevin", "`dense` is no option here"))]
            ),
        ],
    },
    "curve_length": {
        **kinds(length, "curve_length", ("y0",), (XS,)),
        **cheaper(solves(length, "curve_length")),
        "mismatched shapes": every(
            length, by_value("curve_length", "`field` returns float32[1,2]"), (XS, TS, first_row)
        ),
        "integers": closed(length, ((INTS, INT_TS), math.sqrt(2))),
        "numpy arrays": closed(length, ((np.asarray(XS),), math.sqrt(2))),
        "wrong value": [
            *steps(length, "curve_length")[:2],
            *every(length, by_type("curve_length", "field"), (XS, TS, None)),
        ],
    },
}
PAIRS = {name: getattr(df, name) for name in ("coupling", "wasserstein2")}
GOOD, WHOLE = (XS, YS[:4]), (INTS, MORE_INTS[:4])
DISTANCES = {
    **{
        name: {
            **of_clouds(function, name, ("xs", "ys"), GOOD, WHOLE),
            "mismatched shapes": every(function, by_type(name, "ys"), (XS, YS), (XS, XS[:, :1])),
        }
        for name, function in PAIRS.items()
    },
    "displacement": {
        **kinds(displaced, "displacement", ("xs",), (XS,)),
        **contents(displaced, "displacement", ("xs",), (XS,)),
        "mismatched shapes": every(
            displaced,
            by_value("displacement", "`transport_map` returns"),
            (XS, shorter),
            (XS, jnp.sum),
        ),
        "integers": closed(displaced, ((INTS,), 2 * INTS)),
        "numpy arrays": closed(displaced, ((np.asarray(XS),), 2 * XS)),
        "wrong value": every(displaced, by_type("displacement", "t"), (XS, same, "half")),
    },
}
PARTS = (bad_fields, bad_ratios, bad_networks, bad_steps, bad_training)
TABLE = {**SOLVES, **DISTANCES}
ABSENT = {
    "integrate": (*KEYLESS, NO_H),
    "settle": (*KEYLESS, NO_H, NO_TS),
    "langevin": (*SCALARS, NO_H),
    "curve_length": (*KEYLESS, NO_H),
    "coupling": (*KEYLESS, NO_H, NO_TS, "wrong value"),
    "wasserstein2": (*KEYLESS, NO_H, NO_TS, "wrong value"),
    "displacement": (*KEYLESS, NO_H, NO_TS),
}
for part in PARTS:
    TABLE |= part.TABLE
    ABSENT |= part.ABSENT
