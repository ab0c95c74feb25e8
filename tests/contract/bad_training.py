"""Bad input for training: loops, states, and what a learned ratio returns."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from bad_input import Cell, Right, Same, by_content, by_type, by_value
from bad_networks import AFFINE, IMAGE_MAKER, LINEAR, NOISE, TIMED, X
from bad_samples import (
    INTS,
    KEY,
    MORE_INTS,
    NO_TS,
    XS,
    YS,
    broken,
    closed,
    contents,
    equals,
    every,
    floats,
    keyless,
    kinds,
    options,
)
from bad_steps import (
    BOTH,
    GAN,
    NEVER,
    Q_AND_P,
    SGD,
    TIMES,
    WHOLE,
    misfits,
    no_gans,
    positive,
    price,
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


def log_r(x, gan=GAN, network=LINEAR):
    return df.learned_log_ratio(gan, network)(0.0, x, None)


def log_r_at(x, gan=GAN, network=TIMED):
    return df.flow_log_ratio(gan, network)(0.5, x, None)


def looped(call, owner, names, good, ints):
    """The columns of a loop, which looks at its samples at the door."""
    return {
        **kinds(call, owner, names, good),
        **contents(call, owner, names, good),
        **equals(call, good, ints, 1e-4),
    }


LOOPS = {
    "transport": {
        **looped(carried, "transport", Q_AND_P, BOTH, WHOLE),
        "mismatched shapes": [
            *every(carried, by_type("transport", "xs_p"), (XS, YS[:, :1])),
            *misfits(carried, "transport", BOTH),
        ],
        "no ratio estimator": no_gans(carried, "transport", BOTH),
        "key missing": keyless(functools.partial(df.transport, GAN, LINEAR), "transport", BOTH),
        "wrong value": options(
            carried,
            BOTH,
            **positive("transport", "steps", "critic_steps", "batch_size", "chunk"),
            **price("transport"),
            step_size=[
                (0.0, by_value("transport", "`step_size` is 0.0")),
                (math.nan, by_value("transport", "`step_size` is nan")),
                ("small", by_type("transport", "step_size")),
            ],
            optimizer=[("adam", by_type("transport", "optimizer"))],
            network=[(None, by_type("transport", "discriminator"))],
        ),
    },
    "train_gan": {
        **looped(trained, "train_gan", ("xs_p",), (YS,), (MORE_INTS,)),
        "mismatched shapes": [
            *misfits(trained, "train_gan", (YS,)),
            *options(
                trained,
                (YS,),
                maker=[(IMAGE_MAKER, by_value("train_gan", "`generator` makes float32[1,8,8]"))],
                latent=[(4, by_value("train_gan", "`generator` does not take float32[4]"))],
            ),
        ],
        "no ratio estimator": no_gans(trained, "train_gan", (YS,)),
        "key missing": keyless(
            functools.partial(df.train_gan, GAN, LINEAR, AFFINE, latent=3), "train_gan", (YS,)
        ),
        "wrong value": options(
            trained,
            (YS,),
            **positive("train_gan", "latent", "steps", "chunk", "batch_size"),
            **price("train_gan"),
            maker=[(None, by_type("train_gan", "generator"))],
        ),
    },
    "train_flow_ratio": {
        **looped(learned, "train_flow_ratio", Q_AND_P, BOTH, WHOLE),
        "mismatched shapes": [
            *every(learned, by_type("train_flow_ratio", "xs_p"), (XS, YS[:, :1])),
            *misfits(learned, "train_flow_ratio", BOTH, "discriminator", (LINEAR,)),
            *options(
                learned,
                BOTH,
                score_p=[(jnp.sum, by_value("train_flow_ratio", "`score_p` makes float32[]"))],
            ),
        ],
        "no ratio estimator": no_gans(learned, "train_flow_ratio", BOTH, df.gans.wasserstein()),
        NO_TS: options(
            learned,
            BOTH,
            ts=[
                ([0.0, 0.0], by_value("train_flow_ratio", "`ts` must increase")),
                ([0.0], by_value("train_flow_ratio", "`ts` holds 1 time(s)")),
                (jnp.ones((2, 2)), by_type("train_flow_ratio", "ts")),
            ],
        ),
        "key missing": keyless(
            functools.partial(df.train_flow_ratio, GAN, TIMED, horizon=1.0),
            "train_flow_ratio",
            BOTH,
        ),
        "wrong value": options(
            functools.partial(learned, ts=None),
            BOTH,
            horizon=[
                (-1.0, by_value("train_flow_ratio", "`horizon` is -1.0")),
                (math.nan, by_value("train_flow_ratio", "`horizon` is nan")),
                (None, by_value("train_flow_ratio", "pass either `horizon`")),
            ],
            **positive("train_flow_ratio", "steps", "chunk"),
        ),
    },
}


def learns(call, name, network, others):
    """Cells of a learned ratio: a function of one point, which looks at nothing."""
    numbers = (np.array([1, -2]),)
    return {
        "wrong rank": every(call, by_type(f"{network}.__call__", "x"), (XS,)),
        "wrong dtype": [
            *every(call, by_type(f"_{others}", "x"), (X > 0,), (None,)),
            *every(call, by_type(name, "discriminator"), (X, GAN, None), (X, GAN, "d")),
        ],
        "mismatched shapes": every(call, by_value(network, "`x` has shape"), (NOISE,)),
        "empty": every(call, by_value(network, "`x` has shape (0,)"), (X[:0],)),
        "nan and inf": closed(call, ((broken(X),), np.nan)),
        "no ratio estimator": every(
            call,
            by_value(name, "has no `log_t`"),
            (X, df.gans.wasserstein()),
            (X, df.divergences.kl_qp),
        ),
        "integers": [Cell(call, numbers, Same(floats(numbers)))],
        "python floats": every(call, by_type(f"_{others}", "x"), (X.tolist(),)),
        "numpy arrays": [Cell(call, (np.asarray(X),), Same((X,)))],
    }


HERE = "it lays arrays out, so inside jit it is refused: the last cell"


def laid(tree):
    return df.over_devices(tree)


OTHERS = {
    "learned_log_ratio": learns(log_r, "learned_log_ratio", "Discriminator", "log_r"),
    "flow_log_ratio": learns(log_r_at, "flow_log_ratio", "TimeDiscriminator", "log_r_at"),
    "over_devices": {
        "wrong rank": [Cell(laid, (X[0],), by_value("over_devices", "leading axis"), HERE)],
        "wrong dtype": every(
            laid,
            by_value("over_devices", "`tree` has a leaf of type str"),
            ("keys",),
            (["a"],),
        ),
        "empty": every(laid, by_value("over_devices", "`tree` holds no arrays"), (None,), ({},)),
        "nan and inf": [Cell(laid, (broken(XS),), Right(broken(XS)), HERE)],
        "integers": [Cell(laid, (jnp.asarray(INTS),), Right(INTS), HERE)],
        "python floats": every(laid, by_value("over_devices", "leading axis"), (1.5,), ([1.0],)),
        "numpy arrays": [Cell(laid, (np.asarray(XS),), Right(XS), HERE)],
        "wrong value": every(jax.jit(laid), by_value("over_devices", "inside `jit`"), (XS,)),
    },
    "RatioState.start": {
        "wrong value": [
            *every(
                df.RatioState.start,
                by_type("RatioState.start", "discriminator"),
                (None, SGD),
                ("d", SGD),
            ),
            *every(
                df.RatioState.start,
                by_type("RatioState.start", "optimizer"),
                (LINEAR, None),
                (LINEAR, "adam"),
            ),
        ],
    },
    "GANState.start": {
        "wrong value": [
            *every(
                df.GANState.start, by_type("GANState.start", "generator"), (LINEAR, None, SGD, SGD)
            ),
            *every(
                df.GANState.start,
                by_type("GANState.start", "g_optimizer"),
                (LINEAR, AFFINE, SGD, "adam"),
            ),
        ],
    },
}


def begun(xs_q, ts=TIMES, network=TIMED, optimizer=SGD):
    return df.FlowRatioState.start(network, optimizer, xs_q=xs_q, ts=ts).replay.clouds


BEGIN = "FlowRatioState"
OTHERS["FlowRatioState.start"] = {
    **kinds(begun, "FlowRatioState.start", ("xs_q",), (XS,)),
    "wrong dtype": [
        *every(begun, by_type("FlowRatioState.start", "xs_q"), (XS > 0,), ("a cloud",)),
        *every(begun, by_type("FlowRatioState.start", "discriminator"), (XS, TIMES, None)),
    ],
    "empty": every(begun, by_value(BEGIN, "`xs_q` has no samples"), (XS[:0],)),
    "nan and inf": every(begun, by_content(BEGIN, "`xs_q` has NaN"), (broken(XS),)),
    NO_TS: [
        *every(begun, by_value(BEGIN, "`ts` must increase"), (XS, [0.0, 0.0])),
        *every(begun, by_value(BEGIN, "`ts` holds 1 time(s)"), (XS, [0.0])),
    ],
    "integers": closed(begun, ((INTS,), np.stack([INTS, INTS]))),
    "numpy arrays": closed(begun, ((np.asarray(XS),), jnp.stack([XS, XS]))),
    "wrong value": every(begun, by_value(BEGIN, "pass both"), (None,), (XS, None)),
}
TABLE = {**LOOPS, **OTHERS}
CLOUDS = ("wrong rank", "wrong dtype", "mismatched shapes", "empty", "nan and inf")
NUMBERS = ("integers", "python floats", "numpy arrays")
STATE = (*NEVER, *CLOUDS, *NUMBERS, "no ratio estimator", NO_TS, "key missing")
ABSENT = {
    "transport": (*NEVER, NO_TS),
    "train_gan": (*NEVER, NO_TS),
    "train_flow_ratio": NEVER,
    "learned_log_ratio": (*NEVER, NO_TS, "key missing", "wrong value"),
    "flow_log_ratio": (*NEVER, NO_TS, "key missing", "wrong value"),
    "over_devices": (*NEVER, NO_TS, "no ratio estimator", "key missing", "mismatched shapes"),
    "RatioState.start": STATE,
    "GANState.start": STATE,
    "FlowRatioState.start": (*NEVER, "mismatched shapes", "no ratio estimator", "key missing"),
}
