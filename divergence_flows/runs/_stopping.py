"""Runs that diverge: found at the end of a chunk, reported with step, quantity and what to change.

The chunk in which it happened is thrown away: the state before it is the last good one. Inside
`jit` and `vmap`, where nothing can be raised for one seed of many, that seed keeps it to the end.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, PyTree, Shaped

# What is so many times as far out as all data reach was never meant.
FAR = 1e3
# So many steps in which nothing moves at all, while p is elsewhere, are no chance.
STILL = 100
Metrics = dict[str, Shaped[Array | np.ndarray, "..."]]
Count = Int[Array, ""]

_CRITIC = (
    "The discriminator's steps are too large, or nothing bounds its loss: lower its learning rate, "
    "enlarge `batch_size`, or take a GAN whose loss is bounded, such as `gans.logit()`"
)
_DOMAIN = "; or d lies outside the domain of phi or psi: end the network by a map into it"
_BOUND = "; `penalty` or `networks.spectral` bound the discriminator"
_STEP = (
    "The steps are too large, or the slope of h_T(d) has no bound: lower `step_size`, take an h "
    "that grows slowly, such as `gans.logit()`'s, or hold the discriminator by `penalty`"
)
_GENERATOR = (
    "The generator's steps are too large, or h_T(d) has no bound: lower its learning rate, or take "
    "a GAN whose h_T grows slowly, such as `gans.logit()`"
)
# What usually causes it, and what to change, by the quantity that is named.
ADVICE = {
    "losses": _CRITIC,
    "neighbour_losses": _CRITIC,
    "d_losses": _CRITIC + _BOUND,
    "g_losses": _GENERATOR,
    "penalties": "The penalty makes steps too large: lower `penalty_weight` or the learning rate "
    "of the discriminator",
    "score_losses": "`score_p` is not finite where the particles are, or weighs too much: lower "
    "`score_weight` or the learning rate",
    "speeds": _STEP,
    "xs": _STEP,
    "generator": _GENERATOR,
    "samples": _GENERATOR,
    "g_opt_state": _GENERATOR,
}
_STILL = (
    "The discriminator has collapsed: it is flat wherever samples of q are, dead or saturated, "
    "though p is elsewhere. Lower its learning rate, take smooth activations, or a GAN that does "
    "not saturate, such as `gans.logit()`"
)


_SIGNS = {
    "samples": f"the generator's samples lie {FAR:g} times as far out as the data reach, or more",
    "motion": "the generator has not changed in the steps before, and its samples are not p's",
}


class RunDiverged(RuntimeError):
    """A run was stopped because its numbers had left the finite ones, or what makes sense.

    Raised by `transport`, `train_gan` and `train_flow_ratio` at the end of the chunk in which it
    happened. Inside `jit` and `vmap` nothing is raised, and the field `diverged` of what they
    tell has the step.

    Attributes:
        step: The step at which it showed, counted from 0: `losses[step]` is the first bad one.
        quantity: What it showed in: a loss, the speed, a field of the state, or of a generator its
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
        """Lets the error come back from another process with all it holds."""
        return type(self), (str(self), self.step, self.quantity, self.state, self.done)


def lengths(xs: Float[Array, "*n dim"]) -> Float[Array, "*n"]:
    """Euclidean length of each vector."""
    return jnp.sqrt(jnp.sum(xs**2, axis=-1))


def flat(xs: Float[Array, "n *event"]) -> Float[Array, "n dim"]:
    """Makes a vector of each sample."""
    return jnp.reshape(xs, (xs.shape[0], -1))


def extent(
    xs_p: Float[Array, "m *event"], xs_q: Float[Array, "n *event"]
) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
    """How far data reach: the measure of what is thrown away."""
    goal = flat(xs_p)
    middle = goal[0] + jnp.mean(goal - goal[0], axis=0)  # exact where all are one
    farthest = [jnp.max(lengths(xs - middle)) for xs in (goal, flat(xs_q))]
    return middle, jnp.maximum(*farthest)


def no_signs(old: PyTree, new: PyTree, metrics: Metrics) -> Metrics:
    """Knows no sign of trouble but numbers that are not finite."""
    del old, new, metrics
    return {}


def _broken(old: PyTree, new: PyTree) -> Shaped[Array, ""]:
    """Whether a part of the state has numbers that are not finite and were not there before."""
    pairs = zip(
        jax.tree.leaves(eqx.filter(old, eqx.is_inexact_array)),
        jax.tree.leaves(eqx.filter(new, eqx.is_inexact_array)),
        strict=True,
    )
    # Some optimisers start from inf, and a mask may hold it: what stays as it was is no trouble.
    bad = [jnp.any(~jnp.isfinite(b) & (a != b)) for a, b in pairs]
    return jnp.any(jnp.stack(bad)) if bad else jnp.zeros((), bool)


def verdict(
    signs: Callable[..., Any], old: PyTree, new: PyTree, metrics: Metrics
) -> dict[str, Int[Array, ""]]:
    """Where in a chunk each quantity went wrong."""
    length = next(iter(metrics.values())).shape[0]
    bad = {name: ~jnp.isfinite(part) for name, part in metrics.items()}
    more = signs(old, new, metrics)
    bad = {name: flags | more.pop(name, False) for name, flags in bad.items()}
    first = {name: jnp.where(jnp.any(b), jnp.argmax(b), length) for name, b in bad.items()}
    first |= {name: jnp.where(flag, length - 1, length) for name, flag in more.items()}
    for field in dataclasses.fields(new):
        broken = _broken(getattr(old, field.name), getattr(new, field.name))
        first[field.name] = jnp.where(broken, length - 1, length)
    return first


def hold(
    good: PyTree, new: PyTree, metrics: Metrics, first: dict[str, Count], done: int, diverged: Count
) -> tuple[PyTree, Metrics, Count]:
    """Keeps the last good state of a run that runs on because nothing can be raised."""
    length = next(iter(metrics.values())).shape[0]
    at = jnp.min(jnp.stack(list(first.values())))
    alive = diverged < 0
    well, fine = alive & (at == length), alive & (jnp.arange(length) < at)
    arrays, rest = eqx.partition(new, eqx.is_array)
    kept = jax.tree.map(Partial(jnp.where, well), arrays, eqx.filter(good, eqx.is_array))
    metrics = {name: jnp.where(fine, part, jnp.nan) for name, part in metrics.items()}
    return eqx.combine(kept, rest), metrics, jnp.where(alive & ~well, done + at, diverged)


def error(
    caller: str,
    steps: int,
    done: int,
    metrics: Metrics,
    first: dict[str, Count],
    state: PyTree,
    path: pathlib.Path | None,
) -> RunDiverged | None:
    """The error for a chunk, if it is bad."""
    length = next(iter(metrics.values())).shape[0]
    at = {name: int(where) for name, where in jax.device_get(first).items()}
    # What went through a trace has lost its order.
    names = (*metrics, *(field.name for field in dataclasses.fields(state)))
    found = {name: at.pop(name) for name in names} | at
    quantity = min(found, key=found.__getitem__)
    if found[quantity] == length:
        return None
    step = done + found[quantity]
    value = float(metrics[quantity][found[quantity]]) if quantity in metrics else None
    what, advice = _shown(quantity, value), _advice(quantity, value, step, state)
    kept = f"; checkpoint {path} holds it" if path is not None and done else ""
    words = (
        f"{caller}: diverged at step {step} (counted from 0) of {steps}: {what}. {advice}. The "
        f"last good state is that after {done} steps: `.state` of this error{kept}. The same "
        "call would diverge again: change a setting"
        + (", and pass another `checkpoint`." if kept else ".")
    )
    return RunDiverged(words, step, quantity, state, done)


def _advice(quantity: str, value: float | None, step: int, state: PyTree) -> str:
    """What usually causes it, and what to change."""
    fields = [(field.name, getattr(state, field.name)) for field in dataclasses.fields(state)]
    old = [name for name, part in fields if bool(_broken(part, part))]
    if old:
        return f"NaN stood in `{'`, `'.join(old)}` of the state before: pass networks without it"
    if value == 0 or quantity == "motion":
        return _STILL
    advice = ADVICE.get(quantity, _CRITIC)
    return advice + _DOMAIN if step == 0 and quantity in ("losses", "d_losses") else advice


def _shown(quantity: str, value: float | None) -> str:
    """What is wrong with it, in words."""
    if quantity in _SIGNS:
        return _SIGNS[quantity]
    if value is None:
        return f"`{quantity}` of its state has NaN or inf"
    if value == 0:
        return f"`{quantity}` are exactly 0 from there on, the particles stand still"
    if np.isfinite(value):
        return f"`{quantity}` of {value:.3g} throw the particles far from all data"
    return f"`{quantity}` has become {value}"
