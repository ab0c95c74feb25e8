"""Laws of the scalar calculus for functions that no table holds.

Round trips of drawn functions are in test_hypothesis, refusals in tests/contract.
"""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CASES

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")


U = np.linspace(-3.0, 3.0, 7)


def skewed(r):
    return r**4 - 4 * r + 3 + jnp.exp(-r)


def softplus(d):
    return jax.nn.softplus(d)


def cubic(d):
    return d + d**3


def to_second_order(function):
    """A function, its slope and its curvature at many points, in one program."""
    slope = jax.grad(function)
    return jax.jit(jax.vmap(lambda x: (function(x), slope(x), jax.grad(slope)(x))))


HS = {"tanh": jnp.tanh, "arcsinh": jnp.arcsinh, "steep": lambda u: jnp.exp(1.5 * u)}
LOG_TS = {
    "line": (lambda d: 2 * d - 1, -np.inf, np.inf),
    "falling": (lambda d: -d - 0.3, -np.inf, np.inf),
    "log": (jnp.log, 0.0, np.inf),
    "logit": (lambda d: jnp.log(d) - jnp.log1p(-d), 0.0, 1.0),
    "negative": (lambda d: -jnp.log(-d), -np.inf, 0.0),
    "cubic": (cubic, -np.inf, np.inf),
    "log_unbounded": (jnp.log, -np.inf, np.inf),
}


def test_h_to_f_undoes_f_to_h_up_to_a_line():
    r = np.exp(U)
    value, _, curvature = to_second_order(df.h_to_f(df.f_to_h(skewed)))(r)
    want, _, bend = to_second_order(skewed)(r)
    chex.assert_trees_all_close(curvature, bend, rtol=1e-8)
    line = skewed(1.0) + jax.grad(skewed)(1.0) * (r - 1)
    chex.assert_trees_all_close(value, want - line, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("h", HS.values(), ids=HS)
def test_f_to_h_undoes_h_to_f_up_to_a_constant(h):
    again = jax.jit(df.f_to_h(df.h_to_f(h)))
    chex.assert_trees_all_close(again(U) - again(U)[3], h(U) - h(0.0), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("case", [c for c in CASES if c["id"] in ("D001", "D003")])
def test_h_to_f_meets_the_oracles(case):
    f = df.h_to_f(HS[case["inputs"]["h"]])
    assert abs(f(np.exp(case["inputs"]["u"])) - case["expected"]) < 1e-11


def test_h_to_f_keeps_its_digits_far_out():
    """h = u has f = r - 1 - log r."""
    u = jnp.array([-600.0, -50.0, 50.0, 600.0])
    f = df.h_to_f(lambda u: u)
    chex.assert_trees_all_close(f(jnp.exp(u)), jnp.expm1(u) - u, rtol=1e-11)


def test_first_variation_is_the_derivative_of_the_functional():
    """d/de E_{q + e m}[f(p / (q + e m))] on a finite set, m summing to 0."""
    p, q = jnp.array([0.2, 0.5, 0.3]), jnp.array([0.4, 0.4, 0.2])
    m = jnp.array([0.1, -0.3, 0.2])

    def functional(e):
        return jnp.sum((q + e * m) * skewed(p / (q + e * m)))

    got = jnp.sum(m * df.first_variation(skewed)(p / q))
    chex.assert_trees_all_close(got, jax.grad(functional)(0.0), rtol=1e-10)


CONJUGATES = {
    "entropy": (lambda r: r * jnp.log(r), lambda s: np.exp(s - 1)),
    "square": (lambda r: (r - 1) ** 2, lambda s: np.where(s >= -2, s**2 / 4 + s, -1.0)),
    "reverse": (lambda r: -jnp.log(r), lambda s: np.where(s < 0, -1 - np.log(np.abs(s)), np.inf)),
}


@pytest.mark.parametrize("name", CONJUGATES)
def test_conjugate_meets_closed_forms_inside_and_outside_its_domain(name):
    f, star = CONJUGATES[name]
    s = jnp.array([-5.0, -2.5, -1.0, -0.1, 0.4, 3.0])
    chex.assert_trees_all_close(jax.jit(df.conjugate(f))(s), star(np.asarray(s)), rtol=1e-9)


@pytest.mark.parametrize("name", LOG_TS)
def test_inverse_log_ratio_undoes_log_t_with_its_slope_and_curvature(name):
    log_t, lower, upper = LOG_TS[name]
    inverse = df.inverse_log_ratio(log_t, lower=lower, upper=upper)
    d, rate, curvature = to_second_order(inverse)(U)
    u, slope, bend = to_second_order(log_t)(d)
    chex.assert_trees_all_close(u, U, rtol=1e-10, atol=1e-10)
    chex.assert_trees_all_close(rate, 1 / slope, rtol=1e-8)
    chex.assert_trees_all_close(curvature, -bend / slope**3, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inverse_keeps_relative_precision_at_the_edge_of_a_domain(dtype):
    log_t, lower, upper = LOG_TS["logit"]
    u = jnp.asarray([-80.0, -30.0, -10.0], dtype)
    d = df.inverse_log_ratio(log_t, lower=lower, upper=upper)(u)
    truth = np.exp(np.asarray(u, "float64")) / (1 + np.exp(np.asarray(u, "float64")))
    chex.assert_trees_all_close(np.asarray(d, "float64"), truth, rtol=200 * jnp.finfo(dtype).eps)


def test_a_value_outside_the_range_has_no_inverse():
    got = df.inverse_log_ratio(jnp.tanh)(jnp.array([-2.0, 0.5, 2.0]))
    chex.assert_trees_all_close(got, jnp.array([jnp.nan, np.arctanh(0.5), jnp.nan]))


def test_log_ratio_is_nan_where_t_is_not_positive():
    log_t = df.log_ratio(lambda d: -((d - 1) ** 2), lambda d: -(d**2))
    d = jnp.array([-0.5, 0.25, 1.5])
    chex.assert_trees_all_close(log_t(d), jnp.array([jnp.nan, np.log(1 / 3), jnp.nan]))


def test_lower_finds_the_divergence_that_a_generator_descends():
    log_t = df.log_ratio(lambda d: -softplus(-d), lambda d: -softplus(d))
    r = jnp.exp(jnp.array([-2.0, -0.3, 0.7, 2.0]))
    js = r * jnp.log(r) - (1 + r) * jnp.log((1 + r) / 2)
    kl = r - 1 - jnp.log(r)
    # The heuristic f-GAN of KL(p||q): phi = d, psi = -e^(d-1), h_T = d.
    heuristic = df.log_ratio(lambda d: d, lambda d: -jnp.exp(d - 1))
    lowered = {
        "minimax": df.lower(softplus, log_t),
        "non-saturating": df.lower(lambda d: -softplus(-d), log_t),
        "heuristic": df.lower(lambda d: d, heuristic),
    }
    found = jax.jit(lambda r: {name: df.h_to_f(h)(r) for name, h in lowered.items()})(r)
    want = {"minimax": js, "non-saturating": kl - js, "heuristic": kl}
    chex.assert_trees_all_close(found, want, rtol=1e-8)


def test_implied_curvature_of_least_squares_meets_the_oracle():
    case = next(c for c in CASES if c["id"] == "D005")
    f = df.gans.least_squares().descends
    assert abs(jax.grad(jax.grad(f))(case["inputs"]["r"]) - case["expected"]) < 1e-10


def test_lines_are_refused_with_the_reason():
    with pytest.raises(Exception, match="total variation"):
        df.f_to_h(lambda r: 3 * (r - 1))(0.7)


FACTORIES = {
    "f_to_h": lambda: df.f_to_h(skewed),
    "h_to_f": lambda: df.h_to_f(jnp.arcsinh),
    "first_variation": lambda: df.first_variation(skewed),
    "conjugate": lambda: df.conjugate(skewed),
    "ratio": lambda: df.ratio(jnp.tanh, cubic),
    "log_ratio": lambda: df.log_ratio(jnp.tanh, cubic),
    "inverse_log_ratio": lambda: df.inverse_log_ratio(cubic),
    "lift": lambda: df.lift(jnp.arcsinh, cubic),
    "lower": lambda: df.lower(jnp.arcsinh, cubic),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_factories_made_twice_trace_once_and_hold_only_arrays(name):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def call(function, x):
        return function(x)

    for _ in range(2):
        made = FACTORIES[name]()
        assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(made))
        jax.eval_shape(call, made, 0.5)  # a trace is enough
