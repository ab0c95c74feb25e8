"""A Gaussian that flows onto another, known exactly: what a learned flow is measured against."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.stats import multivariate_normal as mvn

import divergence_flows as df

# p = N(0, P) and q_0 = N(M, S I), the KL flow: section 8 of the theory.
P = np.array([[0.8, 0.64], [0.64, 0.8]])
M, S = np.array([4.0, 2.0]), 0.64
PRECISION = np.linalg.inv(P)
RATES, AXES = np.linalg.eigh(PRECISION)
HORIZON, TIMES = 3.0, (0.3, 1.0, 3.0)
GRID = HORIZON * np.linspace(0, 1, 33) ** 1.5


def samples(key, count):
    """Samples of q_0 and of p."""
    key_q, key_p = jr.split(key)
    xs_q = M + np.sqrt(S) * jr.normal(key_q, (count, 2))
    return xs_q, jr.normal(key_p, (count, 2)) @ np.linalg.cholesky(P).T


def score_p(x):
    return -PRECISION.astype(x.dtype) @ x


def moments(t):
    """Exact mean and covariance of q_t."""
    decay = (AXES * jnp.exp(-RATES * t)) @ AXES.T
    return decay @ M, P + decay @ (S * np.eye(2) - P) @ decay


def log_q(t, x):
    mean, covariance = moments(t)
    return mvn.logpdf(x, mean, covariance)


def log_r(t, x, args=None):
    """Exact log p/q_t."""
    return mvn.logpdf(x, np.zeros(2), P) - log_q(t, x)


@functools.partial(jax.jit, static_argnames="count")
def velocity_error(gan, network, ts, count=1024):
    """Relative L2 error of the velocity under q_t at each time."""
    zs = df.sobol_nodes(count, 2, key=jr.key(1)).points
    learned = df.velocity(gan.h, df.flow_log_ratio(gan, network))
    exact = df.velocity(gan.h, log_r)

    def one(t):
        mean, covariance = moments(t)
        xs = mean + zs @ jnp.linalg.cholesky(covariance).T
        wrong, right = learned(t, xs, None), exact(t, xs, None)
        return jnp.sqrt(jnp.sum((wrong - right) ** 2) / jnp.sum(right**2))

    return jax.lax.map(one, ts)


def moved(gan, network, ts, count=1024):
    """Particles never seen in training, with their log densities, at times from 0 on.

    They are a Sobol set, so that its own moments are those of q_0 to three digits.
    """
    xs = M + np.sqrt(S) * df.sobol_nodes(count, 2, key=jr.key(2)).points
    field = df.with_log_prob(df.velocity(gan.h, df.flow_log_ratio(gan, network)))
    return df.integrate(field, (xs, jax.vmap(log_q, (None, 0))(0.0, xs)), ts).ys


def errors(gan, network, ts=(0.0, *TIMES)):
    """Largest errors of mean and covariance, and E_q|log q error|, at all times but the first."""
    xs, log_qs = moved(gan, network, np.asarray(ts))
    found = []
    for t, cloud, values in zip(ts[1:], xs[1:], log_qs[1:], strict=True):
        mean, covariance = moments(t)
        off = jnp.abs(values - jax.vmap(log_q, (None, 0))(t, cloud))
        of_mean = jnp.max(jnp.abs(cloud.mean(axis=0) - mean))
        of_covariance = jnp.max(jnp.abs(jnp.cov(cloud.T) - covariance))
        found.append([float(of_mean), float(of_covariance), float(jnp.mean(off))])
    return np.array(found)
