"""The one door to optax: a step of an optimiser on a network, an average, and the defaults."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Float, PyTree

from .._types import Scalar, ScalarLike

Optimizer = optax.GradientTransformation


@functools.lru_cache(maxsize=32)
def default_optimizer(updates: int) -> Optimizer:
    """Adam from 2e-3 down a cosine to zero; the same object each time, so nothing retraces."""
    return optax.adam(optax.cosine_decay_schedule(2e-3, updates))


@functools.lru_cache(maxsize=32)
def default_step_size(steps: int) -> Callable[..., Any]:
    """Euler steps from 1e-2 down a cosine to 1e-3, made for data of unit scale."""
    return optax.cosine_decay_schedule(1e-2, steps, alpha=0.1)


@functools.lru_cache(maxsize=32)
def game_optimizer(rate: float) -> Optimizer:
    """Adam with little momentum, (.5, .999), as two players against each other need it."""
    return optax.adam(rate, b1=0.5, b2=0.999)


def initial(optimizer: Optimizer, module: PyTree) -> PyTree:
    """What an optimiser remembers of a module before the first step."""
    return optimizer.init(eqx.filter(module, eqx.is_inexact_array))


def check_memory(caller: str, optimizer: Optimizer, module: PyTree, opt_state: PyTree) -> None:
    """Refuses what another optimiser remembers, or the same of another network."""
    fresh = jax.eval_shape(optimizer.init, eqx.filter(module, eqx.is_inexact_array))
    if jax.tree.structure(fresh) != jax.tree.structure(opt_state):
        raise ValueError(
            f"{caller}: `state` remembers another optimiser or network; start it with the "
            "optimiser that you pass here."
        )


def _of_trained(trained: PyTree, rest: PyTree, loss: Callable[..., Any]) -> tuple[Scalar, PyTree]:
    return loss(eqx.combine(trained, rest))


def descend(
    loss: Callable[..., Any], optimizer: Optimizer, module: PyTree, opt_state: PyTree
) -> tuple[PyTree, PyTree, PyTree]:
    """One step of an optimiser down a loss."""
    trained, rest = eqx.partition(module, eqx.is_inexact_array)
    slope, metrics = jax.grad(_of_trained, has_aux=True)(trained, rest, loss)
    updates, opt_state = optimizer.update(slope, opt_state, trained)
    return eqx.combine(optax.apply_updates(trained, updates), rest), opt_state, metrics


def _as_old(new: Float[Array, "*shape"], old: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return new.astype(old.dtype)


def average(module: PyTree, old: PyTree, decay: ScalarLike) -> PyTree:
    """Exponential moving average of a module's float arrays, decay old + (1 - decay) new."""
    new, rest = eqx.partition(module, eqx.is_inexact_array)
    past = eqx.filter(old, eqx.is_inexact_array)
    mean = optax.incremental_update(new, past, 1 - decay)
    return eqx.combine(jax.tree.map(_as_old, mean, past), rest)


def first_updates(optimizer: Optimizer, module: PyTree) -> PyTree:
    """An optimiser's first two answers to gradients equal to the weights: its fingerprint."""
    weights = eqx.filter(module, eqx.is_inexact_array)
    one, state = optimizer.update(weights, optimizer.init(weights), weights)
    moved = optax.apply_updates(weights, one)
    other, _ = optimizer.update(moved, state, moved)
    return one, other
