"""Other ways to move a Gaussian: the natural gradient, and forward-backward steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from targets import (
    SQUARE,
    ZERO,
    P,
    close,
    covariance_rate,
    follow,
    near_wavy,
    normal,
    rates,
    turned,
    wavy,
)

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
M = np.array([0.5, -1.0])
PRECISION = np.linalg.inv(P)
AFFINE, SHIFT = np.array([[2.0, -0.7], [0.4, 30.0]]), np.array([3.0, -5.0])


# Fisher-Rao


def test_precision_and_mean_follow_their_closed_forms():
    ts, mu0 = np.array([0.0, 0.3, 1.0, 4.0]), np.array([2.0, 1.0])
    field = df.fisher_rao_field(normal(M, P), df.cubature(2))
    path = follow(field, df.Gaussian(mu0, SQUARE), ts)
    first = np.linalg.inv(SQUARE @ SQUARE.T)
    for i, t in enumerate(ts):
        covariance = np.linalg.inv(PRECISION + np.exp(-t) * (first - PRECISION))
        close(path.covariance[i], covariance, atol=1e-9)
        close(path.mean[i], M + np.exp(-t) * covariance @ first @ (mu0 - M), atol=1e-9)


def test_the_mean_field_precisions_follow_theirs():
    field, sds = df.fisher_rao_field(normal(M, P), df.cubature(2)), np.array([0.4, 3.0])
    path = follow(field, df.Gaussian(ZERO, sds), [0.0, 1.0])
    best = np.diag(PRECISION)
    close(path.scale[-1] ** -2, best + np.exp(-1.0) * (sds**-2 - best), rtol=1e-9)


def mapped(matrix, shift, x):
    """The image of `wavy` under x -> matrix x + shift."""
    return wavy(jnp.linalg.solve(matrix, x - shift)) - jnp.linalg.slogdet(matrix)[1]


@pytest.mark.parametrize(("estimator", "triangular"), [("stein", False), ("price", True)])
def test_affine_maps_carry_the_natural_flow_along(estimator, triangular):
    def rate(matrix, shift):
        target, nodes = Partial(mapped, matrix, shift), df.gauss_hermite(2, 4)
        options = {"h": jax.nn.softplus, "estimator": estimator, "triangular": triangular}
        moved = df.Gaussian(matrix @ q.mean + shift, matrix @ q.scale)
        return rates(df.fisher_rao_field(target, nodes, **options), moved)

    q = near_wavy()
    here, there = rate(np.eye(2), ZERO), rate(AFFINE, SHIFT)
    expected = AFFINE @ here.mean, AFFINE @ here.scale
    close((there.mean, there.scale), expected, atol=1e-11)


def test_the_natural_flow_rests_where_the_bures_flow_does():
    bures, natural = (
        make(wavy, df.gauss_hermite(2, 16), h=jax.nn.softplus)
        for make in (df.gaussian_field, df.fisher_rao_field)
    )
    ends = df.integrate(bures, near_wavy(), [0.0, 40.0]).ys
    q = jax.tree.map(lambda leaf: leaf[-1], ends)
    rate = rates(natural, q)
    close(rate, jax.tree.map(jnp.zeros_like, rate), atol=1e-6)
    assert np.linalg.norm(q.covariance - near_wavy().covariance) > 0.05


@pytest.mark.parametrize("condition", [1.0, 1e4])
def test_the_natural_flow_converges_at_rate_one_whatever_the_condition(condition):
    factor = turned(np.array([1.0, condition**-0.5]))
    p, ts = df.Gaussian(M, factor), [0.0, 1.0, 7.0, 8.0]
    field = df.fisher_rao_field(normal(M, factor @ factor.T), df.cubature(2))
    start = df.Gaussian(M + 1.0, 2 * np.eye(2))
    path = follow(field, start, ts)
    kls = jax.vmap(df.gaussian_kl, (0, None))(path, p)
    # One decay length of the remainder, e^-7, is what is left of the next order.
    close(kls[3] / kls[2], np.exp(-2.0), rtol=3e-3)


@pytest.mark.parametrize("scale", [np.linalg.cholesky(P), SQUARE], ids=["triangular", "square"])
def test_the_triangular_natural_rate_moves_the_covariance_alike_and_keeps_a_triangle(scale):
    nodes, q = df.gauss_hermite(2, 4), df.Gaussian(near_wavy().mean, scale)
    options = {"h": jax.nn.softplus, "estimator": "price"}
    half, full = (
        df.fisher_rao_field(wavy, nodes, triangular=option, **options) for option in (True, False)
    )
    close(covariance_rate(half, q), covariance_rate(full, q), atol=1e-13)
    assert scale[0, 1] != 0 or rates(half, q).scale[0, 1] == 0


# Forward-backward

BOUND = float(1 / np.linalg.eigvalsh(PRECISION)[-1])


@functools.partial(jax.jit, static_argnames="estimator")
def step_to(target, q, step, estimator="price"):
    nodes = df.cubature(q.mean.size)
    return df.forward_backward_step(target, nodes, q, step=step, estimator=estimator)


def take(q, step, **options):
    target = normal(M.astype(q.mean.dtype), P.astype(q.mean.dtype))
    return step_to(target, q, step, **options)


@pytest.mark.parametrize("estimator", ["stein", "price"])
def test_a_gaussian_target_is_the_fixed_point_up_to_the_bound(estimator):
    for fraction in (0.1, 1.0):
        q = take(df.Gaussian(M, np.linalg.cholesky(P)), fraction * BOUND, estimator=estimator)
        close((q.mean, q.covariance), (M, P), atol=1e-13)


def test_kl_never_rises_and_goes_to_zero():
    @jax.jit
    def descent(size):
        step = lambda q, _: (take(q, size), df.gaussian_kl(q, p))
        return jax.lax.scan(step, start, length=600)[1]

    p = df.Gaussian(M, np.linalg.cholesky(P))
    start = df.Gaussian(np.array([4.0, 2.0]), np.array([[0.02, 0.0], [0.5, 3.0]]))
    for fraction in (0.3, 1.0):
        kls = descent(fraction * BOUND)
        assert np.all(np.diff(kls) <= 1e-13)
        assert kls[0] > 1
        assert kls[-1] < 1e-12


def test_the_mean_field_step_rests_at_the_mean_field_optimum():
    q = df.Gaussian(M, np.diag(PRECISION) ** -0.5)
    moved = take(q, 0.5 * BOUND)
    assert moved.diagonal
    close((moved.mean, moved.scale), (M, np.diag(PRECISION) ** -0.5), atol=1e-13)


def test_a_step_beyond_the_bound_is_refused():
    q = df.Gaussian(M, np.linalg.cholesky(P))
    for step in (1.001 * BOUND, 0.0):
        with pytest.raises(Exception, match="`step` must be positive and at most"):
            jax.block_until_ready(take(q, step))


def test_a_narrow_start_in_float32_is_not_taken_for_a_step_beyond_the_bound():
    with jax.enable_x64(False):
        for sd in (1e-2, 1e-3):
            q = df.Gaussian(np.ones(2, np.float32), np.float32(sd) * np.eye(2, dtype=np.float32))
            for _ in range(3):
                q = take(q, 0.999 * BOUND)
            assert jax.block_until_ready(q).scale.dtype == np.float32


def test_small_steps_follow_the_bures_flow():
    start = df.Gaussian(np.array([2.0, 1.0]), SQUARE)
    field = df.bures_field(normal(M, P), df.cubature(2))
    mean, covariance = rates(field, (start.mean, start.covariance))

    def error(step):
        moved = take(start, step)
        quotient = (moved.covariance - start.covariance) / step
        close((moved.mean - start.mean) / step, mean, atol=1e-10)
        return float(jnp.linalg.norm(quotient - covariance))

    close(error(1e-3) / error(1e-4), 10.0, rtol=0.05)


def spherical(variance, x):
    return -0.5 * jnp.sum(x**2) / variance


def test_two_derivatives_through_a_step_are_right_where_eigenvalues_repeat():
    """At S = I and a round target, along a direction of the step, the mean, S and the variance."""

    def kl_after(e):
        q = df.Gaussian(np.array([0.3, -0.2]) + e * M, np.eye(2) + e * SQUARE)
        moved = step_to(Partial(spherical, 1.7 - 0.9 * e), q, 0.4 + 0.3 * e)
        return df.gaussian_kl(moved, df.Gaussian(M, np.linalg.cholesky(P)))

    size = 1e-5
    both = jax.vmap(lambda e: jax.jvp(jax.value_and_grad(kl_after), (e,), (1.0,)))
    (value, slope), (rate, second) = jax.jit(both)(np.array([-size, 0.0, size]))
    close(rate, slope, rtol=1e-12)
    close(slope[1], (value[2] - value[0]) / (2 * size), atol=1e-8)
    close(second[1], (slope[2] - slope[0]) / (2 * size), atol=1e-8)
