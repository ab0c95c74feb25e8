"""Bad input for games: GANs and IPMs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from bad_calculus import (
    BY_RESULT,
    DOMAIN,
    FALLS,
    FLAT_PAIRS,
    INF,
    LEAST_SQUARES,
    LOGISTIC,
    NAN,
    NO_RATIO,
    NONE,
    NOT_REAL,
    PAIR,
    VALUES,
    H,
    Methods,
    double,
    joined,
    numbers,
    of_number,
    one,
    softplus,
)
from bad_input import Cell, Right, by_content, by_type

import divergence_flows as df

itself = lambda x: x
PEARSON = df.divergences.pearson
MADE_OF = ("f_gan", "b_gan", "nwj", "ulsif", "exponential", "mirror")
GANS = {
    name: getattr(df.gans, name)()
    for name in ("vanilla", "non_saturating", "logit", "arcsinh", "mle", "least_squares", "ebm")
} | {name: getattr(df.gans, name)(PEARSON) for name in MADE_OF}
GANS["f_gan"] = df.gans.f_gan(PEARSON, raw=False)
# A d outside the domain and log r there: of f' below its infimum, r = 0.
OUTSIDE = {
    "f_gan": (-3.0, -INF),
    "b_gan": (-1.0, NAN),
    "least_squares": (2.0, NAN),
    "ulsif": (-1.0, NAN),
    "mirror": (-1.0, NAN),
}


def _row_of_gan(name):
    gan, some = GANS[name], jnp.array([[-0.5, 0.25]])
    back = lambda u: gan.log_t(gan.inverse(u))  # the identity, whatever the GAN
    players = Methods(gan, ("phi", "psi", "h_t"))
    row = {
        "wrong rank": one(back, some, Right(some, atol=1e-5)),
        "wrong dtype": [
            Cell(getattr(gan, field), (wrong,), NOT_REAL)
            for field in ("phi", "psi", "h_t", "log_t", "inverse", "descends", "measures")
            for wrong in (1j, [1.0])
        ],
        "mismatched shapes": [],
        "empty": one(back, NONE, Right(NONE)),
        "nan and inf": [
            Cell(players, (jnp.full(2, NAN),), Right(np.full((3, 2), NAN))),
            Cell(back, (jnp.full(2, NAN),), Right(np.full(2, NAN))),
        ],
        "wrong value": [
            Cell(getattr(df.gans, name), (wrong,), by_type(name, "div"))
            for wrong in ("pearson", PEARSON.f, GANS["logit"])
            if name in MADE_OF
        ],
    }
    if name in OUTSIDE:
        d, log_r = OUTSIDE[name]
        row[DOMAIN] = one(gan.log_t, jnp.full(2, d), Right(np.full(2, log_r)))
    return row


ROWS = {f"gans.{name}": _row_of_gan(name) for name in GANS}
ROWS["gans.vanilla"] = joined(
    ROWS["gans.vanilla"], of_number(df.gans.vanilla, "h_t", "shift", np.logaddexp(0, 3))
)
ROWS["gans.ebm"] = joined(ROWS["gans.ebm"], of_number(df.gans.ebm, "h_t", "lam", np.exp(-3)))
ROWS["gans.f_gan"] = joined(
    ROWS["gans.f_gan"],
    {
        "wrong value": [
            Cell(partial(df.gans.f_gan, PEARSON, "no"), (), by_type("f_gan", "saturating"))
        ],
        # Total variation has f'' = 0: no flow, and so no f-GAN of ours.
        PAIR: one(
            lambda d: df.gans.f_gan(df.Divergence(lambda r: abs(r - 1))).h_t(d),
            0.5,
            by_content("f_to_h", "total variation", "Give a strictly convex f"),
        ),
    },
)


def _made_of_others(kind):
    """What a class of games refuses to be made of."""
    return [
        Cell(kind, players, by_type("__init__", argument))
        for players, argument in (
            ((1.0, softplus, softplus), "phi"),
            ((softplus, None, softplus), "psi"),
            ((softplus, softplus, "d"), "h_t"),
        )
    ]


_MINE, _SUMS = df.GAN(*LOGISTIC, softplus, inverse=itself), df.GAN(jnp.sum, jnp.sum, jnp.sum)
_IPM, _WGAN = df.IPM(double, jnp.negative, double), df.gans.wasserstein()
AT_EDGES = (jnp.array([NAN, INF]),)
# A number that a function carries with it is as good as an array.
TRIPLE = jax.tree_util.Partial(jnp.multiply, 3.0)
ROWS["GAN"] = joined(
    numbers(_MINE.log_t, itself),
    {
        "wrong rank": one(_MINE.log_t, VALUES[None], Right(VALUES[None])),
        "wrong dtype": _made_of_others(df.GAN),
        "mismatched shapes": [Cell(f, (VALUES,), BY_RESULT) for f in (_SUMS.phi, _SUMS.log_t)],
        "empty": [Cell(f, (NONE,), Right(NONE)) for f in (_MINE.descends, _MINE.measures)],
        "nan and inf": [Cell(_MINE.log_t, AT_EDGES, Right(AT_EDGES[0]))],
        H: one(df.GAN(*LOGISTIC, jnp.negative, inverse=itself).descends, VALUES, FALLS),
        PAIR: [Cell(df.GAN(*pair, softplus).log_t, (0.5,), NO_RATIO) for pair in FLAT_PAIRS],
        DOMAIN: [
            Cell(df.GAN(*LEAST_SQUARES, double).log_t, (2.0,), Right(NAN)),
            Cell(_MINE.descends, (-VALUES,), Right(np.full(2, NAN))),
        ],
        "python floats": one(df.GAN(*LOGISTIC, TRIPLE).h_t, 0.5, Right(1.5)),
        "wrong value": [],
    },
)
ROWS["IPM"] = {
    "wrong rank": one(_IPM.phi, VALUES[None], Right(2 * VALUES[None])),
    "wrong dtype": [*_made_of_others(df.IPM), Cell(_IPM.phi, (1j,), NOT_REAL)],
    "mismatched shapes": one(df.IPM(jnp.sum, jnp.sum, jnp.sum).psi, VALUES, BY_RESULT),
    "empty": one(_IPM.phi, NONE, Right(NONE)),
    "nan and inf": [Cell(_IPM.phi, AT_EDGES, Right(AT_EDGES[0]))],
    # An h_T of d that falls is right for a critic of -log r: only the caller knows.
    H: one(df.IPM(double, double, jnp.negative).h_t, 2.0, Right(-2.0)),
    "wrong value": [],
}
ROWS["gans.wasserstein"] = {
    "wrong rank": one(_WGAN.psi, VALUES[None], Right(-VALUES[None])),
    "wrong dtype": one(_WGAN.phi, [1.0], NOT_REAL),
    "mismatched shapes": [],
    "empty": one(_WGAN.h_t, NONE, Right(NONE)),
    "nan and inf": [Cell(_WGAN.psi, AT_EDGES, Right(-AT_EDGES[0]))],
    "wrong value": [],
}
TABLE = ROWS
