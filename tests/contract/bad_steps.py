"""Bad input for single steps of training, which check shapes and no contents."""

import math
from functools import partial

import bad_samples as some
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from bad_input import Cell, Right, Same, by_type, by_value
from bad_networks import AFFINE, IMAGE_MAKER, LINEAR, TIMED
from bad_samples import INTS, KEY, MORE_INTS, NO_H, NO_TS, XS, YS, every, options

import divergence_flows as df

GAN = df.gans.logit()
SGD, ADAM = optax.sgd(0.1), optax.adam(0.1)
WIDE = df.networks.Discriminator(3, 2, 1, key=KEY)
BOTH, Q_AND_P, TIMES = (XS, YS), ("xs_q", "xs_p"), [0.0, 1.0]
CRITICS = (WIDE, df.networks.ConvDiscriminator(8, 1, 2, key=KEY), jnp.tanh, TIMED)


def ratio(xs_q, xs_p, gan=GAN, network=LINEAR, optimizer=SGD, **more):
    state = df.RatioState.start(network, SGD)
    return df.ratio_step(gan, optimizer, state, (xs_q, xs_p), **more)[1].loss


def moved(xs, gan=GAN, network=LINEAR, step_size=0.1):
    return df.particle_step(gan, network, xs, step_size)[0]


def played(xs_p, gan=GAN, network=LINEAR, maker=AFFINE, optimizer=SGD, key=KEY, **more):
    state = df.GANState.start(network, maker, SGD, SGD)
    more = {"latent": 3, "batch_size": 2, **more}
    return df.gan_step(gan, optimizer, SGD, state, xs_p, key=key, **more)[1].d_loss


def timed(xs_q, xs_p, gan=GAN, network=TIMED, optimizer=SGD, ts=TIMES, key=KEY, **more):
    state = df.FlowRatioState.start(network, SGD)
    more = {"batch_size": 2, **more}
    return df.flow_ratio_step(gan, optimizer, state, (xs_q, xs_p), ts=ts, key=key, **more)[1].loss


def positive(caller, *names):
    """What is wrong with counts."""
    return {name: [(0, by_value(caller, f"`{name}` is 0", "positive integer"))] for name in names}


def price(caller):
    return {
        "penalty": [("slope", by_value(caller, "`penalty` is 'slope'"))],
        "penalty_weight": [(-1.0, by_value(caller, "`penalty_weight` is -1.0"))],
    }


def of_a_gan(caller):
    """Wrong options of a GAN's step, which its loop has too."""
    counts = positive(caller, "latent", "batch_size", "critic_steps", "generator_steps")
    more = (2, by_value(caller, "`generator_steps` is 2", "only regression onto a kept target"))
    return {
        **counts,
        **price(caller),
        "generator_steps": [*counts["generator_steps"], more],
        "form": [("direct", by_value(caller, "`form` is 'direct'; pass 'loss' or 'distillation'"))],
        "step_size": [(0.0, by_value(caller, "`step_size` is 0.0"))],
        "ema_decay": [(1.0, by_value(caller, "`ema_decay` is 1.0"))],
    }


def makers(caller):
    """Generators that do not fit."""
    return {
        "maker": [(IMAGE_MAKER, by_value(caller, "`generator` makes float32[1,8,8]"))],
        "latent": [(4, by_value(caller, "`generator` does not take float32[4]"))],
    }


def of_a_flow(caller):
    """Wrong options of a step at all times, which its loop has too."""
    words = by_value(caller, "`score_p` makes float32[]")
    return {
        **positive(caller, "batch_size"),
        "neighbours": [(-1.0, by_value(caller, "`neighbours` is -1.0"))],
        "score_weight": [(-1.0, by_value(caller, "`score_weight` is -1.0"))],
        "score_p": [(jnp.sum, words)],
        "ema_decay": [(x, by_value(caller, f"`ema_decay` is {x}")) for x in (-0.1, 1.0)],
    }


def schedule(caller):
    """Times that do not increase."""
    return [
        ([1.0, 0.0], by_value(caller, "`ts` must increase", "from 1.0 to 0.0")),
        ([0.0], by_value(caller, "`ts` holds 1 time(s)")),
    ]


def row(caller, call, good, columns, network="discriminator", critics=CRITICS, gans=(), **wrong):
    """The columns of what trains or moves: networks that do not fit, no GAN, wrong options."""
    words = by_value(caller, f"`{network}` does not take float32[2]", "pass a function of one")
    vector = by_value(caller, f"`{network}` makes float32[2] of float32[2]", "one number")
    no_gan = by_value(caller, "`gan` is a", "which has no", "pass a GAN")
    no_gans = (df.divergences.kl_qp, None, "logit", *gans)
    misfits = [(one, vector if one is jnp.tanh else words) for one in critics]
    shapes = columns.get("mismatched shapes", [])
    return {
        **columns,
        "mismatched shapes": [*shapes, *options(call, good, network=misfits)],
        "no ratio estimator": options(call, good, gan=[(one, no_gan) for one in no_gans]),
        "wrong value": options(call, good, **wrong),
    }


def shapes(caller, call, names, good, kind=None):
    """The columns of a step, which stands in loops: it checks the shapes of samples alone."""
    refused = by_type(caller, names[0] if kind is None else kind)
    lists = np.asarray(good[0]).tolist()
    wrong = {
        "wrong rank": [jnp.ones(())],
        "wrong dtype": [good[0] > 0, good[0] + 0j, None],
        "python floats": [1.5, lists],
    }
    empty = [
        Cell(call, some.swapped(good, i, x[:0]), by_value(caller, f"`{names[i]}` has no samples"))
        for i, x in enumerate(good)
    ]
    cells = {
        column: [Cell(call, some.swapped(good, 0, value), refused) for value in values]
        for column, values in wrong.items()
    }
    unequal = every(call, refused, (XS, YS[:, :1])) if len(good) == 2 else []
    return {**cells, "empty": empty, "mismatched shapes": unequal}


def another(caller):
    return [(ADAM, by_value(caller, "`state` is of another optimiser"))]


GAN_STATE = df.GANState.start(LINEAR, AFFINE, SGD, SGD)
TIMED_STATE = df.FlowRatioState.start(TIMED, SGD)
TABLE = {
    "ratio_step": row(
        "ratio_step",
        ratio,
        BOTH,
        {
            **shapes("ratio_step", ratio, Q_AND_P, BOTH, "batch"),
            # The one row of steps with conversions; jitted, which compiles faster than one by one.
            **some.equals(eqx.filter_jit(ratio), BOTH, (INTS, MORE_INTS), 1e-4),
            # A step says so by its loss, and checks nothing: it stands in loops.
            "nan and inf": [Cell(ratio, (some.broken(XS), YS), Right(np.nan))],
            "key missing": options(
                ratio,
                BOTH,
                batch_size=[(2, by_value("ratio_step", "pass `key` too"))],
                penalty=[("one", by_value("ratio_step", "pass `key` too"))],
                key=[(0, by_type("ratio_step", "key"))],
            ),
        },
        "state.discriminator",
        **positive("ratio_step", "batch_size"),
        **price("ratio_step"),
        optimizer=[("adam", by_type("ratio_step", "optimizer")), *another("ratio_step")],
    ),
    "particle_step": row(
        "particle_step",
        moved,
        (XS,),
        {
            **shapes("particle_step", moved, ("xs",), (XS,)),
            # A particle that is no number stays none; the others move as they do alone.
            "nan and inf": [
                Cell(lambda xs: moved(xs)[1:], (some.broken(XS),), Same((XS,))),
                Cell(lambda xs: moved(xs)[0, :1], (some.broken(XS),), Right(np.full((1,), np.nan))),
            ],
        },
        step_size=[
            (-0.1, by_value("particle_step", "`step_size` is -0.1")),
            (math.nan, by_value("particle_step", "`step_size` is nan")),
            (XS, by_type("particle_step", "step_size")),
        ],
    ),
    "gan_step": row(
        "gan_step",
        played,
        (YS,),
        {
            **shapes("gan_step", played, ("xs_p",), (YS,)),
            "mismatched shapes": options(
                played, (YS,), **makers("gan_step"), optimizer=another("gan_step")
            ),
            "nan and inf": [Cell(played, (jnp.full_like(YS, jnp.nan),), Right(np.nan))],
            "key missing": some.keyless(
                partial(df.gan_step, GAN, SGD, SGD, GAN_STATE, latent=3), "gan_step", (YS,)
            ),
        },
        **of_a_gan("gan_step"),
    ),
    "flow_ratio_step": row(
        "flow_ratio_step",
        timed,
        BOTH,
        {
            **shapes("flow_ratio_step", timed, Q_AND_P, BOTH, "batch"),
            "nan and inf": [
                Cell(timed, (XS, jnp.full_like(YS, jnp.nan)), Right(np.nan)),
                *options(
                    timed, BOTH, ts=[([0.0, math.inf], by_value("flow_ratio_step", "`ts` must"))]
                ),
            ],
            NO_TS: options(timed, BOTH, ts=schedule("flow_ratio_step")),
            "key missing": some.keyless(
                partial(df.flow_ratio_step, GAN, SGD, TIMED_STATE, ts=TIMES),
                "flow_ratio_step",
                (BOTH,),
            ),
        },
        "state.discriminator",
        (LINEAR,),
        (df.gans.wasserstein(),),
        **positive("flow_ratio_step", "hold"),
        **of_a_flow("flow_ratio_step"),
        optimizer=another("flow_ratio_step"),
    ),
}
NEVER = ("not positive definite", "outside the domain", NO_H)
CONVERSIONS = ("integers", "numpy arrays")
ABSENT = {
    "ratio_step": (*NEVER, NO_TS),
    "particle_step": (*NEVER, NO_TS, "key missing", *CONVERSIONS),
    "gan_step": (*NEVER, NO_TS, *CONVERSIONS),
    "flow_ratio_step": (*NEVER, *CONVERSIONS),
}
