"""When a run is lost: which step was the first bad one, in what it shows, and what to change.

A rule is `stop(old, new, info, *inputs) -> flags`, evaluated at the end of each chunk of steps. A
bad chunk is thrown away: the state before it is the last good one, also for one seed of many in a
trace.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from .._checks import some
from .._types import BoolScalar, Cloud, IntScalar

# Samples farther out than FAR times the radius of the data count as diverged.
FAR = 1e3
# STILL steps without movement, away from p, mean that whatever should move samples has collapsed.
STILL = 100
Steps = Int[Array, " flags"]  # of a chunk, where each flag is first raised
Metrics = dict[str, Shaped[Array | np.ndarray, "..."]]


class RunDiverged(RuntimeError):
    """A run was stopped: its numbers were no longer finite, or no longer made sense.

    Raised by `transport`, `train_gan`, `train_flow_ratio` and `train_distilled` at the end of the
    chunk in which it happened. Inside `jit` and `vmap` nothing is raised: the field `diverged` of
    the info that they return has the step.

    Attributes:
        step: The first bad step, counted from 0: `losses[step]` is the first bad one.
        quantity: Where it showed: a metric, a field of the state, or for a generator its
            "samples", thrown far from all data, or "motion", of which there is none.
        state: The last good state, from the end of the chunk before.
        done: Steps that this state has seen.
    """

    def __init__(self, words: str, step: int, quantity: str, state: PyTree, done: int):
        """Keeps the last good state beside the words."""
        super().__init__(words)
        self.step, self.quantity = step, quantity
        self.state, self.done = state, done

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles all fields, so that the error can cross processes."""
        return type(self), (str(self), self.step, self.quantity, self.state, self.done)


class Flag(eqx.Module):
    """One reason to stop: where it shows, what is wrong, what to change, and when it is so."""

    quantity: str = eqx.field(static=True)
    problem: str = eqx.field(static=True)
    advice: str = eqx.field(static=True)
    raised: Bool[Array, "*steps"]  # at each step of the chunk, or once at its end


def not_finite(
    advice: Mapping[str, str], old: PyTree, new: PyTree, info: Metrics, *inputs: PyTree
) -> list[Flag]:
    """The default rule: no metric and no part of the state may become NaN or inf."""
    del inputs
    flags = [
        Flag(name, "are not finite", advice.get(name, ""), ~jnp.isfinite(part))
        for name, part in info.items()
    ]
    for name in _fields(new):
        before, after = (_floats(getattr(state, name)) for state in (old, new))
        # Count only non-finite entries that changed: some optimiser states start at inf.
        bad = [some(~jnp.isfinite(b) & (a != b)) for a, b in zip(before, after, strict=True)]
        raised = functools.reduce(jnp.logical_or, bad, jnp.zeros((), bool))
        flags.append(Flag(name, "of the state has NaN or inf", advice.get(name, ""), raised))
    return flags


def _fields(state: PyTree) -> list[str]:
    return [field.name for field in dataclasses.fields(state)]


def _floats(tree: PyTree) -> list[Array]:
    return jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))


class Extent(eqx.Module):
    """How far data reach: the middle of p, and the farthest sample of p or q from it."""

    middle: Float[Array, " dim"]
    radius: Float[Array, ""]

    def __init__(self, xs_p: Float[Array, "m *event"], xs_q: Cloud):
        """Measures samples of p, and those of q at the start."""
        flat = jnp.reshape(xs_p, (len(xs_p), -1))
        self.middle = flat[0] + jnp.mean(flat - flat[0], axis=0)  # exact where all are equal
        # Two maxima, not one of all: from devices come two numbers, not all distances.
        self.radius = jnp.maximum(jnp.max(self.distances(xs_p)), jnp.max(self.distances(xs_q)))

    def distances(self, xs: Cloud) -> Float[Array, " n"]:
        """Distance of each sample from the middle."""
        return jnp.linalg.norm(jnp.reshape(xs, (len(xs), -1)) - self.middle, axis=1)

    def thrown_far(self, distance: Float[Array, "*steps"]) -> Bool[Array, "*steps"]:
        """Whether a distance is out of all proportion to the data."""
        return (distance > FAR * self.radius) & (self.radius > 0)

    def apart(self, xs: Cloud) -> BoolScalar:
        """Whether the mean of samples is elsewhere than that of p."""
        shift = jnp.ravel(jnp.mean(xs, axis=0)) - self.middle
        return jnp.linalg.norm(shift) > 1e-3 * self.radius


def first_bad_step(flags: list[Flag], length: int) -> Int[Array, " flags"]:
    """The first step of a chunk at which each flag is raised; `length` if at none."""
    raised = [f.raised if f.raised.ndim else _at_the_end(f.raised, length) for f in flags]
    return jnp.min(jnp.where(jnp.stack(raised), jnp.arange(length), length), axis=1)


def _at_the_end(raised: BoolScalar, length: int) -> Bool[Array, " steps"]:
    return raised & (jnp.arange(length) == length - 1)


def keep_last_good(
    good: PyTree, new: PyTree, metrics: Metrics, first: Steps, done: int, diverged: IntScalar
) -> tuple[PyTree, Metrics, IntScalar]:
    """The last good state and its metrics, in a trace, where a run goes on after it diverged."""
    length, at = len(next(iter(metrics.values()))), jnp.min(first)
    alive = diverged < 0
    well, fine = alive & (at == length), alive & (jnp.arange(length) < at)
    arrays, rest = eqx.partition(new, eqx.is_array)
    kept = jax.tree.map(Partial(jnp.where, well), arrays, eqx.filter(good, eqx.is_array))
    metrics = {name: jnp.where(fine, part, jnp.nan) for name, part in metrics.items()}
    return eqx.combine(kept, rest), metrics, jnp.where(alive & ~well, done + at, diverged)


def error(
    loop: Any, done: int, state: PyTree, metrics: Metrics, flags: list[Flag], first: Any, path: Any
) -> RunDiverged:
    """The error for a chunk that is bad: `state` is the one before it, `path` has it, or None."""
    flag, at = flags[first.argmin()], int(first.min())
    part = metrics.get(flag.quantity)
    value = "" if part is None else f" ({float(part[at]):.3g})"
    nan = [n for n in _fields(state) if any(jnp.isnan(x).any() for x in _floats(getattr(state, n)))]
    stood = f"NaN stood in `{'`, `'.join(nan)}` of the state before: pass networks without it."
    kept = "" if path is None else f"; checkpoint {path} holds it"
    words = (
        f"{loop.caller}: diverged at step {done + at} (counted from 0) of {loop.steps}: "
        f"`{flag.quantity}` {flag.problem}{value}. {stood if nan else flag.advice} The last good "
        f"state is that after {done} steps: `.state` of this error{kept}. The same call would "
        f"diverge again: change a setting{', and pass another `checkpoint`' if kept else ''}."
    )
    return RunDiverged(words, done + at, flag.quantity, state, done)
