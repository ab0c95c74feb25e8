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

U, MEAN = XS[:, 0], jnp.mean(XS, axis=0)
PULLED = MEAN.at[0].set(jnp.nan) - broken(XS)  # towards a mean that is NaN
NUMBERS = ("integers", "numpy arrays")
log_r = lambda t, x, args: -0.5 * jnp.sum(x**2)  # its velocity is -x
pair = lambda u: jnp.stack([u, u])
towards = lambda t, x, xs, args: x - jnp.mean(xs, axis=0)
pulled = lambda centre, t, x, args: -0.5 * jnp.sum((x - centre) ** 2)
pulling = lambda xs: functools.partial(pulled, jnp.mean(xs, axis=0))
no_potential = lambda xs: 3.0
of_a_vector = lambda xs: vector

moves = lambda xs, h=same, of=log_r: df.velocity(h, of)(0.0, xs, None)
flows = lambda xs, variation=to_the_mean: df.gradient_flow(variation)(0.0, xs, None)
refits = lambda xs, fit=pulling, h=same, **more: df.cloud_velocity(h, fit, **more)(0.0, xs, None)
carries = lambda xs, log_q, field=decay, **more: df.with_log_prob(field, **more)(
    0.0, (xs, log_q), None
)
dissipates = lambda u, grad_u, h=same, **more: df.dissipation(h, u, grad_u, **more)

# A field looks at no contents: NaN gives NaN where it is, and changes no other particle.
TABLE = {
    "velocity": {
        **kinds(moves, "_velocity", ("xs",), (XS,)),
        "mismatched shapes": [
            *every(moves, by_value("velocity", "`log_r` returns float32[2]"), (XS, same, vector)),
            *every(moves, by_value("velocity", "`h` returns float32[2]", "one"), (XS, pair)),
        ],
        "empty": closed(moves, ((XS[:0],), XS[:0])),
        "nan and inf": closed(moves, ((broken(XS),), -broken(XS))),
        # A decreasing h is allowed: it moves up the divergence.
        NO_H: closed(moves, ((XS, down), XS)),
        "integers": closed(moves, ((INTS,), -INTS)),
        "numpy arrays": closed(moves, ((np.asarray(XS),), -XS)),
        "wrong value": [
            *every(moves, by_type("velocity", "h"), (XS, None), (XS, "kl_qp")),
            *every(moves, by_type("velocity", "log_r"), (XS, same, None)),
        ],
    },
    "gradient_flow": {
        **kinds(flows, "descend_variation", ("xs",), (XS,)),
        "mismatched shapes": every(
            flows, by_value("gradient_flow", "`variation` returns float32[2]"), (XS, towards)
        ),
        "empty": closed(flows, ((XS[:0],), XS[:0])),
        "nan and inf": closed(flows, ((broken(XS),), PULLED)),
        "wrong value": every(flows, by_type("gradient_flow", "variation"), (XS, None)),
    },
    "cloud_velocity": {
        **kinds(refits, "refit_and_move", ("xs",), (XS,)),
        "mismatched shapes": [
            *every(refits, by_value("cloud_velocity", "`fit` returns 3.0"), (XS, no_potential)),
            *every(refits, by_value("cloud_velocity", "`fit(xs)` returns"), (XS, of_a_vector)),
            *every(refits, by_value("cloud_velocity", "`h` returns"), (XS, pulling, pair)),
        ],
        "empty": every(refits, by_value("cloud_velocity", "`xs` has no samples"), (XS[:0],)),
        "nan and inf": closed(refits, ((broken(XS),), PULLED)),
        NO_H: closed(refits, ((XS, pulling, down), XS - MEAN)),
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
        "empty": options(
            carries, (XS, U), noise=[(XS[None][:0], by_value("with_log_prob", "`noise` has no"))]
        ),
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
        "wrong value": every(dissipates, by_type("dissipation", "h"), (U, XS, None)),
    },
}
ABSENT = {
    "velocity": (*KEYLESS, NO_TS),
    "gradient_flow": (*KEYLESS, NO_TS, NO_H, *NUMBERS),
    "cloud_velocity": (*KEYLESS, NO_TS, *NUMBERS),
    "with_log_prob": (*KEYLESS, NO_TS, NO_H, "numpy arrays"),
    "dissipation": (*KEYLESS[:2], "key missing", NO_TS, "numpy arrays"),
}
