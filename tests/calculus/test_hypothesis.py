"""Laws of calculus, tables and GANs for functions, parameters, shapes and dtypes that are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, strategies as st
from jax.tree_util import Partial
from strategies import dtypes, in_float64, law, numbers, seeds, shapes

import divergence_flows as df

D, G = df.divergences, df.gans
POINTS = 6
us = numbers(-4.0, 4.0, POINTS)
weights = numbers(0.1, 2.0, 5)


def close(found, wanted, rtol=1e-9, atol=1e-11):
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=rtol, atol=atol)


# --- calculus: f a random positive combination of convex functions ---


def parts(r, np=jnp):
    """Convex functions that vanish at 1."""
    return -np.log(r), r * np.log(r), (np.sqrt(r) - 1) ** 2, (r - 1) ** 2, (r - 1) ** 2 / r


def combined(w, r):
    return sum(weight * part for weight, part in zip(w, parts(r), strict=True))


def combined_h(w, u):
    """r f' - f of each part, by hand."""
    r = np.exp(u)
    each = (np.log(r) - 1, r, np.sqrt(r) - 1, r**2 - 1, 2 - 2 / r)
    return sum(weight * part for weight, part in zip(w, each, strict=True))


def combined_slope(w, r):
    one = np.ones_like(r)
    each = (-1 / r, np.log(r) + 1, one - 1 / np.sqrt(r), 2 * (r - 1), one - 1 / r**2)
    return sum(weight * part for weight, part in zip(w, each, strict=True))


@jax.jit
def derived(w, u):
    f, r = Partial(combined, w), jnp.exp(u)
    h = df.f_to_h(f)
    return {"h": h(u), "back": df.h_to_f(h)(r), "variation": df.first_variation(f)(r)}


CONJUGATE = jax.jit(lambda w, s: df.conjugate(Partial(combined, w))(s))
MAXIMISER = jax.jit(lambda w, s: jax.vmap(jax.grad(df.conjugate(Partial(combined, w))))(s))


@given(weights, us)
@law
@in_float64
def test_h_the_way_back_and_the_first_variation_meet_closed_forms(w, u):
    found, r = derived(w, u), np.exp(u)
    close(found["h"], combined_h(w, u), 1e-10, 1e-10)
    line = combined_slope(w, np.ones(1)) * (r - 1)
    # The subtraction on this side cancels; f is of size 1e4 at the ends.
    close(found["back"], combined(w, r) - line, 1e-9, 1e-10)
    close(found["variation"], combined(w, r) - r * combined_slope(w, r), 1e-10, 1e-10)


@given(weights, us, us)
@law
@in_float64
def test_fenchel_young_holds_with_equality_at_the_slope(w, u, v):
    r, s = np.exp(u), combined_slope(w, np.exp(v))
    star = np.asarray(CONJUGATE(w, s))
    gap = combined(w, r)[:, None] + star - r[:, None] * s
    size = combined(w, r)[:, None] + np.abs(star) + np.abs(r[:, None] * s)
    assert np.all(gap >= -1e-9 * size)
    close(star, np.exp(v) * s - combined(w, np.exp(v)), 1e-8, 1e-8)
    close(MAXIMISER(w, s), np.exp(v), 1e-7)


def cubic(a, b, c, d):
    return a * d + b * d**3 + c


def rise(a, u):
    return a * u + jnp.arcsinh(u)


def minus_exp(b, c, d):
    return -c * jnp.exp(b * d) / b


def line(a, d):
    return a * d


signs = st.sampled_from([-1.0, 1.0])
positive = st.floats(0.1, 5.0)


@jax.jit
def inverted(a, b, c, d, u):
    """log T and its inverse; h lifted to d, and lowered again."""
    log_t, h = Partial(cubic, a, b, c), Partial(rise, jnp.abs(a))
    lifted = df.lift(h, log_t)
    return df.inverse_log_ratio(log_t)(log_t(d)), lifted(d), df.lower(lifted, log_t)(u)


PAIR = jax.jit(
    lambda a, b, c, d: [
        made(Partial(line, a), Partial(minus_exp, b, c))(d) for made in (df.log_ratio, df.ratio)
    ]
)


@given(signs, positive, positive, st.floats(-3.0, 3.0), numbers(-50.0, 50.0, POINTS), us)
@law
@in_float64
def test_any_cubic_rising_or_falling_is_inverted_and_lower_undoes_lift(sign, a, b, c, d, u):
    again, lifted, lowered = inverted(sign * a, sign * b, c, d, u)
    # d is known as well as u is, which holds c.
    close(again, d, 1e-10, 1e-13 + 1e-14 / a)
    there = cubic(sign * a, sign * b, c, d)
    close(lifted, a * there + np.arcsinh(there), 1e-12)
    close(lowered, a * u + np.arcsinh(u), 1e-10, 1e-11)


@given(positive, positive, positive, us)
@law
@in_float64
def test_the_log_ratio_of_an_exponential_pair_is_a_line(a, b, c, d):
    log_t, t = PAIR(a, b, c, d)
    close(log_t, np.log(c / a) + b * d, 1e-12, 1e-12)
    close(t, c / a * np.exp(b * d), 1e-12)


# --- tables: all rows in one program for each dtype ---

NAMED = [name for name, value in vars(D).items() if isinstance(value, df.Divergence)]


def rows(a, c):
    named = {name: getattr(D, name) for name in NAMED}
    return {**named, "alpha": D.alpha(a), "shifted": D.shifted_vanilla(c)}


@jax.jit
def table(a, c, u):
    return {name: div.h_prime(u) for name, div in rows(a, c).items()}


def log_slopes(a, c, u):
    """log h'(u) by hand, from r^2 f''(r), with nothing that overflows."""
    plus = np.logaddexp(0, u)
    return {
        "kl_qp": 0 * u,
        "kl_pq": u,
        "jensen_shannon": u - plus - np.log(2),
        "softened_reverse_kl": -plus,
        "squared_hellinger": u / 2 - np.log(2),
        "pearson": 2 * u + np.log(2),
        "neyman": np.log(2) - u,
        "le_cam": np.log(8) + 2 * u - 3 * plus,
        "jeffreys": plus,
        "least_squares": np.log(2) + u - 3 * plus,
        "arcsinh": -np.log1p(u**2) / 2,
        "alpha": a * u,
        "shifted": u + c - np.logaddexp(0, u + c),
    }


orders, shifts = st.floats(-3.0, 4.0), st.floats(-5.0, 5.0)
# Of every size up to 1e4.
far = st.tuples(numbers(-3.0, 4.0, POINTS), numbers(-1.0, 1.0, POINTS)).map(
    lambda drawn: np.where(drawn[1] < 0, -1, 1) * 10.0 ** drawn[0]
)


@given(orders, shifts, far, dtypes)
@law
@in_float64
def test_slopes_of_h_are_right_wherever_they_are_numbers(a, c, u, dtype):
    a, c, u = (np.asarray(x, dtype) for x in (a, c, u))
    found = table(a, c, u)
    # The range of normal numbers, and the error that rounding of u, or of a u, leaves in e^u.
    least, most = np.log(float(np.finfo(dtype).tiny)), np.log(float(np.finfo(dtype).max))
    wanted = log_slopes(*(x.astype(float) for x in (a, c, u)))
    rtol = 20 * float(np.finfo(dtype).eps) * (1 + 4 * np.minimum(np.abs(u), most))
    for name, log_slope in wanted.items():
        slope = np.asarray(found[name])
        assert slope.dtype == dtype
        inside = (log_slope > least + 1) & (log_slope < most - 1)
        gap = np.abs(slope.astype(float) - np.exp(np.where(inside, log_slope, 0)))
        assert np.all((gap <= rtol * np.exp(np.where(inside, log_slope, 0)))[inside]), (name, u)
        assert np.all(slope[log_slope < least - 1] <= np.finfo(dtype).tiny), (name, u)
        assert not np.any(np.isnan(slope)), (name, u)


TAKES_NUMBERS = {
    "hellinger.h": lambda: D.squared_hellinger.h,
    "kl_pq.f": lambda: D.kl_pq.f,
    "pearson.conjugate": lambda: D.pearson.conjugate,
    "vanilla.h_t": lambda: G.vanilla(1.0).h_t,
    "first_variation": lambda: df.first_variation(jnp.square),
}


@given(st.sampled_from(sorted(TAKES_NUMBERS)), st.booleans(), shapes, seeds)
@law
def test_numbers_of_every_kind_and_shape_are_taken(name, wide, shape, seed):
    with jax.enable_x64(wide):
        function, default = TAKES_NUMBERS[name](), jnp.result_type(float)
        x = np.random.default_rng(seed).integers(1, 5, shape)
        flat = function(jnp.asarray(x.ravel(), float))
        for kind, dtype in (int, default), (np.float32, np.float32), (np.float64, default):
            found = function(x.astype(kind))
            assert found.shape == shape and found.dtype == dtype
            close(found.ravel(), flat, 100 * jnp.finfo(dtype).eps, 0)
        assert function(float(x.flat[0])) == flat[0]


# --- GANs ---


def gans(a, c):
    return {
        "vanilla": G.vanilla(c),
        "least_squares": G.least_squares(),
        "ebm": G.ebm(c),
        "nwj": G.nwj(),
        "ulsif": G.ulsif(),
        "exponential": G.exponential(),
        "f_gan": G.f_gan(D.alpha(a)),
        "f_gan_slope": G.f_gan(D.alpha(a), raw=False),
        "b_gan": G.b_gan(D.alpha(a)),
        "mirror": G.mirror(D.kl_pq),
    }


@jax.jit
def games(a, c, u):
    made = {}
    for name, gan in gans(a, c).items():
        d = gan.inverse(u)
        values = {"d": d, "u": gan.log_t(d), "phi": gan.phi(d), "psi": gan.psi(d)}
        made[name] = values | {"measures": gan.measures(jnp.exp(u))}
    return made


def measured(a):
    """sup_d r phi(d) + psi(d), less its value at r = 1, by hand; a is no integer."""

    def power(r):
        return (r**a - a * r + a - 1) / (a * (a - 1))

    return {
        "vanilla": lambda r: r * np.log(r) - (1 + r) * np.log(1 + r) + 2 * np.log(2),
        "least_squares": lambda r: 0.5 - r / (1 + r),
        "ebm": lambda r: r * np.log(r) - r + 1,
        "nwj": lambda r: r * np.log(r),
        "ulsif": lambda r: (r**2 - 1) / 2,
        "exponential": lambda r: 2 - 2 * np.sqrt(r),
        "f_gan": power,
        "f_gan_slope": power,
        "b_gan": power,
        # Of f' = h, which is r - 1 + the constant of the table's h = r.
        "mirror": lambda r: (r**2 - 1) / 2,
    }


fractions = st.floats(0.1, 0.9).flatmap(lambda x: st.sampled_from([x, x + 1, x - 1]))


@given(fractions, shifts, us)
@law
@in_float64
def test_a_game_is_inverted_won_and_measured_as_the_closed_form_says(a, c, u):
    r = np.exp(u)
    for name, found in games(a, c, u).items():
        close(found["u"], u, 1e-7, 1e-7)
        gain = r[:, None] * found["phi"] + found["psi"]
        regret = np.diag(gain)[:, None] - gain
        assert np.all(regret >= -1e-9 * (1 + np.abs(gain))), name
        close(found["measures"], measured(a)[name](r), 1e-7, 1e-9)
