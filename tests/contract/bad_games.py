"""Bad input for games: gans, IPMs, witnesses, losses of a discriminator, penalties."""

import jax
import jax.numpy as jnp
import numpy as np
from bad_calculus import (
    INF,
    LEAST_SQUARES,
    LOGISTIC,
    NAN,
    NONE,
    VALUES,
    Methods,
    by_result,
    double,
    hinge_p,
    hinge_q,
    softplus,
)
from bad_input import Cell, Right, by_content, by_type

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
    measured = ("elementwise", "x") if name in ("f_gan", "b_gan") else ("_attained", "r")
    if name == "mirror":  # solved for, and twice: once and for its phi = d alone here
        back = gan.phi
    row = {
        "wrong rank": [Cell(there_and_back(gan), (jnp.asarray(some),), Right(some, atol=1e-5))],
        "wrong dtype": [
            *[
                Cell(getattr(gan, field), (1j,), by_type("elementwise", "x"))
                for field in ("phi", "psi", "h_t", "log_t", "inverse")
            ],
            Cell(gan.descends, ([1.0],), by_type("elementwise", "x")),
            Cell(gan.measures, ([1.0],), by_type(*measured)),
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
for _name, _argument, _h_of_1 in (
    ("vanilla", "shift", np.logaddexp(0, 3)),
    ("ebm", "lam", np.exp(-3)),
):
    _make, _row = getattr(df.gans, _name), ROWS[f"gans.{_name}"]
    _row["wrong rank"].append(Cell(_make, (jnp.ones(2),), by_type(_name, _argument)))
    _row["wrong dtype"].append(Cell(_make, ("1",), by_type(_name, _argument)))
    _row["nan and inf"].append(Cell(lambda a, make=_make: make(a).h_t(1.0), (NAN,), Right(NAN)))
    _row["integers"].append(Cell(lambda a, make=_make: make(a).h_t(1.0), (2,), Right(_h_of_1)))
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

TABLE = ROWS
