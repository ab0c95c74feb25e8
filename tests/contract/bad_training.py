"""Bad input for training: loops, states, and what a learned ratio returns."""

import math
from functools import partial

import bad_samples as some
import jax
import jax.numpy as jnp
import numpy as np
from bad_input import Cell, Right, by_content, by_type, by_value
from bad_networks import AFFINE, LINEAR, NOISE, TIMED, X
from bad_samples import INTS, KEY, NO_TS, XS, YS, every, options
from bad_steps import (
    BOTH,
    CONVERSIONS,
    GAN,
    NEVER,
    Q_AND_P,
    SGD,
    TIMES,
    makers,
    of_a_flow,
    of_a_gan,
    positive,
    price,
    row,
    schedule,
)

import divergence_flows as df


def carried(xs_q, xs_p, gan=GAN, network=LINEAR, key=KEY, **more):
    more = {"steps": 1, "critic_steps": 1, "optimizer": SGD, "step_size": 0.1, **more}
    return df.transport(gan, network, xs_q, xs_p, key=key, **more)[0]


def trained(xs_p, gan=GAN, network=LINEAR, maker=AFFINE, key=KEY, **more):
    optimizers = {"d_optimizer": SGD, "g_optimizer": SGD}
    more = {"latent": 3, "batch_size": 2, "steps": 1, **optimizers, **more}
    return df.train_gan(gan, network, maker, xs_p, key=key, **more)[1].d_losses


def learned(xs_q, xs_p, gan=GAN, network=TIMED, ts=TIMES, key=KEY, **more):
    more = {"batch_size": 2, "steps": 1, "optimizer": SGD, **more}
    return df.train_flow_ratio(gan, network, xs_q, xs_p, ts=ts, key=key, **more)[1].losses


def samples(caller, call, names, good, bound):
    """The columns of a loop, which checks the contents of its samples."""
    unequal = every(call, by_type(caller, "xs_p"), (XS, YS[:, :1])) if len(good) == 2 else []
    return {
        **some.kinds(call, caller, names, good),
        **some.contents(call, caller, names, good),
        "mismatched shapes": unequal,
        "key missing": some.keyless(bound, caller, good),
    }


LOOPS = {
    "transport": row(
        "transport",
        carried,
        BOTH,
        samples("transport", carried, Q_AND_P, BOTH, partial(df.transport, GAN, LINEAR)),
        **positive("transport", "steps", "critic_steps", "batch_size", "chunk"),
        **price("transport"),
        step_size=[
            (0.0, by_value("transport", "`step_size` is 0.0")),
            (math.nan, by_value("transport", "`step_size` is nan")),
            ("small", by_type("transport", "step_size")),
        ],
        optimizer=[("adam", by_type("transport", "optimizer"))],
    ),
    "train_gan": row(
        "train_gan",
        trained,
        (YS,),
        {
            **samples(
                "train_gan",
                trained,
                ("xs_p",),
                (YS,),
                partial(df.train_gan, GAN, LINEAR, AFFINE, latent=3),
            ),
            "mismatched shapes": options(trained, (YS,), **makers("train_gan")),
        },
        **positive("train_gan", "steps", "chunk"),
        **of_a_gan("train_gan"),
        maker=[(None, by_type("train_gan", "generator"))],
    ),
    "train_flow_ratio": row(
        "train_flow_ratio",
        learned,
        BOTH,
        {
            **samples(
                "train_flow_ratio",
                learned,
                Q_AND_P,
                BOTH,
                partial(df.train_flow_ratio, GAN, TIMED, horizon=1.0),
            ),
            NO_TS: options(
                learned,
                BOTH,
                ts=[
                    *schedule("train_flow_ratio"),
                    (jnp.ones((2, 2)), by_type("train_flow_ratio", "ts")),
                ],
            ),
        },
        "discriminator",
        (LINEAR,),
        (df.gans.wasserstein(),),
        **positive("train_flow_ratio", "steps", "chunk"),
        **of_a_flow("train_flow_ratio"),
        form=[("parallel", by_value("train_flow_ratio", "'self_consistent' or 'sequential'"))],
        horizon=[(1.0, by_value("train_flow_ratio", "pass either `horizon`"))],
    ),
}
LOOPS["train_flow_ratio"]["wrong value"] += options(
    partial(learned, ts=None),
    BOTH,
    horizon=[
        (-1.0, by_value("train_flow_ratio", "`horizon` is -1.0")),
        (math.nan, by_value("train_flow_ratio", "`horizon` is nan")),
        (None, by_value("train_flow_ratio", "pass either `horizon`")),
    ],
)


def learns(name, call, network, made):
    """Cells of a learned ratio: a function of one point, which checks nothing."""
    return {
        "wrong rank": every(call, by_type(f"{network}.__call__", "x"), (XS,)),
        "wrong dtype": [
            *every(call, by_type(made, "x"), (X > 0,), (None,)),
            *every(call, by_type(name, "discriminator"), (X, GAN, None), (X, GAN, "d")),
        ],
        "mismatched shapes": every(call, by_value(network, "`x` has shape"), (NOISE,)),
        "empty": every(call, by_value(network, "`x` has shape (0,)"), (X[:0],)),
        "nan and inf": some.closed(call, ((some.broken(X),), np.nan)),
        "no ratio estimator": every(
            call,
            by_value(name, "has no `log_t`"),
            (X, df.gans.wasserstein()),
            (X, df.divergences.kl_qp),
        ),
        "python floats": every(call, by_type(made, "x"), (X.tolist(),)),
    }


def log_r(x, gan=GAN, network=LINEAR):
    return df.learned_log_ratio(gan, network)(0.0, x, None)


def log_r_at(x, gan=GAN, network=TIMED):
    return df.flow_log_ratio(gan, network)(0.5, x, None)


HERE = "it lays arrays out, so inside jit it is refused: the last cell"


def laid(tree):
    return df.over_devices(tree)


def begun(xs_q, ts=TIMES, network=TIMED, optimizer=SGD):
    return df.FlowRatioState.start(network, optimizer, xs_q=xs_q, ts=ts).replay.clouds


def starts(name, start, good, wrong):
    """Cells of a state that gets a wrong argument, by its place and name."""
    cells = [
        Cell(start, some.swapped(good, i, value), by_type(f"{name}.start", argument))
        for (i, argument), value in wrong
    ]
    return {"wrong value": cells}


BEGIN, START = "FlowRatioState", "FlowRatioState.start"
OTHERS = {
    "learned_log_ratio": learns("learned_log_ratio", log_r, "Discriminator", "_log_r"),
    "flow_log_ratio": learns("flow_log_ratio", log_r_at, "TimeDiscriminator", "_log_r_at"),
    "over_devices": {
        "wrong rank": [Cell(laid, (X[0],), by_value("over_devices", "leading axis"), HERE)],
        "wrong dtype": every(
            laid, by_value("over_devices", "`tree` has a leaf of type str"), ("keys",), (["a"],)
        ),
        "empty": every(laid, by_value("over_devices", "`tree` holds no arrays"), (None,), ({},)),
        "nan and inf": [Cell(laid, (some.broken(XS),), Right(some.broken(XS)), HERE)],
        "integers": [Cell(laid, (jnp.asarray(INTS),), Right(INTS), HERE)],
        "python floats": every(laid, by_value("over_devices", "leading axis"), (1.5,), ([1.0],)),
        "numpy arrays": [Cell(laid, (np.asarray(XS),), Right(XS), HERE)],
        "wrong value": every(jax.jit(laid), by_value("over_devices", "inside `jit`"), (XS,)),
    },
    "RatioState.start": starts(
        "RatioState",
        df.RatioState.start,
        (LINEAR, SGD),
        [((0, "discriminator"), None), ((1, "optimizer"), "adam")],
    ),
    "GANState.start": starts(
        "GANState",
        df.GANState.start,
        (LINEAR, AFFINE, SGD, SGD),
        [((1, "generator"), None), ((3, "g_optimizer"), "adam")],
    ),
    START: {
        **some.kinds(begun, START, ("xs_q",), (XS,)),
        "wrong dtype": [
            *every(begun, by_type(START, "xs_q"), (XS > 0,), ("a cloud",)),
            *every(begun, by_type(START, "discriminator"), (XS, TIMES, None)),
        ],
        "empty": every(begun, by_value(BEGIN, "`xs_q` has no samples"), (XS[:0],)),
        "nan and inf": every(begun, by_content(BEGIN, "`xs_q` has NaN"), (some.broken(XS),)),
        NO_TS: options(begun, (XS,), ts=schedule(BEGIN)),
        "wrong value": every(begun, by_value(BEGIN, "pass both"), (None,), (XS, None)),
    },
}
TABLE = {**LOOPS, **OTHERS}
CLOUDS = ("wrong rank", "wrong dtype", "mismatched shapes", "empty", "nan and inf")
STATE = (*NEVER, *CLOUDS, *CONVERSIONS, "python floats", "no ratio estimator", NO_TS, "key missing")
ABSENT = {
    "transport": (*NEVER, NO_TS, *CONVERSIONS),
    "train_gan": (*NEVER, NO_TS, *CONVERSIONS),
    "train_flow_ratio": (*NEVER, *CONVERSIONS),
    "learned_log_ratio": (*NEVER, NO_TS, "key missing", "wrong value", *CONVERSIONS),
    "flow_log_ratio": (*NEVER, NO_TS, "key missing", "wrong value", *CONVERSIONS),
    "over_devices": (*NEVER, NO_TS, "no ratio estimator", "key missing", "mismatched shapes"),
    "RatioState.start": STATE,
    "GANState.start": STATE,
    START: (*NEVER, "mismatched shapes", "no ratio estimator", "key missing", *CONVERSIONS),
}
