"""The benchmark against sbibm: simulators beside its reference draws, samplers, and a small run."""

import importlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats as st
from jax.tree_util import Partial

ROOT = pathlib.Path(__file__).parents[2]
HERE = importlib.util.find_spec("sbibm") or os.environ.get("SBIBM_WHEEL")
needs_data = pytest.mark.skipif(not HERE, reason="`nox -s tests` installs sbibm's data")


@pytest.fixture
def tasks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("_sbibm").TASKS


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("simulation")


def many(task, theta, n=4000):
    return jax.vmap(task.simulate, (None, 0))(jnp.asarray(theta), jr.split(jr.key(0), n))


def test_simulators_have_the_moments_of_their_laws(tasks):
    theta = jnp.array([0.5, -1.0, 1.5, -0.8, 0.7])
    points = many(tasks["slcp"], theta).reshape(-1, 2)
    first, second, rho = 1.5**2, 0.8**2, np.tanh(0.7)
    wanted = [[first**2, rho * first * second], [rho * first * second, second**2]]
    np.testing.assert_allclose(points.mean(0), theta[:2], atol=0.06)
    np.testing.assert_allclose(jnp.cov(points.T), wanted, rtol=0.05)
    noise = many(tasks["gaussian_mixture"], [3.0, -2.0]) - jnp.array([3.0, -2.0])
    np.testing.assert_allclose(jnp.mean(noise**2, 0), (1 + 0.01) / 2, rtol=0.1)
    # Both coordinates are wide or both narrow.
    np.testing.assert_allclose(jnp.mean(noise[:, 0] ** 2 * noise[:, 1] ** 2), 0.5, rtol=0.2)
    for name in ("gaussian_linear", "gaussian_linear_uniform"):
        np.testing.assert_allclose(jnp.var(many(tasks[name], jnp.zeros(10)), 0), 0.1, rtol=0.1)
    for task in tasks.values():
        thetas, _ = task.simulations(50, jr.key(1))
        draws = jax.vmap(task.prior)(jr.split(jr.key(2), 4000))
        np.testing.assert_allclose(
            draws.std(0), task.box / 3**0.5 if task.box else 0.1**0.5, rtol=0.06
        )
        densities = jax.vmap(task.log_prior)(thetas)
        if task.box:
            np.testing.assert_allclose(densities, -task.dim * np.log(2 * task.box), rtol=1e-5)
            assert task.log_prior(thetas[0] + 2 * task.box) == -jnp.inf
        else:
            wanted = st.norm.logpdf(thetas, 0, np.sqrt(0.1)).sum(1)
            np.testing.assert_allclose(densities, wanted, rtol=1e-4)


@needs_data
def test_reference_draws_are_those_of_our_simulators(tasks):
    linear = tasks["gaussian_linear"]
    x, draws = linear.observation(1), linear.reference(1)
    assert draws.shape == (10_000, 10)
    np.testing.assert_allclose(draws.mean(0), x / 2, atol=0.01)
    np.testing.assert_allclose(np.cov(draws.T), 0.05 * np.eye(10), atol=0.003)
    cut = tasks["gaussian_linear_uniform"]
    x, draws, wide = cut.observation(2), cut.reference(2), np.sqrt(0.1)
    law = st.truncnorm((-1 - x) / wide, (1 - x) / wide, x, wide)
    np.testing.assert_allclose(draws.mean(0), law.mean(), atol=0.015)
    np.testing.assert_allclose(draws.std(0), law.std(), rtol=0.03)
    mixture = tasks["gaussian_mixture"]
    off = mixture.reference(2) - mixture.observation(2)
    assert 0.4 < np.mean(np.abs(off).max(1) < 0.3) < 0.6
    # What made x is a crescent's point: of radius .1, with deviation .01, on its right side.
    moons = tasks["two_moons"]
    keys = jr.split(jr.key(0), 500)
    folded = jax.vmap(moons.simulate)(moons.reference(1)[:500], keys)
    flat = jax.vmap(moons.simulate, (None, 0))(jnp.zeros(2), keys)
    at = moons.observation(1) - (folded - flat) - jnp.array([0.25, 0.0])
    radii = jnp.linalg.norm(at, axis=1)
    np.testing.assert_allclose((radii.mean(), radii.std()), (0.1, 0.01), rtol=0.15)
    assert jnp.all(at[:, 0] > 0)


def test_the_classifier_finds_a_shift_and_nothing_where_nothing_is(simulation):
    rng = np.random.default_rng(0)
    xs, ys = rng.normal(size=(2, 1000, 1))
    assert abs(simulation.c2st(xs, ys) - 0.5) < 0.04
    # The best classifier of N(0, 1) and N(2, 1) is right with probability Phi(1).
    assert abs(simulation.c2st(3 * xs + 1, 3 * (ys + 2) + 1) - st.norm.cdf(1)) < 0.03


def _two_modes(scale, theta):
    """Half of it around 0.5, half around -0.5."""
    far = jnp.stack([jnp.sum((theta - side) ** 2) for side in (0.5, -0.5)])
    inside = jnp.all(jnp.abs(theta) <= 1)
    return jnp.where(inside, jax.nn.logsumexp(-0.5 * far / scale**2), -jnp.inf)


def test_samplers_find_both_modes_and_their_widths(simulation, tasks, monkeypatch):
    monkeypatch.setattr(simulation, "MOVES", 30)
    log_prob = Partial(_two_modes, jnp.asarray(0.05))
    on_grid = simulation.on_grid(log_prob, 1.0, 2000, jr.key(0))
    by_chains = simulation.by_chains(log_prob, tasks["two_moons"], 2000, jr.key(1))
    for draws in (on_grid, by_chains):
        right = draws[:, 0] > 0
        assert abs(jnp.mean(right) - 0.5) < 0.06
        off = draws - jnp.where(right, 0.5, -0.5)[:, None]
        np.testing.assert_allclose(jnp.cov(off.T), 0.05**2 * np.eye(2), atol=4e-4)


@needs_data
def test_a_small_run_has_a_line_and_a_row_for_each_case(monkeypatch):
    run = [sys.executable, "benchmarks/simulation.py", "--small", "--simulations", "1000"]
    run = [*run, "--only", "gaussian_linear"]
    # Optimised, unlike the tests: this runs longer than it compiles. Two BLAS threads would fight.
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    linear, exact = [json.loads(line) for line in done.stdout.splitlines()]
    assert linear["case"] == "gaussian_linear, 1,000 simulations"
    assert linear["goal"] == linear["baseline"] == 0.672
    # The critic is the one that finds most in held-out simulations, and none finds more than there
    # is: 5 log 2 nats.
    found = {name: nats for name, (nats, _) in linear["information"].items()}
    assert linear["critic"] == max(found, key=found.get)
    assert 1.5 < found["quadratic"] < 5 * np.log(2)
    assert 0.5 < linear["value"] < 0.9
    assert abs(exact["value"] - 0.5) < 0.1
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    table = importlib.import_module("_readme").simulation([linear, exact]).splitlines()
    assert len(table) == 2 + 2
    assert table[2].startswith(f"| gaussian_linear | {linear['value']:.3f}")
