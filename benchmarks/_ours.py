"""`fit_gaussian` in the form of the peers, and its four choices of geometry and estimator."""

import functools
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _gradients import evaluations
from _peers import Prepared, Trace
from jax.tree_util import Partial

import divergence_flows as df

ON_THE_WAY = (30.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)  # tolerances [nats] that stop a fit early
NODES = 2**14  # for targets that are not Gaussian; 1024, the default, for others
FEW = (256, 2048)  # on the way: the better of two, as peers have the better of their rates


def fit(target, n, tol, throw=True):
    q0 = df.Gaussian(target.mean, target.scale)
    options = {"throw": throw} | ({} if tol is None else {"tol": tol})
    q, info = df.fit_gaussian(target.log_prob, q0, n=n, key=jr.key(0), **options)
    return jax.block_until_ready((q, info))


@functools.partial(jax.jit, static_argnums=4)
def _law(log_prob, q0, tol, key, n):
    """The law and its steps: what judges them is left out of the program, as peers have none."""
    q, info = df.fit_gaussian(log_prob, q0, n=n, tol=tol, throw=False, key=key)
    return q, info.steps


def _run(target, n, rate):
    del rate  # it has none
    q, info = fit(target, n, None)
    counts = np.array([evaluations(info.steps, n, target.dim)])
    return Trace(np.ones(1), counts, q.mean[None], q.covariance[None])


def way(target, judged, n):
    """Fits that stop early, each timed from its start: (seconds, evaluations, mean, covariance)."""
    q0, log_prob = df.Gaussian(target.mean, target.scale), Partial(target.log_prob)

    def run(tol):
        if judged:
            q, info = fit(target, n, tol, throw=False)
            return q, info.steps
        tol = 1e-10 if tol is None else tol
        return jax.block_until_ready(_law(log_prob, q0, tol, jr.key(0), n))

    run(1.0)  # compiles
    found = []
    for tol in (*ON_THE_WAY, None):
        start = time.perf_counter()
        q, steps = run(tol)
        seconds = time.perf_counter() - start
        count = evaluations(steps, n, target.dim, judged=judged)
        found.append((seconds, count, q.mean, q.covariance))
    return found


def prepare(target):
    n = 1024 if target.gaussian else NODES
    jax.clear_caches()
    start = time.perf_counter()
    fit(target, n, None)
    first = time.perf_counter() - start
    start = time.perf_counter()
    fit(target, n, None)
    compiling = first - (time.perf_counter() - start)
    return Prepared(functools.partial(_run, target, n), (None,), compiling)


def choices(target):
    """{(geometry, estimator): a fit on the same nodes}, compiled."""
    nodes = df.cubature(target.dim)
    if not target.gaussian:
        nodes = df.sobol_nodes(1024, target.dim, key=jr.key(0))
    q0 = df.Gaussian(target.mean, target.scale)

    def run(geometry, estimator):
        options = {"geometry": geometry, "estimator": estimator, "nodes": nodes, "tol": 1e-8}
        found = df.fit_gaussian(target.log_prob, q0, key=jr.key(0), throw=False, **options)
        return jax.block_until_ready(found)

    pairs = [(g, e) for g in ("fisher_rao", "bures") for e in ("stein", "price")]
    made = {pair: functools.partial(run, *pair) for pair in pairs}
    for each in made.values():
        each()
    return made


def rested(found):
    return bool(jnp.all(found[1].rested)), int(jnp.sum(found[1].steps))
