"""Bures-Wasserstein flows of a Gaussian: closed forms, the laws of every h, and solvers."""

import functools

import chex
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from catalogue import ROWS
from targets import (
    ORACLE,
    SQUARE,
    ZERO,
    P,
    banana,
    close,
    covariance_rate,
    follow,
    grid,
    h_of,
    log_f_of,
    near_wavy,
    normal,
    rates,
    turned,
    wavy,
)

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")


def covariances(target, start, ts):
    """P + e^{-t/P} (Sigma_0 - P) e^{-t/P}, and e^{-t/P}."""
    decay = np.stack([scipy.linalg.expm(-t * np.linalg.inv(target)) for t in ts])
    return target + decay @ (start - target) @ decay, decay


# Closed forms and published numbers


def ou_start():
    return df.Gaussian(np.array([4.0, 2.0]), 0.8 * np.eye(2))


def test_the_ou_flow_has_section_eights_numbers():
    p = df.Gaussian(ZERO, np.linalg.cholesky(P))
    field = df.gaussian_field(normal(ZERO, P), df.cubature(2))
    path = follow(field, ou_start(), [0.0, 1.0, 2.0, 5.0])
    close(path.mean[1], np.array([1.49998582, 1.49612491]), atol=1e-8)
    expected = np.array([[0.70026001, 0.54025822], [0.54025822, 0.70026001]])
    close(path.covariance[1], expected, atol=1e-8)

    @jax.jit
    @jax.vmap
    def kl_and_rate(q):
        return jax.jvp(lambda q: df.gaussian_kl(q, p), (q,), (field(0.0, q, None),))

    kls, slopes = kl_and_rate(path)
    close(kls[np.array([0, 1, 3])], np.array([13.43454015, 1.56376704, 0.00602492]), atol=1e-8)
    close(slopes[:2], np.array([-101.35030864, -2.18027642]), atol=1e-7)


def test_a_start_that_does_not_commute_with_the_target_follows_the_closed_form():
    factor, m, mu0 = turned(np.array([1.4, 0.5])), np.array([0.5, -1.0]), np.array([2.0, 1.0])
    target, ts = factor @ factor.T, np.array([0.0, 0.1, 0.7, 3.0])
    field = df.gaussian_field(normal(m, target), df.cubature(2))
    path = follow(field, df.Gaussian(mu0, SQUARE), ts)
    exact, decay = covariances(target, SQUARE @ SQUARE.T, ts)
    close((path.mean, path.covariance), (m + decay @ (mu0 - m), exact), atol=1e-9)


FLOWS = {"kl": "kl_qp", "gan": "shifted_0", "ns": "softened_reverse_kl", "arcsinh": "arcsinh"}


@pytest.mark.parametrize("flow", FLOWS)
def test_flows_of_other_divergences_are_the_oracles(flow):
    cases = {c["inputs"]["t"]: c for c in ORACLE.values() if c["inputs"].get("flow") == flow}
    target, nodes = normal(np.zeros(1), np.eye(1)), df.trapezoid(1)
    field = df.gaussian_field(target, nodes, h=h_of(FLOWS[flow]))
    start, ts = df.Gaussian(np.array([2.0]), np.array([[0.5]])), [0.0, 0.5, 2.0]
    means = follow(field, start, ts).mean[1:, 0]
    expected = np.array([cases[t]["expected"] for t in ts[1:]])
    close(means, expected, atol=1e-9)


def test_the_banana_flow_passes_and_ends_where_theory_says():
    nodes = df.gauss_hermite(2, 3)  # exact to degree 5; g z^T has degree 4
    start = df.Gaussian(np.array([3.0, -2.0]), np.eye(2))
    path = df.integrate(df.gaussian_field(banana, nodes), start, [0.0, 1.0, 60.0]).ys
    close(path.mean[1:], np.array([[0.502764, 0.095392], [1.0, 1.25]]), atol=1e-6)
    passed = [[0.192173, 0.178628], [0.178628, 0.655790]]
    best = [[0.25, 0.5], [0.5, 1.5]]
    close(path.covariance[1:], np.array([passed, best]), atol=1e-6)
    q = jax.tree.map(lambda leaf: leaf[2], path)
    log_ps = jax.vmap(lambda z: q.log_prob_of_push(z) - banana(q.push(z)))(nodes.points)
    close(nodes.weights @ log_ps, np.log(2) / 2 - 1 / 8, atol=1e-8)


def test_eulers_method_on_the_factor_and_on_the_covariance_has_section_eights_numbers():
    def euler(make, start):
        field = make(normal(ZERO, P), df.cubature(2))
        return df.integrate(field, start, [0.0, 1.0], solver=diffrax.Euler(), dt0=0.01).ys

    on_factor = euler(df.gaussian_field, ou_start())
    on_covariance = euler(df.bures_field, (np.array([4.0, 2.0]), 0.64 * np.eye(2)))
    for mean, covariance, diagonal, other in (
        (on_factor.mean, on_factor.covariance, 0.70145692, 0.54145612),
        (*on_covariance, 0.70122579, 0.54122503),
    ):
        close(mean[-1], np.array([1.49600518, 1.49285629]), atol=1e-8)
        close(covariance[-1], np.array([[diagonal, other], [other, diagonal]]), atol=1e-8)


# Laws of every h, on a target that is no Gaussian

# All rows but those that are others by another name.
DISTINCT = [row for row in ROWS if row not in ("alpha_0", "alpha_1", "alpha_half", "shifted_0")]


@jax.jit
def estimates(h, nodes, q):
    """Stein's and Price's rates."""
    make = functools.partial(df.gaussian_field, wavy, nodes, h=h)
    return [make(estimator=name)(0.0, q, None) for name in ("stein", "price")]


@pytest.mark.parametrize("row", DISTINCT)
def test_stein_is_price_on_exact_nodes(row):
    stein, price = estimates(h_of(row), grid(), near_wavy())
    close(stein, price, atol=1e-10 * float(jnp.max(jnp.abs(price.scale))))


@jax.jit
def mean_hessian(h, nodes, q):
    at = jax.hessian(lambda x: h(wavy(x) - q.log_prob(x)))
    return jnp.tensordot(nodes.weights, jax.vmap(at)(jax.vmap(q.push)(nodes.points)), 1)


@pytest.mark.parametrize("row", ["kl_qp", "pearson", "arcsinh", "jensen_shannon"])
def test_prices_rate_is_the_mean_hessian_of_h_times_the_factor_on_any_nodes(row):
    """So it is horizontal, and an Euler step is (I + step M) Sigma (I + step M), M this mean."""
    nodes = df.normal_nodes(len(grid().weights), 2, key=jax.random.key(0))
    h, q = h_of(row), near_wavy()
    m, (_, price) = mean_hessian(h, nodes, q), estimates(h, nodes, q)
    close(price.scale, m @ q.scale, atol=1e-13 * float(jnp.max(jnp.abs(m))))


@jax.jit
def change_of_divergence(log_f, nodes, q, rate):
    def divergence(q):
        us = jax.vmap(lambda z: wavy(q.push(z)) - q.log_prob_of_push(z))(nodes.points)
        return nodes.weights @ log_f(us)

    return jax.jvp(divergence, (q,), (rate,))[1]


@pytest.mark.parametrize(
    "row", ["kl_qp", "kl_pq", "jensen_shannon", "softened_reverse_kl", "neyman", "le_cam"]
)
def test_the_flow_lowers_its_own_divergence_at_the_rate_of_the_metric(row):
    rate, _ = estimates(h_of(row), grid(), near_wavy())
    found = change_of_divergence(log_f_of(row), grid(), near_wavy(), rate)
    close(found, -jnp.sum(rate.mean**2) - jnp.sum(rate.scale**2), rtol=1e-9)


def test_a_rotated_factor_moves_rotated():
    q, (turn, _) = near_wavy(), np.linalg.qr(SQUARE)
    rate, rotated = (
        estimates(h_of("arcsinh"), grid(), df.Gaussian(q.mean, scale))[0].scale
        for scale in (q.scale, q.scale @ turn)
    )
    close(rotated, rate @ turn, atol=1e-11)


def test_the_flow_of_the_factor_projects_onto_that_of_the_covariance():
    q, nodes, h = near_wavy(), grid(), jax.nn.softplus  # of a factor that is not triangular
    on_s = df.gaussian_field(wavy, nodes, h=h)
    mean, covariance = rates(df.bures_field(wavy, nodes, h=h), (q.mean, q.covariance))
    close((rates(on_s, q).mean, covariance_rate(on_s, q)), (mean, covariance), atol=1e-11)


@pytest.mark.parametrize("scale", [np.linalg.cholesky(P), SQUARE], ids=["triangular", "square"])
def test_the_triangular_option_moves_the_covariance_alike_and_keeps_a_triangle(scale):
    q, nodes = df.Gaussian(near_wavy().mean, scale), df.gauss_hermite(2, 3)
    half, full = (df.gaussian_field(wavy, nodes, triangular=option) for option in (True, False))
    close(covariance_rate(half, q), covariance_rate(full, q), atol=1e-12)
    assert scale[0, 1] != 0 or rates(half, q).scale[0, 1] == 0


# The mean-field family


@pytest.mark.parametrize("estimator", ["stein", "price"])
def test_the_mean_field_rate_is_the_diagonal_of_the_full_one(estimator):
    nodes, sds = df.gauss_hermite(2, 5), np.array([0.9, 1.2])
    field = df.gaussian_field(wavy, nodes, h=jax.nn.softplus, estimator=estimator)
    full, thin = (rates(field, df.Gaussian(ZERO, scale)) for scale in (np.diag(sds), sds))
    close((thin.mean, thin.scale), (full.mean, jnp.diag(full.scale)), atol=1e-13)


# Solvers


@pytest.mark.parametrize(
    ("solver", "dt0", "rtol"),
    [
        (diffrax.Tsit5(), None, 1e-5),
        (diffrax.Kvaerno3(), None, 1e-3),
        (diffrax.Euler(), 5e-4, 1e-2),
    ],
    ids=["Tsit5", "Kvaerno3", "Euler"],
)
def test_the_covariance_stays_definite_under_every_kind_of_solver(solver, dt0, rtol):
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
    factor = turned(np.array([1.0, 0.03]))
    target, start = factor @ factor.T, (np.ones(2), np.eye(2))
    field = df.bures_field(normal(ZERO, target), df.cubature(2))
    with pytest.raises(Exception, match="not finite"):
        df.integrate(field, start, [0.0, 1.0], solver=diffrax.Euler(), dt0=0.01)
    path = df.integrate(field, start, [0.0, 1.0], dt0=0.5).ys
    close(path[1][-1], covariances(target, np.eye(2), [1.0])[0][0], atol=1e-6)


# The public function


def peaked(x):
    return 800.0 - 0.5 * jnp.sum(x**2)  # e^800 times the standard normal: grad u = 0


def test_a_velocity_of_zero_is_zero_where_h_prime_overflows():
    field = df.gaussian_field(peaked, df.cubature(2), h=jnp.exp)
    rate = rates(field, df.Gaussian(ZERO, np.eye(2)))
    chex.assert_trees_all_equal(rate, jax.tree.map(jnp.zeros_like, rate))


def test_a_float32_state_flows_in_float32_whatever_the_nodes():
    target, single = normal(np.float32(ZERO), np.float32(P)), np.float32
    start = df.Gaussian(np.array([4.0, 2.0], single), np.float32(0.8) * np.eye(2, dtype=single))
    stein, price = (
        df.gaussian_field(target, df.cubature(2), estimator=name) for name in ("stein", "price")
    )
    assert rates(price, start).scale.dtype == single
    q = df.integrate(stein, start, [0.0, 1.0]).ys
    assert q.mean.dtype == q.scale.dtype == single
    close(q.mean[1].astype(float), np.array([1.49998582, 1.49612491]), atol=1e-4)
