"""Names for arrays and callables, and the one rule that keeps callables inside pytrees.

A function that sits in a pytree must not be a leaf, or plain `jit`, `vmap` and `scan` refuse the
tree. `as_partial` is how every module of ours stores one.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol, get_args, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree, Real


@runtime_checkable
class Tensor(Protocol):
    """An array of another library, such as torch, that numpy can read."""

    shape: Any
    dtype: Any

    def __array__(self, *args: Any, **kwargs: Any) -> Any: ...


@runtime_checkable
class DataFrame(Protocol):
    """A data frame of pandas or polars: a table of named columns that numpy can read."""

    columns: Any

    def to_numpy(self, *args: Any, **kwargs: Any) -> Any: ...

    def __array__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __getitem__(self, name: Any) -> Any: ...


AnyArray = ArrayLike | Tensor
Scalar = Float[Array, ""]
# Booleans are numbers, 0 and 1.
ScalarLike = Real[ArrayLike, ""] | Bool[ArrayLike, ""]
BoolScalar = Bool[Array, ""]
IntScalar = Int[Array, ""]
Vector = Float[Array, " dim"]
VectorLike = Real[AnyArray, " dim"] | Bool[AnyArray, " dim"]
Matrix = Float[Array, "dim dim"]
# One sample, and a cloud of them. Of several clouds `check_events` compares the events: the hook
# would, if they shared a name, print all arguments.
Sample = Float[Array, "*event"]
SampleLike = Real[AnyArray, "*event"] | Bool[AnyArray, "*event"]
Cloud = Float[Array, "n *event"]
CloudLike = Real[AnyArray, "n *event"] | Bool[AnyArray, "n *event"] | DataFrame
AnyCloud = Float[Array, "_ *event"]
AnyCloudLike = Real[AnyArray, "_ ..."] | Bool[AnyArray, "_ ..."] | DataFrame
# Samples that are vectors, one a row.
RowsLike = Real[AnyArray, "_ _"] | Bool[AnyArray, "_ _"] | DataFrame
Clouds = tuple[AnyCloud, AnyCloud]  # of q and of p
Numbers = Real[ArrayLike, "..."] | Bool[ArrayLike, "..."]
# What an elementwise function takes and makes.
Values = Float[Array, "*shape"]
ValuesLike = Real[AnyArray, "*shape"] | Bool[AnyArray, "*shape"]
AnyFloat = Float[Array, "..."]
Function = Callable[..., Any]
# log_p(x) of one sample, or log_p(x, batch).
LogDensity = Callable[..., Scalar]
# Scalar in, scalar out: f, h, phi, psi, log T. Works on any array-like number, under any transform.
ScalarFn = Callable[..., Any]
# log_r(t, x, args): one time, one point of any event shape, a scalar out.
LogRatioFn = Callable[..., Any]
# field(t, y, args): the velocity of a whole state.
Field = Callable[..., Any]


def as_partial(function: Function) -> Function:
    """Wraps a callable so that its only pytree leaves are arrays."""
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


def split_partial(function: Function) -> Function:
    """As `as_partial`; arrays and floats bound by a `functools.partial` become leaves."""
    if type(function) is not functools.partial:
        return as_partial(function)
    keywords = function.keywords.items()
    arrays = {name: jnp.asarray(value) for name, value in keywords if _is_leaf(value)}
    rest = tuple((name, value) for name, value in keywords if name not in arrays)
    bound = [jnp.asarray(value) if _is_leaf(value) else value for value in function.args]
    return Partial(Frozen(function.func, rest), *bound, **arrays)


def _is_leaf(value: Any) -> bool:
    return isinstance(value, (float, np.ndarray, jax.Array))


def as_array(x: ValuesLike | DataFrame) -> Numbers:
    """Turns data of other libraries into a numpy array; leaves numbers and our arrays as they are.

    Raises:
        ValueError: If a column of a data frame holds no numbers.
    """
    data: Any = x
    if isinstance(x, get_args(ArrayLike)):
        return data
    if not isinstance(x, DataFrame):
        return np.asarray(data)
    if x.to_numpy().dtype.kind in "biuf":
        return x.to_numpy()
    # Booleans beside floats make objects of the whole, and numbers of each column.
    columns = [np.asarray(x[name]) for name in x.columns]
    kinds = {str(name): one.dtype for name, one in zip(x.columns, columns, strict=True)}
    wrong = ", ".join(
        f"'{name}' ({dtype})" for name, dtype in kinds.items() if dtype.kind not in "biuf"
    )
    if wrong:
        raise ValueError(f"has columns of no numbers: {wrong}; drop, fill or encode them.")
    return np.stack(columns, axis=1)


def as_float(x: ValuesLike | DataFrame) -> Values:
    """Turns numbers into a float array; integers and booleans take the default float dtype."""
    x = as_array(x)
    if isinstance(x, np.ndarray) and x.dtype.kind in "iu":
        x = x.astype(jnp.result_type(float))  # JAX would first wrap what is beyond 32 bits
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def vmapped(network: Function) -> Function:
    """Makes a network of one sample a network of a batch; batch norms know its axis by "batch"."""
    return jax.vmap(network, axis_name="batch")


def identity(x: Values) -> Values:
    """Leaves a value as it is."""
    return x


def traced(tree: PyTree) -> bool:
    """Tells whether a tree has no numbers yet, because a transform is tracing it."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def _cast(dtype: Any, parameter: Any) -> Any:
    # An integer is an index, say of `lax.switch`, and stays one; so do Python's own numbers.
    floats = jnp.issubdtype(getattr(parameter, "dtype", int), jnp.inexact)
    return parameter.astype(dtype) if floats else parameter


def elementwise(function: ScalarFn, x: ValuesLike) -> Values:
    """Lets an elementwise function take numbers and arrays of any real dtype."""
    x = as_float(x)
    return evaluated(jax.tree.map(Partial(_cast, x.dtype), function), x)


def evaluated(function: ScalarFn, x: ValuesLike) -> Values:
    """Evaluates a function of an array in one program, unless a transform is tracing already."""
    x = as_float(x)
    return function(x) if traced((function, x)) else _in_one_program(function, x)


@eqx.filter_jit
def _in_one_program(function: ScalarFn, x: Values) -> Values:
    return function(x)


def as_elementwise(function: ScalarFn) -> ScalarFn:
    """Makes a callable elementwise, for numbers and arrays of any real dtype, and a pytree."""
    return Partial(elementwise, split_partial(function))
