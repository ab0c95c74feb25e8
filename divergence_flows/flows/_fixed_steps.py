"""Fixed steps: a diffrax solver stepped in a scan of known length.

`diffeqsolve` loops until it is there, so a GPU asks the host after each step whether to go on, and
carries what adaptive steps, events and dense output need. A scan of known length does neither.
"""

import functools
import math
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Real

from .._types import AnyFloat, Scalar, traced

# The methods whose step of length zero changes nothing: such steps fill a scan's equal parts.
_ONE_STEP = diffrax.Euler, diffrax.AbstractERK
_MOST = 2**24  # a float32 counts no further


class Schedule(eqx.Module):
    """Which steps lead to each time that is saved.

    A part is of one length for all; far times take several parts, whose ends are not all saved.
    """

    parts: tuple[np.ndarray, np.ndarray, np.ndarray]  # first step, number of steps, time to save
    saved: Int[np.ndarray, " rows"]  # which parts end at a time that is saved
    steps: int = eqx.field(static=True)
    chunks: int = eqx.field(static=True)  # of each part
    chunk: int = eqx.field(static=True)
    even: bool = eqx.field(static=True)  # each part has as many steps as its chunks hold
    on_step: bool = eqx.field(static=True)  # each saved time is the end of a step


def schedule(solver: Any, ts: Any, dt0: Any, max_steps: int | None, dtype: Any) -> Schedule | None:
    """Plans the steps of a solve; None if a scan is not for this solver or these times."""
    if not isinstance(solver, _ONE_STEP) or ts is None or traced((ts, dt0)):
        return None
    times, size = np.asarray(ts, dtype), np.asarray(dt0, dtype)
    if not (np.all(np.diff(times) > 0) and 0 < size < np.inf):  # the solve refuses them
        return None
    # As diffrax does: the first step is `dt0`, the others divide what is left of the whole.
    span = times[-1] - times[0]
    steps = np.ceil(span / np.nextafter(size, np.inf, dtype=dtype))
    if not steps <= (_MOST if max_steps is None else min(max_steps, _MOST)):
        return None
    last, on_step = _steps_to(times, float(size), int(steps))
    first = np.concatenate([[0], last[:-1]])
    for split in range(1, 65):
        length = -(-int(np.max(last - first)) // split)
        chunk = _chunk_of(length, math.isqrt(last[-1]))
        chunks = -(-length // chunk)
        number = np.maximum(-(-(last - first) // length), 1)  # of parts, for each time
        if number.sum() * chunks * chunk <= 1.1 * last[-1] + 16:  # few steps of length zero
            break
    else:
        return None
    ends = np.cumsum(number)
    begin = np.repeat(first, number)
    begin += length * (np.arange(ends[-1]) - np.repeat(ends - number, number))
    count = np.minimum(np.repeat(last, number) - begin, length)
    even = bool(np.all(count == chunks * chunk))
    parts = begin, count, np.repeat(times[1:], number)
    return Schedule(parts, ends - 1, int(last[-1]), chunks, chunk, even, on_step)


def _steps_to(
    times: Real[np.ndarray, " time"], size: float, steps: int
) -> tuple[Int[np.ndarray, " rows"], bool]:
    """The step that reaches each time but the first; whether each is the end of its step."""
    place = (times[1:].astype(float) - times[0]) * (steps / (float(times[-1]) - times[0]))
    near, longest = np.rint(place), steps * size / (float(times[-1]) - times[0])
    met = np.abs(place - near) <= 1e-6 * near
    last = np.maximum(np.where(met, near, np.ceil(place)), 2)
    last = np.where(place <= longest * (1 + 1e-6), 1, last).astype(np.int32)
    last[-1] = steps
    met &= (last > 1) | (longest <= 1 + 1e-6)  # the first step may be longer than the others
    return last, bool(np.all(met[:-1]))


def _chunk_of(length: int, root: int) -> int:
    """How many steps reverse mode makes again at once: near a root, and a divisor if it can be."""
    sizes = range(max(min(length, root) // 2, 1), min(length, 2 * root) + 1)
    return min(sizes, key=lambda size: (-length % size, abs(size - root)))


def one_way(solver: Any) -> bool:
    """Whether a solver's step has derivatives in reverse mode alone: a loop over its stages."""
    return isinstance(solver, diffrax.AbstractERK)


def in_scan(
    terms: diffrax.AbstractTerm,
    solver: Any,
    y0: PyTree[AnyFloat],
    ts: Float[Array, " time"],
    dt0: Scalar,
    args: Any,
    plan: Schedule,
) -> diffrax.Solution:
    """Steps from `ts[0]` to `ts[-1]` and saves the states at all `ts`, as `diffeqsolve` does."""
    loop = _Loop(terms, solver, ts, dt0, args, plan)
    t1 = loop.time(jnp.array(1))
    state = solver.init(terms, ts[0], t1, y0, args)
    # The last step that moved, its start and end: what a time within it is interpolated from.
    within = None
    if not plan.on_step:
        info = eqx.filter_eval_shape(solver.step, terms, ts[0], t1, y0, args, state, False)[2]
        within = ts[0], t1, jax.tree.map(jnp.zeros_like, info)
    start = y0, state, within
    if len(plan.parts[0]) == 1:  # no scan, which would compile a little longer
        _, end = _part(loop, start, (jnp.array(0), plan.steps, ts[1]))
        ends = jax.tree.map(lambda leaf: leaf[None], end)
    else:
        _, ends = jax.lax.scan(functools.partial(_part, loop), start, plan.parts)
    if len(plan.saved) < len(plan.parts[0]):
        ends = jax.tree.map(lambda leaf: leaf[plan.saved], ends)
    ys = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), y0, ends)
    steps = jnp.asarray(plan.steps)
    stats = {"num_steps": steps, "num_accepted_steps": steps, "num_rejected_steps": 0 * steps}
    return diffrax.Solution(
        t0=ts[0],
        t1=ts[-1],
        ts=ts,
        ys=ys,
        interpolation=None,
        stats=stats | {"max_steps": plan.steps},
        result=diffrax.RESULTS.successful,
        solver_state=None,
        controller_state=None,
        made_jump=None,
        event_mask=None,
    )


class _Loop(eqx.Module):
    """What the three scans share: over parts, over chunks of steps, over steps."""

    terms: diffrax.AbstractTerm
    solver: Any
    ts: Float[Array, " time"]
    dt0: Scalar
    args: Any
    plan: Schedule

    def time(self, i: Int[Array, ""]) -> Scalar:
        """When step `i` begins."""
        t0, t1, dtype = self.ts[0], self.ts[-1], self.ts.dtype
        t = t0 + (t1 - t0) * (i.astype(dtype) / self.plan.steps)
        t = jnp.where(i == 1, t0 + self.dt0, t)
        return jnp.where(i < self.plan.steps, t, t1)


def _step(loop: _Loop, carry: Any, i: Int[Array, ""]) -> tuple[Any, None]:
    """One step; of length zero before the first of a part."""
    first, y, state, within = carry
    start, end = i, i + 1
    if not loop.plan.even:
        start, end = jnp.maximum(start, first), jnp.maximum(end, first)
    t0, t1 = loop.time(start), loop.time(end)
    y, _, info, state, _ = loop.solver.step(loop.terms, t0, t1, y, loop.args, state, False)
    if not loop.plan.on_step:
        new = t0, t1, info
        within = jax.tree.map(lambda a, b: jnp.where(end > start, a, b), new, within)
    return (first, y, state, within), None


def _chunk(loop: _Loop, carry: Any, i: Int[Array, ""]) -> tuple[Any, None]:
    """The steps whose states reverse mode makes again."""
    return jax.lax.scan(functools.partial(_step, loop), carry, i + jnp.arange(loop.plan.chunk))


def _part(loop: _Loop, carry: Any, at: Any) -> tuple[Any, PyTree[AnyFloat]]:
    """The steps of a part, and the state at its time."""
    (first, count, t), plan = at, loop.plan
    starts = first + count - plan.chunk * jnp.arange(plan.chunks, 0, -1)
    chunk = jax.checkpoint(functools.partial(_chunk, loop), prevent_cse=False)
    (_, y, state, within), _ = jax.lax.scan(chunk, (first, *carry), starts)
    if within is None:
        return (y, state, within), y
    t0, t1, info = within
    saved = loop.solver.interpolation_cls(t0=t0, t1=t1, **info).evaluate(t)
    return (y, state, within), saved
