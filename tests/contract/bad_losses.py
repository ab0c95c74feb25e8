"""Bad input for what looks at a critic: witnesses, penalties, losses."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from bad_calculus import NAN, NONE, VALUES, double, hinge_p, hinge_q
from bad_games import GANS, PEARSON, itself
from bad_input import Cell, Right, by_type, by_value

import divergence_flows as df

ROWS = {}


def square(x):
    return jnp.sum(x**2)


POINT = jnp.array([1.0, 2.0])
_WITNESS = df.witness(square)
ROWS["witness"] = {
    "wrong rank": [
        Cell(_WITNESS, (jnp.ones(2), POINT, None), by_type("_witness", "t")),
        Cell(_WITNESS, (0.0, POINT[None], None), Right(5.0)),
    ],
    "wrong dtype": [
        Cell(df.witness, (3.0,), by_type("witness", "discriminator")),
        Cell(_WITNESS, (0.0, POINT + 0j, None), by_type("_witness", "x")),
        Cell(_WITNESS, (0.0, [1.0, 2.0], None), by_type("_witness", "x")),
    ],
    "mismatched shapes": [
        Cell(
            df.witness(itself),
            (0.0, POINT, None),
            by_value("witness", "`discriminator` returns", "must return"),
        ),
    ],
    "empty": [Cell(_WITNESS, (0.0, NONE, None), Right(0.0))],
    "nan and inf": [Cell(_WITNESS, (0.0, POINT * NAN, None), Right(NAN))],
    "integers": [Cell(_WITNESS, (0, np.array([1, 2]), None), Right(5.0))],
    "python floats": [Cell(_WITNESS, (0.0, 3.0, None), Right(9.0))],
    "numpy arrays": [Cell(_WITNESS, (np.zeros(()), np.array([1.0, 2.0]), None), Right(5.0))],
}

XS = jnp.array([[1.0, 2.0], [0.0, 2.0], [2.0, 1.0]])
R1 = 4 * 14 / 3  # the mean of |2 x|^2


def penalty(*values, **options):
    return df.gradient_penalty(*values, **options)


def one(xs_p, xs_q):
    return df.gradient_penalty("one", square, xs_p, xs_q, key=jr.key(0))


def r1(xs_p, xs_q, critic=square):
    return df.gradient_penalty("r1", critic, xs_p, xs_q)


_PENALTY = "gradient_penalty"
ROWS[_PENALTY] = {
    "wrong rank": [
        Cell(r1, (jnp.asarray(1.0), XS), by_type(_PENALTY, "xs_p")),
        Cell(r1, (XS, XS[0]), by_type(_PENALTY, "xs_q")),
    ],
    "wrong dtype": [
        Cell(r1, (XS + 0j, XS), by_type(_PENALTY, "xs_p")),
        Cell(r1, ([[1.0]], XS), by_type(_PENALTY, "xs_p")),
        Cell(lambda: r1(XS, XS, 3.0), (), by_type(_PENALTY, "discriminator")),
        Cell(lambda: penalty("one", square, XS, XS, key=3), (), by_type(_PENALTY, "key")),
    ],
    "mismatched shapes": [
        Cell(r1, (XS, jnp.ones((3, 5))), by_type(_PENALTY, "xs_q")),
        Cell(
            lambda xs: r1(xs, xs, itself),
            (XS,),
            by_value(_PENALTY, "`discriminator` makes", "pass a function of one sample"),
        ),
    ],
    "empty": [
        Cell(r1, (XS[:0], XS), by_value(_PENALTY, "`xs_p` has no samples", "pass at least one")),
        Cell(one, (XS, XS[:0]), by_value(_PENALTY, "`xs_q` has no samples", "pass at least one")),
        Cell(r1, (XS, XS[:0]), Right(R1)),
    ],
    "nan and inf": [Cell(r1, (XS * NAN, XS), Right(NAN))],
    "key missing": [
        Cell(lambda xs: penalty("one", square, xs, xs), (XS,), by_value(_PENALTY, "pass `key`")),
    ],
    "integers": [Cell(r1, (np.asarray(XS).astype(int), XS), Right(R1))],
    "python floats": [Cell(r1, (1.0, 1.0), by_type(_PENALTY, "xs_p"))],
    "numpy arrays": [Cell(r1, (np.asarray(XS), np.asarray(XS)), Right(R1))],
    "wrong value": [
        Cell(
            lambda: penalty("two", square, XS, XS),
            (),
            by_value(_PENALTY, "`penalty` is 'two'", "pass"),
        ),
        Cell(lambda: penalty(None, square, XS, XS), (), by_type(_PENALTY, "penalty")),
    ],
}

# Losses


def discriminator(d_p, d_q):
    return df.discriminator_loss(GANS["logit"], d_p, d_q)


def generator(d_q):
    return df.generator_loss(GANS["logit"], d_q)


_LOSS = 2 * np.log(2)  # at d = 0
ZEROS = np.zeros(3, int)
ROWS["discriminator_loss"] = {
    "wrong rank": [Cell(discriminator, (jnp.zeros((2, 1)), jnp.zeros(())), Right(_LOSS))],
    "wrong dtype": [
        Cell(discriminator, (1j, VALUES), by_type("discriminator_loss", "d_p")),
        Cell(discriminator, (VALUES, [1.0]), by_type("discriminator_loss", "d_q")),
    ],
    "mismatched shapes": [Cell(discriminator, (jnp.zeros(3), jnp.zeros(2)), Right(_LOSS))],
    "empty": [
        Cell(
            discriminator,
            (NONE, VALUES),
            by_value("discriminator_loss", "`d_p` has no samples", "pass at least one"),
        ),
        Cell(
            discriminator,
            (VALUES, NONE),
            by_value("discriminator_loss", "`d_q` has no samples", "pass at least one"),
        ),
    ],
    "nan and inf": [Cell(discriminator, (VALUES * NAN, VALUES), Right(NAN))],
    # A loss needs no ratio: the hinge game is trained by it, and only log r is refused.
    "no ratio estimator": [
        Cell(
            lambda d: df.discriminator_loss(df.GAN(hinge_p, hinge_q, double), d, d),
            (jnp.zeros(2),),
            Right(2.0),
        ),
    ],
    "outside the domain": [
        Cell(lambda d: df.discriminator_loss(GANS["b_gan"], d, d), (-VALUES,), Right(NAN)),
    ],
    "integers": [Cell(discriminator, (ZEROS, ZEROS), Right(_LOSS))],
    "python floats": [Cell(discriminator, (0.0, 0.0), Right(_LOSS))],
    "numpy arrays": [Cell(discriminator, (np.zeros(3), np.zeros(3)), Right(_LOSS))],
    "wrong value": [
        Cell(
            lambda d, wrong=wrong: df.discriminator_loss(wrong, d, d),
            (VALUES,),
            by_value("discriminator_loss", f"`gan` is a {kind}", "pass a GAN"),
        )
        for wrong, kind in ((3, "int"), (PEARSON, "Divergence"))
    ],
}
ROWS["generator_loss"] = {
    "wrong rank": [Cell(generator, (VALUES[None],), Right(-1.0))],
    "wrong dtype": [
        Cell(generator, (1j,), by_type("generator_loss", "d_q")),
        Cell(generator, ([1.0],), by_type("generator_loss", "d_q")),
    ],
    "empty": [
        Cell(
            generator,
            (NONE,),
            by_value("generator_loss", "`d_q` has no samples", "pass at least one"),
        )
    ],
    "nan and inf": [Cell(generator, (VALUES * NAN,), Right(NAN))],
    # Of d = -log r, as the energy's, the right h_T falls: only gan.descends can tell, and does.
    "h does not increase": [Cell(lambda d: df.generator_loss(GANS["ebm"], d), (0.0,), Right(-1.0))],
    "no ratio estimator": [
        Cell(
            lambda d: df.generator_loss(df.GAN(hinge_p, hinge_q, double), d), (VALUES,), Right(-2.0)
        ),
    ],
    "outside the domain": [
        Cell(lambda d: df.generator_loss(GANS["ulsif"], d), (-VALUES,), Right(NAN)),
    ],
    "integers": [Cell(generator, (np.array([1, 3]),), Right(-2.0))],
    "python floats": [Cell(generator, (0.5,), Right(-0.5))],
    "numpy arrays": [Cell(generator, (np.array([0.5]),), Right(-0.5))],
    "wrong value": [
        Cell(
            lambda d: df.generator_loss(PEARSON, d),
            (VALUES,),
            by_value("generator_loss", "`gan` is a Divergence", "pass a GAN", "h_eff"),
        ),
        Cell(
            lambda d: df.generator_loss(3, d),
            (VALUES,),
            by_value("generator_loss", "`gan` is a int", "pass a GAN"),
        ),
    ],
}

_DISTIL = "distillation_loss"
_STEP = 0.5 * 0.01 * 14 / 3  # of v = x, eps = .1
ROWS[_DISTIL] = {
    "wrong rank": [
        Cell(df.distillation_loss, (jnp.asarray(1.0), XS, 0.1), by_type(_DISTIL, "xs")),
        Cell(df.distillation_loss, (XS, XS, XS), by_type(_DISTIL, "eps")),
    ],
    "wrong dtype": [
        Cell(df.distillation_loss, (XS + 0j, XS, 0.1), by_type(_DISTIL, "xs")),
        Cell(df.distillation_loss, (XS, [[1.0]], 0.1), by_type(_DISTIL, "vs")),
        Cell(df.distillation_loss, (XS, XS, "fast"), by_type(_DISTIL, "eps")),
    ],
    "mismatched shapes": [
        Cell(df.distillation_loss, (XS, XS[:2], 0.1), by_type(_DISTIL, "vs")),
        Cell(df.distillation_loss, (XS, jnp.ones((3, 1)), 0.1), by_type(_DISTIL, "vs")),
    ],
    "empty": [
        Cell(
            df.distillation_loss,
            (XS[:0], XS[:0], 0.1),
            by_value(_DISTIL, "`xs` has no samples", "pass at least one"),
        ),
    ],
    "nan and inf": [
        Cell(df.distillation_loss, (XS, XS * NAN, 0.1), Right(NAN)),
        Cell(df.distillation_loss, (XS, XS, NAN), Right(NAN)),
    ],
    "integers": [
        Cell(df.distillation_loss, (np.asarray(XS).astype(int), XS, 0.1), Right(_STEP, rtol=1e-4)),
        Cell(df.distillation_loss, (XS, XS, 1), Right(100 * _STEP)),
    ],
    "python floats": [Cell(df.distillation_loss, (1.0, 1.0, 0.1), by_type(_DISTIL, "xs"))],
    "numpy arrays": [
        Cell(df.distillation_loss, (np.asarray(XS), np.asarray(XS), 0.1), Right(_STEP, rtol=1e-4)),
    ],
}
TABLE = ROWS
