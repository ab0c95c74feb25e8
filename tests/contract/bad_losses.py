"""Bad input for what looks at a critic: witnesses, penalties, losses."""

from functools import partial

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from bad_calculus import DOMAIN, HINGES, NAN, NONE, PAIR, VALUES, H, double, one
from bad_games import GANS, PEARSON, itself
from bad_input import Cell, Right, by_type, by_value

import divergence_flows as df


def square(x):
    return jnp.sum(x**2)


def cells(call, verdict, *arguments):
    """One cell for each of several arguments."""
    return [Cell(call, each, verdict) for each in arguments]


ROWS = {}
POINT = jnp.array([1.0, 2.0])
_WITNESS = df.witness(square)
ROWS["witness"] = {
    "wrong rank": [
        Cell(_WITNESS, (jnp.ones(2), POINT, None), by_type("", "t")),
        Cell(_WITNESS, (0.0, POINT[None], None), Right(5.0)),
    ],
    "wrong dtype": [
        Cell(df.witness, (3.0,), by_type("witness", "discriminator")),
        *cells(_WITNESS, by_type("", "x"), (0.0, POINT + 0j, None), (0.0, [1.0, 2.0], None)),
    ],
    "mismatched shapes": cells(
        df.witness(itself),
        by_value("witness", "`discriminator` returns", "must return"),
        (0.0, POINT, None),
    ),
    "empty": [Cell(_WITNESS, (0.0, NONE, None), Right(0.0))],
    "nan and inf": [Cell(_WITNESS, (0.0, POINT * NAN, None), Right(NAN))],
    "integers": [Cell(_WITNESS, (0, np.array([1, 2]), None), Right(5.0))],
    "python floats": [Cell(_WITNESS, (0.0, 3.0, None), Right(9.0))],
    "numpy arrays": [Cell(_WITNESS, (np.zeros(()), np.array([1.0, 2.0]), None), Right(5.0))],
    "wrong value": [],
}

XS = jnp.array([[1.0, 2.0], [0.0, 2.0], [2.0, 1.0]])
WHOLE = np.asarray(XS).astype(int)
R1 = 4 * 14 / 3  # the mean of |2 x|^2
_PENALTY, penalty = "gradient_penalty", df.gradient_penalty
at_one = partial(penalty, "one", square, key=jr.key(0))
r1 = partial(penalty, "r1", square)


def no_samples(caller, name):
    return by_value(caller, f"`{name}` has no samples", "pass at least one")


ROWS[_PENALTY] = {
    "wrong rank": [
        Cell(r1, (jnp.asarray(1.0), XS), by_type(_PENALTY, "xs_p")),
        Cell(r1, (XS, XS[0]), by_type(_PENALTY, "xs_q")),
    ],
    "wrong dtype": [
        *cells(r1, by_type(_PENALTY, "xs_p"), (XS + 0j, XS), ([[1.0]], XS)),
        Cell(partial(penalty, "r1"), (3.0, XS, XS), by_type(_PENALTY, "discriminator")),
        Cell(partial(at_one, key=3), (XS, XS), by_type(_PENALTY, "key")),
    ],
    "mismatched shapes": [
        Cell(r1, (XS, jnp.ones((3, 5))), by_type(_PENALTY, "xs_q")),
        Cell(
            partial(penalty, "r1", itself),
            (XS, XS),
            by_value(_PENALTY, "`discriminator` makes", "pass a function of one sample"),
        ),
    ],
    "empty": [
        Cell(r1, (XS[:0], XS), no_samples(_PENALTY, "xs_p")),
        Cell(at_one, (XS, XS[:0]), no_samples(_PENALTY, "xs_q")),
        Cell(r1, (XS, XS[:0]), Right(R1)),
    ],
    "nan and inf": [Cell(r1, (XS * NAN, XS), Right(NAN))],
    "key missing": cells(partial(at_one, key=None), by_value(_PENALTY, "pass `key`"), (XS, XS)),
    "integers": [Cell(r1, (WHOLE, XS), Right(R1))],
    "python floats": [Cell(r1, (1.0, 1.0), by_type(_PENALTY, "xs_p"))],
    "numpy arrays": [Cell(r1, (np.asarray(XS), np.asarray(XS)), Right(R1))],
    "wrong value": [
        Cell(penalty, ("two", square, XS, XS), by_value(_PENALTY, "`penalty` is 'two'", "pass")),
        Cell(penalty, (None, square, XS, XS), by_type(_PENALTY, "penalty")),
    ],
}

# Losses

_LOGIT, _HINGE = GANS["logit"], df.GAN(*HINGES, double)
_D, _G, _DISTIL = "discriminator_loss", "generator_loss", "distillation_loss"
discriminator = partial(df.discriminator_loss, _LOGIT)
generator = partial(df.generator_loss, _LOGIT)
_LOSS, ZEROS = 2 * np.log(2), np.zeros(3)  # at d = 0
ROWS[_D] = {
    "wrong rank": [Cell(discriminator, (jnp.zeros((2, 1)), jnp.zeros(())), Right(_LOSS))],
    "wrong dtype": [
        Cell(discriminator, (1j, VALUES), by_type(_D, "d_p")),
        Cell(discriminator, (VALUES, [1.0]), by_type(_D, "d_q")),
    ],
    "mismatched shapes": [Cell(discriminator, (jnp.zeros(3), jnp.zeros(2)), Right(_LOSS))],
    "empty": [
        Cell(discriminator, (NONE, VALUES), no_samples(_D, "d_p")),
        Cell(discriminator, (VALUES, NONE), no_samples(_D, "d_q")),
    ],
    "nan and inf": [Cell(discriminator, (VALUES * NAN, VALUES), Right(NAN))],
    # A loss needs no ratio: the hinge game is trained by it, and only log r is refused.
    PAIR: [Cell(partial(df.discriminator_loss, _HINGE), (jnp.zeros(2),) * 2, Right(2.0))],
    DOMAIN: [Cell(partial(df.discriminator_loss, GANS["b_gan"]), (-VALUES,) * 2, Right(NAN))],
    "integers": [Cell(discriminator, (ZEROS.astype(int),) * 2, Right(_LOSS))],
    "python floats": [Cell(discriminator, (0.0, 0.0), Right(_LOSS))],
    "numpy arrays": [Cell(discriminator, (ZEROS, ZEROS), Right(_LOSS))],
    "wrong value": [
        Cell(
            partial(df.discriminator_loss, wrong),
            (VALUES, VALUES),
            by_value(_D, f"`gan` is a {kind}", "pass a GAN"),
        )
        for wrong, kind in ((3, "int"), (PEARSON, "Divergence"))
    ],
}
ROWS[_G] = {
    "wrong rank": one(generator, VALUES[None], Right(-1.0)),
    "wrong dtype": cells(generator, by_type(_G, "d_q"), (1j,), ([1.0],)),
    "mismatched shapes": [],
    "empty": one(generator, NONE, no_samples(_G, "d_q")),
    "nan and inf": one(generator, VALUES * NAN, Right(NAN)),
    # Of d = -log r, as the energy's, the right h_T falls: only gan.descends can see it.
    H: one(partial(df.generator_loss, GANS["ebm"]), 0.0, Right(-1.0)),
    PAIR: one(partial(df.generator_loss, _HINGE), VALUES, Right(-2.0)),
    DOMAIN: one(partial(df.generator_loss, GANS["ulsif"]), -VALUES, Right(NAN)),
    "wrong value": [
        Cell(partial(df.generator_loss, wrong), (VALUES,), by_value(_G, *words, "pass a GAN"))
        for wrong, words in (
            (PEARSON, ("`gan` is a Divergence", "h_eff")),
            (3, ("`gan` is a int",)),
        )
    ],
}
distil = df.distillation_loss
_STEP = 0.5 * 0.01 * 14 / 3  # of v = x, eps = .1
ROWS[_DISTIL] = {
    "wrong rank": [
        Cell(distil, (jnp.asarray(1.0), XS, 0.1), by_type(_DISTIL, "xs")),
        Cell(distil, (XS, XS, XS), by_type(_DISTIL, "eps")),
    ],
    "wrong dtype": [
        Cell(distil, (XS + 0j, XS, 0.1), by_type(_DISTIL, "xs")),
        Cell(distil, (XS, [[1.0]], 0.1), by_type(_DISTIL, "vs")),
        Cell(distil, (XS, XS, "fast"), by_type(_DISTIL, "eps")),
    ],
    "mismatched shapes": cells(
        distil, by_type(_DISTIL, "vs"), (XS, XS[:2], 0.1), (XS, jnp.ones((3, 1)), 0.1)
    ),
    "empty": [Cell(distil, (XS[:0], XS[:0], 0.1), no_samples(_DISTIL, "xs"))],
    "nan and inf": cells(distil, Right(NAN), (XS, XS * NAN, 0.1), (XS, XS, NAN)),
    "integers": [
        Cell(distil, (WHOLE, XS, 0.1), Right(_STEP, rtol=1e-4)),
        Cell(distil, (XS, XS, 1), Right(100 * _STEP)),
    ],
    "python floats": [Cell(distil, (1.0, 1.0, 0.1), by_type(_DISTIL, "xs"))],
    "numpy arrays": [Cell(distil, (np.asarray(XS), np.asarray(XS), 0.1), Right(_STEP, rtol=1e-4))],
    "wrong value": [],
}
TABLE = ROWS
