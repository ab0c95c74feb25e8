"""Bad input for what is elementwise: the calculus, divergences, GANs; all of one number each.

NaN goes in as an array, for as a literal in a program XLA's CPU compiler may fold e^NaN into a
number (jax 0.10.2).
"""

import jax
import jax.numpy as jnp
import numpy as np
from bad_good import INF, LOGISTIC, NAN, double, itself, r_log_r, softplus
from catalogue import ROWS

import divergence_flows as df

G, PAIR = df.gans, tuple(LOGISTIC.values())
half = lambda u: u / 2
flat = lambda d: 0 * d
total_variation = lambda r: abs(r - 1)
LEAST_SQUARES = (lambda d: -((d - 1) ** 2), lambda d: -(d**2))
HINGES = (lambda d: jnp.minimum(0.0, d - 1), lambda d: jnp.minimum(0.0, -d - 1))
FLAT_PAIRS = (HINGES, (double, jnp.negative))
_H, _F, _V = df.f_to_h(r_log_r), df.h_to_f(jnp.exp), df.first_variation(r_log_r)
_LIFTED, _TO_2 = df.lift(jnp.exp, jnp.log), df.inverse_log_ratio(jnp.log, upper=2)
_MINE, _GAN = df.Divergence(r_log_r), df.GAN(*PAIR, softplus, inverse=itself)
_IPM, _WGAN = df.IPM(double, jnp.negative, double), G.wasserstein()
_PAIR, _R3GAN = df.PairGAN(double, itself), G.relativistic()

# Each function with its closed form, and what it is at NaN, inf and -inf.
CLOSED_FORMS = {
    # Far out u -> f(e^u) of a user's own f overflows, and its h with it: NaN, never a number.
    "f_to_h": (_H, np.exp, (NAN, NAN, NAN)),
    "h_to_f": (_F, lambda r: r * np.log(r) - r + 1, (NAN, INF, NAN)),
    "first_variation": (_V, np.negative, (NAN, NAN, NAN)),
    "conjugate": (df.conjugate(r_log_r), lambda s: np.exp(s - 1), (NAN, INF, 0.0)),
    "log_ratio": (df.log_ratio(*PAIR), itself, (NAN, INF, -INF)),
    "ratio": (df.ratio(*PAIR), np.exp, (NAN, INF, 0.0)),
    # No finite d has an infinite log ratio.
    "inverse_log_ratio": (df.inverse_log_ratio(double), half, (NAN, NAN, NAN)),
    "lift": (_LIFTED, itself, (NAN, INF, NAN)),
    "lower": (df.lower(jnp.exp, double), lambda u: np.exp(u / 2), (NAN, NAN, NAN)),
    "Divergence": (_MINE.h, np.exp, (NAN, NAN, NAN)),
    "GAN": (_GAN.log_t, itself, (NAN, INF, -INF)),
    "IPM": (_IPM.phi, double, (NAN, INF, -INF)),
    "gans.wasserstein": (_WGAN.psi, np.negative, (NAN, -INF, INF)),
    "PairGAN": (_PAIR.critic, double, (NAN, INF, -INF)),
    "gans.relativistic": (
        _R3GAN.against(0.5),
        lambda d: -np.log1p(np.exp(0.5 - d)),
        (NAN, 0, -INF),
    ),
}

# f at 0 and inf, h at inf and -inf, whether f' is bounded, so that f* ends, and f* elementary.
LIMITS = {
    "kl_qp": (INF, -INF, INF, -INF, True, True),
    "kl_pq": (0.0, INF, INF, 0.0, False, True),
    "jensen_shannon": (np.log(2) / 2, INF, INF, 0.0, True, True),
    "softened_reverse_kl": (INF, -INF, 0.0, -INF, True, False),
    "squared_hellinger": (1.0, INF, INF, 0.0, True, True),
    "pearson": (1.0, INF, INF, 0.0, False, True),
    "neyman": (INF, INF, 0.0, -INF, True, True),
    "le_cam": (1.0, INF, 3.0, -1.0, True, True),
    "jeffreys": (INF, INF, INF, -INF, False, False),
    "least_squares": (-0.5, INF, 0.0, -1.0, True, False),
    "arcsinh": (INF, INF, INF, -INF, True, False),
    "alpha_3": (1 / 3, INF, INF, -1 / 3, False, True),
    "shifted_0": (np.log(2), INF, INF, 0.0, True, True),
}
OF_DIVERGENCE = ("f", "f_prime", "f_second", "h", "h_prime", "activation", "conjugate")
OF_DIVERGENCE += ("standard", "log_f")
OF_GAN = ("phi", "psi", "h_t", "log_t", "inverse", "descends", "measures")
PEARSON = df.divergences.pearson
GANS = {
    name: getattr(G, name)()
    for name in ("vanilla", "non_saturating", "logit", "arcsinh", "mle", "least_squares", "ebm")
} | {name: getattr(G, name)(PEARSON) for name in ("b_gan", "nwj", "ulsif", "exponential", "mirror")}
GANS["f_gan"] = G.f_gan(PEARSON, raw=False)
# A d outside the domain and log r there: of f' below its infimum, r = 0.
OUTSIDE = {"f_gan": (-3.0, -INF), "least_squares": (2.0, NAN)}
OUTSIDE |= dict.fromkeys(("b_gan", "ulsif", "mirror"), (-1.0, NAN))

ELEMENTWISE = {
    **{name: call for name, (call, *_) in CLOSED_FORMS.items()},
    **{f"{name}.{field}": getattr(ROWS[name], field) for name in LIMITS for field in OF_DIVERGENCE},
    **{f"{name}.{field}": getattr(GANS[name], field) for name in GANS for field in OF_GAN},
    "wasserstein.phi": _WGAN.phi,
}
# Of no numbers they return none; the root finding of the others is that of these.
OF_NONE = [
    *(call for call, *_ in CLOSED_FORMS.values()),
    *(getattr(ROWS[name], field) for name in LIMITS for field in ("f", "h", "h_prime")),
    *(_GAN.descends, _GAN.measures, _WGAN.h_t),
    *(getattr(gan, field) for gan in GANS.values() for field in ("log_t", "inverse")),
]

# Sums where a function of one number is asked: found where the result comes back.
SUMS = [
    *(make(jnp.sum) for make in (df.f_to_h, df.h_to_f, df.first_variation, df.conjugate)),
    df.inverse_log_ratio(jnp.sum),
    *(make(jnp.sum, jnp.sum) for make in (df.log_ratio, df.ratio, df.lift, df.lower)),
    *(df.Divergence(jnp.sum).f, df.Divergence(h=jnp.sum).h),
    *(df.GAN(*[jnp.sum] * 3).phi, df.GAN(*[jnp.sum] * 3).log_t, df.IPM(*[jnp.sum] * 3).psi),
    *(df.PairGAN(jnp.sum, jnp.sum).critic, df.PairGAN(jnp.sum, jnp.sum).generator),
]

# Refused when called: who is named, the call, its arguments, the words.
CALLS = [
    *(
        (f"{room}.stack", getattr(df, room).stack, (), "pass one")
        for room in ("gans", "divergences")
    ),
    ("gans.stack", G.stack, (G.logit(), PEARSON), "argument 1 is a Divergence", "of `gans`"),
    ("gans.stack", G.stack, (G.logit(), G.relativistic()), "games of pairs alone"),
    ("PairGAN.against", G.relativistic().against, (jnp.zeros(0),), "`d_p` has no samples"),
    ("divergences.stack", df.divergences.stack, (G.logit(),), "argument 0 is a GAN"),
]
FALLS = "`h` decreases", "Give an"
NOT_CONVEX = "`f` is not strictly convex", "Give"
NO_RATIO = "is flat", "Give a pair"
FLAT = [make(*pair) for make in (df.log_ratio, df.ratio) for pair in FLAT_PAIRS]
FLAT += [df.GAN(*pair, softplus).log_t for pair in FLAT_PAIRS]
# Refused at run time: who is named, a function, its argument, the words.
CONTENT_CALLS = [
    ("f_to_h", df.f_to_h(jnp.log), (0.3,), *NOT_CONVEX),
    ("f_to_h", df.f_to_h(total_variation), (0.3,), "total varia"),
    ("f_to_h", df.Divergence(jnp.log).h, (0.5,), *NOT_CONVEX),
    # Total variation has f'' = 0: no flow, and so no f-GAN of ours.
    ("f_to_h", G.f_gan(df.Divergence(total_variation)).h_t, (0.5,), "total variation", "Give"),
    ("h_to_f", df.h_to_f(jnp.negative), (2.0,), *FALLS),
    ("h_to_f", df.h_to_f(df.lower(jnp.negative, double, inverse=half)), (2.0,), *FALLS),
    ("h_to_f", df.Divergence(h=jnp.negative).f, (2.0,), *FALLS),
    ("h_to_f", df.GAN(*PAIR, jnp.negative, inverse=itself).descends, (jnp.ones(2),), *FALLS),
    ("conjugate", df.conjugate(jnp.log), (1.0,), "`f` is not convex", "Give"),
    *(("log_ratio", call, (0.5,), *NO_RATIO) for call in FLAT),
]
# A function, where, and what it is there.
_ANSWERS = [
    (df.log_ratio(*LEAST_SQUARES), 2.0, NAN),
    (df.ratio(*LEAST_SQUARES), 2.0, NAN),
    (_F, np.full(3, -1.0), np.full(3, NAN)),
    (df.first_variation(jnp.log), 1.0, -1.0),
    (_V, -1.0, NAN),
    # f = -log r: f* = -1 - log(-s) for s < 0, and no r is best above.
    (df.conjugate(lambda r: -jnp.log(r)), np.array([-2.0, 1.0]), np.array([-1 - np.log(2), INF])),
    (df.inverse_log_ratio(flat), 0.5, NAN),
    (_TO_2, 1.0, NAN),
    # A composition and no more: h_to_f(h) is where a decreasing h is refused.
    (df.lift(jnp.negative, jnp.log), np.e, -1.0),
    (df.lift(jnp.exp, flat), 0.5, 1.0),
    (_LIFTED, -1.0, NAN),
    (df.lower(jnp.exp, flat), 0.5, NAN),
    (df.lower(jnp.exp, jnp.log, inverse=_TO_2), 1.0, NAN),
    (_MINE.f, -1.0, NAN),
    (df.GAN(*LEAST_SQUARES, double).log_t, 2.0, NAN),
    (_GAN.descends, np.array([-0.5, -1.5]), np.array([NAN, NAN])),
    # An h_T of d that falls is right for a critic of -log r: only the caller knows.
    (df.IPM(double, double, jnp.negative).h_t, 2.0, -2.0),
    *((GANS[name].log_t, np.full(2, d), np.full(2, log_r)) for name, (d, log_r) in OUTSIDE.items()),
    *((call, np.array([1, 2, 3]), np.exp([1.0, 2.0, 3.0])) for call in (_H, _MINE.h)),
    (_GAN.log_t, np.array([1, 2, 3]), np.array([1.0, 2.0, 3.0])),
    # Numbers that make a divergence or a GAN: integers, and NaN.
    (lambda u: df.divergences.alpha(2).h(u), 1.0, np.expm1(2) / 2),
    (lambda u: df.divergences.shifted_vanilla(2).h(u), 1.0, np.logaddexp(0, 3)),
    (lambda d: G.vanilla(2).h_t(d), 1.0, np.logaddexp(0, 3)),
    (lambda d: G.ebm(2).h_t(d), 1.0, np.exp(-3)),
    (lambda a: df.divergences.alpha(a).h(1.0), NAN, NAN),
    (lambda c: df.divergences.shifted_vanilla(c).h(1.0), NAN, NAN),
    (lambda shift: G.vanilla(shift).h_t(1.0), NAN, NAN),
    (lambda lam: G.ebm(lam).h_t(1.0), NAN, NAN),
]
# Outside of jit, which would make arrays of them before.
_CONVERSIONS = [
    *((call, x, np.exp(x)) for call in (_H, _MINE.h) for x in (0.5, np.array([0.5, 1.5]))),
    *((_GAN.log_t, x, x) for x in (0.5, np.array([0.5, 1.5]))),
    # A number that a function carries with it is as good as an array.
    (df.GAN(*PAIR, jax.tree_util.Partial(jnp.multiply, 3.0)).h_t, 0.5, 1.5),
]
ANSWERS = [(call, (x,), answer) for call, x, answer in _ANSWERS]
CONVERSIONS = [(call, (x,), answer) for call, x, answer in _CONVERSIONS]
