"""Bad input for the fit of a Gaussian and the path gradient."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from bad_calculus import NAN
from bad_fits import WIDE, log_p, times, vector
from bad_gaussians import FLAT, LINE, MANY, MIX, ONES, Q
from bad_input import Cell, Right, by_content, by_type, by_value, without_key
from bad_samples import closed, every, options

import divergence_flows as df

START = df.Gaussian(jnp.zeros(1), jnp.ones(1))
FEW = {"n": 32, "key": jr.key(0)}  # a fit is a long program
RULE = {"nodes": df.cubature(1)}
fit = lambda target, q0, **more: df.fit_gaussian(target, q0, **FEW | more)[0].mean
by_rule = lambda target, q0: fit(target, q0, **RULE)
keyless = lambda target, q0: df.fit_gaussian(target, q0)
loss = lambda z, q=Q, target=log_p, h=None: df.stl_loss(target, q, z, h=h)
pair = lambda u: jnp.stack([u, u])
AGAIN = "it would compile the program of numpy's cell again: before it, all become floats"
_FIT, _STL = "fit_gaussian", "stl_loss"
Z = jnp.ones((4, 2))
HERE = -np.log(2 * np.pi)  # log q - log p, wherever z is
AT_REST = Right(np.zeros(1), atol=1e-2)

FITS = {
    "wrong rank": [
        *every(fit, by_value(_FIT, "(4, 2)", "jax.vmap"), (log_p, MANY)),
        *every(by_rule, by_value(_FIT, "`log_p` returns"), (pair, START)),
        *options(fit, (log_p, START), tol=[(jnp.ones(2), by_type(_FIT, "tol"))]),
    ],
    "wrong dtype": [
        *every(fit, by_type(_FIT, "log_p"), (3.0, START)),
        *every(fit, by_type(_FIT, "q0"), (log_p, {"a": "1"}), (log_p, ONES + 0j)),
        *options(
            fit, (log_p, START), key=[(3, by_type(_FIT, "key"))], n=[(32.0, by_type(_FIT, "n"))]
        ),
    ],
    "mismatched shapes": options(
        fit, (log_p, START), nodes=[(WIDE, by_value(_FIT, "`nodes` have dimension 3", "make"))]
    ),
    "empty": every(fit, by_value(_FIT, "`q0` is {}", "pass where to start"), (log_p, {})),
    "nan and inf": [
        *every(
            by_rule,
            by_content(_FIT, "`log_p`", "not finite at nodes of `q0`"),
            (times(NAN), START),
        ),
        *every(
            by_rule,
            by_content(_FIT, "`q0`", "not finite", "Start"),
            (times(1.0), df.Gaussian(jnp.array([NAN]), jnp.ones(1))),
        ),
    ],
    "not positive definite": every(
        by_rule,
        by_content(_FIT, "`q0` has a singular", "Start"),
        (times(1.0), df.Gaussian(jnp.zeros(1), jnp.zeros(1))),
    ),
    "key missing": every(keyless, without_key(), (log_p, START)),
    "integers": [Cell(by_rule, (times(1.0), np.array(1)), AT_REST, AGAIN)],
    "python floats": [Cell(by_rule, (times(1.0), 1.0), AT_REST, AGAIN)],
    "numpy arrays": [Cell(by_rule, (times(1.0), np.array(1.0)), AT_REST)],
    "wrong value": options(
        fit,
        (log_p, START),
        geometry=[("flat", by_value(_FIT, "`geometry` is 'flat'", "give"))],
        estimator=[("best", by_value(_FIT, "`estimator` is 'best'", "give"))],
        n=[(3, by_value(_FIT, "`n` makes 3 draws", "25"))],
        max_steps=[(0, by_value(_FIT, "`max_steps` is 0", "pass"))],
        tol=[(-1.0, by_value(_FIT, "`tol` is -1.0", "pass a positive"))],
        solver=[("rk4", by_type(_FIT, "solver"))],
    ),
}
LOSSES = {
    "wrong rank": [
        *every(loss, by_type(_STL, "z"), (1.0,)),
        *every(loss, by_value("Gaussian.push", "(4, 2)", "jax.vmap"), (Z, MANY)),
        *options(
            loss,
            (Z,),
            target=[(vector, by_value(_STL, "`log_p` returns"))],
            h=[(pair, by_value(_STL, "`h` returns", "must return one real number"))],
        ),
    ],
    "wrong dtype": [
        *every(loss, by_type(_STL, "z"), (Z + 0j,), ([[1.0]],)),
        *options(loss, (Z,), target=[(3.0, by_type(_STL, "log_p"))]),
    ],
    "mismatched shapes": [
        *every(
            loss,
            by_value("Gaussian.push", "`z` has shape", "pass one"),
            (jnp.ones((4, 1)),),
            (jnp.ones((4, 3)),),
        ),
        *every(loss, by_value("Gaussian.push", "`z` has shape (3,)", "pass one"), (WIDE,)),
        *every(
            loss, by_value("Mixture.push", "`z` has shape (3,)", "pass"), (jnp.ones((4, 3)), MIX)
        ),
    ],
    "empty": every(loss, by_value(_STL, "`z` is empty, of shape (0, 2)", "pass one"), (Z[:0],)),
    "nan and inf": closed(loss, ((Z * NAN,), NAN)),
    "not positive definite": closed(loss, ((Z, FLAT), NAN), ((Z, LINE), NAN)),
    "h does not increase": options(
        loss, (Z,), h=[(jnp.negative, by_content(_STL, "`h` decreases", "It must"))]
    ),
    "integers": closed(loss, ((np.ones((4, 2), int),), HERE)),
    "python floats": every(loss, by_type(_STL, "z"), (1.0,)),
    "numpy arrays": closed(loss, ((np.ones((4, 2)),), HERE)),
    "wrong value": options(
        loss,
        (Z,),
        q=[(3, by_value(_STL, "`q` is a int", "give a model"))],
        h=[
            (df.divergences.kl_qp, by_value(_STL, "`h` is", "pass its `.h`")),
            (df.gans.logit(), by_value(_STL, "`h` is", "pass its `.h`")),
            (df.divergences.kl_qp.f, by_value(_STL, "`h` is", "pass `.h`")),
            (3.0, by_value(_STL, "`h` is", "give an increasing function")),
        ],
    ),
}
TABLE = {_FIT: FITS, _STL: LOSSES}
