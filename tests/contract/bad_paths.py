"""Bad input for the fit of a Gaussian and the path gradient."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from bad_calculus import NAN
from bad_fits import WIDE, log_p, times, vector
from bad_gaussians import FLAT, LINE, MANY, MIX, ONES, Q
from bad_input import Cell, Right, by_content, by_type, by_value, without_key

import divergence_flows as df

ROWS = {}


def fit(**options):
    """The mean of a fit of few nodes: a long program."""

    def call(target, q0, **more):
        wanted = {"n": 32, "key": jr.key(0), **options, **more}
        return df.fit_gaussian(target, q0, **wanted)[0].mean

    return call


_FIT = "fit_gaussian"
START = df.Gaussian(jnp.zeros(1), jnp.ones(1))
FIT = fit(nodes=df.cubature(1))
AGAIN = "it would compile the program of numpy's cell again: before it, all become floats"
ROWS[_FIT] = {
    "wrong rank": [
        Cell(fit(), (log_p, MANY), by_value(_FIT, "(4, 2)", "jax.vmap")),
        Cell(
            fit(nodes=df.cubature(1)),
            (lambda x: jnp.stack([x, x]), START),
            by_value(_FIT, "`log_p` returns"),
        ),
        Cell(lambda q: fit()(log_p, q, tol=jnp.ones(2)), (START,), by_type(_FIT, "tol")),
    ],
    "wrong dtype": [
        Cell(lambda q: fit()(3.0, q), (START,), by_type(_FIT, "log_p")),
        Cell(fit(), (log_p, {"a": "1"}), by_type(_FIT, "q0")),
        Cell(fit(), (log_p, ONES + 0j), by_type(_FIT, "q0")),
        Cell(lambda q: fit(key=3)(log_p, q), (START,), by_type(_FIT, "key")),
        Cell(fit(n=32.0), (log_p, START), by_type(_FIT, "n")),
    ],
    "mismatched shapes": [
        Cell(
            lambda q: fit()(log_p, q, nodes=WIDE),
            (START,),
            by_value(_FIT, "`nodes` have dimension 3", "make nodes"),
        ),
    ],
    "empty": [Cell(fit(), (log_p, {}), by_value(_FIT, "`q0` is {}", "pass where to start"))],
    "nan and inf": [
        Cell(FIT, (times(NAN), START), by_content(_FIT, "`log_p`", "not finite at nodes of `q0`")),
        Cell(
            FIT,
            (times(1.0), df.Gaussian(jnp.array([NAN]), jnp.ones(1))),
            by_content(_FIT, "`q0`", "not finite", "Start"),
        ),
    ],
    "not positive definite": [
        Cell(
            FIT,
            (times(1.0), df.Gaussian(jnp.zeros(1), jnp.zeros(1))),
            by_content(_FIT, "`q0` has a singular", "Start"),
        ),
    ],
    "key missing": [Cell(lambda q: df.fit_gaussian(log_p, q), (START,), without_key())],
    "integers": [Cell(FIT, (times(1.0), np.array(1)), Right(np.zeros(1), atol=1e-2), AGAIN)],
    "python floats": [Cell(FIT, (times(1.0), 1.0), Right(np.zeros(1), atol=1e-2), AGAIN)],
    "numpy arrays": [Cell(FIT, (times(1.0), np.array(1.0)), Right(np.zeros(1), atol=1e-2))],
    "wrong value": [
        Cell(fit(geometry="flat"), (log_p, START), by_value(_FIT, "`geometry` is 'flat'", "give")),
        Cell(
            fit(estimator="best"), (log_p, START), by_value(_FIT, "`estimator` is 'best'", "give")
        ),
        Cell(fit(n=3), (log_p, START), by_value(_FIT, "`n` makes 3 draws", "25")),
        Cell(fit(max_steps=0), (log_p, START), by_value(_FIT, "`max_steps` is 0", "pass")),
        Cell(fit(tol=-1.0), (log_p, START), by_value(_FIT, "`tol` is -1.0", "pass a positive")),
        Cell(fit(solver="rk4"), (log_p, START), by_type(_FIT, "solver")),
    ],
}


def loss(z, q=Q, target=log_p, h=None):
    return df.stl_loss(target, q, z, h=h)


_STL = "stl_loss"
Z = jnp.ones((4, 2))
HERE = -np.log(2 * np.pi)  # log q - log p, wherever z is
ROWS[_STL] = {
    "wrong rank": [
        Cell(loss, (1.0,), by_type(_STL, "z")),
        Cell(loss, (Z, MANY), by_value("Gaussian.push", "(4, 2)", "jax.vmap")),
        Cell(lambda z: loss(z, target=vector), (Z,), by_value(_STL, "`log_p` returns")),
        Cell(
            lambda z: loss(z, h=lambda u: jnp.stack([u, u])),
            (Z,),
            by_value(_STL, "`h` returns", "must return one real number"),
        ),
    ],
    "wrong dtype": [
        Cell(loss, (Z + 0j,), by_type(_STL, "z")),
        Cell(loss, ([[1.0]],), by_type(_STL, "z")),
        Cell(lambda z: loss(z, target=3.0), (Z,), by_type(_STL, "log_p")),
    ],
    "mismatched shapes": [
        *[
            Cell(loss, (jnp.ones((4, n)),), by_value("Gaussian.push", "`z` has shape", "pass one"))
            for n in (1, 3)
        ],
        Cell(loss, (WIDE,), by_value("Gaussian.push", "`z` has shape (3,)", "pass one")),
        Cell(loss, (jnp.ones((4, 3)), MIX), by_value("Mixture.push", "`z` has shape (3,)", "pass")),
    ],
    "empty": [Cell(loss, (Z[:0],), by_value(_STL, "`z` is empty, of shape (0, 2)", "pass one"))],
    "nan and inf": [Cell(loss, (Z * NAN,), Right(NAN))],
    "not positive definite": [Cell(loss, (Z, law), Right(NAN)) for law in (FLAT, LINE)],
    "h does not increase": [
        Cell(lambda z: loss(z, h=jnp.negative), (Z,), by_content(_STL, "`h` decreases", "It must")),
    ],
    "integers": [Cell(loss, (np.ones((4, 2), int),), Right(HERE))],
    "python floats": [Cell(loss, (1.0,), by_type(_STL, "z"))],
    "numpy arrays": [Cell(loss, (np.ones((4, 2)),), Right(HERE))],
    "wrong value": [
        Cell(lambda z: loss(z, q=3), (Z,), by_value(_STL, "`q` is a int", "give a model")),
        *[
            Cell(lambda z, h=h: loss(z, h=h), (Z,), by_value(_STL, "`h` is", remedy))
            for h, remedy in (
                (df.divergences.kl_qp, "pass its `.h`"),
                (df.gans.logit(), "pass its `.h`"),
                (df.divergences.kl_qp.f, "pass `.h`"),
                (3.0, "give an increasing function"),
            )
        ],
    ],
}
TABLE = ROWS
