"""Other libraries' Gaussian variational inference behind one door, compiled apart from its run.

`prepare = PEERS[name]; prepared = prepare(target); trace = prepared.run(rate)`. Every peer begins
at the target's start, whose scale is the identity, as it is in all three.
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from gsmvi.gsm import GSM
from numpyro.infer import SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import AutoMultivariateNormal

STEPS = 5000  # of Adam
GSM_GRADIENTS = 2000
RATES = (1e-3, 1e-2, 1e-1)
CHECKPOINTS = 40


class Trace(NamedTuple):
    fractions: np.ndarray  # of the run, at each checkpoint; the last is 1
    evaluations: np.ndarray  # of the gradient of log p, up to each checkpoint
    means: jax.Array
    covariances: jax.Array


class Prepared(NamedTuple):
    run: Callable  # rate -> Trace, compiled
    rates: tuple  # the best is chosen outside the clock
    compile_seconds: float


def checkpoints(steps):
    """Step counts, evenly spaced in the logarithm; the last is `steps`."""
    return np.unique(np.geomspace(1, steps, CHECKPOINTS).round().astype(int))


def _traced_loop(body, state, read):
    """Runs body(i, state) STEPS times in one compiled loop; reads the state at checkpoints."""
    ends = jnp.array(checkpoints(STEPS))
    starts = jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1]])

    def segment(state, span):
        state = jax.lax.fori_loop(*span, body, state)
        return state, read(state)

    return jax.lax.scan(segment, state, (starts, ends))[1]


def _prepare_adam(fit, draws, target):
    if not jnp.array_equal(target.scale, jnp.eye(target.dim)):
        raise ValueError(f"{target.name}: the peers start from the identity scale only.")
    jax.clear_caches()  # nothing that a method before it compiled
    start = time.perf_counter()
    compiled = jax.jit(fit).lower(target.log_prob, target.mean, RATES[0]).compile()
    seconds = time.perf_counter() - start
    return Prepared(functools.partial(_run_adam, compiled, target, draws), RATES, seconds)


def _run_adam(compiled, target, draws, rate):
    means, chols = jax.block_until_ready(compiled(target.log_prob, target.mean, rate))
    steps = checkpoints(STEPS)
    return Trace(steps / STEPS, steps * draws, means, chols @ chols.swapaxes(1, 2))


def _chol(params, dim):  # blackjax keeps log of the diagonal first, then the rows below it
    lower = jnp.zeros((dim, dim)).at[jnp.tril_indices(dim, -1)].set(params[dim:])
    return lower + jnp.diag(jnp.exp(params[:dim]))


def _fit_blackjax(draws, log_prob, mean, rate):
    method = blackjax.fullrank_vi(log_prob, optax.adam(rate), draws)  # STL is on by default

    def body(i, state):
        return method.step(jr.fold_in(jr.key(0), i), state)[0]

    state = method.init(mean)._replace(mu=mean)  # its init puts the mean at zero
    return _traced_loop(body, state, lambda s: (s.mu, _chol(s.chol_params, len(mean))))


def _fit_numpyro(draws, log_prob, mean, rate, guide=AutoMultivariateNormal):
    def model():
        flat = dist.ImproperUniform(dist.constraints.real_vector, (), mean.shape)
        numpyro.factor("log_p", log_prob(numpyro.sample("x", flat)))

    at_mean = init_to_value(values={"x": mean})
    family = guide(model, init_loc_fn=at_mean, init_scale=1.0)
    svi = SVI(model, family, numpyro.optim.Adam(rate), Trace_ELBO(num_particles=draws))

    def read(state):
        q = family.get_posterior(svi.get_params(state))
        return q.loc, q.scale_tril

    return _traced_loop(lambda i, s: svi.update(s)[0], svi.init(jr.key(0)), read)


class _Monitor:
    """Keeps GSM's mean and covariance at checkpoints; GSM calls it before each iteration."""

    checkpoint = 1

    def __init__(self, steps):
        self.wanted, self.kept = set(steps[:-1].tolist()), []

    def __call__(self, i, params, lp, key, nevals):
        if i in self.wanted:
            self.kept.append(params)


def _run_gsm(gsm, target, steps, rate):
    """`steps` iterations of two gradients each. GSM makes one more than it is asked for."""
    del rate  # it has none
    counts = checkpoints(steps)
    monitor = _Monitor(counts)
    start = target.mean, target.scale @ target.scale.T
    options = {"niter": steps - 1, "verbose": False, "monitor": monitor}
    last = gsm.fit(jr.PRNGKey(0), *start, **options)
    kept = [*monitor.kept, last]
    means, covariances = (jnp.stack(column) for column in zip(*kept, strict=True))
    return Trace(counts / steps, 2 * counts, means, jax.block_until_ready(covariances))


def _prepare_gsm(target):
    """A Python loop with numpy draws and small jitted pieces: timed as it is.

    Compile time: the first 11 iterations, from empty caches.
    """
    jax.clear_caches()
    gradient = jax.jit(jax.vmap(jax.grad(target.log_prob)))
    gsm = GSM(D=target.dim, lp=None, lp_g=gradient)
    start = time.perf_counter()
    _run_gsm(gsm, target, 11, None)
    seconds = time.perf_counter() - start
    return Prepared(functools.partial(_run_gsm, gsm, target, GSM_GRADIENTS // 2), (None,), seconds)


def _adam(fit, draws):
    return functools.partial(_prepare_adam, functools.partial(fit, draws), draws)


PEERS = {
    "blackjax.fullrank_vi": _adam(_fit_blackjax, 100),  # its default number of draws a step
    "numpyro.AutoMultivariateNormal": _adam(_fit_numpyro, 1),  # the same
    "gsmvi.GSM": _prepare_gsm,
}
