"""Bad input for fields: velocities that look at shapes, and at no contents."""

import functools

import jax.numpy as jnp
import numpy as np
from bad_input import by_content, by_type, by_value
from bad_samples import (
    INTS,
    KEYLESS,
    NO_H,
    NO_TS,
    XS,
    broken,
    closed,
    contents,
    decay,
    down,
    every,
    first_row,
    kinds,
    options,
    same,
    to_the_mean,
    vector,
)

import divergence_flows as df


def log_r(t, x, args):  # its velocity is -x
    return -0.5 * jnp.sum(x**2)


def pair(u):
    return jnp.stack([u, u])


def pulling(xs):  # what a fit returns: a potential
    return functools.partial(_pulled, jnp.mean(xs, axis=0))


def _pulled(centre, t, x, args):
    return -0.5 * jnp.sum((x - centre) ** 2)


def moves(xs, h=same, of=log_r):
    return df.velocity(h, of)(0.0, xs, None)


def flows(xs, variation=to_the_mean):
    return df.gradient_flow(variation)(0.0, xs, None)


def refits(xs, fit=pulling, h=same, block=None):
    return df.cloud_velocity(h, fit, block=block)(0.0, xs, None)


def carries(xs, log_q, field=decay, noise=None):
    return df.with_log_prob(field, noise=noise)(0.0, (xs, log_q), None)


def dissipates(u, grad_u, h=same, **more):
    return df.dissipation(h, u, grad_u, **more)


def towards(t, x, xs, args):  # returns a vector, where one number is asked
    return x - jnp.mean(xs, axis=0)


def no_potential(xs):
    return 3.0


def of_a_vector(xs):
    return vector


MEAN = jnp.mean(XS, axis=0)
U = XS[:, 0]
# A field looks at no contents: what is no number moves like none, and the others as they do.
TABLE = {
    "velocity": {
        **kinds(moves, "_velocity", ("xs",), (XS,)),
        "mismatched shapes": [
            *every(moves, by_value("velocity", "`log_r` returns float32[2]"), (XS, same, vector)),
            *every(moves, by_value("velocity", "`h` returns float32[2]", "one"), (XS, pair)),
        ],
        "empty": closed(moves, ((XS[:0],), XS[:0])),
        "nan and inf": closed(moves, ((broken(XS),), -broken(XS))),
        # What decreases is right all the same: it moves up the divergence, as it says.
        NO_H: closed(moves, ((XS, down), XS)),
        "integers": closed(moves, ((INTS,), -INTS)),
        "numpy arrays": closed(moves, ((np.asarray(XS),), -XS)),
        "wrong value": [
            *every(moves, by_type("velocity", "h"), (XS, None), (XS, "kl_qp")),
            *every(moves, by_type("velocity", "log_r"), (XS, same, None)),
        ],
    },
    "gradient_flow": {
        **kinds(flows, "_gradient_flow", ("xs",), (XS,)),
        "mismatched shapes": every(
            flows, by_value("gradient_flow", "`variation` returns float32[2]"), (XS, towards)
        ),
        "empty": closed(flows, ((XS[:0],), XS[:0])),
        "nan and inf": closed(flows, ((broken(XS),), MEAN.at[0].set(jnp.nan) - broken(XS))),
        "integers": closed(flows, ((INTS,), INTS.mean(axis=0) - INTS)),
        "numpy arrays": closed(flows, ((np.asarray(XS),), MEAN - XS)),
        "wrong value": every(flows, by_type("gradient_flow", "variation"), (XS, None)),
    },
    "cloud_velocity": {
        **kinds(refits, "_cloud_velocity", ("xs",), (XS,)),
        "mismatched shapes": [
            *every(refits, by_value("cloud_velocity", "`fit` returns 3.0"), (XS, no_potential)),
            *every(refits, by_value("cloud_velocity", "`fit(xs)` returns"), (XS, of_a_vector)),
            *every(refits, by_value("cloud_velocity", "`h` returns"), (XS, pulling, pair)),
        ],
        "empty": every(refits, by_value("cloud_velocity", "`xs` has no samples"), (XS[:0],)),
        "nan and inf": closed(refits, ((broken(XS),), MEAN.at[0].set(jnp.nan) - broken(XS))),
        NO_H: closed(refits, ((XS, pulling, down), XS - MEAN)),
        "integers": closed(refits, ((INTS,), INTS.mean(axis=0) - INTS)),
        "numpy arrays": closed(refits, ((np.asarray(XS),), MEAN - XS)),
        "wrong value": options(
            refits,
            (XS,),
            block=[(0, by_value("cloud_velocity", "`block` is 0")), (2.0, by_type("y", "block"))],
            fit=[(None, by_type("cloud_velocity", "fit"))],
        ),
    },
    "with_log_prob": {
        "wrong rank": every(carries, by_type("_with_log_prob", "state"), (XS, XS), (U[0], U)),
        "wrong dtype": [
            *every(carries, by_type("_with_log_prob", "state"), (XS > 0, U), (XS, None)),
            *options(carries, (XS, U), noise=[("normal", by_type("with_log_prob", "noise"))]),
        ],
        "mismatched shapes": [
            *every(carries, by_type("_with_log_prob", "state"), (XS, U[:3])),
            *every(carries, by_value("with_log_prob", "`field` returns"), (XS, U, first_row)),
            *options(carries, (XS, U), noise=[(XS[None, :3], by_type("_with_log_prob", "state"))]),
        ],
        "empty": [
            *options(
                carries,
                (XS, U),
                noise=[(XS[None][:0], by_value("with_log_prob", "`noise` has no"))],
            ),
        ],
        "nan and inf": [
            *closed(carries, ((broken(XS), U), (-broken(XS), jnp.full(4, 2.0)))),
            *options(
                carries,
                (XS, U),
                noise=[(broken(XS)[None], by_content("with_log_prob", "`noise` has NaN"))],
            ),
        ],
        "integers": closed(carries, ((INTS, INTS[:, 0]), (-INTS, np.full(4, 2.0)))),
        "python floats": every(carries, by_type("_with_log_prob", "state"), (XS, 0.0)),
        "numpy arrays": closed(carries, ((np.asarray(XS), np.asarray(U)), (-XS, np.full(4, 2.0)))),
        "wrong value": [
            *every(carries, by_type("with_log_prob", "field"), (XS, U, None)),
            *every(
                carries,
                by_value("with_log_prob", "particles may interact"),
                (XS, U, df.gradient_flow(to_the_mean)),
            ),
        ],
    },
    "dissipation": {
        **kinds(dissipates, "dissipation", ("u", "grad_u"), (U, XS)),
        **contents(dissipates, "dissipation", ("u",), (U, XS)),
        "mismatched shapes": [
            *every(dissipates, by_type("dissipation", "grad_u"), (U, XS[:3])),
            *every(dissipates, by_value("dissipation", "`h` returns float32[2]"), (U, XS, pair)),
            *options(dissipates, (U, XS), weights=[(U[:3], by_type("dissipation", "weights"))]),
        ],
        NO_H: [
            *every(dissipates, by_content("dissipation", "`h` decreases"), (U, XS, down)),
            *options(dissipates, (U, XS), of=[(down, by_content("dissipation", "`of` decreases"))]),
        ],
        "outside the domain": every(
            dissipates, by_content("dissipation", "no slope there", "domain"), (-U, XS, jnp.sqrt)
        ),
        "integers": closed(dissipates, ((INTS[:, 0], INTS), -np.mean(np.sum(INTS**2, axis=1)))),
        "numpy arrays": closed(
            dissipates, ((np.asarray(U), np.asarray(XS)), -jnp.mean(jnp.sum(XS**2, axis=1)))
        ),
        "wrong value": every(dissipates, by_type("dissipation", "h"), (U, XS, None)),
    },
}
ABSENT = {
    "velocity": (*KEYLESS, NO_TS),
    "gradient_flow": (*KEYLESS, NO_TS, NO_H),
    "cloud_velocity": (*KEYLESS, NO_TS),
    "with_log_prob": (*KEYLESS, NO_TS, NO_H),
    "dissipation": (*KEYLESS[:2], "key missing", NO_TS),
}
