"""Fields: what a velocity is, and what it does to divergence and density."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import CASES

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
ORACLE = {case["id"]: case["expected"] for case in CASES}
Z = np.arange(-20.0, 20.0, 0.02)
WEIGHTS = 0.02 * np.exp(-0.5 * Z**2) / np.sqrt(2 * np.pi)


def identity(u):
    return u


H = {
    "logit": identity,
    "vanilla": jax.nn.softplus,
    "ns": lambda u: -jax.nn.softplus(-u),
    "mle": jnp.exp,
    "arcsinh": jnp.arcsinh,
    "lecam": lambda u: 4 * jax.nn.sigmoid(u) ** 2 - 1,
    "kl_p_m": jax.nn.sigmoid,
}


def quadratic(t, x, args):
    return -0.5 * jnp.sum(x**2) * args


# The oracle's case, h, and of which divergence: KL or the flow's own.
NARROW = {
    "E019": ("logit", False),
    "E023": ("vanilla", True),
    "E025": ("ns", False),
    "E029": ("arcsinh", True),
    "E031": ("lecam", False),
    "E035": ("kl_p_m", True),
    "E037": ("mle", False),
}


@pytest.mark.parametrize("case", NARROW)
def test_dissipation_of_a_narrow_gaussian(case):
    """Of q = N(2, 1/4) to p = N(0, 1)."""
    name, own = NARROW[case]
    x, of = 2 + Z / 2, H[name] if own else None
    u, slope = -0.5 * x**2 + 2 * (x - 2) ** 2 - np.log(2.0), -x + 4 * (x - 2)
    rate = df.dissipation(H[name], u, slope[:, None], of=of, weights=WEIGHTS)
    np.testing.assert_allclose(-rate, ORACLE[case], rtol=1e-9)


def test_dissipation_sums_over_any_event_and_averages_over_particles():
    u, grad_u = np.array([0.0, 1.0]), np.arange(12.0).reshape(2, 2, 3)
    expected = -(55.0 + np.e * (506.0 - 55.0)) / 2
    np.testing.assert_allclose(df.dissipation(jnp.exp, u, grad_u), expected, rtol=1e-12)


def test_velocity_is_h_prime_times_grad_u_on_any_event():
    xs = np.linspace(-1, 1, 12).reshape(2, 2, 3)
    v = df.velocity(jnp.exp, quadratic)(0.0, xs, 1.0)
    slope = np.exp(-0.5 * np.sum(xs**2, axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(v, -slope * xs, rtol=1e-12)


def test_velocity_at_a_peak_is_zero_even_where_h_prime_overflows():
    xs = np.zeros((1, 2), np.float32)
    v = df.velocity(jnp.exp, peaked)(np.float32(0), xs, None)
    np.testing.assert_array_equal(v, 0.0)


def peaked(t, x, args):
    return 200.0 - 0.5 * jnp.sum(x**2)


def log_ratio_variation(t, x, xs, args):
    return -jax.nn.softplus(quadratic(t, x, args))


def test_velocity_is_the_gradient_flow_of_minus_h():
    xs = np.linspace(-2, 2, 10).reshape(5, 2)
    ours = df.gradient_flow(log_ratio_variation)(0.0, xs, 3.0)
    chex.assert_trees_all_close(ours, df.velocity(jax.nn.softplus, quadratic)(0.0, xs, 3.0))


def attraction(t, x, xs, args):
    return 0.5 * jnp.mean(jnp.sum((x - xs) ** 2, axis=1))


def test_interaction_contracts_particles_to_their_mean():
    xs = np.array([[0.0, 1.0], [2.0, -1.0], [4.0, 3.0]])
    ys = df.integrate(df.gradient_flow(attraction), xs, [0.0, 0.7]).ys[-1]
    mean = xs.mean(0)
    np.testing.assert_allclose(ys, mean + np.exp(-0.7) * (xs - mean), atol=1e-7)


def linear(t, xs, args):
    return xs @ args.T


MATRIX = np.array([[0.3, -1.0, 0.2], [0.5, -0.8, 0.1], [0.7, 0.4, 1.1]])


def test_log_density_changes_by_the_exact_trace():
    xs = np.linspace(-1, 1, 6).reshape(2, 3)
    state = (xs, np.zeros(2))
    _, log_q = df.integrate(df.with_log_prob(linear), state, [0.0, 0.5, 2.0], MATRIX).ys
    expected = -np.trace(MATRIX) * np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(log_q, np.stack([expected] * 2, 1), atol=1e-7)


def test_hutchinson_with_orthogonal_probes_is_exact_for_a_linear_field():
    rotation, _ = np.linalg.qr(MATRIX)
    probes = np.sqrt(3) * np.stack([rotation] * 2, axis=1)
    state = (jnp.ones((2, 3)), jnp.zeros(2))
    rate, change = df.with_log_prob(linear, noise=probes)(0.0, state, MATRIX)
    np.testing.assert_allclose(change, -np.trace(MATRIX), rtol=1e-12)
    np.testing.assert_allclose(rate, np.ones((2, 3)) @ MATRIX.T, rtol=1e-12)


def test_hutchinson_is_unbiased_on_a_nonlinear_field():
    field, xs = df.velocity(jax.nn.softplus, quadratic), jnp.linspace(-1, 1, 6).reshape(1, 3, 2)
    state, probes = (xs, jnp.zeros(1)), jax.random.normal(jax.random.key(0), (20_000, 1, 3, 2))
    _, exact = df.with_log_prob(field)(0.0, state, 1.0)
    _, estimate = df.with_log_prob(field, noise=probes)(0.0, state, 1.0)
    # Var <= 2 |J|_F^2 with J of about -h' I in 6 coordinates: 5 sigma is below .09.
    np.testing.assert_allclose(estimate, exact, atol=0.09)


def test_factories_return_pytrees_without_function_leaves():
    v = df.velocity(identity, quadratic)
    for made in (v, df.gradient_flow(attraction), df.with_log_prob(v, noise=np.ones((1, 2, 3)))):
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(made))
