"""Posteriors of the Inference Gym whose moments Stan has sampled, as log densities of flat vectors.

The package `inference-gym` imports TensorFlow, so nothing of it is run: its arrays are read from
its source, where they stand as literals. Models, priors and bijections are the package's own, of
version 0.0.5. The moments are of each model's own parameters, `quantities(x)`. All in float64: the
script that imports this file sets `jax_enable_x64` first.
"""

import ast
import functools
import importlib.util
import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

LOG_2PI = math.log(2 * math.pi)
LOG_BETA = math.lgamma(20) + math.lgamma(1.5) - math.lgamma(21.5)  # of Beta(20, 1.5)
DATA, TRUTH = "internal/datasets", "targets/ground_truth"


class Posterior(NamedTuple):
    name: str
    dim: int
    log_prob: Callable  # of one flat sample; a Partial, so that its data are arguments under jit
    quantities: Callable  # the model's own parameters, flat, in the order of the three below
    mean: np.ndarray  # of Stan's draws
    deviation: np.ndarray
    error: np.ndarray  # standard error of `mean`


def _values(node):
    """The list inside of `np.array([...]).reshape(...)`, with None for `np.nan`."""
    while not isinstance(node, ast.List):
        calls = isinstance(node, ast.Call)
        node = node.args[0] if calls and node.func.attr == "array" else node.func.value
    items = [None if isinstance(each, ast.Attribute) else each for each in node.elts]
    return [each and ast.literal_eval(each) for each in items]


@functools.cache
def arrays(folder, module):
    """{name: flat array} of what a module of the package assigns; nothing of it is run."""
    spec = importlib.util.find_spec("inference_gym")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("these posteriors need data: `pip install inference-gym`.")
    source = pathlib.Path(spec.submodule_search_locations[0], folder, f"{module}.py").read_text()
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            found[node.targets[0].id] = np.array(_values(node.value), float)
    return found


def _truth(module, *names):
    """Stan's means, deviations and standard errors of the means, one name after another."""
    found = arrays(TRUTH, module)
    kinds = ("MEAN", "STANDARD_DEVIATION", "MEAN_STANDARD_ERROR")
    of = lambda kind: np.concatenate([found[f"IDENTITY_{name}_{kind}"] for name in names])
    return tuple(map(of, kinds))


def _normal(x, mean, sd):
    return jnp.sum(-0.5 * ((x - mean) / sd) ** 2 - jnp.log(sd) - 0.5 * LOG_2PI)


def _softplus(s):
    """A positive number, and the logarithm of its slope."""
    return jax.nn.softplus(s), jax.nn.log_sigmoid(s)


def _volatility_parts(x):
    """Persistence, its 1 - square, mean, shock scale, the rest, and the log prior of the three."""
    a, mean, s = x[:3]
    up, down = jax.nn.sigmoid(a), jax.nn.sigmoid(-a)
    scale, log_slope = _softplus(s)
    # Beta(20, 1.5) of `up`, the Jacobian included.
    prior = 20 * jax.nn.log_sigmoid(a) + 1.5 * jax.nn.log_sigmoid(-a) - LOG_BETA
    prior -= jnp.log(5 * jnp.pi) + jnp.log1p((mean / 5) ** 2)
    prior += jnp.log(1 / jnp.pi) - jnp.log1p((scale / 2) ** 2) + log_slope
    return up - down, 4 * up * down, mean, scale, x[3:], prior


def _log_volatility(returns, x):
    persistence, rest, mean, scale, level, prior = _volatility_parts(x)
    own = level - mean
    prior += _normal(own[0], 0.0, scale / jnp.sqrt(rest))
    prior += _normal(own[1:], persistence * own[:-1], scale)
    return prior + _normal(returns, 0.0, jnp.exp(level / 2))


def _volatility_quantities(x):
    persistence, _, mean, scale, level, _ = _volatility_parts(x)
    return jnp.concatenate([jnp.stack([persistence, mean, scale]), level])


def volatility(days=None):
    """Stochastic volatility of the S&P 500; the chain of log volatilities is centred.

    x = (logit of persistence, mean, softplus^-1 of the shocks' scale, log volatilities).
    """
    returns = np.diff(arrays(DATA, "sp500_closing_prices")["CLOSING_PRICES"])
    returns = returns[-days:] if days else returns
    returns = jnp.array(returns - returns.mean())
    names = ("PERSISTENCE_OF_VOLATILITY", "MEAN_LOG_VOLATILITY", "WHITE_NOISE_SHOCK_SCALE")
    module = "stochastic_volatility_sp500" + ("_small" if days else "")
    truth = _truth(module, *names, "LOG_VOLATILITY")
    name = f"stochastic volatility, {len(returns):,} days"
    log_prob = Partial(_log_volatility, returns)
    return Posterior(name, 3 + len(returns), log_prob, Partial(_volatility_quantities), *truth)


def _chain(persistence, rest, shocks):
    """An autoregressive chain with its stationary start, by products of affine maps."""
    shocks = jnp.concatenate([shocks[:1] / jnp.sqrt(rest), shocks[1:]])
    rates = jnp.full_like(shocks, persistence)
    after = lambda one, two: (one[0] * two[0], two[0] * one[1] + two[1])
    return jax.lax.associative_scan(after, (rates, shocks))[1]


def _log_shocks(returns, x):
    shocks, prior = x[3:], _volatility_parts(x)[-1]
    level = _shock_quantities(x)[3:]
    return prior + _normal(shocks, 0.0, 1.0) + _normal(returns, 0.0, jnp.exp(level / 2))


def _shock_quantities(x):
    persistence, rest, mean, scale, shocks, _ = _volatility_parts(x)
    level = mean + scale * _chain(persistence, rest, shocks)
    return jnp.concatenate([jnp.stack([persistence, mean, scale]), level])


def shocks(days=None):
    """The same posterior by its standard normal shocks, as the package's vectorised model has it.

    The quantities are the same, log volatilities included.
    """
    centred = volatility(days)
    log_prob = Partial(_log_shocks, *centred.log_prob.args)
    name = f"{centred.name}, by shocks"
    return centred._replace(name=name, log_prob=log_prob, quantities=Partial(_shock_quantities))


@jax.custom_jvp
def _log1p_exp(x):
    """`jax.nn.softplus`, whose slope by jax costs an exponential and a logarithm more."""
    return jax.nn.softplus(x)


@_log1p_exp.defjvp
def _slope_of_log1p_exp(primals, tangents):
    return jax.nn.softplus(primals[0]), jax.nn.sigmoid(primals[0]) * tangents[0]


def _log_response(correct, asked, x):
    mean, ability, difficulty = _response_parts(len(correct), x)
    logits = mean + ability[:, None] - difficulty
    prior = _normal(mean, 0.75, 1.0) + _normal(ability, 0.0, 1.0) + _normal(difficulty, 0.0, 1.0)
    return prior + jnp.sum(correct * logits) - jnp.sum(asked * _log1p_exp(logits))


def _response_parts(students, x):
    return x[0], x[1 : 1 + students], x[1 + students :]


def _same(x):
    return x


def item_response():
    """Item response: 400 students answer some of 100 questions, 30,012 answers.

    x = (mean ability, abilities, difficulties).
    """
    found = arrays(DATA, "synthetic_item_response_theory")
    where = found["STUDENT_IDS"].astype(int), found["QUESTION_IDS"].astype(int)
    correct, asked = np.zeros((2, 400, 100))
    correct[where], asked[where] = found["CORRECT"], 1.0
    log_prob = Partial(_log_response, jnp.array(correct), jnp.array(asked))
    names = "MEAN_STUDENT_ABILITY", "CENTERED_STUDENT_ABILITY", "QUESTION_DIFFICULTY"
    truth = _truth("synthetic_item_response_theory", *names)
    return Posterior("item response", 501, log_prob, Partial(_same), *truth)


def _log_brownian(seen, where, x):
    (step, noise), log_slopes = _softplus(x[:2])
    logs = jnp.log(jnp.stack([step, noise]))
    prior = _normal(logs, 0.0, 2.0) - jnp.sum(logs) + jnp.sum(log_slopes)
    path = x[2:]
    prior += _normal(jnp.diff(path, prepend=0.0), 0.0, step)
    return prior + _normal(seen, path[where], noise)


def _brownian_quantities(x):
    return jnp.concatenate([jax.nn.softplus(x[:2]), x[2:]])


def brownian():
    """A Brownian path of 30 steps whose middle third nobody saw, with both scales unknown.

    x = (softplus^-1 of the steps' and of the noise's scale, path).
    """
    module = "brownian_motion_missing_middle_observations"
    seen = arrays(DATA, module)["OBSERVED_LOC"]
    where = np.flatnonzero(~np.isnan(seen))
    log_prob = Partial(_log_brownian, jnp.array(seen[where]), jnp.array(where))
    names = "INNOVATION_NOISE_SCALE", "OBSERVATION_NOISE_SCALE", "LOCS"
    truth = _truth("brownian_motion_unknown_scales_missing_middle_observations", *names)
    return Posterior("Brownian motion", 32, log_prob, Partial(_brownian_quantities), *truth)


POSTERIORS = {
    "Brownian motion": brownian,
    "stochastic volatility, 100 days": Partial(volatility, 100),
    "item response": item_response,
    "stochastic volatility, 2,516 days": volatility,
    "stochastic volatility, 2,516 days, by shocks": shocks,
}
