"""Every refusal of a public function: counts, numbers, samples, and the functions that users pass.

Contents are looked at once for each call of a public function, never inside a field or a loop. A
user's function is only traced, so a check of it costs nothing at run time.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, PyTree

from ._types import (
    AnyCloudLike,
    AnyFloat,
    BoolScalar,
    Cloud,
    Function,
    Numbers,
    Sample,
    Scalar,
    as_array,
    as_float,
    traced,
    vmapped,
)

Network = Callable[..., Any]  # of one sample
DISCRIMINATOR = "a function of one sample that returns one number, as `networks.Discriminator` does"
OVER_TIME = "a function d(t, x) that returns one number, as `networks.TimeDiscriminator` does"


def check_counts(caller: str, counts: Mapping[str, Any]) -> None:
    """Refuses numbers of things that are not positive; those inside a trace are not known yet."""
    for name, value in counts.items():
        if value is not None and not isinstance(value, Tracer) and value < 1:
            raise ValueError(f"{caller}: `{name}` is {value}; pass a positive integer.")


def check_number(caller: str, name: str, value: Any, good: Any, words: str) -> None:
    """Refuses a number out of range; one inside a trace is not known yet."""
    if not isinstance(good, Tracer) and not good:
        raise ValueError(f"{caller}: `{name}` is {value}; pass {words}.")


def raise_if(tree: PyTree, bad: BoolScalar | np.bool, words: str) -> PyTree:
    """Raises if `bad`; only a flag goes to the host, arrays stay on their devices."""
    return raise_first(tree, {words: bad})


def raise_first(tree: PyTree, faults: Mapping[str, BoolScalar | np.bool]) -> PyTree:
    """As `raise_if` for several faults: the first that holds is raised."""
    found = list(faults.values())
    if not (traced(found) or any(found)):
        return tree
    bad, first = jnp.zeros((), bool), jnp.zeros((), int)
    for index, one in reversed(list(enumerate(found))):  # an argmax takes 0.1 s to compile
        bad, first = bad | one, jnp.where(one, index, first)
    flag = eqx.branched_error_if(jnp.zeros((), bool), bad, first, list(faults))
    return jax.tree.map(lambda leaf: jnp.where(flag, jnp.nan, leaf), tree)


def check_clouds(caller: str, **clouds: AnyFloat) -> tuple[AnyFloat, ...]:
    """Refuses arrays that are empty or not finite; use those that come back."""
    return raise_first(tuple(clouds.values()), _not_finite(caller, clouds))


def check_events(caller: str, **clouds: AnyCloudLike) -> tuple[AnyFloat, ...]:
    """Makes float arrays of samples; refuses other data, and clouds of different event shapes."""
    arrays = {name: array_of(caller, name, xs) for name, xs in clouds.items()}
    events = {name: np.shape(xs)[1:] for name, xs in arrays.items()}
    _check_alike(caller, "events", events, "samples of one shape")
    return tuple(as_float(xs) for xs in arrays.values())


def check_shapes(caller: str, **arrays: AnyCloudLike) -> tuple[AnyFloat, ...]:
    """As `check_events`, for arrays whose whole shapes must be the same, as many rows too."""
    made = {name: as_float(array_of(caller, name, xs)) for name, xs in arrays.items()}
    shapes = {name: xs.shape for name, xs in made.items()}
    _check_alike(caller, "shape", shapes, "arrays of one shape")
    return tuple(made.values())


def array_of(caller: str, name: str, xs: AnyCloudLike) -> Numbers:
    """Data of another library as an array."""
    try:
        return as_array(xs)
    except ValueError as error:
        raise ValueError(f"{caller}: `{name}` {error}") from None


def _check_alike(caller: str, what: str, shapes: Mapping[str, tuple], remedy: str) -> None:
    if len(set(shapes.values())) > 1:
        (name, shape), *rest = shapes.items()
        others = ", ".join(f"`{other}` {found}" for other, found in rest)
        raise ValueError(f"{caller}: `{name}` has {what} {shape}, {others}; pass {remedy}.")


def check_samples(caller: str, **clouds: AnyCloudLike) -> tuple[AnyFloat, ...]:
    """As `check_events` and `check_clouds`; refuses data that vary by few of their floats."""
    arrays = {name: array_of(caller, name, xs) for name, xs in clouds.items()}
    floats = dict(zip(arrays, check_events(caller, **arrays), strict=True))
    faults = _not_finite(caller, floats)
    for name, xs in floats.items():
        # Half floats are coarser than this wherever they are: who takes them wants that.
        if jnp.finfo(xs.dtype).bits > 16:
            words = (
                f"{caller}: `{name}` has numbers too large for {xs.dtype}: their spacing exceeds a "
                "thousandth of a coordinate's standard deviation. Subtract the mean first, in "
                "float64 or integers, or pass float64 with jax_enable_x64."
            )
            seen, fixed = at_hand(xs), constant(arrays[name])
            if isinstance(seen, np.ndarray):
                with np.errstate(all="ignore"):  # what is not finite is a fault of its own
                    faults[words] = np.any(_coarse(np, seen, fixed))
            else:
                faults[words] = jnp.any(_coarse_on_device(seen, fixed))
    return raise_first(tuple(floats.values()), faults)


def _not_finite(caller: str, clouds: Mapping[str, AnyFloat]) -> dict[str, Any]:
    faults = {}
    for name, xs in clouds.items():
        check_some(caller, name, xs)
        words = f"{caller}: `{name}` has NaN or inf; drop those samples first."
        faults[words] = some_not_finite(xs)
    return faults


def at_hand(xs: Numbers) -> Any:
    """An array in numpy if it lies on the host: a check in JAX compiles for each shape."""
    if isinstance(xs, Tracer) or not isinstance(xs, jax.Array):
        return xs
    near = all(device.platform == "cpu" for device in xs.devices()) and xs.is_fully_addressable
    return np.asarray(xs) if near else xs


def some_not_finite(xs: AnyFloat) -> BoolScalar | np.bool:
    """Whether any number of an array is NaN or inf."""
    seen = at_hand(xs)
    if isinstance(seen, np.ndarray):
        return ~np.all(np.isfinite(seen))
    return some(~jnp.isfinite(seen))


def some(bad: Bool[Array, "..."]) -> BoolScalar:
    """Whether any entry holds; an inner product, which compiles sooner than a reduction."""
    ones = jnp.ravel(bad).astype(jnp.float32)
    return jnp.vdot(ones, ones) > 0


def constant(xs: Numbers) -> Bool[Array | np.ndarray, "..."]:
    """Which coordinates are exactly the same in all samples."""
    own = at_hand(xs) if isinstance(xs, jax.Array) else np.asarray(xs)
    fixed = own.max(axis=0) == own.min(axis=0)
    return np.asarray(fixed) if isinstance(fixed, np.bool) else fixed


def _coarse(xp: Any, xs: Any, fixed: Any) -> Any:
    """Which coordinates vary by less than a thousand times the spacing of their floats."""
    low, high = xp.min(xs, axis=0), xp.max(xs, axis=0)
    half, top = high / 2 - low / 2, xp.maximum(xp.abs(low), xp.abs(high))
    unit = (xs - (low + half)) / xp.where(half > 0, half, xp.ones_like(half))
    gap = xp.maximum(xp.nextafter(top, xp.full_like(top, xp.inf)) - top, xp.finfo(top.dtype).tiny)
    return ~fixed & (1e3 * gap > half * xp.std(unit, axis=0))


@jax.jit
def _coarse_on_device(xs: Cloud, fixed: Bool[Array, "*event"]) -> Bool[Array, "*event"]:
    return _coarse(jnp, jax.lax.stop_gradient(xs), fixed)


def spacing(top: Sample) -> Sample:
    """The distance from a number to the next float, at least the smallest normal number."""
    top = jax.lax.stop_gradient(top)  # `nextafter` has no derivative
    return jnp.maximum(jnp.nextafter(top, jnp.inf) - top, jnp.finfo(top.dtype).tiny)


def centred(xs: Cloud) -> tuple[AnyFloat, ...]:
    """A middle, half the range, and samples about their mean in units of it; zero if constant."""
    low, high = jax.lax.stop_gradient((jnp.min(xs, axis=0), jnp.max(xs, axis=0)))
    half = high / 2 - low / 2
    middle = low + half
    unit = (xs - middle) / jnp.where(half > 0, half, 1.0)
    mean = jnp.mean(unit, axis=0)
    return middle + half * mean, half, jnp.where(half > 0, unit - mean, 0.0)


def no_empty_axes(caller: str, name: str, values: ArrayLike) -> None:
    """Refuses a law, or a rule, of nothing."""
    shape = np.shape(values)
    if 0 in shape:
        raise ValueError(f"{caller}: `{name}` is empty, of shape {shape}; pass one entry or more.")


def check_some(caller: str, name: str, xs: Numbers) -> None:
    """Refuses no samples, by their shape alone."""
    if np.size(xs) < 1:
        raise ValueError(f"{caller}: `{name}` has no samples, {described(xs)}; pass at least one.")


def described(tree: PyTree) -> str:
    """A description such as float32[4,2] of every array; for what is no array, its type's name."""
    leaves = jax.tree.leaves(tree)
    words = [
        f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        if hasattr(leaf, "shape")
        else type(leaf).__name__
        for leaf in leaves
    ]
    return words[0] if len(words) == 1 and leaves[0] is tree else f"({', '.join(words)})"


def check_positive(caller: str, **numbers: Any) -> None:
    """Refuses numbers that are not positive and finite; those inside a trace are not known yet."""
    for name, value in numbers.items():
        check_number(caller, name, value, (value > 0) & (value < np.inf), "a positive number")


def check_input(caller: str, argument: str, x: AnyFloat, *shape: int) -> None:
    """Refuses what is not of the one shape that a network or a fitted function takes."""
    if x.shape != shape:
        words = f"has shape {x.shape}, and this one was made for shape {shape}"
        raise ValueError(f"{caller}: `{argument}` {words}; pass that, or make one for these sizes.")


def one_of(cloud: PyTree) -> PyTree:
    """What one row of a cloud is like."""
    return jax.tree.map(lambda xs: jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype), cloud)


def check_makes(
    caller: str,
    argument: str,
    function: Network,
    inputs: tuple,
    shape: tuple,
    remedy: str,
    *,
    alone: bool = False,
) -> None:
    """Refuses a function of one sample that does not take it, or makes something else of it.

    `alone` refuses a batch norm too: its value depends on the other samples.
    """
    sample = described(inputs[0] if len(inputs) == 1 else inputs)
    batch = jax.tree.map(lambda one: jax.ShapeDtypeStruct((1, *one.shape), one.dtype), list(inputs))
    try:
        made = _shapes_of(function, batch, alone)
    except Exception as error:
        if why := not_of_one(function, error):
            raise ValueError(f"{caller}: `{argument}` {why}.") from error
        first = str(error).strip().split("\n")[0]
        words = f"does not take {sample} ({type(error).__name__}: {first}); pass {remedy}."
        raise ValueError(f"{caller}: `{argument}` {words}") from error
    one = one_of(made)
    leaves = jax.tree.leaves(one)
    if [leaf.shape for leaf in leaves] != [shape] or not _is_real(leaves[0]):
        why = not_of_one(function, made) or f"makes {described(one)} of {sample}; pass {remedy}"
        raise ValueError(f"{caller}: `{argument}` {why}.")


_PURE = "training and flows need a function of one sample alone, the same at each call"
_NORMS = "`eqx.nn.LayerNorm`, `eqx.nn.GroupNorm` or `networks.spectral` in place of a batch norm"
_OTHERS = f"depends on the other samples of its batch; {_PURE}. Use {_NORMS}"
_STATEFUL = (
    f"has a state that its calls change; {_PURE}. Use {_NORMS}, or bind the state after "
    "`eqx.nn.inference_mode` and return the value alone"
)
_RANDOM = (
    f"draws at random, as dropout in training does; {_PURE}. Leave it out, or pass "
    "`eqx.nn.inference_mode(network)`"
)


def not_of_one(function: Network, found: Any) -> str:
    """Why a network is no function of one sample, from what it raised or made; nothing if it is."""
    asked = str(found) if isinstance(found, Exception) else ""
    if "'state'" in asked or _parts((function, found), (eqx.nn.BatchNorm, eqx.nn.State)):
        return _STATEFUL
    if "unbound axis name" in asked:
        return _OTHERS
    random = "'key'" in asked or "requires a key" in asked or _parts(function, eqx.nn.Dropout)
    return _RANDOM if random else ""


def _parts(tree: PyTree, kinds: Any) -> list[Any]:
    """What a tree holds of some kinds, unless it is in inference."""
    parts = jax.tree.leaves(tree, is_leaf=lambda one: isinstance(one, kinds))
    parts = [one for one in parts if isinstance(one, kinds)]
    return [one for one in parts if getattr(one, "inference", False) is not True]


@functools.partial(jax.jit, static_argnums=(0, 3))  # for its trace cache: nothing compiled or run
def _of_batch(structure: Any, leaves: list[Any], batch: list[Any], alone: bool) -> PyTree:
    function = jax.tree.unflatten(structure, leaves)
    return (jax.vmap(function) if alone else vmapped(function))(*batch)


def _shapes_of(function: Network, batch: list[Any], alone: bool) -> PyTree:
    """Traces a function of one sample on a batch; a pytree of arrays, once for all calls."""
    leaves, structure = jax.tree.flatten(function)
    if not all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in leaves):
        again = jax.tree.unflatten(structure, leaves)  # a copy, whose state a call may spend
        many = jax.vmap(again) if alone else vmapped(again)
        calls = 2 if _parts(function, eqx.nn.State) else 1  # the second finds it spent
        return jax.eval_shape(lambda *xs: [many(*xs) for _ in range(calls)][-1], *batch)
    like = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    return _of_batch.eval_shape(structure, like, batch, alone)


def _is_real(leaf: Any) -> bool:
    if not isinstance(leaf, (int, float, np.ndarray, np.number, jax.Array, jax.ShapeDtypeStruct)):
        return False
    dtype = jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def check_critic(
    caller: str, argument: str, network: Network, data: tuple[PyTree, ...], alone: bool = True
) -> None:
    """Refuses a discriminator that does not make one number of a sample, and of its condition.

    `alone` refuses a batch norm too, where the gradient of each sample is taken.
    """
    check_makes(caller, argument, network, one_of(data), (), DISCRIMINATOR, alone=alone)


def check_generator(
    caller: str, argument: str, network: Network, latent: int, data: tuple[PyTree, ...]
) -> None:
    """Refuses a generator that does not make a sample of a noise vector, and of a condition."""
    xs, *conditions = one_of(data)
    noise = jax.ShapeDtypeStruct((latent,), xs.dtype)
    remedy = (
        f"a function that makes a sample of shape {xs.shape} of noise of shape ({latent},), such "
        "as `networks.Generator` or `networks.ConvGenerator` of these sizes, or another `latent`"
    )
    check_makes(caller, argument, network, (noise, *conditions), xs.shape, remedy)


def check_over_time(
    caller: str,
    argument: str,
    network: Network,
    score_p: Network | None,
    data: tuple[PyTree, ...],
) -> None:
    """Refuses a d(t, x), or d(t, x, c), that does not make one number."""
    one = one_of(data)
    time = jax.ShapeDtypeStruct((), one[0].dtype)
    check_makes(caller, argument, network, (time, *one), (), OVER_TIME, alone=True)
    if score_p is not None:
        remedy = "a function of one sample that returns grad log p there, of the sample's shape"
        check_makes(caller, "score_p", score_p, one, one[0].shape, remedy)


def check_rate(caller: str, argument: str, rate: PyTree, state: PyTree) -> PyTree:
    """Refuses a rate that is not made like the state that it is the rate of."""
    leaves, structure = jax.tree.flatten(rate)
    wanted, asked = jax.tree.flatten(state)
    fits = structure == asked and all(
        _is_real(one) and jnp.shape(one) == jnp.shape(other)
        for one, other in zip(leaves, wanted, strict=True)
    )
    if not fits:
        words = f"returns {described(rate)} for {described(state)}; it must return numbers"
        raise ValueError(f"{caller}: `{argument}` {words} in the same structure and shapes.")
    return jax.tree.map(as_float, rate)


def scalar_valued(caller: str, argument: str, function: Function) -> Function:
    """Makes a function refuse to return anything but one real number; for use inside one trace."""
    return functools.partial(scalar_of, caller, argument, function)


def scalar_of(caller: str, argument: str, function: Function, *inputs: Any) -> Scalar:
    """Calls a function, and refuses what is not one number."""
    made = function(*inputs)
    if not _is_real(made) or jnp.shape(made) != ():
        words = f"returns {described(made)}; it must return one real number for each point"
        raise ValueError(f"{caller}: `{argument}` {words}, so sum or index what it returns now.")
    return as_float(made)
