"""Bad input for single steps of training, which look at shapes and at no contents."""

import functools
import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from bad_input import Cell, Right, Same, by_type, by_value
from bad_networks import AFFINE, IMAGE_MAKER, LINEAR, TIMED
from bad_samples import (
    INTS,
    KEY,
    MORE_INTS,
    NO_H,
    NO_TS,
    XS,
    YS,
    broken,
    equals,
    every,
    keyless,
    options,
    swapped,
)

import divergence_flows as df

GAN = df.gans.logit()
SGD, ADAM = optax.sgd(0.1), optax.adam(0.1)
WIDE = df.networks.Discriminator(3, 2, 1, key=KEY)
NO_GAN = (df.divergences.kl_qp, None, "logit")
BOTH, WHOLE = (XS, YS), (INTS, MORE_INTS)
Q_AND_P = ("xs_q", "xs_p")
CRITICS = (WIDE, df.networks.ConvDiscriminator(8, 1, 2, key=KEY), jnp.tanh, TIMED)


def start(network=LINEAR, optimizer=SGD):
    return df.RatioState.start(network, optimizer)


def ratio(xs_q, xs_p, gan=GAN, network=LINEAR, optimizer=SGD, **more):
    return df.ratio_step(gan, optimizer, start(network), (xs_q, xs_p), **more)[1].loss


def moved(xs, gan=GAN, network=LINEAR, step_size=0.1):
    return df.particle_step(gan, network, xs, step_size)[0]


def played(xs_p, gan=GAN, network=LINEAR, maker=AFFINE, optimizer=SGD, key=KEY, **more):
    state = df.GANState.start(network, maker, SGD, SGD)
    more = {"latent": 3, "batch_size": 2, **more}
    return df.gan_step(gan, optimizer, SGD, state, xs_p, key=key, **more)[1].d_loss


TIMES = [0.0, 1.0]


def timed(xs_q, xs_p, gan=GAN, network=TIMED, optimizer=SGD, ts=TIMES, key=KEY, **more):
    state = df.FlowRatioState.start(network, SGD)
    more = {"batch_size": 2, **more}
    return df.flow_ratio_step(gan, optimizer, state, (xs_q, xs_p), ts=ts, key=key, **more)[1].loss


def misfits(call, caller, arguments, argument="discriminator", networks=CRITICS):
    """Cells of networks that do not fit the samples."""
    words = by_value(caller, f"`{argument}` does not take float32[2]", "pass a function of one")
    vector = by_value(caller, f"`{argument}` makes float32[2] of float32[2]", "one number")
    return [
        Cell(functools.partial(call, network=one), arguments, vector if one is jnp.tanh else words)
        for one in networks
    ]


def no_gans(call, caller, arguments, *gans):
    """Cells of what is no GAN."""
    words = by_value(caller, "`gan` is a", "which has no", "pass a GAN")
    return [Cell(functools.partial(call, gan=gan), arguments, words) for gan in (*NO_GAN, *gans)]


def positive(caller, *names):
    """What is wrong with counts."""
    return {name: [(0, by_value(caller, f"`{name}` is 0", "positive integer"))] for name in names}


def price(caller):
    return {
        "penalty": [("slope", by_value(caller, "`penalty` is 'slope'"))],
        "penalty_weight": [(-1.0, by_value(caller, "`penalty_weight` is -1.0"))],
    }


def of_a_gan(caller):
    """Wrong values of the options of a GAN's step, which its loop has too."""
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


def of_a_flow(caller):
    """Wrong values of the options of a step at all times, which its loop has too."""
    return {
        **positive(caller, "batch_size"),
        "neighbours": [(-1.0, by_value(caller, "`neighbours` is -1.0"))],
        "score_weight": [(-1.0, by_value(caller, "`score_weight` is -1.0"))],
        "score_p": [(jnp.sum, by_value(caller, "`score_p` makes float32[]"))],
        "ema_decay": [
            (decay, by_value(caller, f"`ema_decay` is {decay}")) for decay in (-0.1, 1.0)
        ],
    }


def stepped(call, caller, names, good, ints, kind=None):
    """The columns of a step, which stands in loops: of samples it looks at shapes alone."""
    blame = (lambda i: names[i]) if kind is None else (lambda i: kind)
    wrong = {
        "wrong rank": [jnp.ones(())],
        "wrong dtype": [good[0] > 0, good[0] + 0j, None],
        "python floats": [1.5, np.asarray(good[0]).tolist()],
    }
    return {
        **{
            column: [
                Cell(call, swapped(good, 0, value), by_type(caller, blame(0))) for value in values
            ]
            for column, values in wrong.items()
        },
        "empty": [
            Cell(call, swapped(good, i, x[:0]), by_value(caller, f"`{names[i]}` has no samples"))
            for i, x in enumerate(good)
        ],
        # Jitted, since single operations compile slower than all at once.
        **equals(eqx.filter_jit(call), good, ints, 1e-4),
    }


GAN_STATE = df.GANState.start(LINEAR, AFFINE, SGD, SGD)
TIMED_STATE = df.FlowRatioState.start(TIMED, SGD)
NAN_LOSS = [Cell(ratio, (broken(XS), YS), Right(np.nan))]
TABLE = {
    "ratio_step": {
        **stepped(ratio, "ratio_step", Q_AND_P, BOTH, WHOLE, "batch"),
        "mismatched shapes": [
            *every(ratio, by_type("ratio_step", "batch"), (XS, YS[:, :1])),
            *misfits(ratio, "ratio_step", BOTH, "state.discriminator"),
            *options(
                ratio,
                BOTH,
                optimizer=[(ADAM, by_value("ratio_step", "`state` is of another optimiser"))],
            ),
        ],
        # A step says so by its loss, and looks at nothing: it stands in loops.
        "nan and inf": NAN_LOSS,
        "no ratio estimator": no_gans(ratio, "ratio_step", BOTH),
        "key missing": [
            *options(ratio, BOTH, batch_size=[(2, by_value("ratio_step", "pass `key` too"))]),
            *options(ratio, BOTH, key=[(0, by_type("ratio_step", "key"))]),
        ],
        "wrong value": options(
            functools.partial(ratio, key=KEY),
            BOTH,
            **positive("ratio_step", "batch_size"),
            **price("ratio_step"),
            optimizer=[("adam", by_type("ratio_step", "optimizer"))],
        ),
    },
    "particle_step": {
        **stepped(moved, "particle_step", ("xs",), (XS,), (INTS,)),
        "mismatched shapes": misfits(moved, "particle_step", (XS,)),
        # A particle that is no number stays none; the others move as they do alone.
        "nan and inf": [
            Cell(lambda xs: moved(xs)[1:], (broken(XS),), Same((XS,))),
            Cell(lambda xs: moved(xs)[0, :1], (broken(XS),), Right(np.full((1,), np.nan))),
        ],
        "no ratio estimator": no_gans(moved, "particle_step", (XS,)),
        "wrong value": options(
            moved,
            (XS,),
            step_size=[
                (-0.1, by_value("particle_step", "`step_size` is -0.1")),
                (math.nan, by_value("particle_step", "`step_size` is nan")),
                (XS, by_type("particle_step", "step_size")),
            ],
            network=[(None, by_type("particle_step", "discriminator"))],
        ),
    },
    "gan_step": {
        "key missing": keyless(
            functools.partial(df.gan_step, GAN, SGD, SGD, GAN_STATE, latent=3), "gan_step", (YS,)
        ),
        **stepped(played, "gan_step", ("xs_p",), (YS,), (MORE_INTS,)),
        "mismatched shapes": [
            *misfits(played, "gan_step", (YS,)),
            *options(
                played,
                (YS,),
                maker=[(IMAGE_MAKER, by_value("gan_step", "`generator` makes float32[1,8,8]"))],
                latent=[(4, by_value("gan_step", "`generator` does not take float32[4]"))],
                optimizer=[(ADAM, by_value("gan_step", "`state` is of another optimiser"))],
            ),
        ],
        "nan and inf": [Cell(played, (jnp.full_like(YS, jnp.nan),), Right(np.nan))],
        "no ratio estimator": no_gans(played, "gan_step", (YS,)),
        "wrong value": options(
            played,
            (YS,),
            **of_a_gan("gan_step"),
        ),
    },
    "flow_ratio_step": {
        "key missing": keyless(
            functools.partial(df.flow_ratio_step, GAN, SGD, TIMED_STATE, ts=TIMES),
            "flow_ratio_step",
            (BOTH,),
        ),
        **stepped(timed, "flow_ratio_step", Q_AND_P, BOTH, WHOLE, "batch"),
        "mismatched shapes": [
            *every(timed, by_type("flow_ratio_step", "batch"), (XS, YS[:, :1])),
            *misfits(timed, "flow_ratio_step", BOTH, "state.discriminator", (LINEAR,)),
            *options(
                timed,
                BOTH,
                optimizer=[(ADAM, by_value("flow_ratio_step", "`state` is of another optimiser"))],
            ),
        ],
        "nan and inf": [
            Cell(timed, (XS, jnp.full_like(YS, jnp.nan)), Right(np.nan)),
            *options(timed, BOTH, ts=[([0.0, math.inf], by_value("flow_ratio_step", "`ts` must"))]),
        ],
        "no ratio estimator": no_gans(timed, "flow_ratio_step", BOTH, df.gans.wasserstein()),
        NO_TS: options(
            timed,
            BOTH,
            ts=[
                ([1.0, 0.0], by_value("flow_ratio_step", "`ts` must increase", "from 1.0 to 0.0")),
                ([0.0], by_value("flow_ratio_step", "`ts` holds 1 time(s)")),
            ],
        ),
        "wrong value": options(
            timed,
            BOTH,
            **of_a_flow("flow_ratio_step"),
            **positive("flow_ratio_step", "hold"),
        ),
    },
}
NEVER = ("not positive definite", "outside the domain", NO_H)
ABSENT = {
    "ratio_step": (*NEVER, NO_TS),
    "particle_step": (*NEVER, NO_TS, "key missing"),
    "gan_step": (*NEVER, NO_TS),
    "flow_ratio_step": NEVER,
}
