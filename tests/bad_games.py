"""Bad input for games: gans, IPMs, witnesses, losses of a discriminator, penalties."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from bad_calculus import (
    INF,
    LEAST_SQUARES,
    LOGISTIC,
    NAN,
    NONE,
    VALUES,
    Methods,
    alike,
    by_result,
    double,
    hinge_p,
    hinge_q,
    softplus,
)
from bad_input import Cell, Right, by_content, by_type, by_value

import divergence_flows as df


def itself(x):
    return x


PEARSON = df.divergences.pearson
GANS = {
    "vanilla": df.gans.vanilla(),
    "non_saturating": df.gans.non_saturating(),
    "logit": df.gans.logit(),
    "arcsinh": df.gans.arcsinh(),
    "mle": df.gans.mle(),
    "f_gan": df.gans.f_gan(PEARSON, raw=False),
    "b_gan": df.gans.b_gan(PEARSON),
    "least_squares": df.gans.least_squares(),
    "ebm": df.gans.ebm(),
    "nwj": df.gans.nwj(),
    "ulsif": df.gans.ulsif(),
    "exponential": df.gans.exponential(),
    "mirror": df.gans.mirror(PEARSON),
}
# A d outside the domain and log r there: of f' below its infimum, r = 0.
OUTSIDE = {
    "f_gan": (-3.0, -INF),
    "b_gan": (-1.0, NAN),
    "least_squares": (2.0, NAN),
    "ulsif": (-1.0, NAN),
    "mirror": (-1.0, NAN),
}


def there_and_back(gan):
    """u -> d -> u: the identity, whatever the GAN."""

    def call(u):
        return gan.log_t(gan.inverse(u))

    return call


def _row_of_gan(name):
    gan = GANS[name]
    back, values = there_and_back(gan), Methods(gan, ("phi", "psi", "h_t"))
    some = np.array([[-0.5, 0.25]])
    if name == "mirror":  # solved for, and twice: once and for its phi = d alone here
        back = gan.phi
    row = {
        "wrong rank": [Cell(there_and_back(gan), (jnp.asarray(some),), Right(some, atol=1e-5))],
        "wrong dtype": [
            *[
                Cell(getattr(gan, field), (1j,), by_type("elementwise", "x"))
                for field in ("phi", "psi", "h_t", "log_t", "inverse")
            ],
            Cell(gan.descends, ([1.0],), by_type("_f_of_h", "r")),
            Cell(gan.measures, ([1.0],), by_type("_attained", "r")),
        ],
        "empty": [Cell(back, (NONE,), Right(NONE))],
        "nan and inf": [
            Cell(values, (jnp.full(2, NAN),), Right(np.full((3, 2), NAN))),
            Cell(back, (jnp.full(2, NAN),), Right(np.full(2, NAN))),
        ],
        "integers": [Cell(back, (np.array([1, 2]),), Right(np.array([1.0, 2.0]), atol=1e-5))],
        "python floats": [Cell(back, (0.5,), Right(0.5, atol=1e-5))],
        "numpy arrays": [Cell(back, (some[0],), Right(some[0], atol=1e-5))],
    }
    if name in OUTSIDE:
        d, log_r = OUTSIDE[name]
        row["outside the domain"] = [Cell(gan.log_t, (jnp.full(2, d),), Right(np.full(2, log_r)))]
    return row


ROWS = {f"gans.{name}": _row_of_gan(name) for name in GANS}
for _name, _argument in (("vanilla", "shift"), ("ebm", "lam")):
    _make, _row = getattr(df.gans, _name), ROWS[f"gans.{_name}"]
    _row["wrong rank"].append(Cell(_make, (jnp.ones(2),), by_type(_name, _argument)))
    _row["wrong dtype"].append(Cell(_make, ("1",), by_type(_name, _argument)))
    _row["nan and inf"].append(Cell(lambda a, make=_make: make(a).h_t(1.0), (NAN,), Right(NAN)))
    _row["integers"].append(
        alike(lambda a, make=_make: make(a).h_t(1.0), (2,), (jnp.asarray(2.0),))
    )
for _name in ("f_gan", "b_gan", "nwj", "ulsif", "exponential", "mirror"):
    ROWS[f"gans.{_name}"]["wrong value"] = [
        Cell(getattr(df.gans, _name), (wrong,), by_type(_name, "div"))
        for wrong in ("pearson", PEARSON.f, GANS["logit"])
    ]
ROWS["gans.f_gan"]["wrong value"] += [
    Cell(lambda: df.gans.f_gan(PEARSON, "no"), (), by_type("f_gan", "saturating")),
]
ROWS["gans.f_gan"]["no ratio estimator"] = [
    # Total variation has f'' = 0: no flow, and so no f-GAN of ours.
    Cell(
        lambda d: df.gans.f_gan(df.Divergence(lambda r: abs(r - 1))).h_t(d),
        (0.5,),
        by_content("f_to_h", "total variation", "Give a strictly convex f"),
    ),
]

_MINE = df.GAN(*LOGISTIC, softplus, inverse=itself)
ROWS["GAN"] = {
    "wrong rank": [Cell(_MINE.log_t, (VALUES[None],), Right(VALUES[None]))],
    "wrong dtype": [
        Cell(df.GAN, (1.0, softplus, softplus), by_type("__init__", "phi")),
        Cell(df.GAN, (softplus, None, softplus), by_type("__init__", "psi")),
        Cell(df.GAN, (softplus, softplus, "d"), by_type("__init__", "h_t")),
    ],
    "mismatched shapes": [
        Cell(df.GAN(jnp.sum, jnp.sum, jnp.sum).phi, (VALUES,), by_result("_types.elementwise")),
        Cell(
            df.GAN(jnp.sum, jnp.sum, jnp.sum).log_t, (VALUES,), by_result("_quadrature.derivative")
        ),
    ],
    "empty": [
        Cell(_MINE.descends, (NONE,), Right(NONE)),
        Cell(_MINE.measures, (NONE,), Right(NONE)),
    ],
    "nan and inf": [Cell(_MINE.log_t, (jnp.array([NAN, INF]),), Right(np.array([NAN, INF])))],
    "h does not increase": [
        Cell(
            df.GAN(*LOGISTIC, jnp.negative, inverse=itself).descends,
            (VALUES,),
            by_content("h_to_f", "`h` decreases", "Give an increasing h"),
        ),
    ],
    "no ratio estimator": [
        Cell(
            df.GAN(*pair, softplus).log_t, (0.5,), by_content("log_ratio", "is flat", "Give a pair")
        )
        for pair in ((hinge_p, hinge_q), (double, jnp.negative))
    ],
    "outside the domain": [
        Cell(df.GAN(*LEAST_SQUARES, double).log_t, (2.0,), Right(NAN)),
        Cell(_MINE.descends, (-VALUES,), Right(np.full(2, NAN))),
    ],
    "integers": [
        Cell(_MINE.log_t, (2,), Right(2.0)),
        Cell(_MINE.inverse, (np.array([1]),), Right(np.array([1.0]))),
    ],
    "python floats": [
        Cell(_MINE.log_t, (0.5,), Right(0.5)),
        # A number that a function carries with it is as good as an array.
        Cell(df.GAN(*LOGISTIC, jax.tree_util.Partial(jnp.multiply, 3.0)).h_t, (0.5,), Right(1.5)),
    ],
    "numpy arrays": [Cell(_MINE.log_t, (np.array([0.5]),), Right(np.array([0.5])))],
}

_IPM = df.IPM(double, jnp.negative, double)
ROWS["IPM"] = {
    "wrong rank": [Cell(_IPM.phi, (VALUES[None],), Right(2 * VALUES[None]))],
    "wrong dtype": [
        Cell(df.IPM, (1.0, softplus, softplus), by_type("__init__", "phi")),
        Cell(df.IPM, (softplus, None, softplus), by_type("__init__", "psi")),
        Cell(df.IPM, (softplus, softplus, "d"), by_type("__init__", "h_t")),
        Cell(_IPM.phi, (1j,), by_type("elementwise", "x")),
    ],
    "mismatched shapes": [
        Cell(df.IPM(jnp.sum, jnp.sum, jnp.sum).psi, (VALUES,), by_result("_types.elementwise")),
    ],
    "empty": [Cell(_IPM.phi, (NONE,), Right(NONE))],
    "nan and inf": [Cell(_IPM.phi, (jnp.array([NAN, INF]),), Right(np.array([NAN, INF])))],
    # An h_T of d that falls is right for a critic of -log r: only the caller knows.
    "h does not increase": [Cell(df.IPM(double, double, jnp.negative).h_t, (2.0,), Right(-2.0))],
    "integers": [Cell(_IPM.phi, (2,), Right(4.0))],
    "python floats": [Cell(_IPM.phi, (0.5,), Right(1.0))],
    "numpy arrays": [Cell(_IPM.phi, (np.array([0.5]),), Right(np.array([1.0])))],
}
_WGAN = df.gans.wasserstein()
ROWS["gans.wasserstein"] = {
    "wrong rank": [Cell(_WGAN.psi, (VALUES[None],), Right(-VALUES[None]))],
    "wrong dtype": [Cell(_WGAN.phi, ([1.0],), by_type("elementwise", "x"))],
    "empty": [Cell(_WGAN.h_t, (NONE,), Right(NONE))],
    "nan and inf": [Cell(_WGAN.psi, (jnp.array([NAN, INF]),), Right(np.array([NAN, -INF])))],
    "integers": [Cell(_WGAN.psi, (2,), Right(-2.0))],
    "python floats": [Cell(_WGAN.psi, (0.5,), Right(-0.5))],
    "numpy arrays": [Cell(_WGAN.psi, (np.array([0.5]),), Right(np.array([-0.5])))],
}


# A critic, and what looks at it


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
            by_value("witness", "`discriminator` returned an array of shape (2,)", "must return"),
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
            by_value(_PENALTY, "`discriminator` returned an array of shape (2,)", "must return"),
        ),
    ],
    "empty": [
        Cell(r1, (XS[:0], XS), by_value(_PENALTY, "`xs_p` has no samples", "pass one")),
        Cell(one, (XS, XS[:0]), by_value(_PENALTY, "`xs_q` has no samples", "pass one")),
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
            discriminator, (NONE, VALUES), by_value("discriminator_loss", "`d_p` is empty", "pass")
        ),
        Cell(
            discriminator, (VALUES, NONE), by_value("discriminator_loss", "`d_q` is empty", "pass")
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
    "empty": [Cell(generator, (NONE,), by_value("generator_loss", "`d_q` is empty", "pass"))],
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
            df.distillation_loss, (XS[:0], XS[:0], 0.1), by_value(_DISTIL, "`xs` is empty", "pass")
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
