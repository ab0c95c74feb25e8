"""Densities that a Gaussian is fitted to, each with the start that every method shares.

All are in float64: the script that imports this file sets `jax_enable_x64` first.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy as jsp
import numpy as np
import statsmodels.api as sm
from jax.tree_util import Partial
from sklearn.datasets import load_breast_cancer

LOG_2PI = float(np.log(2 * np.pi))
SCHOOLS = {
    "y": [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0],
    "sigma": [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0],
}
# Skew s and tail tau of x = sinh((arcsinh(z) + s) / tau): slight, skewed, skewed with heavy tails.
SINH_ARCSINH = ((0.2, 1.1), (1.0, 1.0), (1.8, 0.9))


class Target(NamedTuple):
    name: str
    dim: int
    log_prob: Callable  # of one flat sample; a Partial, so that its data are arguments under jit
    mean: jax.Array  # the start is N(mean, scale scale'); here every scale is the identity
    scale: jax.Array
    optimum: tuple[jax.Array, jax.Array] | None = None  # mean, covariance of the best Gaussian
    gaussian: bool = False  # then KL(q || optimum) is the whole story, in closed form


def _start(dim):
    return jnp.zeros(dim), jnp.eye(dim)


def _log_normal(x, mean, sd):
    return jnp.sum(-0.5 * ((x - mean) / sd) ** 2 - jnp.log(sd) - 0.5 * LOG_2PI)


def _log_gaussian(mean, whiten, x):
    z = whiten @ (x - mean)
    return jnp.sum(jnp.log(jnp.diag(whiten)) - 0.5 * z**2 - 0.5 * LOG_2PI)


def _whitener(covariance):
    chol = jnp.linalg.cholesky(covariance)
    return jsp.linalg.solve_triangular(chol, jnp.eye(len(chol)), lower=True)


def gaussian(dim):
    """Normal mean, covariance A A' with normal A: the targets of the batch-and-match paper."""
    key_a, key_m = jr.split(jr.key(dim))
    a, mean = jr.normal(key_a, (dim, dim)), jr.normal(key_m, (dim,))
    log_prob = Partial(_log_gaussian, mean, _whitener(a @ a.T))
    return Target(f"gaussian {dim}", dim, log_prob, *_start(dim), (mean, a @ a.T), True)


def _log_sinh_arcsinh(whiten, skew, tail, x):
    u = tail * jnp.arcsinh(x) - skew
    log_slope = jnp.log(tail) + jnp.log(jnp.cosh(u)) - 0.5 * jnp.log1p(x**2)
    return _log_gaussian(jnp.zeros_like(x), whiten, jnp.sinh(u)) + jnp.sum(log_slope)


def sinh_arcsinh(skew, tail, dim=10):
    """x = sinh((arcsinh(z) + skew) / tail), z ~ N(0, Sigma), Sigma_ij = 2^-|i - j|."""
    i = jnp.arange(dim)
    whiten = _whitener(0.5 ** jnp.abs(i[:, None] - i))
    log_prob = Partial(_log_sinh_arcsinh, whiten, jnp.array(skew), jnp.array(tail))
    return Target(f"sinh-arcsinh s={skew} tau={tail}", dim, log_prob, *_start(dim))


def _log_banana(x):
    return -((x[0] - 1) ** 2) - (x[1] - x[0] ** 2) ** 2 - jnp.log(jnp.pi)


def banana():
    optimum = jnp.array([1.0, 1.25]), jnp.array([[0.25, 0.5], [0.5, 1.5]])
    start = jnp.array([3.0, -2.0]), jnp.eye(2)
    return Target("banana", 2, Partial(_log_banana), *start, optimum)


def _log_schools(y, sigma, x):
    mu, log_tau, theta = x[0], x[1], x[2:]
    tau = jnp.exp(log_tau)
    half_cauchy = jnp.log(2 / (5 * jnp.pi)) - jnp.log1p((tau / 5) ** 2)
    prior = _log_normal(mu, 0.0, 5.0) + half_cauchy + log_tau  # log_tau: the Jacobian
    return prior + _log_normal(theta, mu, tau) + _log_normal(y, theta, sigma)


def eight_schools():
    """x = (mu, log tau, theta): mu ~ N(0, 5^2), tau ~ HalfCauchy(5), theta_i ~ N(mu, tau^2)."""
    data = {name: jnp.array(column) for name, column in SCHOOLS.items()}
    log_prob = Partial(_log_schools, data["y"], data["sigma"])
    return Target("eight schools, centred", 10, log_prob, *_start(10))


def _log_logistic(inputs, labels, prior_sd, x):
    logits = inputs @ x
    likelihood = jnp.sum(labels * logits - jax.nn.softplus(logits))
    return likelihood + _log_normal(x, 0.0, prior_sd)


def _logistic(name, inputs, labels, prior_sd):
    inputs = np.asarray(inputs, float)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    inputs = jnp.array(np.column_stack([np.ones(len(inputs)), inputs]))
    labels = jnp.array(np.asarray(labels, float))
    log_prob = Partial(_log_logistic, inputs, labels, jnp.array(prior_sd))
    return Target(name, inputs.shape[1], log_prob, *_start(inputs.shape[1]))


def breast_cancer():
    """569 x 30 standardised and an intercept; prior N(0, 1) on each coefficient."""
    return _logistic("logistic, breast cancer", *load_breast_cancer(return_X_y=True), 1.0)


def fair():
    """Any affair, from 8 standardised columns and an intercept, 6366 rows; prior N(0, 10^2)."""
    data = sm.datasets.fair.load_pandas().data
    return _logistic("logistic, fair", data.drop(columns="affairs"), data["affairs"] > 0, 10.0)


def targets():
    """All of them by name, made when asked for: `targets()[name]()`."""
    made = {f"gaussian {dim}": Partial(gaussian, dim) for dim in (4, 16, 64, 256)}
    for skew, tail in SINH_ARCSINH:
        made[f"sinh-arcsinh s={skew} tau={tail}"] = Partial(sinh_arcsinh, skew, tail)
    made |= {"banana": banana, "eight schools, centred": eight_schools}
    return made | {"logistic, breast cancer": breast_cancer, "logistic, fair": fair}
