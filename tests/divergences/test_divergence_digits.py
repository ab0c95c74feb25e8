"""Every function of a row, and its first two derivatives, keep their digits: against mpmath.

The oracle is f and h of theory.md's catalogue, each written as there; all else follows from
F' = F + H with H = h + constant, F(u) = f(e^u), and from differences of h in many digits.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from catalogue import F, alpha_of, shifted_of

import divergence_flows as df

D = df.divergences
ALLOWED = {"float32": 1e-5, "float64": 1e-11}
FUNCTIONS = ("log_f", "standard", "activation", "h", "h_prime", "f", "conjugate")
each_dtype = pytest.mark.parametrize("dtype", ALLOWED)
H = {
    "kl_qp": lambda u: u,
    "kl_pq": mp.exp,
    "jensen_shannon": lambda u: mp.log1p(mp.exp(u)) / 2,
    "softened_reverse_kl": lambda u: -mp.log1p(mp.exp(-u)),
    "squared_hellinger": lambda u: mp.exp(u / 2),
    "pearson": lambda u: mp.exp(2 * u),
    "neyman": lambda u: -2 * mp.exp(-u),
    "le_cam": lambda u: mp.expm1(u) * (3 * mp.exp(u) + 1) / (mp.exp(u) + 1) ** 2,
    "jeffreys": lambda u: mp.exp(u) + u,
    "least_squares": lambda u: -1 / (1 + mp.exp(u)) ** 2,
}


def alpha_h(a):
    return lambda u: mp.expm1(a * u) / a if a else u


def shifted_h(c):
    return lambda u: mp.log1p(mp.exp(u + c))


def grid(dtype):
    """Points on both sides of every switch between closed forms."""
    far = [80, 60.5, 41.3, 30.2, 25.7, 17.2] if dtype == "float32" else [700, 333.3, 100.1, 37, 20]
    far = [1e4, 800, *far]
    near = [9.3, 5.3, 4.02, 3.97, 2.2, 1.03, 0.97, 0.51, 0.1, 1e-3, 1e-6]
    return np.array([s * u for s in (-1, 1) for u in (*far, *near)], dtype)


def slopes_of_h(h, u):
    """The first three derivatives of h."""
    e = mp.mpf(10) ** -30
    a, b, c, d, z = h(u - 2 * e), h(u - e), h(u + e), h(u + 2 * e), h(u)
    return (c - b) / (2 * e), (c - 2 * z + b) / e**2, (d - 2 * c + 2 * b - a) / (2 * e**3)


def truth(f, h, u):
    """By name: value, first and second derivative at u, those of f in r and of f* in s."""
    e, r = mp.mpf(10) ** -(9 * mp.mp.dps // 20), mp.exp(u)
    at_one = (f(1 + e) - f(1 - e)) / (2 * e)
    h1, h2, h3 = slopes_of_h(h, u)
    value, star = f(r), h(u) - h(mp.mpf(0)) + at_one
    slope = (value + star) / r
    standard = value - at_one * (r - 1)
    return {
        "log_f": (value, value + star, value + star + h1),
        "standard": (standard, r * (slope - at_one), r * (slope - at_one) + h1),
        "activation": (slope, h1 / r, (h2 - h1) / r),
        "h": (h(u), h1, h2),
        "h_prime": (h1, h2, h3),
        "f": (value, slope, h1 / r**2),
        "conjugate": (star, r, r**2 / h1 if h1 else mp.inf),
    }


def point_of_slope(f, h, u, s):
    """The u where f'(e^u) = s, from one nearby."""
    for _ in range(6):
        found = truth(f, h, u)
        u -= (found["activation"][0] - s) / found["activation"][1]
    return u


@functools.partial(jax.jit, static_argnums=0)
def slopes(make, parameters, us):
    return jax.vmap(lambda parameter, u: make(parameter).activation(u))(parameters, us)


@functools.partial(jax.jit, static_argnums=0)
def evaluated(make, parameters, points):
    """Value and two derivatives of each named function at its points, each with its parameters."""

    def at(parameter, x, name):
        one = getattr(make(parameter), name)
        slope = jax.grad(one)
        return jnp.stack([one(x), slope(x), jax.grad(slope)(x)])

    one_of = lambda name: jax.vmap(functools.partial(at, name=name))
    return {name: one_of(name)(parameters, xs) for name, xs in points.items()}


def worst(make, laws, digits, parameters, us, dtype):
    """Name, order, parameter and u of each value that is off by more than is allowed."""
    size, bad = jnp.finfo(dtype), []
    points = dict.fromkeys(FUNCTIONS, us)
    with np.errstate(over="ignore"):
        points["f"] = np.exp(us)
    points["conjugate"] = np.asarray(slopes(make, parameters, us))
    got = jax.tree.map(np.asarray, evaluated(make, jnp.asarray(parameters), points))
    for i, (parameter, u) in enumerate(zip(parameters, us, strict=True)):
        with mp.workdps(140 + int(digits(abs(float(parameter)), abs(float(u))))):
            f, h = laws(mp.mpf(float(parameter)))
            here = truth(f, h, mp.mpf(float(u)))
            exact = dict.fromkeys(FUNCTIONS, here)
            r, s = points["f"][i], points["conjugate"][i]
            if size.tiny < r < size.max:
                exact["f"] = truth(f, h, mp.log(mp.mpf(float(r))))
            else:
                del exact["f"]
            # Where f' is flat, or beyond floats, a float s says nothing of r.
            steep = here["activation"][1] > 1e-3 * abs(here["activation"][0])
            if steep and np.isfinite(s) and abs(u) < 750:
                at = point_of_slope(f, h, mp.mpf(float(u)), mp.mpf(float(s)))
                exact["conjugate"] = truth(f, h, at)
            else:
                del exact["conjugate"]
            for name, right in exact.items():
                extra = 0.0
                if name == "conjugate":  # it cannot have r better than s gives it, where f' is flat
                    blur = abs(right["activation"][0]) / right["activation"][1]
                    extra = 8 * float(size.eps) * float(blur)
                for order, wanted in enumerate(right[name]):
                    normal = float(size.tiny) < abs(wanted) < float(size.max)
                    # A zero of second derivatives, which differences do not find exactly.
                    none = abs(wanted) < mp.mpf(10) ** -50 * abs(right[name][0])
                    value = float(got[name][i, order])
                    if name == "log_f" and not parameter and order < 2 and np.isnan(value):
                        bad.append((name, order, parameter, u, value, float(wanted)))
                    if normal and not none:
                        error = abs(mp.mpf(value) - wanted) / abs(wanted)
                        if not error <= ALLOWED[dtype] + order * extra:
                            bad.append((name, order, parameter, u, value, float(wanted)))
    return bad


NAMED = {name: functools.partial(lambda name, _: getattr(D, name), name) for name in H}


@each_dtype
@pytest.mark.parametrize("name", H)
def test_named_rows_keep_their_digits(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        us = grid(dtype)
        laws = lambda _: (F[name], H[name])
        assert not worst(NAMED[name], laws, lambda _, u: min(u, 800), np.zeros_like(us), us, dtype)


def drawn(dtype, low, high, special, count):
    """Parameters, half of them special ones, and points of which half are near 0."""
    rng = np.random.default_rng(5)
    parameters = rng.uniform(low, high, count)
    parameters[::2] = rng.choice(special, parameters[::2].size)
    reach = 80 if dtype == "float32" else 700
    us = np.where(
        rng.random(count) < 0.5, rng.uniform(-reach, reach, count), rng.normal(size=count)
    )
    return parameters.astype(dtype), us.astype(dtype)


@each_dtype
def test_alpha_keeps_its_digits_at_every_order(dtype):
    special = [0, 1, 0.5, -1, 2, 1e-3, 1e-8, -1e-8, 0.999, 1.001, 1 + 1e-6, 1 - 1e-6, 20, -20]
    with jax.enable_x64(dtype == "float64"):
        orders, us = drawn(dtype, -20, 20, special, 80)
        us = np.where(np.arange(80) % 3 == 0, us / (1 + np.abs(orders)), us).astype(dtype)
        laws = lambda a: (alpha_of(a), alpha_h(a))
        assert not worst(D.alpha, laws, lambda a, u: (1 + a) * u, orders, us, dtype)


@each_dtype
def test_shifted_vanilla_keeps_its_digits_at_every_shift(dtype):
    special = [-50, -16, -3, -1e-3, 0, 3, 11, 16, 20, 50]
    with jax.enable_x64(dtype == "float64"):
        shifts, us = drawn(dtype, -50, 50, special, 80)
        us = np.where(np.arange(80) % 4 == 0, np.clip(-shifts, -80, 80) + us / 50, us)
        laws = lambda c: (shifted_of(c), shifted_h(c))
        digits = lambda c, u: 2 * (c + u)
        assert not worst(D.shifted_vanilla, laws, digits, shifts, us.astype(dtype), dtype)


@pytest.mark.parametrize("make, law", [(D.alpha, alpha_of), (D.shifted_vanilla, shifted_of)])
def test_slopes_in_the_parameter_are_right_also_where_formulas_switch(make, law):
    parameters = np.array([-3.0, -1e-7, 0.0, 1e-7, 0.3, 0.5, 1 - 1e-7, 1.0, 1 + 1e-7, 2.0, 9.0])
    us = np.array([-6.0, -0.7, 0.2, 3.0])
    with jax.enable_x64(True):
        both = lambda c, u: jnp.stack([make(c).standard(u), make(c).f(jnp.exp(u))])
        slope = jax.vmap(jax.jacrev(both), (0, None))
        got = np.asarray(jax.jit(jax.vmap(slope, (None, 0)))(parameters, us))
    for (i, u), (j, parameter) in itertools.product(enumerate(us), enumerate(parameters)):
        with mp.workdps(60):
            e, r = mp.mpf(10) ** -20, mp.exp(mp.mpf(u))
            up, down = (law(mp.mpf(parameter) + s * e)(r) for s in (1, -1))
            exact = float((up - down) / (2 * e))
        assert np.all(np.abs(got[i, j] - exact) <= 1e-9 * abs(exact)), (parameter, u)


def integral(integrand, u, nodes=np.polynomial.legendre.leggauss(20)):
    """From 0 to u, in thirty pieces; 1/sqrt(1 + v^2) is smooth on each."""
    v = u * (np.arange(30)[:, None] + (nodes[0] + 1) / 2) / 30
    return u / 60 * np.sum(nodes[1] * integrand(v))


@each_dtype
def test_arcsinhs_f_its_slopes_and_its_conjugate_are_the_integrals(dtype):
    """f = int h'(v) (e^(u-v) - 1), r f' = int h'(v) e^(u-v), f' = int h'(v) e^-v, over 0 to u."""
    us = np.array([-30.0, -5.0, -0.9, -1e-3, 0.02, 1.5, 12.0], dtype)
    make = functools.partial(lambda _: D.arcsinh)
    h1 = lambda v: 1 / np.sqrt(1 + v * v)
    with jax.enable_x64(dtype == "float64"):
        zeros = jnp.zeros_like(us)
        s = np.asarray(slopes(make, zeros, us))
        points = {"standard": us, "activation": us, "conjugate": s}
        got = jax.tree.map(np.asarray, evaluated(make, zeros, points))
    for i, x in enumerate(us.astype(float)):
        value = integral(lambda v, x=x: h1(v) * np.expm1(x - v), x)
        slope = integral(lambda v: h1(v) * np.exp(-v), x)
        r, rate = np.exp(x), h1(x) * np.exp(-x)
        exact = {
            "standard": (value, r * slope, r * slope + h1(x)),
            "activation": (slope, rate, -rate * (1 + x * h1(x) ** 2)),
        }
        if -20 <= x <= 2:
            exact["conjugate"] = (np.arcsinh(x), r, r**2 / h1(x))
        # f* of a float s: f' is known to round-off, and its slope there is 1 / f*''.
        loose = {"conjugate": 10 * (1 + abs(slope) * r)}
        for name, rights in exact.items():
            allowed = ALLOWED[dtype] * loose.get(name, 1)
            np.testing.assert_allclose(got[name][i], rights, rtol=allowed, err_msg=f"{name}, {x}")


@each_dtype
def test_h_of_a_named_gan_has_the_slope_of_its_divergence_far_out(dtype):
    """A slope in d that overflows must not come in between: b-GANs of Neyman were inf."""
    reach = 80.0 if dtype == "float32" else 700.0
    of = jax.jit(lambda gan, u: (jax.vmap(jax.grad(gan.h))(u), gan.measures(jnp.exp(u))))
    with jax.enable_x64(dtype == "float64"):
        u = jnp.asarray([-reach, -20.0, -1.0, 0.1, 5.0, reach], dtype)
        for row in (D.neyman, D.jensen_shannon, D.kl_qp, D.softened_reverse_kl, D.jeffreys):
            wanted = row.h_prime(u), row.f(jnp.exp(u))
            for gan in (df.gans.b_gan(row), df.gans.f_gan(row), df.gans.f_gan(row, raw=False)):
                jax.tree.map(
                    functools.partial(np.testing.assert_allclose, rtol=ALLOWED[dtype]),
                    of(gan, u),
                    wanted,
                )


@each_dtype
def test_what_a_shifted_vanilla_descends_is_the_table(dtype):
    """Also by quadrature of its h, whose bend lies far from both ends."""
    of = jax.jit(lambda gan, r: (gan.descends(r), df.h_to_f(gan.h)(r)))
    with jax.enable_x64(dtype == "float64"):
        u = jnp.asarray([-60.0, -17.0, -2.0, -0.1, 0.3, 5.0, 30.0], dtype)
        for shift in (-20.0, 0.0, 16.0, 40.0):
            descends, derived = of(df.gans.vanilla(shift), jnp.exp(u))
            wanted = D.shifted_vanilla(shift).standard(u)
            np.testing.assert_allclose(descends, wanted, rtol=ALLOWED[dtype])
            np.testing.assert_allclose(derived, wanted, rtol=10 * ALLOWED[dtype])
