"""Bad input for clouds: solves and distances; fields, ratios and training stand beside."""

import functools
import math

import bad_fields
import bad_networks
import bad_ratios
import bad_steps
import bad_training
import diffrax
import jax.numpy as jnp
import numpy as np
from bad_input import by_content, by_type, by_value
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
    every,
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
steady = lambda t, xs, args: jnp.ones_like(xs)
steady_array = lambda t, y, args: jnp.ones(3)
first = lambda t, x, args: x[:1]
shorter = lambda x: x[:1]
tripled = lambda x: 3 * x

follows = lambda y0, ts=TS, field=decay, **more: df.integrate(field, y0, ts, **EULER | more).ys
rests = lambda y0, field=decay, **more: df.settle(field, y0, **EULER | more).ys
diffuses = lambda xs, ts=TS, score=decay, **more: (
    df.langevin(score, xs, ts, **EULER | {"key": KEY} | more).ys
)
length = lambda xs, ts=TS, field=steady, **more: df.curve_length(field, xs, ts, **EULER | more)
displaced = lambda xs, transport_map=tripled, t=0.5: df.displacement(transport_map, t, xs)


def solves(call, caller, state="y0"):
    """Cells of times and states, which every solve refuses alike."""
    increase = by_value(caller, "`ts` must increase, and goes from")
    return {
        "empty": [
            *every(call, by_value(caller, f"`{state}` holds no numbers"), (XS[:0],)),
            *every(call, by_value(caller, "`ts` holds 0 time(s)"), (XS, [])),
        ],
        "nan and inf": [
            *every(call, by_content(caller, f"`{state}` has NaN or inf"), (broken(XS),)),
            *every(call, increase, (XS, [0.0, math.inf]), (XS, [0.0, math.nan])),
        ],
        NO_TS: [
            *every(call, increase, (XS, [1.0, 0.0]), (XS, [0.0, 0.5, 0.5])),
            *every(call, by_value(caller, "`ts` holds 1 time(s)"), (XS, [0.0])),
        ],
    }


def steps(call, caller):
    """Cells of steps that go nowhere."""
    return options(
        call,
        (XS,),
        dt0=[
            (-0.5, by_value(caller, "`dt0` is -0.5")),
            (math.nan, by_value(caller, "`dt0` is nan")),
            ("small", by_type(caller, "dt0")),
        ],
        max_steps=[(0, by_value(caller, "`max_steps` is 0"))],
    )


quartered = lambda ys: jnp.stack([jnp.asarray(ys, float), 0.25 * jnp.asarray(ys, float)])

SOLVES = {
    "integrate": {
        **solves(follows, "integrate"),
        NO_TS: [
            *solves(follows, "integrate")[NO_TS],
            *every(  # the solve checks times on a device
                follows,
                by_content("integrate", "`ts` must increase"),
                (XS, jnp.array([1.0, 0.0])),
            ),
        ],
        "wrong rank": every(follows, by_type("integrate", "ts"), (XS, jnp.ones((2, 2))), (XS, 1.0)),
        "wrong dtype": [
            *every(follows, by_type("integrate", "y0"), (XS > 0,), (XS + 0j,), ("a state",)),
            *every(follows, by_value("integrate", "`y0` holds no numbers"), (None,)),
            *every(follows, by_type("integrate", "ts"), (XS, "01"), (XS, None)),
        ],
        "mismatched shapes": every(
            follows,
            by_value("integrate", "`field` returns", "same structure and shapes"),
            (XS, TS, first),
            ((XS, XS[0]), TS, steady_array),
        ),
        "integers": closed(follows, ((INTS, INT_TS), quartered(INTS))),
        "python floats": closed(follows, ((2.0, [0.0, 1.0]), quartered(2.0))),
        "numpy arrays": closed(follows, ((np.asarray(XS),), quartered(XS))),
        "wrong value": [
            *steps(follows, "integrate"),
            *every(follows, by_type("integrate", "field"), (XS, TS, None)),
            *options(
                follows,
                (XS,),
                dt0=[
                    (None, by_value("integrate", "Euler takes", "dt0=0.01")),
                    (-jnp.ones(()), by_content("integrate", "`dt0` must be positive")),
                ],
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
            *every(rests, by_value("settle", "`field` returns float32[1,2]"), (XS, first)),
            *options(
                rests, (XS,), rest=[(vector, by_value("settle", "`rest` returns float32[4,2]"))]
            ),
        ],
        "empty": every(rests, by_value("settle", "`y0` holds no numbers"), (XS[:0],)),
        "nan and inf": [
            *every(rests, by_content("settle", "`y0` has NaN or inf"), (broken(XS, jnp.inf),)),
            *options(rests, (XS,), rtol=[(math.inf, by_value("settle", "`rtol` is inf"))]),
        ],
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
        **solves(diffuses, "langevin", "x0"),
        "mismatched shapes": every(
            diffuses,
            by_value("langevin", "`score` returns float32[4,1]"),
            (XS, TS, first),
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
        **solves(length, "curve_length"),
        "mismatched shapes": every(
            length, by_value("curve_length", "`field` returns float32[1,2]"), (XS, TS, first)
        ),
        "wrong value": [
            *steps(length, "curve_length")[:2],
            *every(length, by_type("curve_length", "field"), (XS, TS, None)),
        ],
    },
}
GOOD, WHOLE = (XS, YS[:4]), (INTS, MORE_INTS[:4])
DISTANCES = {
    **{
        name: {
            **of_clouds(function, name, ("xs", "ys"), GOOD, WHOLE),
            "mismatched shapes": every(function, by_type(name, "ys"), (XS, YS), (XS, XS[:, :1])),
        }
        for name, function in {"coupling": df.coupling, "wasserstein2": df.wasserstein2}.items()
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
        "wrong value": every(displaced, by_type("displacement", "t"), (XS, same, "half")),
    },
}
NUMBERS = ("integers", "numpy arrays")
PARTS = (bad_fields, bad_ratios, bad_networks, bad_steps, bad_training)
TABLE = {**SOLVES, **DISTANCES}
ABSENT = {
    "integrate": (*KEYLESS, NO_H),
    "settle": (*KEYLESS, NO_H, NO_TS, "python floats", *NUMBERS),
    "langevin": (*SCALARS, NO_H, *NUMBERS),
    "curve_length": (*KEYLESS, NO_H, *NUMBERS),
    "coupling": (*KEYLESS, NO_H, NO_TS, "wrong value"),
    "wasserstein2": (*KEYLESS, NO_H, NO_TS, "wrong value"),
    "displacement": (*KEYLESS, NO_H, NO_TS, *NUMBERS),
}
for part in PARTS:
    TABLE |= part.TABLE
    ABSENT |= part.ABSENT
