"""Bures-Wasserstein flows of a Gaussian against closed forms, and under every solver."""

import chex
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from targets import (
    ORACLE,
    SQUARE,
    ZERO,
    P,
    banana,
    close,
    follow,
    inputs_of,
    near_wavy,
    normal,
    rates,
    turned,
    wavy,
)

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
D = df.divergences


def covariances(target, start, ts):
    """P + e^{-t/P} (Sigma_0 - P) e^{-t/P}, and e^{-t/P}."""
    decay = np.stack([scipy.linalg.expm(-t * np.linalg.inv(target)) for t in ts])
    return target + decay @ (start - target) @ decay, decay


# Closed forms and published numbers


def test_the_ou_flow_has_section_eights_numbers():
    start = df.Gaussian(np.array([4.0, 2.0]), 0.8 * np.eye(2))
    p = df.Gaussian(ZERO, np.linalg.cholesky(P))
    field = df.gaussian_field(normal(ZERO, P), df.cubature(2))
    path = follow(field, start, [0.0, 1.0, 5.0])
    close(path.mean[1], np.array([1.49998582, 1.49612491]), atol=1e-8)
    expected = np.array([[0.70026001, 0.54025822], [0.54025822, 0.70026001]])
    close(path.covariance[1], expected, atol=1e-8)

    def kl_and_rate(q):
        return jax.jvp(lambda q: df.gaussian_kl(q, p), (q,), (field(0.0, q, None),))

    kls, slopes = jax.vmap(kl_and_rate)(path)
    close(kls, np.array([13.43454015, 1.56376704, 0.00602492]), atol=1e-8)
    close(slopes[:2], np.array([-101.35030864, -2.18027642]), atol=1e-7)


def test_a_start_that_does_not_commute_with_the_target_follows_the_closed_form():
    factor, m, mu0 = turned(np.array([1.4, 0.5])), np.array([0.5, -1.0]), np.array([2.0, 1.0])
    target, ts = factor @ factor.T, np.array([0.0, 0.1, 0.7, 3.0])
    path = follow(
        df.gaussian_field(normal(m, target), df.cubature(2)), df.Gaussian(mu0, SQUARE), ts
    )
    exact, decay = covariances(target, SQUARE @ SQUARE.T, ts)
    close((path.mean, path.covariance), (m + decay @ (mu0 - m), exact), atol=1e-9)


def test_the_rate_of_the_factor_is_the_oracles():
    inputs = inputs_of("F011")
    field = df.gaussian_field(normal(inputs["m"], inputs["P"]), df.cubature(2))
    rate = rates(field, df.Gaussian(inputs["mu"], inputs["S"])).scale
    close(rate, np.array(ORACLE["F011"]["expected"]), rtol=1e-10)


FLOWS = {
    "kl": D.kl_qp.h,
    "gan": jax.nn.softplus,
    "ns": D.softened_reverse_kl.h,
    "arcsinh": D.arcsinh.h,
}


@pytest.mark.parametrize("flow", FLOWS)
def test_flows_of_other_divergences_are_the_oracles(flow):
    cases = {c["inputs"]["t"]: c for c in ORACLE.values() if c["inputs"].get("flow") == flow}
    field = df.gaussian_field(normal(np.zeros(1), np.eye(1)), df.trapezoid(1), h=FLOWS[flow])
    start, ts = df.Gaussian(np.array([2.0]), np.array([[0.5]])), [0.0, 0.5, 2.0]
    means = follow(field, start, ts).mean[1:, 0]
    expected = np.array([cases[t]["expected"] for t in ts[1:]])
    close(means, expected, atol=1e-9)


def test_the_banana_flow_passes_and_ends_where_theory_says():
    nodes = df.gauss_hermite(2, 3)  # exact to degree 5; g z^T has degree 4
    start = df.Gaussian(np.array([3.0, -2.0]), np.eye(2))
    path = df.integrate(df.gaussian_field(banana, nodes), start, [0.0, 1.0, 60.0]).ys
    close(path.mean[1], np.array([0.502764, 0.095392]), atol=1e-6)
    expected = np.array([[0.192173, 0.178628], [0.178628, 0.655790]])
    close(path.covariance[1], expected, atol=1e-6)
    close(path.mean[2], np.array([1.0, 1.25]), atol=1e-6)
    best = np.array([[0.25, 0.5], [0.5, 1.5]])
    close(path.covariance[2], best, atol=1e-6)
    q = jax.tree.map(lambda leaf: leaf[2], path)
    log_ps = jax.vmap(lambda z: q.log_prob_of_push(z) - banana(q.push(z)))(nodes.points)
    close(nodes.weights @ log_ps, np.log(2) / 2 - 1 / 8, atol=1e-8)


# Euler's method on S and on Sigma


def euler(field, start):
    path = df.integrate(field, start, [0.0, 1.0], solver=diffrax.Euler(), dt0=0.01)
    return jax.tree.map(lambda leaf: leaf[-1], path.ys)


def test_euler_on_the_factor_has_section_eights_numbers():
    start = df.Gaussian(np.array([4.0, 2.0]), 0.8 * np.eye(2))
    q = euler(df.gaussian_field(normal(ZERO, P), df.cubature(2)), start)
    close(q.mean, np.array([1.49600518, 1.49285629]), atol=1e-8)
    expected = np.array([[0.70145692, 0.54145612], [0.54145612, 0.70145692]])
    close(q.covariance, expected, atol=1e-8)


def test_euler_on_the_covariance_has_other_numbers():
    start = (np.array([4.0, 2.0]), 0.64 * np.eye(2))
    mean, covariance = euler(df.bures_field(normal(ZERO, P), df.cubature(2)), start)
    close(mean, np.array([1.49600518, 1.49285629]), atol=1e-8)
    expected = np.array([[0.70122579, 0.54122503], [0.54122503, 0.70122579]])
    close(covariance, expected, atol=1e-8)


@pytest.mark.parametrize("nodes", [df.cubature, lambda dim: df.gauss_hermite(dim, 4)])
def test_an_euler_step_is_bures_wasserstein_descent_on_any_nodes(nodes):
    q, nodes, step = near_wavy(), nodes(2), 0.3
    rate = rates(df.gaussian_field(wavy, nodes, h=jax.nn.softplus, estimator="price"), q)
    moved = q.scale + step * rate.scale

    def h_of_u(x):
        return jax.nn.softplus(wavy(x) - q.log_prob(x))

    hessians = jax.jit(jax.vmap(jax.hessian(h_of_u)))(jax.vmap(q.push)(nodes.points))
    m = np.eye(2) + step * np.einsum("n,nij->ij", nodes.weights, hessians)
    close(moved @ moved.T, m @ q.covariance @ m, atol=1e-13)


# The mean-field family


@pytest.mark.parametrize("estimator", ["stein", "price"])
def test_the_mean_field_rate_is_the_diagonal_of_the_full_one(estimator):
    nodes, sds = df.gauss_hermite(2, 5), np.array([0.9, 1.2])
    field = df.gaussian_field(wavy, nodes, h=jax.nn.softplus, estimator=estimator)
    full = rates(field, df.Gaussian(ZERO, np.diag(sds)))
    thin = rates(field, df.Gaussian(ZERO, sds))
    close(thin.mean, full.mean, atol=1e-13)
    close(thin.scale, jnp.diag(full.scale), atol=1e-13)


def test_the_mean_field_optimum_has_the_diagonal_of_the_precision():
    field = df.gaussian_field(normal(np.array([0.5, -1.0]), P), df.cubature(2))
    end = df.integrate(field, df.Gaussian(ZERO, np.ones(2)), [0.0, 60.0]).ys
    close(end.mean[-1], np.array([0.5, -1.0]), atol=1e-6)
    expected = 1 / np.diag(np.linalg.inv(P))
    close(end.scale[-1] ** 2, expected, atol=1e-6)


# Solvers


@pytest.mark.parametrize(
    ("solver", "dt0", "rtol"),
    [
        (diffrax.Tsit5(), None, 1e-5),
        (diffrax.Dopri5(), None, 1e-5),
        (diffrax.Heun(), None, 1e-5),
        (diffrax.Kvaerno3(), None, 1e-3),
        (diffrax.Kvaerno5(), None, 1e-3),
        (diffrax.Euler(), 5e-4, 1e-2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, diffrax.AbstractSolver) else None,
)
def test_the_covariance_stays_definite_under_every_solver(solver, dt0, rtol):
    factor, ts = turned(np.array([1.0, 0.03])), np.array([0.0, 1e-3, 0.1, 2.0])
    target = factor @ factor.T
    field = df.gaussian_field(normal(ZERO, target), df.cubature(2))
    start = df.Gaussian(np.ones(2), SQUARE)
    path = df.integrate(field, start, ts, solver=solver, dt0=dt0).ys
    exact, _ = covariances(target, SQUARE @ SQUARE.T, ts)
    least, expected = (np.linalg.eigvalsh(c)[:, 0] for c in (path.covariance, exact))
    assert least.min() > 0
    close(least[-1], expected[-1], rtol=rtol)


def test_on_the_covariance_too_large_a_step_is_an_error_or_rejected():
    factor = turned(np.array([1.0, 0.1]))
    target, start = factor @ factor.T, (np.ones(2), np.eye(2))
    field = df.bures_field(normal(ZERO, target), df.cubature(2))
    with pytest.raises(Exception, match="not finite"):
        df.integrate(field, start, [0.0, 1.0], solver=diffrax.Euler(), dt0=0.1)
    path = df.integrate(field, start, [0.0, 1.0], dt0=0.5).ys
    close(path[1][-1], covariances(target, np.eye(2), [1.0])[0][0], atol=1e-6)


# The public function


def test_a_velocity_of_zero_is_zero_where_h_prime_overflows():
    def peaked(x):
        return 800.0 - 0.5 * jnp.sum(x**2)  # e^800 times the standard normal: grad u = 0

    field = df.gaussian_field(peaked, df.cubature(2), h=jnp.exp)
    rate = rates(field, df.Gaussian(ZERO, np.eye(2)))
    chex.assert_trees_all_equal(rate, jax.tree.map(jnp.zeros_like, rate))


def test_fields_are_pytrees_of_arrays_that_jit_and_vmap_take():
    field = df.gaussian_field(wavy, df.cubature(2), h=D.alpha(0.5).h)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(field))
    scales = np.stack([SQUARE, np.eye(2)])
    qs = df.Gaussian(np.zeros((2, 2)), scales)
    together = jax.jit(lambda field, qs: jax.vmap(field, (None, 0, None))(0.0, qs, None))(field, qs)
    each = [rates(field, df.Gaussian(ZERO, scale)) for scale in scales]
    close(together, jax.tree.map(lambda *a: jnp.stack(a), *each), atol=1e-13)


def test_a_float32_state_flows_in_float32_whatever_the_nodes():
    single = np.float32
    target = normal(ZERO.astype(single), P.astype(single))
    start = df.Gaussian(np.array([4.0, 2.0], single), single(0.8) * np.eye(2, dtype=single))
    for estimator in ("stein", "price"):
        field = df.gaussian_field(target, df.cubature(2), estimator=estimator)
        q = df.integrate(field, start, [0.0, 1.0]).ys
        assert q.mean.dtype == q.scale.dtype == single
        close(q.mean[1].astype(float), np.array([1.49998582, 1.49612491]), atol=1e-4)
