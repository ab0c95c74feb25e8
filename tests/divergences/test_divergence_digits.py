"""Every function of a row, and its first two derivatives, keep their digits: against mpmath.

The oracle is f and h of theory.md's catalogue, each written as there; all else follows from
F' = F + H with H = h + constant, F(u) = f(e^u), and from differences of h in many digits.
"""

import functools

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
        "conjugate": (star, r, r**2 / h1),
    }


def point_of_slope(f, h, u, s):
    """The u where f'(e^u) = s, from one nearby."""
    for _ in range(6):
        found = truth(f, h, u)
        u -= (found["activation"][0] - s) / found["activation"][1]
    return u


def function_of(divergence, name):
    return getattr(divergence, name)


@functools.partial(jax.jit, static_argnums=(0, 1))
def evaluated(make, name, parameters, points):
    """Value and two derivatives at each point, each with its own parameters."""

    def at(parameter, x):
        one = functools.partial(function_of(make(parameter), name))
        slope = jax.grad(one)
        return one(x), slope(x), jax.grad(slope)(x)

    return jnp.stack(jax.vmap(at)(parameters, points), axis=1)


def worst(make, laws, parameters, us, dtype):
    """Name, order, parameter and u of each value that is off by more than is allowed."""
    size, bad = jnp.finfo(dtype), []
    points = {"f": np.exp(us), "conjugate": np.asarray(slopes(make, parameters, us))}
    got = {
        name: np.asarray(evaluated(make, name, jnp.asarray(parameters), points.get(name, us)))
        for name in FUNCTIONS
    }
    for i, (parameter, u) in enumerate(zip(parameters, us, strict=True)):
        scale = 1 + abs(float(parameter))
        with mp.workdps(140 + int(min(scale, 22) * abs(float(u)))):
            f, h = laws(mp.mpf(float(parameter)))
            at = {name: mp.mpf(float(u)) for name in FUNCTIONS}
            r, s = points["f"][i], points["conjugate"][i]
            usable = {name: True for name in FUNCTIONS}
            usable["f"] = size.tiny < r < size.max
            at["f"] = mp.log(mp.mpf(float(r))) if usable["f"] else at["f"]
            here = truth(f, h, at["log_f"])
            # Where f' is flat a float s says nothing of r.
            steep = here["activation"][1] > 1e-3 * abs(here["activation"][0]) and np.isfinite(s)
            usable["conjugate"] = bool(steep)
            if steep:
                at["conjugate"] = point_of_slope(f, h, at["log_f"], mp.mpf(float(s)))
            for name in FUNCTIONS:
                if usable[name]:
                    right = here if at[name] == at["log_f"] else truth(f, h, at[name])
                    # A conjugate cannot know r better than s, where f' is flat, tells it.
                    blur = abs(right["activation"][0]) / right["activation"][1]
                    extra = 8 * float(size.eps) * float(blur) if name == "conjugate" else 0.0
                    for order, exact in enumerate(right[name]):
                        normal = float(size.tiny) < abs(exact) < float(size.max)
                        # A zero of second derivatives, which differences do not find exactly.
                        none = abs(exact) < mp.mpf(10) ** -50 * abs(right[name][0])
                        value = float(got[name][i, order])
                        if normal and not none:
                            error = abs(mp.mpf(value) - exact) / abs(exact)
                            if not error <= ALLOWED[dtype] + order * extra:
                                bad.append((name, order, parameter, u, value, float(exact)))
    return bad


@functools.partial(jax.jit, static_argnums=0)
def slopes(make, parameters, us):
    return jax.vmap(lambda parameter, u: make(parameter).activation(u))(parameters, us)


@each_dtype
@pytest.mark.parametrize("name", H)
def test_named_rows_keep_their_digits(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        us = grid(dtype)
        make = NAMED[name]
        assert not worst(make, lambda _: (F[name], H[name]), np.zeros_like(us), us, dtype)


NAMED = {name: functools.partial(lambda name, _: getattr(D, name), name) for name in H}


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
        orders, us = drawn(dtype, -20, 20, special, 160)
        us = np.where(np.arange(160) % 3 == 0, us / (1 + np.abs(orders)), us).astype(dtype)
        assert not worst(D.alpha, lambda a: (alpha_of(a), alpha_h(a)), orders, us, dtype)


@each_dtype
def test_shifted_vanilla_keeps_its_digits_at_every_shift(dtype):
    special = [-50, -16, -3, -1e-3, 0, 3, 11, 16, 20, 50]
    with jax.enable_x64(dtype == "float64"):
        shifts, us = drawn(dtype, -50, 50, special, 160)
        us = np.where(np.arange(160) % 4 == 0, np.clip(-shifts, -80, 80) + us / 50, us)
        assert not worst(
            D.shifted_vanilla,
            lambda c: (shifted_of(c), shifted_h(c)),
            shifts,
            us.astype(dtype),
            dtype,
        )


@pytest.mark.parametrize("make, law", [(D.alpha, alpha_of), (D.shifted_vanilla, shifted_of)])
def test_slopes_in_the_parameter_are_right_also_where_formulas_switch(make, law):
    parameters = np.array([-3.0, -1e-7, 0.0, 1e-7, 0.3, 0.5, 1 - 1e-7, 1.0, 1 + 1e-7, 2.0, 9.0])
    with jax.enable_x64(True):
        for u in (-6.0, -0.7, 0.2, 3.0):
            got = jax.vmap(jax.grad(lambda c, u=u: make(c).standard(u)))(jnp.asarray(parameters))
            for parameter, value in zip(parameters, got, strict=True):
                with mp.workdps(60):
                    e, r = mp.mpf(10) ** -20, mp.exp(mp.mpf(u))
                    up, down = (law(mp.mpf(parameter) + s * e)(r) for s in (1, -1))
                    exact = float((up - down) / (2 * e))
                assert abs(value - exact) <= 1e-9 * abs(exact), (parameter, u)


def h1(v):
    """h' of arcsinh."""
    return 1 / mp.sqrt(1 + v * v)


@each_dtype
def test_arcsinhs_f_and_its_slopes_are_the_integrals(dtype):
    """f = int h'(v) (e^(u-v) - 1), r f' = int h'(v) e^(u-v), f' = int h'(v) e^-v, over 0 to u."""
    us = np.array([-30.0, -5.0, -0.9, -1e-3, 0.02, 1.5, 12.0], dtype)
    with jax.enable_x64(dtype == "float64"), mp.workdps(40):
        names = ("standard", "activation")
        make = functools.partial(lambda _: D.arcsinh)
        zeros = jnp.zeros_like(us)
        f, act = (np.asarray(evaluated(make, name, zeros, us)) for name in names)
        for i, u in enumerate(us):
            x = mp.mpf(float(u))
            ends = [x * k / 30 for k in range(31)]
            value = mp.quad(lambda v, x=x: h1(v) * mp.expm1(x - v), ends)
            slope = mp.quad(lambda v: h1(v) * mp.exp(-v), ends)
            rate = h1(x) * mp.exp(-x)
            rise = mp.exp(x) * slope
            exact = ((value, rise, rise + h1(x)), (slope, rate, -rate * (1 + x * h1(x) ** 2)))
            for got, right in zip((f[i], act[i]), exact, strict=True):
                for mine, wanted in zip(got, right, strict=True):
                    assert abs(mine - wanted) <= ALLOWED[dtype] * abs(wanted), (u, mine, wanted)


@each_dtype
def test_the_solved_conjugate_of_arcsinh_is_h_of_the_slopes_ratio(dtype):
    with jax.enable_x64(dtype == "float64"):
        us = jnp.asarray([-20.0, -3.0, -0.4, 0.01, 0.6, 2.0], dtype)
        make = functools.partial(lambda _: D.arcsinh)
        zeros = jnp.zeros_like(us)
        got = evaluated(make, "conjugate", zeros, slopes(make, zeros, us))
        wanted = jnp.stack([jnp.arcsinh(us), jnp.exp(us), jnp.exp(2 * us) * jnp.sqrt(1 + us**2)], 1)
        # f' is known to round-off, and its slope there is 1 / f*''.
        loose = 1 + jnp.abs(D.arcsinh.activation(us)) * jnp.exp(us)
        assert jnp.all(jnp.abs(got / wanted - 1) <= 10 * ALLOWED[dtype] * loose[:, None])


@each_dtype
def test_h_of_a_named_gan_has_the_slope_of_its_divergence_far_out(dtype):
    """A slope in d that overflows must not come in between: b-GANs of Neyman were inf."""
    reach = 80.0 if dtype == "float32" else 700.0
    with jax.enable_x64(dtype == "float64"):
        u = jnp.asarray([-reach, -20.0, -1.0, 0.1, 5.0, reach], dtype)
        of = lambda gan, u: (jax.vmap(jax.grad(gan.h))(u), gan.measures(jnp.exp(u)))
        for row in (D.neyman, D.jensen_shannon, D.kl_qp, D.softened_reverse_kl, D.jeffreys):
            for gan in (df.gans.b_gan(row), df.gans.f_gan(row), df.gans.f_gan(row, raw=False)):
                slope, measured = jax.jit(of)(gan, u)
                np.testing.assert_allclose(slope, row.h_prime(u), rtol=ALLOWED[dtype])
                np.testing.assert_allclose(measured, row.f(jnp.exp(u)), rtol=ALLOWED[dtype])


@each_dtype
@pytest.mark.parametrize("shift", [-20.0, 0.0, 16.0, 40.0])
def test_what_a_shifted_vanilla_descends_is_the_table(shift, dtype):
    """Also by quadrature of its h, whose bend lies far from both ends."""
    with jax.enable_x64(dtype == "float64"):
        u = jnp.asarray([-60.0, -17.0, -2.0, -0.1, 0.3, 5.0, 30.0], dtype)
        got = jax.jit(df.gans.vanilla(shift).descends)(jnp.exp(u))
        wanted = D.shifted_vanilla(shift).standard(u)
        np.testing.assert_allclose(got, wanted, rtol=ALLOWED[dtype])
        derived = jax.jit(df.h_to_f(df.gans.vanilla(shift).h))(jnp.exp(u))
        np.testing.assert_allclose(derived, wanted, rtol=10 * ALLOWED[dtype])
