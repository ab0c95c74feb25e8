"""Targets whose flows are known, and nodes that integrate them, for the tests of Gaussians."""

import functools

import chex
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from catalogue import ROWS
from jax.tree_util import Partial
from oracles import CASES

import divergence_flows as df

P = np.array([[0.8, 0.64], [0.64, 0.8]])
close = functools.partial(chex.assert_trees_all_close, rtol=0)  # or name another
ZERO = np.zeros(2)
ORACLE = {case["id"]: case for case in CASES if case["section"] == "F"}
TIGHT = diffrax.PIDController(rtol=1e-11, atol=1e-12)
SQUARE = np.array([[0.9, 0.7], [-0.4, 0.5]])  # neither symmetric nor triangular


@jax.jit
def rates(field, q):
    """What a field says at q; fields that differ in numbers only share a program."""
    return field(0.0, q, None)


def _h_of(number, u):
    return jax.lax.switch(number, [row.h for row in ROWS.values()], u)


def _log_f_of(number, u):
    return jax.lax.switch(number, [row.log_f for row in ROWS.values()], u)


def h_of(row):
    """h of a row of the catalogue, chosen by its number: all rows share a program."""
    return Partial(_h_of, jnp.asarray(list(ROWS).index(row)))


def log_f_of(row):
    return Partial(_log_f_of, jnp.asarray(list(ROWS).index(row)))


def covariance_rate(field, q):
    half = rates(field, q).scale @ q.scale.T
    return half + half.T


def follow(field, q, ts):
    """States along a flow, to many digits."""
    return df.integrate(field, q, ts, stepsize_controller=TIGHT).ys


def turned(sds):
    """A factor with these standard deviations along axes that are not the coordinates'."""
    c, s = np.cos(0.7), np.sin(0.7)
    return np.array([[c, -s], [s, c]]) * sds


def normal_log_prob(mean, scale, x):
    return df.Gaussian(mean, scale).log_prob(x)


def normal(mean, covariance):
    """Log density of a Gaussian target."""
    return Partial(normal_log_prob, jnp.asarray(mean), jnp.linalg.cholesky(jnp.asarray(covariance)))


def wavy(x):
    """A Gaussian times a bounded wave: no Gaussian, and p/q has all moments if q is near it."""
    centred = x - jnp.array([0.3, -0.2])
    wave = 0.6 * jnp.sin(1.5 * x[0] - 0.7 * x[1]) + 0.4 * jnp.cos(1.2 * x[1] + 0.5)
    return -0.5 * centred @ jnp.linalg.inv(jnp.asarray(P)) @ centred + wave - 1.3


def near_wavy():
    """A Gaussian close enough to `wavy` for every h of the catalogue, with a square factor."""
    factor = np.linalg.cholesky(1.05 * P + np.array([[0.01, -0.005], [-0.005, 0.0]]))
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    return df.Gaussian(np.array([0.5, 0.1]), factor @ turn)


def banana(x):
    """Normalised; quartic, with a known best Gaussian."""
    return -((x[0] - 1) ** 2) - (x[1] - x[0] ** 2) ** 2 - np.log(np.pi)


def grid(dim=2):
    """A coarser trapezoid rule than the library's, as good for what is smooth on its scale."""
    line = 0.125 * np.arange(-68, 69)
    mass = np.exp(-(line**2) / 2)
    axes = np.meshgrid(*[line] * dim, indexing="ij")
    weights = np.prod(np.meshgrid(*[mass / mass.sum()] * dim, indexing="ij"), axis=0)
    return df.Nodes(np.stack([a.ravel() for a in axes], axis=1), weights.ravel())
