"""Derivatives of a refitted cloud go through the fit: in the start, in a parameter, in a solver."""

import functools

import chex
import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.tree_util import Partial

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
KL = df.divergences.kl_qp.h
EULER = {"solver": diffrax.Euler(), "dt0": 0.05}


def _pull(mean, t, x, args):
    return -0.5 * jnp.sum((x - mean) ** 2)


def to_mean(xs):
    """A potential whose flow draws each particle to the mean of all, which stays."""
    return Partial(_pull, jnp.mean(xs, axis=0))


def log_kde_ratio(xs, xs_p, bandwidth):
    q, p = (df.kde_log_prob(cloud, bandwidth=bandwidth) for cloud in (xs, xs_p))
    return Partial(_difference, p, q)


def _difference(p, q, t, x, args):
    return p(x) - q(x)


def clouds(n=24, dim=2):
    return jr.normal(jr.key(0), (n, dim)), 1 + jr.normal(jr.key(1), (n + 8, dim))


def test_each_end_depends_on_each_start_as_the_closed_form_says():
    """x_i - m = c (x0_i - m) with c = .95^10 by Euler: c at i itself, and (1 - c)/n at all."""
    x0, decay, ones = jnp.arange(8.0)[:, None] ** 2, 0.95**10, np.full((8, 8), 1 / 8)
    whole = df.cloud_velocity(KL, to_mean, block=3)
    held = df.cloud_velocity(KL, to_mean, stop_fit=True)
    end = lambda field, x: df.integrate(field, x, [0.0, 0.5], **EULER).ys[-1][:, 0]
    rates = lambda field, x: field(0.0, x, None)[:, 0]
    for field, through_fit in ((whole, ones), (held, 0 * ones)):
        forward = jax.jacfwd(functools.partial(rates, field))(x0)[..., 0]
        chex.assert_trees_all_close(forward, through_fit - np.eye(8), atol=1e-14)
        backward = jax.jacrev(functools.partial(end, field))(x0)[..., 0]
        exact = decay * np.eye(8) + (1 - decay) * through_fit
        chex.assert_trees_all_close(backward, exact, rtol=1e-12, atol=1e-14)
    chex.assert_trees_all_close(held(0.0, x0, None), whole(0.0, x0, None), rtol=1e-15)


FITS = {
    "kde": functools.partial(log_kde_ratio, bandwidth=None),
    "rff": functools.partial(df.rff_log_ratio, features=8, key=jr.key(2)),
    "ulsif": functools.partial(df.ulsif_ratio, centres=8, key=jr.key(2)),
    "mmd": df.mmd_witness,
}


@pytest.mark.parametrize("name", FITS)
def test_derivatives_through_every_fit_are_those_of_differences(name):
    """Bandwidths by the median rule, Newton's steps and covariances included; in x and in p."""
    xs, xs_p = clouds()
    push, step = jr.normal(jr.key(3), xs.shape), 1e-5

    @jax.jit
    @jax.value_and_grad
    def work(scales):
        field = df.cloud_velocity(KL, functools.partial(FITS[name], xs_p=xs_p * scales[1]))
        return jnp.sum(push * field(0.0, xs * scales[0], None))

    slopes = work(jnp.ones(2))[1]
    for slope, way in zip(slopes, step * jnp.eye(2), strict=True):
        difference = (work(1 + way)[0] - work(1 - way)[0]) / (2 * step)
        np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-7)


def test_an_implicit_solver_needs_few_steps_only_with_the_fits_derivative():
    """A narrow kernel makes the flow stiff through the fit alone."""
    x0 = jnp.linspace(-1.0, 1.0, 8)[:, None]
    fit = functools.partial(log_kde_ratio, xs_p=2 + x0, bandwidth=0.2)
    options = {"solver": diffrax.Kvaerno3(), "max_steps": 20_000}
    steps = {}
    for stop in (False, True):
        field = df.cloud_velocity(KL, fit, stop_fit=stop)
        solution = df.integrate(field, x0, jnp.array([0.0, 1.0]), **options)
        steps[stop] = int(solution.stats["num_steps"])
    assert steps[False] < steps[True] / 3, steps
