"""Bad input for networks: sizes that make none, and samples of other sizes."""

import functools

import jax.numpy as jnp
import numpy as np
from bad_input import Cell, Same, by_content, by_type, by_value
from bad_samples import (
    KEY,
    NO_H,
    NO_TS,
    SCALARS,
    XS,
    broken,
    closed,
    every,
    floats,
    keyless,
    options,
)

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


def calls(call, name, argument, good, other, shape):
    """Cells of one network called: what is no sample of its size."""
    owner = f"{name}.__call__"
    made_for = by_value(name, f"`{argument}` has shape", "made for shape")
    ints = np.arange(good.size).reshape(good.shape)
    return {
        "wrong rank": every(call, by_type(owner, argument), (good[None],), (jnp.ones(()),)),
        "wrong dtype": every(
            call, by_type(owner, argument), (good > 0,), (good + 0j,), (None,), ("x",)
        ),
        "mismatched shapes": every(call, made_for, (other,)),
        "empty": every(call, made_for, (good[..., :0],)),
        # Nothing is looked at in a network, which stands in fields and loops.
        "nan and inf": closed(call, ((jnp.full_like(good, jnp.nan),), np.full(shape, np.nan))),
        "integers": [Cell(call, (ints,), Same(floats((ints,))))],
        "python floats": every(call, by_type(owner, argument), (np.asarray(good).tolist(),)),
        "numpy arrays": [Cell(call, (np.asarray(good),), Same((good,)))],
    }


def constructor(make, name, good, counts, **wrong):
    """Cells of a constructor: counts below 1, and what else it takes."""
    init = f"{name}.__init__"
    bad = {size: [(0, by_value(name, f"`{size}` is 0"))] for size in counts}
    bad[counts[0]].append((2.5, by_type(init, counts[0])))
    bad["activation"] = [("silu", by_type(init, "activation"))]
    keyed = functools.partial(make, **good, key=KEY)
    return {
        "key missing": keyless(functools.partial(make, **good), init, ()),
        "wrong value": options(keyed, (), **bad, **wrong),
    }


TIME = "TimeDiscriminator"
TABLE = {
    "networks.Discriminator": {
        **calls(CRITIC, "Discriminator", "x", X, NOISE, ()),
        **constructor(
            N.Discriminator,
            "Discriminator",
            {"dim": 2, "depth": 1},
            ("dim", "width"),
            depth=[(-1, by_value("Discriminator", "`depth` is -1"))],
        ),
    },
    "networks.Generator": {
        **calls(MAKER, "Generator", "z", NOISE, X, 2),
        **constructor(
            N.Generator, "Generator", {"latent": 3, "dim": 2}, ("latent", "dim", "width")
        ),
    },
    "networks.TimeDiscriminator": {
        **calls(at_some_time, TIME, "x", X, NOISE, ()),
        **constructor(
            N.TimeDiscriminator,
            TIME,
            {"dim": 2, "width": 2, "depth": 0, "quadratic": False},
            ("dim", "decays"),
            horizon=[
                (0.0, by_value(TIME, "`horizon` is 0.0")),
                (jnp.nan, by_value(TIME, "`horizon` is nan")),
                (X, by_type(f"{TIME}.__init__", "horizon")),
            ],
            like=[
                (XS[:, :1], by_value(TIME, "`like` has shape (4, 1)")),
                (XS[:0], by_value(TIME, "`like` has no samples")),
                (broken(XS), by_content(TIME, "`like` has NaN or inf")),
            ],
        ),
    },
    "networks.ConvDiscriminator": {
        **calls(IMAGE_CRITIC, "ConvDiscriminator", "x", IMAGE, jnp.ones((2, 8, 8)), ()),
        **constructor(
            N.ConvDiscriminator,
            "ConvDiscriminator",
            {"width": 2},
            ("channels", "width"),
            size=[(6, by_value("ConvDiscriminator", "`size` is 6", "multiple of 4"))],
        ),
    },
    "networks.ConvGenerator": {
        **calls(IMAGE_MAKER, "ConvGenerator", "z", NOISE, X, (1, 8, 8)),
        **constructor(N.ConvGenerator, "ConvGenerator", {"width": 2}, ("latent", "channels")),
    },
    "networks.spectral": {
        "wrong dtype": every(
            functools.partial(N.spectral, key=KEY),
            by_value("spectral", "`network` is a", "no layer to normalise"),
            (None,),
            (1.5,),
            (jnp.tanh,),
        ),
        "mismatched shapes": every(
            N.spectral(CRITIC, key=KEY), by_value("Discriminator", "`x` has shape"), (NOISE,)
        ),
        "key missing": keyless(N.spectral, "spectral", (CRITIC,)),
    },
    # It takes any module, and changes `spectral` layers only.
    "networks.refresh": {},
}
OTHERS = (*SCALARS, NO_H, NO_TS)
CLOUDLESS = ("wrong rank", "empty", "nan and inf", "integers", "python floats", "numpy arrays")
REST = ("wrong dtype", "mismatched shapes", "key missing", "wrong value")
ABSENT = {
    **dict.fromkeys(TABLE, OTHERS),
    "networks.spectral": (*OTHERS, *CLOUDLESS, "wrong value"),
    "networks.refresh": (*OTHERS, *CLOUDLESS, *REST),
}
