"""The benchmark against Stan: its arrays, its densities beside scipy's, and a tiny run."""

import importlib
import itertools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
from scipy.special import expit

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture
def gym(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("_gym")


@pytest.mark.parametrize(
    "module",
    [
        "ground_truth/stochastic_volatility_sp500_small",
        "datasets/brownian_motion_missing_middle_observations",
    ],
)
def test_arrays_are_those_that_the_module_would_assign(gym, module):
    folder, name = module.split("/")
    folder = {"ground_truth": gym.TRUTH, "datasets": gym.DATA}[folder]
    (root,) = importlib.util.find_spec("inference_gym").submodule_search_locations
    scope = {}
    exec((pathlib.Path(root) / folder / f"{name}.py").read_text(), scope)  # numpy alone
    found = gym.arrays(folder, name)
    assert found
    for name, values in found.items():
        np.testing.assert_allclose(values, np.ravel(scope[name]), rtol=1e-6)


def positive(s):
    return np.logaddexp(0, s)


def log_volatility(returns, x):
    """Beta(20, 1.5) on (1 + persistence) / 2, and a chain step by step."""
    up, scale, level = expit(x[0]), positive(x[2]), x[3:]
    persistence = 2 * up - 1
    value = st.beta.logpdf(up, 20, 1.5) + np.log(up * (1 - up))
    value += st.cauchy.logpdf(x[1], 0, 5) + st.halfcauchy.logpdf(scale, 0, 2) + np.log(expit(x[2]))
    value += st.norm.logpdf(level[0], x[1], scale / np.sqrt(1 - persistence**2))
    for before, after in itertools.pairwise(level):
        value += st.norm.logpdf(after, x[1] + persistence * (before - x[1]), scale)
    return value + st.norm.logpdf(returns, 0, np.exp(level / 2)).sum()


def log_response(correct, asked, x):
    mean, ability, difficulty = x[0], x[1:401], x[401:]
    students, questions = np.nonzero(asked)
    right = expit(mean + ability[students] - difficulty[questions])
    value = st.norm.logpdf(mean, 0.75) + st.norm.logpdf(x[1:]).sum()
    return value + st.bernoulli.logpmf(correct[students, questions].astype(int), right).sum()


def log_brownian(seen, where, x):
    (step, noise), path = positive(x[:2]), x[2:]
    value = st.lognorm.logpdf([step, noise], 2).sum() + np.log(expit(x[:2])).sum()
    value += st.norm.logpdf(path, np.r_[0, path[:-1]], step).sum()
    return value + st.norm.logpdf(seen, path[where], noise).sum()


MODELS = {
    "stochastic volatility, 100 days": log_volatility,
    "item response": log_response,
    "Brownian motion": log_brownian,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_density_is_that_of_the_model_in_scipys_words(gym, name):
    posterior = gym.POSTERIORS[name]()
    data = [np.asarray(each) for each in posterior.log_prob.args]
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = 0.5 * rng.normal(size=posterior.dim)
        np.testing.assert_allclose(posterior.log_prob(x), MODELS[name](*data, x), rtol=1e-10)
    assert posterior.quantities(x).shape == posterior.mean.shape == posterior.error.shape
    slope = jax.grad(posterior.log_prob)
    assert jnp.all(jnp.isfinite(slope(x)))
    eps = 1e-6 * rng.normal(size=posterior.dim)
    rise = posterior.log_prob(x + eps) - posterior.log_prob(x - eps)
    np.testing.assert_allclose(slope(x) @ eps, rise / 2, rtol=1e-4)


def test_shocks_are_the_same_posterior_after_a_change_of_variables(gym):
    levels, shocks = gym.volatility(100), gym.shocks(100)
    z = 0.5 * np.random.default_rng(1).normal(size=103)
    x = lambda z: jnp.concatenate([z[:3], shocks.quantities(z)[3:]])
    np.testing.assert_allclose(shocks.quantities(z), levels.quantities(x(z)), rtol=1e-12)
    volume = jnp.linalg.slogdet(jax.jacobian(x)(z))[1]
    np.testing.assert_allclose(shocks.log_prob(z), levels.log_prob(x(z)) + volume, rtol=1e-10)


def test_a_tiny_run_compares_a_law_with_stan_and_with_a_guide(monkeypatch):
    run = [sys.executable, "benchmarks/posteriors.py", "--tiny", "--only", "Brownian motion"]
    run = [*run, "--laws", "mean field"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = [line["baseline_name"] for line in lines]
    assert names[0] == "Stan's standard error"
    assert [name.split(".")[0] for name in names[1:]] == ["numpyro", "numpyro"]
    assert all(line["of_ours"]["rested"] for line in lines)
    assert 0.1 < lines[0]["value"] < 1
    by = {line["baseline_name"].split(", ")[-1]: line.get("of_baseline") for line in lines}
    assert by["equal gradients"]["gradients"] == pytest.approx(
        lines[0]["of_ours"]["gradients"], abs=10
    )
    assert by["equal time"]["time"] >= lines[0]["of_ours"]["time"]
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    table = importlib.import_module("_readme").posteriors(lines).splitlines()
    assert len(table) == 2 + len(lines)
    assert table[2].startswith("| Brownian motion, 32 d | mean field |")
