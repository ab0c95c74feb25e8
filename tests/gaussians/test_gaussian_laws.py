"""Laws of the Bures-Wasserstein flow of every h, on a target that is no Gaussian."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue import ROWS
from targets import SQUARE, P, close, grid, near_wavy, rates, wavy

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
D = df.divergences
ESTIMATORS = ("stein", "price")
# All rows but those that are others by another name.
DISTINCT = [row for row in ROWS if row not in ("alpha_0", "alpha_1", "alpha_half", "shifted_0")]
every_row = pytest.mark.parametrize("row", DISTINCT)


@functools.cache
def estimates(row):
    """Both estimators' rates at one Gaussian, on nodes exact to round-off."""
    fields = (df.gaussian_field(wavy, grid(), h=ROWS[row].h, estimator=e) for e in ESTIMATORS)
    return [rates(field, near_wavy()) for field in fields]


@every_row
def test_steins_rate_is_horizontal(row):
    k = estimates(row)[0].scale @ np.linalg.inv(near_wavy().scale)
    close(k, k.T, atol=1e-10 * float(jnp.max(jnp.abs(k))))


@every_row
def test_stein_is_price_on_exact_nodes(row):
    stein, price = estimates(row)
    size = float(jnp.max(jnp.abs(price.scale)))
    close(stein, price, atol=1e-10 * size)


@pytest.mark.parametrize("row", ["kl_qp", "pearson", "arcsinh"])
def test_prices_rate_is_horizontal_on_any_nodes(row):
    nodes = df.normal_nodes(5, 2, key=jax.random.key(0))
    field = df.gaussian_field(wavy, nodes, h=ROWS[row].h, estimator="price")
    k = rates(field, near_wavy()).scale @ np.linalg.inv(near_wavy().scale)
    close(k, k.T, atol=1e-13 * float(jnp.max(jnp.abs(k))))


@pytest.mark.parametrize(
    "row", ["kl_qp", "kl_pq", "jensen_shannon", "softened_reverse_kl", "neyman", "le_cam"]
)
def test_the_flow_lowers_its_own_divergence_at_the_rate_of_the_metric(row):
    q, nodes, rate = near_wavy(), grid(), estimates(row)[0]

    def divergence(e):
        moved = df.Gaussian(q.mean + e * rate.mean, q.scale + e * rate.scale)
        us = jax.vmap(lambda z: wavy(moved.push(z)) - moved.log_prob_of_push(z))(nodes.points)
        return nodes.weights @ ROWS[row].log_f(us)

    slope = jax.jit(jax.jacfwd(divergence))(0.0)
    expected = -jnp.sum(rate.mean**2) - jnp.sum(rate.scale**2)
    close(slope, expected, rtol=1e-9)


def test_a_rotated_factor_moves_rotated():
    q = near_wavy()
    turn, _ = np.linalg.qr(SQUARE)
    field = df.gaussian_field(wavy, grid(), h=D.arcsinh.h)
    rotated = rates(field, df.Gaussian(q.mean, q.scale @ turn))
    close(rotated.scale, rates(field, q).scale @ turn, atol=1e-11)


def test_the_flow_of_the_factor_projects_onto_that_of_the_covariance():
    q, nodes, h = near_wavy(), df.gauss_hermite(2, 16), jax.nn.softplus
    on_s = df.integrate(df.gaussian_field(wavy, nodes, h=h), q, [0.0, 0.5, 2.0]).ys
    start = (q.mean, q.covariance)
    on_sigma = df.integrate(df.bures_field(wavy, nodes, h=h), start, [0.0, 0.5, 2.0]).ys
    close((on_s.mean, on_s.covariance), on_sigma, atol=1e-6)


@pytest.mark.parametrize("scale", [np.linalg.cholesky(P), SQUARE], ids=["triangular", "square"])
def test_the_triangular_option_moves_the_covariance_alike(scale):
    q = df.Gaussian(near_wavy().mean, scale)
    nodes, h = df.gauss_hermite(2, 3), D.kl_qp.h
    half = rates(df.gaussian_field(wavy, nodes, h=h, triangular=True), q).scale @ scale.T
    full = rates(df.gaussian_field(wavy, nodes, h=h), q).scale @ scale.T
    close(half + half.T, full + full.T, atol=1e-12)


def test_a_triangular_factor_stays_triangular():
    start = df.Gaussian(near_wavy().mean, np.linalg.cholesky(P))
    nodes = df.gauss_hermite(2, 16)
    path = df.integrate(df.gaussian_field(wavy, nodes, triangular=True), start, [0.0, 3.0]).ys
    free = df.integrate(df.gaussian_field(wavy, nodes), start, [0.0, 3.0]).ys
    np.testing.assert_array_equal(path.scale[:, 0, 1], 0.0)
    close(path.covariance, free.covariance, atol=1e-6)
