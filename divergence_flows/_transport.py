r"""The main job: samples of q moved onto samples of p by a discriminator that follows them.

A few discriminator steps, one Euler step of the MonoFlow, again: all inside `lax.scan`, a chunk
at a time. Between chunks the host may write a checkpoint or look at the particles.
"""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, PyTree, Shaped

from ._checkpoint import digest, load, save
from ._chunk import Plan, TransportState, run_chunk
from ._flow import AbstractProgressMeter, NoProgressMeter
from ._losses import need
from ._train import (
    Cloud,
    Optimizer,
    RatioState,
    default_optimizer,
    default_step_size,
)
from ._types import Scalar, ScalarLike, as_float, as_partial

_History = dict[str, list[Any]]
_HISTORY = ("losses", "speeds", "path", "path_steps")


class TransportInfo(eqx.Module):
    """What happened on the way.

    `losses` is the discriminator loss before the last of its updates at each step [nats for the
    logistic pairs]; `speeds` the root mean square velocity [units of x per unit of flow time];
    `path` the particles at `path_steps`; `discriminator` the last one.
    """

    losses: Float[Array, " steps"]
    speeds: Float[Array, " steps"]
    path: Float[Array, "time n *event"]
    path_steps: Int[Array, " time"]
    discriminator: PyTree


def _constant(value: Scalar, step: Int[Array, ""]) -> Scalar:
    """A schedule that does not change."""
    del step
    return value


def _header(plan: Plan, state: TransportState, chunk: int) -> dict[str, Any]:
    """The run's fingerprint: its settings, and its functions at a few arguments."""
    d, when = jnp.array([0.1, 0.3, 0.9]), (0, plan.steps // 2, plan.steps - 1)
    functions = (plan.gan.phi, plan.gan.psi, plan.gan.h_t)
    weights = eqx.filter(state.ratio.discriminator, eqx.is_inexact_array)
    first_update, _ = plan.optimizer.update(weights, state.ratio.opt_state, weights)
    return {
        "steps": plan.steps,
        "chunk": chunk,
        "critic_steps": plan.critic_steps,
        "batch_size": plan.batch_size,
        "step_size": [float(plan.schedule(jnp.asarray(step))) for step in when],
        "gan": [np.asarray(function(d)).tolist() for function in functions],
        "key": digest(_key_data(plan.key)),
        "xs_q": digest(state.xs),
        "xs_p": digest(plan.xs_p),
        "discriminator": digest((state.ratio, state.ratio.discriminator(state.xs[0]))),
        "optimizer": digest(first_update),
    }


def _key_data(key: PRNGKeyArray) -> Shaped[Array, "..."]:
    """The numbers in a key, typed or not."""
    return jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key


def _save(
    path: pathlib.Path, header: dict[str, Any], state: TransportState, history: _History
) -> None:
    """Writes the state's arrays and the history."""
    leaves = jax.tree.leaves(eqx.filter(state, eqx.is_array))
    arrays: dict[str, Any] = {f"state{i:04d}": np.asarray(x) for i, x in enumerate(leaves)}
    arrays |= {name: _join(history, name) for name in _HISTORY}
    save(path, header, arrays)


def _resume(
    path: pathlib.Path, header: dict[str, Any], state: TransportState
) -> tuple[TransportState, _History]:
    """Puts the arrays of a checkpoint in the place of the first state's."""
    stored = load(path, header)
    arrays, rest = eqx.partition(state, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    leaves = [jnp.asarray(stored[f"state{i:04d}"], leaf.dtype) for i, leaf in enumerate(leaves)]
    state = eqx.combine(jax.tree.unflatten(structure, leaves), rest)
    return state, {name: [stored[name]] for name in _HISTORY}


def _join(history: _History, name: str) -> Shaped[Array | np.ndarray, "..."]:
    """All of one kind of history, along time; on the host unless traced."""
    parts = history[name]
    if any(isinstance(part, Tracer) for part in parts):
        return jnp.concatenate(parts)
    return np.concatenate([np.asarray(part) for part in parts])


def _follow(
    plan: Plan,
    state: TransportState,
    history: _History,
    chunk: int,
    after_chunk: Callable[[TransportState, _History], None],
) -> TransportState:
    """The loop over chunks; the meter is closed however it ends."""
    done = sum(part.shape[0] for part in history["losses"])
    meter = plan.meter.init()
    try:
        while done < plan.steps:
            length = min(chunk, plan.steps - done)
            state, meter, (losses, speeds) = run_chunk(plan, length, state, meter)
            done += length
            new = (losses, speeds, state.xs[None], np.array([done]))
            for name, part in zip(_HISTORY, new, strict=True):
                history[name].append(part)
            after_chunk(state, history)
    finally:
        plan.meter.close(meter)
    return state


def _after_chunk(
    path: pathlib.Path | None,
    header: dict[str, Any],
    on_chunk: Callable[..., Any] | None,
    state: TransportState,
    history: _History,
) -> None:
    """Checkpoint first, so that a caller who stops the run loses nothing."""
    if path is not None:
        _save(path, header, state, history)
    if on_chunk is not None:
        on_chunk(state)


def _check(
    xs_q: Cloud, xs_p: Cloud, traced: bool, counts: dict[str, int | None]
) -> tuple[Cloud, Cloud]:
    """Refuses options and clouds that make no sense."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"transport: `{name}` is {value}; pass a positive integer.")
    for name, xs in (("xs_q", xs_q), ("xs_p", xs_p)):
        if xs.shape[0] < 1:
            raise ValueError(f"transport: `{name}` has no samples; pass at least one.")
    if traced:
        raise ValueError(
            "transport: `checkpoint` needs numbers, and this call is inside `jit` or `vmap`; "
            "leave `checkpoint` out there."
        )
    finite = "transport: `{}` has NaN or inf; drop those samples first."
    return tuple(
        eqx.error_if(xs, ~jnp.all(jnp.isfinite(xs)), finite.format(name))
        for name, xs in (("xs_q", xs_q), ("xs_p", xs_p))
    )


def _is_traced(tree: PyTree) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def transport(
    gan: Any,
    discriminator: PyTree,
    xs_q: Float[ArrayLike, "n *event"],
    xs_p: Float[ArrayLike, "m *event"],
    *,
    steps: int = 4000,
    step_size: ScalarLike | Callable[..., Any] | None = None,
    critic_steps: int = 5,
    optimizer: Optimizer | None = None,
    batch_size: int | None = None,
    chunk: int = 200,
    progress_meter: AbstractProgressMeter = NoProgressMeter(),
    checkpoint: str | os.PathLike | None = None,
    on_chunk: Callable[..., Any] | None = None,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "n *event"], TransportInfo]:
    r"""Moves samples of q onto samples of p along the MonoFlow of a GAN, the ratio learned.

    Each step trains the discriminator a little on the particles where they are, then moves them
    by $x + \epsilon\, \nabla_x h_T(d(x))$. Under `jax.vmap` over `key` (and, if you like, over
    discriminators and clouds) it runs many seeds at once. The default steps suit data of about
    unit scale: standardise first.

    Args:
        gan: The GAN: phi and psi train the discriminator, h_T moves the particles.
        discriminator: A module d(x) of one sample, for instance `networks.Discriminator`.
        xs_q: Samples of q, the particles to move [units of x].
        xs_p: Samples of p; not necessarily as many [units of x].
        steps: Euler steps.
        step_size: eps of an Euler step, a number or a schedule `step -> eps` [units of flow time];
            from 1e-2 down a cosine to 1e-3 by default.
        critic_steps: Discriminator steps before each Euler step.
        optimizer: Of the discriminator; Adam from 2e-3 down a cosine to zero by default.
        batch_size: Samples of p and of q drawn, with replacement, for each discriminator step; a
            cloud of no more samples is used whole, and all are by default.
        chunk: Euler steps between two visits to the host: a compiled program for this length, and
            one more for the rest if it does not divide `steps`.
        progress_meter: One of diffrax's; stepped at each Euler step.
        checkpoint: A file, written after each chunk. If it exists, the run goes on from there bit
            for bit; it must have been written by the same call.
        on_chunk: Called with the `TransportState` after each chunk; what it raises ends the run.
        key: Randomness of the minibatches.

    Returns:
        The moved particles, and a `TransportInfo`.

    Raises:
        ValueError: If a count is not positive, a cloud is empty, the checkpoint is another run's,
            or `checkpoint` is asked for inside a trace.
        EquinoxRuntimeError: If a sample is not finite.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, algorithm 1.
    """
    need("transport", gan, "phi", "psi", "h_t")
    counts = {"steps": steps, "critic_steps": critic_steps, "batch_size": batch_size}
    traced = checkpoint is not None and _is_traced((gan, discriminator, xs_q, xs_p, key))
    start, goal = _check(as_float(xs_q), as_float(xs_p), traced, {**counts, "chunk": chunk})
    optimizer = default_optimizer(steps * critic_steps) if optimizer is None else optimizer
    schedule = _schedule(step_size, steps)
    plan = Plan(gan, optimizer, schedule, goal, key, progress_meter, **counts)
    ratio = RatioState.start(discriminator, optimizer)
    state = TransportState(start, ratio, jnp.asarray(0))
    path = None if checkpoint is None else pathlib.Path(checkpoint)
    header = {} if path is None else _header(plan, state, chunk)
    if path is not None and path.exists():
        state, history = _resume(path, header, state)
    else:
        history = {"losses": [], "speeds": [], "path": [start[None]], "path_steps": [np.array([0])]}
    after = functools.partial(_after_chunk, path, header, on_chunk)
    state = _follow(plan, state, history, chunk, after)
    told = {name: jnp.asarray(_join(history, name)) for name in _HISTORY}
    return state.xs, TransportInfo(**told, discriminator=state.ratio.discriminator)


def _schedule(step_size: ScalarLike | Callable[..., Any] | None, steps: int) -> Callable[..., Any]:
    """Makes a schedule of whatever was passed."""
    if step_size is None:
        return default_step_size(steps)
    if callable(step_size):
        return as_partial(step_size)
    return Partial(_constant, as_float(step_size))
