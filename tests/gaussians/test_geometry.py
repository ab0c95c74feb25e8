"""Other ways to move a Gaussian: the natural gradient, and forward-backward steps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from targets import (
    ORACLE,
    SQUARE,
    ZERO,
    P,
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
M = np.array([0.5, -1.0])
PRECISION = np.linalg.inv(P)
AFFINE, SHIFT = np.array([[2.0, -0.7], [0.4, 30.0]]), np.array([3.0, -5.0])


def covariance_rate(field, q):
    half = rates(field, q).scale @ q.scale.T
    return half + half.T


# Fisher-Rao


@pytest.mark.parametrize("triangular", [False, True])
def test_the_natural_rate_of_the_covariance_is_the_oracles(triangular):
    inputs = inputs_of("F013")
    target, q = normal(inputs["m"], inputs["P"]), df.Gaussian(inputs["mu"], inputs["S"])
    field = df.fisher_rao_field(target, df.cubature(2), triangular=triangular)
    close(covariance_rate(field, q), np.array(ORACLE["F013"]["expected"]), rtol=1e-10)
    expected = q.covariance @ np.linalg.solve(inputs["P"], inputs["m"] - inputs["mu"])
    close(rates(field, q).mean, expected, rtol=1e-10)


@pytest.mark.parametrize("triangular", [False, True])
def test_precision_and_mean_follow_their_closed_forms(triangular):
    ts, mu0, start = np.array([0.0, 0.3, 1.0, 4.0]), np.array([2.0, 1.0]), np.linalg.cholesky(2 * P)
    start = start if triangular else SQUARE
    field = df.fisher_rao_field(normal(M, P), df.cubature(2), triangular=triangular)
    path = follow(field, df.Gaussian(mu0, start), ts)
    first = np.linalg.inv(start @ start.T)
    for i, t in enumerate(ts):
        covariance = np.linalg.inv(PRECISION + np.exp(-t) * (first - PRECISION))
        close(path.covariance[i], covariance, atol=1e-9)
        close(path.mean[i], M + np.exp(-t) * covariance @ first @ (mu0 - M), atol=1e-9)
    assert not triangular or not np.any(path.scale[:, 0, 1])


def test_the_mean_field_precisions_follow_theirs():
    field, sds = df.fisher_rao_field(normal(M, P), df.cubature(2)), np.array([0.4, 3.0])
    path = follow(field, df.Gaussian(ZERO, sds), [0.0, 1.0])
    best = np.diag(PRECISION)
    close(path.scale[-1] ** -2, best + np.exp(-1.0) * (sds**-2 - best), rtol=1e-9)


@pytest.mark.parametrize("estimator", ["stein", "price"])
@pytest.mark.parametrize("triangular", [False, True])
def test_affine_maps_carry_the_natural_flow_along(estimator, triangular):
    def mapped(x):
        return wavy(jnp.linalg.solve(jnp.asarray(AFFINE), x - SHIFT)) - np.log(
            np.linalg.det(AFFINE)
        )

    q, nodes = near_wavy(), df.gauss_hermite(2, 4)
    options = {"h": jax.nn.softplus, "estimator": estimator, "triangular": triangular}
    rate = rates(df.fisher_rao_field(wavy, nodes, **options), q)
    moved = df.Gaussian(AFFINE @ q.mean + SHIFT, AFFINE @ q.scale)
    moved_rate = rates(df.fisher_rao_field(mapped, nodes, **options), moved)
    expected = AFFINE @ rate.mean, AFFINE @ rate.scale
    close((moved_rate.mean, moved_rate.scale), expected, atol=1e-11)


def test_the_natural_flow_rests_where_the_bures_flow_does():
    nodes, options = df.gauss_hermite(2, 16), {"h": jax.nn.softplus}
    ends = [
        df.integrate(make(wavy, nodes, **options), near_wavy(), [0.0, 40.0]).ys
        for make in (df.gaussian_field, df.fisher_rao_field)
    ]
    bures, natural = ((end.mean[-1], end.covariance[-1]) for end in ends)
    close(natural, bures, atol=1e-5)
    assert np.linalg.norm(natural[1] - near_wavy().covariance) > 0.05


@pytest.mark.parametrize("condition", [1.0, 1e4])
def test_the_natural_flow_converges_at_rate_one_whatever_the_condition(condition):
    factor = turned(np.array([1.0, condition**-0.5]))
    p, ts = df.Gaussian(M, factor), [0.0, 7.0, 8.0]
    field = df.fisher_rao_field(normal(M, factor @ factor.T), df.cubature(2))
    start = df.Gaussian(M + 1.0, 2 * np.eye(2))
    path = follow(field, start, ts)
    kls = jax.vmap(df.gaussian_kl, (0, None))(path, p)
    # One decay length of the remainder, e^-7, is what is left of the next order.
    close(kls[2] / kls[1], np.exp(-2.0), rtol=3e-3)


def test_the_triangular_natural_rate_moves_the_covariance_alike():
    nodes, q = df.gauss_hermite(2, 4), near_wavy()  # whose factor is not triangular
    options = {"h": jax.nn.softplus, "estimator": "price"}
    one, other = (
        covariance_rate(df.fisher_rao_field(wavy, nodes, triangular=t, **options), q)
        for t in (False, True)
    )
    close(one, other, atol=1e-13)


# Forward-backward

BOUND = float(1 / np.linalg.eigvalsh(PRECISION)[-1])


def take(q, step, estimator="price", target=None):
    target = normal(M, P) if target is None else target
    nodes = df.cubature(q.mean.size)
    return df.forward_backward_step(target, nodes, q, step=step, estimator=estimator)


@pytest.mark.parametrize("estimator", ["stein", "price"])
@pytest.mark.parametrize("fraction", [0.1, 1.0])
def test_a_gaussian_target_is_the_fixed_point_up_to_the_bound(estimator, fraction):
    q = take(df.Gaussian(M, np.linalg.cholesky(P)), fraction * BOUND, estimator)
    close((q.mean, q.covariance), (M, P), atol=1e-13)


@pytest.mark.parametrize("fraction", [0.3, 1.0])
def test_kl_never_rises_and_goes_to_zero(fraction):
    def step(q, _):
        return take(q, fraction * BOUND), df.gaussian_kl(q, p)

    p = df.Gaussian(M, np.linalg.cholesky(P))
    start = df.Gaussian(np.array([4.0, 2.0]), np.array([[0.02, 0.0], [0.5, 3.0]]))
    _, kls = eqx.filter_jit(jax.lax.scan)(step, start, length=600)
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
            take(q, step)


@pytest.mark.parametrize("sd", [1e-2, 1e-3])
def test_a_narrow_start_in_float32_is_not_taken_for_a_step_beyond_the_bound(sd):
    with jax.enable_x64(False):
        q = df.Gaussian(np.ones(2, np.float32), np.float32(sd) * np.eye(2, dtype=np.float32))
        target = normal(M.astype(np.float32), P.astype(np.float32))
        for _ in range(3):
            q = take(q, 0.999 * BOUND, target=target)
    assert q.scale.dtype == np.float32


def test_small_steps_follow_the_bures_flow():
    start = df.Gaussian(np.array([2.0, 1.0]), SQUARE)
    mean, covariance = df.bures_field(normal(M, P), df.cubature(2))(
        0.0, (start.mean, start.covariance), None
    )

    def error(step):
        moved = take(start, step)
        quotient = (moved.covariance - start.covariance) / step
        close((moved.mean - start.mean) / step, mean, atol=1e-10)
        return float(jnp.linalg.norm(quotient - covariance))

    errors = error(1e-3), error(1e-4)
    close(errors[0] / errors[1], 10.0, rtol=0.05)


def kl_after(step, mean, scale, variance):
    """Of one step from N(mean, scale scale^T) for N(0, variance I): repeated eigenvalues."""
    target = Partial(spherical, variance)
    moved = take(df.Gaussian(mean, scale), step, target=target)
    return df.gaussian_kl(moved, df.Gaussian(M, np.linalg.cholesky(P)))


def spherical(variance, x):
    return -0.5 * jnp.sum(x**2) / variance


@pytest.mark.parametrize("scale", [np.eye(2), SQUARE], ids=["repeated", "generic"])
def test_gradients_through_a_step_are_right_where_eigenvalues_repeat(scale):
    arguments = 0.4, np.array([0.3, -0.2]), scale, 1.7
    gradients = jax.jit(jax.grad(kl_after, (0, 1, 2, 3)))(*arguments)
    function, eps = jax.jit(kl_after), 1e-5
    for i, (argument, gradient) in enumerate(zip(arguments, gradients, strict=True)):
        argument = np.asarray(argument)
        for index in np.ndindex(argument.shape):
            change = np.zeros(argument.shape)
            change[index] = eps
            ahead, behind = (
                function(*arguments[:i], argument + sign * change, *arguments[i + 1 :])
                for sign in (1, -1)
            )
            close(gradient[index], (ahead - behind) / (2 * eps), atol=1e-8)


def test_second_derivatives_through_a_step_hold_too():
    # In one direction of S at S = I, against differences of the gradient.
    def along(e):
        return kl_after(0.4, ZERO, np.eye(2) + e * SQUARE, 1.7)

    slope = jax.jit(jax.grad(along))
    expected = (slope(1e-5) - slope(-1e-5)) / 2e-5
    close(jax.jit(jax.grad(jax.grad(along)))(0.0), expected, atol=1e-8)
