"""Names for arrays and callables, and the one rule that keeps callables inside pytrees.

A function that sits in a pytree must not be a leaf, or plain `jit`, `vmap` and `scan` refuse the
tree. `as_partial` is how every module of ours stores one.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree, Real

Scalar = Float[Array, ""]
ScalarLike = Real[ArrayLike, ""]
# Scalar in, scalar out: f, h, phi, psi, log T. Works on any array-like number, under any transform.
ScalarFn = Callable[..., Any]
# log_r(t, x, args): one time, one point of any event shape, a scalar out.
LogRatioFn = Callable[..., Any]
# field(t, y, args): the velocity of a whole state.
Field = Callable[..., Any]


def as_partial(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a callable so that its only pytree leaves are arrays.

    A callable that is a pytree already (an equinox module, a `Partial`) keeps its leaves and comes
    back as it is; a plain function becomes a `jax.tree_util.Partial`, part of the tree's structure.

    Args:
        function: Any callable.

    Returns:
        The same function, as a pytree.
    """
    leaves = jax.tree.leaves(function)
    if len(leaves) == 1 and leaves[0] is function:
        return Partial(function)
    return function


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A function and those of its keywords that are no arrays: part of a tree's structure."""

    function: Callable[..., Any]
    keywords: tuple[tuple[str, Any], ...]

    def __call__(self, *args: Any, **arrays: Any) -> Any:
        return self.function(*args, **dict(self.keywords), **arrays)


def split_partial(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `as_partial`; keywords of a `functools.partial` that are arrays or floats become leaves.

    Args:
        function: Any callable.

    Returns:
        The same function, as a pytree; two calls with equal words and numbers of things make
        trees of one structure.
    """
    if type(function) is not functools.partial:
        return as_partial(function)
    keywords = function.keywords
    arrays = {name: value for name, value in keywords.items() if _is_leaf(value)}
    rest = tuple((name, value) for name, value in keywords.items() if name not in arrays)
    bound = [jnp.asarray(value) if _is_leaf(value) else value for value in function.args]
    made = {name: jnp.asarray(value) for name, value in arrays.items()}
    return Partial(Frozen(function.func, rest), *bound, **made)


def _is_leaf(value: Any) -> bool:
    return isinstance(value, (float, np.ndarray, jax.Array))


def as_float(x: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Turns a number or array into a float array; integers take the default float dtype.

    Args:
        x: A Python number, numpy or jax array.

    Returns:
        The same values as a jax array of floats.
    """
    if isinstance(x, np.ndarray) and x.dtype.kind in "iu":
        x = x.astype(jnp.result_type(float))  # JAX would first wrap what is beyond 32 bits
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def each(network: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a network of one sample a network of a batch; batch norms know its axis by "batch".

    Args:
        network: A function of one sample.

    Returns:
        The same of a batch.
    """
    return jax.vmap(network, axis_name="batch")


def same(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Leaves a value as it is.

    Args:
        x: Anything.

    Returns:
        The same.
    """
    return x


def traced(tree: PyTree) -> bool:
    """Tells whether a tree has no numbers yet, because a transform is tracing it.

    Args:
        tree: Any pytree.

    Returns:
        Whether one of its leaves is a tracer.
    """
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def check_counts(owner: str, counts: Mapping[str, int | None]) -> None:
    """Refuses numbers of things that are not positive.

    Args:
        owner: Who asks, for the message.
        counts: The numbers, by the name of their argument; None is none of ours.

    Raises:
        ValueError: If one is below 1.
    """
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{owner}: `{name}` is {value}; pass a positive integer.")


def check_numbers(owner: str, numbers: Mapping[str, tuple[Any, Any, str]]) -> None:
    """Refuses numbers out of range; those inside a trace are not known yet.

    Args:
        owner: Who asks, for the message.
        numbers: By the name of their argument: the value, whether it is good, and what is asked.

    Raises:
        ValueError: If one is not good.
    """
    for name, (value, good, words) in numbers.items():
        if not isinstance(good, Tracer) and not good:
            raise ValueError(f"{owner}: `{name}` is {value}; pass {words}.")


def refuse(tree: PyTree, bad: Bool[Array, ""], words: str) -> PyTree:
    """Raises if something is wrong, and leaves arrays on the devices where they lie.

    `eqx.error_if` goes back to the host from one device, and what passes through it is gathered
    there; here only a flag does.

    Args:
        tree: Any pytree of floats.
        bad: Whether it is wrong.
        words: What to say then.

    Returns:
        The same tree; use this.

    Raises:
        EquinoxRuntimeError: If `bad`.
    """
    return refuse_first(tree, {words: bad})


def refuse_first(tree: PyTree, faults: Mapping[str, Bool[Array, ""]]) -> PyTree:
    """As `refuse`, of several things: the first that is wrong is told."""
    bad, good = jnp.stack(list(faults.values())), jnp.zeros((), bool)
    flag = eqx.branched_error_if(good, jnp.any(bad), jnp.argmax(bad), list(faults))
    return jax.tree.map(Partial(_unless, flag), tree)


def _unless(flag: Bool[Array, ""], leaf: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(flag, jnp.nan, leaf)


def _cast(dtype: Any, parameter: Any) -> Any:
    # An integer is an index, say of `lax.switch`, and stays one; so do Python's own numbers.
    floats = jnp.issubdtype(getattr(parameter, "dtype", int), jnp.inexact)
    return parameter.astype(dtype) if floats else parameter


def elementwise(function: ScalarFn, x: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Lets an elementwise function take numbers and arrays of any real dtype.

    Args:
        function: Elementwise; its parameters, but for integers, are cast to the argument's dtype.
        x: Numbers.

    Returns:
        function(x), as floats.
    """
    x = as_float(x)
    return jax.tree.map(Partial(_cast, x.dtype), function)(x)
