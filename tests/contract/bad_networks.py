"""Bad input for networks: sizes that make none, and samples of other sizes."""

from functools import partial

import bad_samples as some
import jax.numpy as jnp
import numpy as np
from bad_input import COLUMNS, Cell, Same, by_content, by_type, by_value
from bad_samples import KEY, XS, every, wrong_values

import divergence_flows as df

N = df.networks
IMAGE, NOISE, X = jnp.ones((1, 8, 8)), jnp.array([0.5, -1.0, 2.0]), XS[0]
SMALL = {"width": 2, "depth": 1, "key": KEY}
CRITIC = N.Discriminator(2, **SMALL)
MAKER = N.Generator(3, 2, **SMALL)
TIMED = N.TimeDiscriminator(2, 2, 0, decays=2, quadratic=False, key=KEY)
# Without hidden layers, for training: what a step does with it compiles fastest.
LINEAR = N.Discriminator(2, 2, 0, key=KEY)
AFFINE = N.Generator(3, 2, 2, 0, key=KEY)
IMAGE_CRITIC = N.ConvDiscriminator(8, 1, 2, key=KEY)
IMAGE_MAKER = N.ConvGenerator(3, 8, 1, 2, key=KEY)


def at_some_time(x, t=0.5):
    return TIMED(t, x)


def row(name, call, argument, good, other, shape, kwargs, counts, more=()):
    """Samples that do not fit a network that is called, and counts below 1 that make none."""
    owner, init, make = f"{name}.__call__", f"{name}.__init__", getattr(N, name)
    made_for = by_value(name, f"`{argument}` has shape", "made for shape")
    keyed, first = partial(make, **kwargs, key=KEY), counts[0]
    kinds = {first: [(2.5, by_type(init, first))]}
    kinds["activation"] = [("silu", by_type(init, "activation"))]
    return {
        "wrong rank": every(call, by_type(owner, argument), (good[None],), (jnp.ones(()),)),
        "wrong dtype": every(call, by_type(owner, argument), (good > 0,), (good + 0j,), (None,)),
        "mismatched shapes": every(call, made_for, (other,)),
        "empty": every(call, made_for, (good[..., :0],)),
        # A network, which stands in fields and loops, does not check its numbers.
        "nan and inf": some.closed(call, ((jnp.full_like(good, jnp.nan),), np.full(shape, np.nan))),
        "python floats": every(call, by_type(owner, argument), (np.asarray(good).tolist(),)),
        "key missing": some.keyless(partial(make, **kwargs), init, ()),
        "wrong value": [
            *wrong_values(keyed, name, (), **dict.fromkeys(counts, 0)),
            *some.options(keyed, (), **kinds, **dict(more)),
        ],
    }


TIME = "TimeDiscriminator"
LIKE = [
    (XS[:, :1], by_value(TIME, "`like` has shape (4, 1)")),
    (XS[:0], by_value(TIME, "`like` has no samples")),
    (some.broken(XS), by_content(TIME, "`like` has NaN or inf")),
]
CONV = {"width": 2}
HORIZON = [
    *((value, by_value(TIME, f"`horizon` is {value}")) for value in (0.0, jnp.nan)),
    (X, by_type(f"{TIME}.__init__", "horizon")),
]
DEPTH = {"depth": [(-1, by_value("Discriminator", "`depth` is -1"))]}
FLAT = {"dim": 2, "width": 2, "depth": 0, "quadratic": False}
SIX, ODD = (
    {"size": [(size, by_value(name, f"`size` is {size}", "multiple of 4"))]}
    for name, size in (("ConvDiscriminator", 6), ("ConvGenerator", 25))
)
TWO, MADE = jnp.ones((2, 8, 8)), (1, 8, 8)
ROWS = {
    "Discriminator": (CRITIC, "x", X, NOISE, (), {"dim": 2}, ("dim", "width"), DEPTH),
    "Generator": (MAKER, "z", NOISE, X, 2, {"latent": 3, "dim": 2}, ("latent", "dim", "width")),
    TIME: (
        *(at_some_time, "x", X, NOISE, (), FLAT, ("dim", "decays")),
        {"like": LIKE, "horizon": HORIZON},
    ),
    "ConvDiscriminator": (IMAGE_CRITIC, "x", IMAGE, TWO, (), CONV, ("channels", "width"), SIX),
    "ConvGenerator": (IMAGE_MAKER, "z", NOISE, X, MADE, CONV, ("latent", "channels", "size"), ODD),
}
INTS = np.array([0, 1])
TABLE = {
    **{f"networks.{name}": row(name, *rest) for name, rest in ROWS.items()},
    "networks.spectral": {
        "wrong dtype": every(
            partial(N.spectral, key=KEY),
            by_value("spectral", "`network` is a", "no layer to normalise"),
            *((None,), (1.5,), (jnp.tanh,)),
        ),
        "mismatched shapes": every(
            N.spectral(CRITIC, key=KEY), by_value("Discriminator", "`x` has shape"), (NOISE,)
        ),
        "key missing": some.keyless(N.spectral, "spectral", (CRITIC,)),
    },
    # It takes any module, and changes `spectral` layers only.
    "networks.refresh": {},
}
# All networks convert by `as_float`.
TABLE["networks.Discriminator"] |= {
    "integers": [Cell(CRITIC, (INTS,), Same(some.floats((INTS,))))],
    "numpy arrays": [Cell(CRITIC, (np.asarray(X),), Same((X,)))],
}
OTHERS = (*some.SCALARS, some.NO_H, some.NO_TS)
CLOUDLESS = ("wrong rank", "empty", "nan and inf", "python floats", *some.CONVERSIONS)
ABSENT = {
    **dict.fromkeys(TABLE, (*OTHERS, *some.CONVERSIONS)),
    "networks.Discriminator": OTHERS,
    "networks.spectral": (*OTHERS, *CLOUDLESS, "wrong value"),
    "networks.refresh": COLUMNS,
}
