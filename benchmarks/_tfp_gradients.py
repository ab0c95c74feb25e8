"""The gradient of an f-divergence in the mean and width of a Gaussian q, by us and by TFP.

One JSON line a divergence: the exact gradient at q = N(.5, .81), p = N(0, 1), by quadrature; ours,
of `stl_loss`; TFP's two estimators; all from 400,000 draws. It is no part of `nox -s bench`, since
the released TFP 0.25.0 does not import beside jax 0.10: in an environment with `tfp-nightly`,
`python benchmarks/_tfp_gradients.py > benchmarks/results/tfp_gradients.jsonl`.
"""

import json

import jax
import jax.numpy as jnp
import jax.random as jr
import tensorflow_probability.substrates.jax as tfp
from _line import hardware

import divergence_flows as df

jax.config.update("jax_enable_x64", True)

NAMES = ("kl_reverse", "kl_forward", "jensen_shannon", "squared_hellinger", "pearson", "jeffreys")
DRAWS, AT = 400_000, jnp.array([0.5, 0.9])
GRID = jnp.linspace(-12.0, 12.0, 48_001)
KINDS = tfp.vi.GradientEstimators


def log_normal(x, mean, sd):
    return -0.5 * ((x - mean) / sd) ** 2 - jnp.log(sd) - 0.5 * jnp.log(2 * jnp.pi)


def log_p(x):
    return jnp.sum(log_normal(x, 0.0, 1.0))


def exact(f, theta):
    log_q = log_normal(GRID, *theta)
    return jnp.trapezoid(jnp.exp(log_q) * f(log_normal(GRID, 0.0, 1.0) - log_q), GRID)


def of_tfp(f, kind, theta):
    options = {}
    if kind == KINDS.DOUBLY_REPARAMETERIZED:
        fixed = tfp.distributions.Normal(*jax.lax.stop_gradient(theta))
        options = {"importance_sample_size": 1, "stopped_surrogate_posterior": fixed}
    return tfp.vi.monte_carlo_variational_loss(
        lambda x: log_normal(x, 0.0, 1.0),
        tfp.distributions.Normal(*theta),
        sample_size=DRAWS,
        seed=jr.PRNGKey(0),
        discrepancy_fn=f,
        gradient_estimator=kind,
        **options,
    )


def of_ours(f, theta):
    z = jr.normal(jr.key(1), (DRAWS, 1))
    return df.stl_loss(log_p, df.Gaussian(theta[:1], theta[1:]), z, h=df.f_to_h(f, log_space=True))


for name in NAMES:
    f = getattr(tfp.vi, name)
    losses = {
        "exact": lambda theta, f=f: exact(f, theta),
        "ours": lambda theta, f=f: of_ours(f, theta),
        "reparameterised": lambda theta, f=f: of_tfp(f, KINDS.REPARAMETERIZATION, theta),
        "doubly": lambda theta, f=f: of_tfp(f, KINDS.DOUBLY_REPARAMETERIZED, theta),
    }
    found = {key: jax.grad(loss)(AT).tolist() for key, loss in losses.items()}
    line = {"case": name, "hardware": hardware(), "tfp": tfp.__version__, **found}
    print(json.dumps(line), flush=True)
