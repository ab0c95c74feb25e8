"""Laws of the catalogue: closed forms against mpmath, oracles, the calculus and each other."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from catalogue import ORACLE_NAMES, ROWS, F
from oracles import CASES

import divergence_flows as df

U = np.array([-8.0, -3.0, -0.7, -1e-3, 1e-3, 0.4, 2.0, 8.0])
FAR = np.array([-1e4, -800.0, -80.0, -30.0, -1.5, 1.5, 30.0, 80.0, 800.0, 1e4])
mp.mp.dps = 40
each_row = pytest.mark.parametrize("name", ROWS)
each_closed_row = pytest.mark.parametrize("name", F)


def slope(function):
    return jax.jit(jax.vmap(jax.grad(function)))


def exact(name, order, u):
    """f, r f' or h = r f' - f (order 0, 1, 2) at r = e^u; digits enough for every cancellation."""
    # 1 + r and 1 + 1/r keep r's digits, 0.4343 |u| of them; the step costs 25 and leaves 50.
    with mp.workdps(100 + int(0.45 * abs(u))):
        r = mp.exp(mp.mpf(float(u)))
        value = F[name](r)
        if order == 0:
            return value
        step = mp.mpf(10) ** -25
        rise = (F[name](r * (1 + step)) - F[name](r * (1 - step))) / (2 * step)
        return rise if order == 1 else rise - value


def error_of(value, truth):
    return float(abs(mp.mpf(float(value)) - truth))


def oracle_cases(*words):
    found = [
        c
        for c in CASES
        if c["section"] == "B"
        and any(w in c["name"] for w in words)
        and c["inputs"].get("divergence") in ORACLE_NAMES
    ]
    assert len(found) > 3
    return pytest.mark.parametrize("case", found, ids=[c["id"] for c in found])


def assert_near(value, case, factor=1.0):
    error = abs(float(value) - case["expected"] * factor)
    # float32 carries the oracle's relative tolerance only to its own precision.
    rtol = max(case["rtol"], 1e-6 if case["dtype"] == "float32" else 0.0)
    assert error <= case["atol"] * factor + rtol * abs(case["expected"] * factor), case


@oracle_cases("f(e^u), standardised", "tiny u")
def test_standardised_f_meets_the_oracles(case):
    name, factor = ORACLE_NAMES[case["inputs"]["divergence"]]
    with jax.enable_x64(True):
        assert_near(ROWS[name].standard(case["inputs"]["u"]), case, factor)


@oracle_cases("h(u), h(0)=0", "h at extreme u")
def test_h_meets_the_oracles_at_both_precisions(case):
    name, factor = ORACLE_NAMES[case["inputs"]["divergence"]]
    with jax.enable_x64(case["dtype"] == "float64"):
        h, u = ROWS[name].h, jnp.asarray(case["inputs"]["u"], case["dtype"])
        assert_near(h(u) - h(jnp.zeros_like(u)), case, factor)
        assert jnp.isfinite(jax.grad(h)(u))


@oracle_cases("h' at u=")
def test_slope_of_h_meets_the_oracles_in_the_tail(case):
    name, factor = ORACLE_NAMES[case["inputs"]["divergence"]]
    with jax.enable_x64(case["dtype"] == "float64"):
        u = jnp.asarray(case["inputs"]["u"], case["dtype"])
        assert_near(ROWS[name].h_prime(u), case, factor)
        assert_near(jax.grad(ROWS[name].h)(u), case, factor)


@oracle_cases("f(0+)")
def test_f_at_0_meets_the_oracles(case):
    name, factor = ORACLE_NAMES[case["inputs"]["divergence"]]
    with jax.enable_x64(case["dtype"] == "float64"):
        assert_near(ROWS[name].standard(jnp.asarray(-800.0, case["dtype"])), case, factor)


@oracle_cases("recession")
def test_recession_slope_meets_the_oracles(case):
    name, factor = ORACLE_NAMES[case["inputs"]["divergence"]]
    with jax.enable_x64(True):
        # f'(inf) of the standardised f; the arcsinh row still moves like 1/u^2 e^-u: settled.
        act = ROWS[name].activation
        assert_near(act(jnp.asarray(700.0)) - act(jnp.asarray(0.0)), case, factor)


@oracle_cases("conjugate")
def test_conjugates_meet_the_oracles(case):
    name, factor = ORACLE_NAMES[case["inputs"]["divergence"]]
    with jax.enable_x64(True):
        div, d = ROWS[name], jnp.asarray(case["inputs"]["d"]) * factor
        # The oracle's f is f_row - a (r - 1) with a = f'(1): its conjugate is f*(d + a) - a.
        a = div.activation(jnp.zeros(()))
        assert_near(div.conjugate(d + a) - a, case, factor)


@oracle_cases("F(q), p=")
def test_divergences_between_gaussians_meet_the_oracles(case):
    name, factor = ORACLE_NAMES[case["inputs"]["divergence"]]
    (m, v), (n, w) = case["inputs"]["p"], case["inputs"]["q"]
    with jax.enable_x64(True):
        x = jnp.linspace(-14.0, 16.0, 3001)
        log_p = -0.5 * (x - m) ** 2 / v - 0.5 * jnp.log(2 * jnp.pi * v)
        log_q = -0.5 * (x - n) ** 2 / w - 0.5 * jnp.log(2 * jnp.pi * w)
        value = jnp.sum(jnp.exp(log_q) * ROWS[name].standard(log_p - log_q)) * (x[1] - x[0])
        assert_near(value, case, factor)


@each_closed_row
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_slope_of_f_are_right_wherever_they_are_representable(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        largest = float(jnp.finfo(dtype).max)
        u = jnp.asarray(FAR, dtype)
        for order, values in ((0, ROWS[name].log_f(u)), (1, slope(ROWS[name].log_f)(u))):
            assert not jnp.any(jnp.isnan(values)) or name == "alpha_-2"
            for at, value in zip(FAR, values, strict=True):
                truth = exact(name, order, float(jnp.asarray(at, dtype)))
                if abs(truth) < largest / 10:
                    # A float u near 80 leaves |u| eps of relative error in e^u.
                    rtol = float(jnp.finfo(dtype).eps) * 20 * max(1.0, min(abs(at), 700.0))
                    size = max(float(abs(truth)), float(jnp.finfo(dtype).eps))
                    assert error_of(value, truth) <= rtol * size, (at, value, truth)


@each_closed_row
def test_h_is_r_times_slope_of_f_minus_f_up_to_a_constant(name):
    with jax.enable_x64(True):
        h = ROWS[name].h
        gaps = [float(h(u)) - float(exact(name, 2, u)) for u in U]
        scale = 1 + max(abs(float(h(u))) for u in U)
        assert np.ptp(gaps) < 1e-12 * scale


# One program for a row: op by op, compilation takes several times as long.
@jax.jit
def slopes(div, u):
    """h' and f', by autodiff and in closed form; second slopes of f times r^2."""
    r = jnp.exp(u)
    return {
        "h'": div.h_prime(u),
        "slope of h": slope(div.h)(u),
        "f''": div.f_second(r) * r**2,
        "slope of f'": slope(jax.grad(div.f))(r) * r**2,
        "f'": div.f_prime(r),
        "slope of f": slope(div.f)(r),
    }


@each_row
def test_slope_of_h_is_its_closed_form_and_r_squared_times_curvature(name):
    with jax.enable_x64(True):
        at = jax.tree.map(np.asarray, slopes(ROWS[name], jnp.asarray(U)))
        chex.assert_trees_all_close(at["slope of h"], at["h'"], rtol=1e-9)
        chex.assert_trees_all_close(at["slope of f'"], at["h'"], rtol=1e-8, atol=1e-12)
        chex.assert_trees_all_close(at["f''"], at["h'"], rtol=1e-12)
        chex.assert_trees_all_close(at["slope of f"], at["f'"], rtol=1e-10, atol=1e-12)


@each_row
def test_slope_of_f_in_u_is_f_plus_h(name):
    with jax.enable_x64(True):
        div, u = ROWS[name], jnp.asarray(U)
        constant = div.activation(jnp.zeros(())) - div.h(jnp.zeros(()))
        wanted = div.log_f(u) + div.h(u) + constant
        chex.assert_trees_all_close(slope(div.log_f)(u), wanted, rtol=1e-9, atol=1e-11)


@jax.jit
def identity(div, u):
    """Both sides of f*(f'(r)) = r f'(r) - f(r)."""
    s = div.activation(u)
    return div.conjugate(s), jnp.exp(u) * s - div.log_f(u)


@each_row
def test_activation_turns_the_conjugate_into_h(name):
    """The unit identity f*(f'(r)) = r f'(r) - f(r)."""
    with jax.enable_x64(True):
        div, u = ROWS[name], jnp.asarray(U[1:-1])
        left, right = identity(div, u)
        chex.assert_trees_all_close(left, right, rtol=1e-9, atol=1e-11)


@each_row
def test_fenchel_young_holds_with_equality_only_at_the_derivative(name):
    with jax.enable_x64(True):
        div, u = ROWS[name], jnp.asarray(U[1:-1])
        s = div.activation(u)
        gap = (
            div.log_f(u)[:, None]
            + jax.jit(div.conjugate)(s)[None, :]
            - jnp.exp(u)[:, None] * s[None, :]
        )
        assert jnp.all(gap > -1e-9)
        off = ~np.eye(u.size, dtype=bool)
        assert jnp.all(gap[off] > 1e-9)


@each_row
def test_derivative_of_the_conjugate_is_the_ratio(name):
    with jax.enable_x64(True):
        div, u = ROWS[name], jnp.asarray(U[1:-1])
        rs = slope(div.conjugate)(div.activation(u))
        chex.assert_trees_all_close(rs, jnp.exp(u), rtol=1e-7)


@jax.jit
def by_calculus(div, u):
    """h, f and f* of a row, from its f or its h alone."""
    return {
        "h": df.f_to_h(div.log_f, log_space=True)(u),
        "f": df.h_to_f(div.h)(jnp.exp(u)),
        "f*": df.conjugate(div.log_f, log_space=True)(div.activation(u[1:-1])),
    }


@jax.jit
def in_closed_form(div, u):
    """The same from the table."""
    star = div.conjugate(div.activation(u[1:-1]))
    return {"h": div.h(u), "f": div.standard(u), "f*": star}


@each_row
def test_closed_forms_equal_the_calculus(name):
    with jax.enable_x64(True):
        div, u = ROWS[name], jnp.asarray(U)
        derived, closed = by_calculus(div, u), in_closed_form(div, u)
        constant = derived["h"][5] - closed["h"][5]
        close = chex.assert_trees_all_close
        close(derived["h"] - constant, closed["h"], rtol=1e-8, atol=1e-10)
        close(derived["f"], closed["f"], rtol=1e-9)
        close(derived["f*"], closed["f*"], rtol=1e-8, atol=1e-10)


@each_row
def test_standard_f_differs_from_f_by_a_line_and_is_never_negative(name):
    with jax.enable_x64(True):
        div, u = ROWS[name], jnp.asarray(U)
        line = div.activation(jnp.zeros(())) * jnp.expm1(u)
        chex.assert_trees_all_close(div.standard(u) + line, div.log_f(u), rtol=1e-9, atol=1e-11)
        assert jnp.all(div.standard(u) > 0) and div.standard(0.0) == 0


@pytest.mark.parametrize("name", ["kl_pq", "softened_reverse_kl", "least_squares"])
def test_the_slope_of_standard_f_is_that_of_f_less_the_lines(name):
    with jax.enable_x64(True):
        div, u = ROWS[name], jnp.asarray(U)
        right = jnp.exp(u) * (div.activation(u) - div.activation(jnp.zeros(())))
        chex.assert_trees_all_close(slope(div.standard)(u), right, rtol=1e-9, atol=1e-11)


@each_row
def test_reversal_swaps_p_and_q(name):
    """f(r) -> r f(1/r) has h'(u) -> e^u h'(-u)."""
    with jax.enable_x64(True):
        div, u = ROWS[name], jnp.asarray(U[1:-1])

        def reversed_f(v):
            return jnp.exp(v) * div.log_f(-v)

        h = df.f_to_h(reversed_f, log_space=True)
        wanted = jax.jit(lambda u: jnp.exp(u) * div.h_prime(-u))(u)
        chex.assert_trees_all_close(slope(h)(u), wanted, rtol=1e-7, atol=1e-9)


def test_reverse_kl_is_2_js_plus_softened_reverse_kl():
    with jax.enable_x64(True):
        u, D = jnp.asarray(U), df.divergences
        total = 2 * D.jensen_shannon.standard(u) + D.softened_reverse_kl.standard(u)
        chex.assert_trees_all_close(total, D.kl_qp.standard(u), rtol=1e-12)


ALPHAS = {0.0: ("kl_qp", 1.0), 1.0: ("kl_pq", 1.0), 2.0: ("pearson", 0.5)} | {
    0.5: ("squared_hellinger", 2.0),
    -1.0: ("neyman", 0.5),
}


@pytest.mark.parametrize("a", ALPHAS)
def test_alpha_passes_through_the_named_rows(a):
    name, factor = ALPHAS[a]
    with jax.enable_x64(True):
        u, row = jnp.asarray(U), ROWS[name]
        for near in (a, a + 1e-9):
            got = df.divergences.alpha(near)
            chex.assert_trees_all_close(got.standard(u), factor * row.standard(u), rtol=1e-7)
            chex.assert_trees_all_close(got.h_prime(u), factor * row.h_prime(u), rtol=1e-7)


def test_f_has_the_slope_in_its_parameter_that_finite_differences_have():
    with jax.enable_x64(True):
        for make in (df.divergences.alpha, df.divergences.shifted_vanilla):
            f = lambda c: make(c).f(jnp.array([0.2, 1.7, 6.0]))  # noqa: B023
            _, found = jax.jvp(f, (0.7,), (1.0,))
            differences = (f(0.7 + 1e-5) - f(0.7 - 1e-5)) / 2e-5
            assert jnp.min(jnp.abs(found)) > 1e-3
            chex.assert_trees_all_close(found, differences, rtol=1e-7)


def test_shifted_vanilla_tends_to_reverse_kl():
    with jax.enable_x64(True):
        u = jnp.asarray(U)
        far = df.divergences.shifted_vanilla(25.0)
        chex.assert_trees_all_close(far.standard(u), ROWS["kl_qp"].standard(u), rtol=1e-3)


@pytest.mark.parametrize("build", [df.divergences.alpha, df.divergences.shifted_vanilla])
def test_parameters_are_an_axis_and_trace_once(build):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def slopes(parameter):
        return jax.vmap(lambda c: jax.grad(build(c).standard)(0.7))(parameter)

    first = slopes(jnp.array([0.3, 2.0, 3.0]))
    chex.assert_trees_all_close(first[1], jax.grad(build(2.0).standard)(0.7), rtol=1e-6)
    slopes(jnp.array([1.3, 2.5, -3.0]))


def test_a_divergence_of_ones_own_is_as_good_as_a_named_one():
    with jax.enable_x64(True):
        u, named = jnp.asarray(U[1:-1]), ROWS["squared_hellinger"]
        mine = [
            df.Divergence(lambda r: (jnp.sqrt(r) - 1) ** 2),
            # Not expm1: older jax differentiates it with cancellation far below zero.
            df.Divergence(log_f=lambda u: (jnp.exp(u / 2) - 1) ** 2),
            df.Divergence(h=lambda u: jnp.exp(u / 2)),
        ]
        s = named.activation(u)
        all_of = jax.jit(lambda div: (div.standard(u), div.h_prime(u), div.activation(u)))
        star = jax.jit(lambda div: div.conjugate(s))
        for div in mine:
            f, h_prime, activation = all_of(div)
            chex.assert_trees_all_close(f, named.standard(u), rtol=1e-8)
            chex.assert_trees_all_close(h_prime, named.h_prime(u), rtol=1e-8)
            chex.assert_trees_all_close(activation, s, rtol=1e-7, atol=1e-9)
            chex.assert_trees_all_close(star(div), star(named), rtol=1e-7, atol=1e-9)


@each_row
def test_leaves_are_arrays_only(name):
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(ROWS[name]))


def test_a_divergence_needs_one_definition():
    with pytest.raises(ValueError, match="exactly one of f"):
        df.Divergence()
    with pytest.raises(ValueError, match="exactly one of f"):
        df.Divergence(jnp.log, log_f=jnp.log)


# Rows that only the reference lists, given as a user's own h.
OWN = {
    "kl_q_m": lambda u: jax.nn.softplus(u) - jnp.tanh(u / 2) / 2,
    "kl_p_m": lambda u: jnp.tanh(u / 2) / 2,
}


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c["section"] == "B" and c["inputs"].get("divergence") in OWN],
    ids=lambda c: c["id"],
)
def test_a_divergence_from_ones_own_h_meets_the_oracles(case):
    with jax.enable_x64(case["dtype"] == "float64"):
        div = df.Divergence(h=OWN[case["inputs"]["divergence"]])
        u = jnp.asarray(case["inputs"].get("u", 0.0), case["dtype"])
        if "h'" in case["name"]:
            assert_near(div.h_prime(u), case)
        elif "h(u)" in case["name"] or "h at" in case["name"]:
            assert_near(div.h(u) - div.h(jnp.zeros_like(u)), case)
            assert jnp.isfinite(jax.grad(div.h)(u))
        elif "f(e^u)" in case["name"] or "f(0+)" in case["name"]:
            assert_near(jax.jit(div.standard)(u), case)
        elif "recession" in case["name"]:
            assert_near(jax.jit(div.activation)(jnp.asarray(30.0)), case)
        elif "conjugate" in case["name"]:
            assert_near(jax.jit(div.conjugate)(case["inputs"]["d"]), case)
        else:
            (m, v), (n, w) = case["inputs"]["p"], case["inputs"]["q"]
            x = jnp.linspace(-14.0, 16.0, 601)
            log_p = -0.5 * (x - m) ** 2 / v - 0.5 * jnp.log(2 * jnp.pi * v)
            log_q = -0.5 * (x - n) ** 2 / w - 0.5 * jnp.log(2 * jnp.pi * w)
            values = jax.jit(div.standard)(log_p - log_q)
            assert_near(jnp.sum(jnp.exp(log_q) * values) * (x[1] - x[0]), case)
