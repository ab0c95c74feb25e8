"""The only file of this room that uses optax: a step of an optimiser, an average, the defaults."""

import functools
from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import PyTree

from .._checks import check_number
from .._types import Function, ScalarLike

Optimizer = optax.GradientTransformation


@functools.lru_cache(maxsize=32)
def default_optimizer(updates: int, rate: float = 2e-3) -> Optimizer:
    """Adam from a rate down a cosine to zero; the same object each time, so nothing retraces."""
    return optax.adam(optax.cosine_decay_schedule(rate, updates))


@functools.lru_cache(maxsize=32)
def default_step_size(steps: int) -> Function:
    """Euler steps from 1e-2 down a cosine to 1e-3, made for data of unit scale."""
    return optax.cosine_decay_schedule(1e-2, steps, alpha=0.1)


@functools.lru_cache(maxsize=32)
def game_optimizer(rate: float) -> Optimizer:
    """Adam with little momentum, (.5, .999), as two players against each other need it."""
    return optax.adam(rate, b1=0.5, b2=0.999)


def initial(optimizer: Optimizer, module: PyTree) -> PyTree:
    """The optimiser's state for a module before the first step."""
    return optimizer.init(eqx.filter(module, eqx.is_inexact_array))


def check_opt_state(caller: str, optimizer: Optimizer, module: PyTree, opt_state: PyTree) -> None:
    """Refuses the state of another optimiser, or for another network."""
    fresh = jax.eval_shape(optimizer.init, eqx.filter(module, eqx.is_inexact_array))
    if jax.tree.structure(fresh) != jax.tree.structure(opt_state):
        words = "is of another optimiser or network; start it with the one that you pass here."
        raise ValueError(f"{caller}: `state` {words}")


def check_decay(caller: str, decay: Any, name: str = "ema_decay") -> None:
    """Refuses the weight of the past in an average that is not in [0, 1)."""
    words = "a number from 0 (no average) to below 1"
    check_number(caller, name, decay, (decay >= 0) & (decay < 1), words)


def descend(
    loss: Function, optimizer: Optimizer, module: PyTree, opt_state: PyTree
) -> tuple[PyTree, PyTree, PyTree]:
    """One step of an optimiser down a loss `module -> (loss, info)`."""
    slope, info = eqx.filter_grad(loss, has_aux=True)(module)
    trained, rest = eqx.partition(module, eqx.is_inexact_array)
    updates, opt_state = optimizer.update(slope, opt_state, trained)
    return eqx.combine(optax.apply_updates(trained, updates), rest), opt_state, info


def average(module: PyTree, old: PyTree, decay: ScalarLike) -> PyTree:
    """Exponential moving average of a module's float arrays, decay old + (1 - decay) new."""
    new, rest = eqx.partition(module, eqx.is_inexact_array)
    past = eqx.filter(old, eqx.is_inexact_array)
    mean = optax.incremental_update(new, past, 1 - decay)
    return eqx.combine(optax.tree.cast_like(mean, past), rest)
