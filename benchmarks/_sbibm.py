"""Five tasks of sbibm: priors and simulators as the package writes them, and its reference draws.

The package imports PyTorch, so nothing of it is run: its files are read from where it is installed
(`pip install --no-deps sbibm`), or from a wheel at `SBIBM_WHEEL`. Simulators are those of version
1.1.0. Its `gaussian_mixture` draws a component for each simulation; the published results come from
a release that drew one for a whole batch (sbibm, pull requests 54 and 63).
"""

import bz2
import functools
import importlib.util
import io
import math
import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.tree_util import Partial

OBSERVATIONS = range(1, 11)


class Task(NamedTuple):
    name: str
    dim: int
    prior: Callable  # a parameter of a key
    log_prior: Callable  # of a parameter; a Partial
    simulate: Callable  # data of a parameter and a key
    box: float | None  # a uniform prior's half width

    def simulations(self, n, key):
        """Parameters of the prior, and data of each."""
        of_prior, of_data = jr.split(key)
        thetas = jax.vmap(self.prior)(jr.split(of_prior, n))
        return thetas, jax.vmap(self.simulate)(thetas, jr.split(of_data, n))

    def observation(self, number):
        return _table(self.name, number, "observation.csv")[0]

    def reference(self, number):
        """10,000 draws of the posterior."""
        return _table(self.name, number, "reference_posterior_samples.csv.bz2")


@functools.cache
def _root():
    """The package's folder, of a wheel or installed."""
    if wheel := os.environ.get("SBIBM_WHEEL"):
        return zipfile.Path(wheel, "sbibm/")
    spec = importlib.util.find_spec("sbibm")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("these tasks need data: `pip install --no-deps sbibm`.")
    return pathlib.Path(spec.submodule_search_locations[0])


def _table(task, number, name):
    data = (_root() / "tasks" / task / "files" / f"num_observation_{number}" / name).read_bytes()
    text = (bz2.decompress(data) if name.endswith(".bz2") else data).decode()
    return np.loadtxt(io.StringIO(text), delimiter=",", skiprows=1, ndmin=2)


def _uniform(bound, dim, key):
    return jr.uniform(key, (dim,), minval=-bound, maxval=bound)


def _log_uniform(bound, theta):
    inside = jnp.all(jnp.abs(theta) <= bound)
    return jnp.where(inside, -theta.size * jnp.log(2 * bound), -jnp.inf)


def _normal(variance, dim, key):
    return jnp.sqrt(variance) * jr.normal(key, (dim,))


def _log_normal(variance, theta):
    log_volume = theta.size * jnp.log(2 * jnp.pi * variance)
    return -0.5 * (jnp.sum(theta**2) / variance + log_volume)


def _moons(theta, key):
    """A crescent, turned and folded."""
    of_angle, of_radius = jr.split(key)
    angle = jr.uniform(of_angle, minval=-jnp.pi / 2, maxval=jnp.pi / 2)
    radius = 0.1 + 0.01 * jr.normal(of_radius)
    crescent = jnp.stack([radius * jnp.cos(angle) + 0.25, radius * jnp.sin(angle)])
    fold = jnp.stack([-jnp.abs(theta[0] + theta[1]), theta[1] - theta[0]])
    return crescent + fold / math.sqrt(2)


def _noisy(variance, theta, key):
    return theta + jnp.sqrt(variance) * jr.normal(key, theta.shape)


def _wide_or_narrow(theta, key):
    """Around the parameter with deviation 1 or .1, both coordinates alike."""
    of_component, of_noise = jr.split(key)
    deviation = jnp.where(jr.bernoulli(of_component), 1.0, 0.1)
    return theta + deviation * jr.normal(of_noise, theta.shape)


def _four_points(theta, key):
    """Four draws of a Gaussian in the plane, whose factor is that of its covariance."""
    mean, first, second, rho = theta[:2], theta[2] ** 2, theta[3] ** 2, jnp.tanh(theta[4])
    cross = rho * first * second
    covariance = jnp.stack([first**2 + 1e-6, cross, cross, second**2 + 1e-6]).reshape(2, 2)
    z = jr.normal(key, (4, 2))
    return (mean + z @ jnp.linalg.cholesky(covariance).T).ravel()


def _boxed(name, dim, bound, simulate):
    prior, log_prior = Partial(_uniform, bound, dim), Partial(_log_uniform, bound)
    return Task(name, dim, prior, log_prior, simulate, bound)


# Variances: the package inverts `.1 I` for a precision.
TASKS = {
    task.name: task
    for task in (
        _boxed("two_moons", 2, 1.0, _moons),
        Task(
            "gaussian_linear",
            10,
            Partial(_normal, 0.1, 10),
            Partial(_log_normal, 0.1),
            Partial(_noisy, 0.1),
            None,
        ),
        _boxed("gaussian_linear_uniform", 10, 1.0, Partial(_noisy, 0.1)),
        _boxed("gaussian_mixture", 2, 10.0, _wide_or_narrow),
        _boxed("slcp", 5, 3.0, _four_points),
    )
}
# C2ST of neural ratio estimation, the mean over observations, from Lueckmann et al., 2021.
PUBLISHED = {
    "two_moons": {1000: 0.822, 10_000: 0.761, 100_000: 0.629},
    "gaussian_linear": {1000: 0.672, 10_000: 0.560, 100_000: 0.536},
    "gaussian_linear_uniform": {1000: 0.788, 10_000: 0.706, 100_000: 0.631},
    "gaussian_mixture": {1000: 0.784, 10_000: 0.752, 100_000: 0.734},
    "slcp": {1000: 0.972, 10_000: 0.947, 100_000: 0.919},
}
