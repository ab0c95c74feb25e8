"""Functions that users pass: do they take the samples, and make of them what is asked?

Only shapes are told, while tracing: nothing runs twice, and nothing costs at run time.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from ._doors import check_some, told
from ._types import Scalar, as_float, each

Network = Callable[..., Any]  # of one sample
DISCRIMINATOR = (
    "a function of one sample that returns one number, `networks.Discriminator` or "
    "`networks.ConvDiscriminator` of the samples' size for instance"
)
OVER_TIME = (
    "a function of one time and one sample that returns one number, `networks.TimeDiscriminator` "
    "of the samples' size for instance"
)


def one_of(xs: Shaped[Array, "_ *event"]) -> jax.ShapeDtypeStruct:
    """What one row of a cloud is like.

    Args:
        xs: The cloud.

    Returns:
        Its shape and dtype.
    """
    return jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)


def check_makes(
    owner: str,
    argument: str,
    function: Network,
    inputs: tuple[jax.ShapeDtypeStruct, ...],
    shape: tuple[int, ...],
    remedy: str,
) -> None:
    """Refuses a function of one sample that does not take it, or makes something else of it.

    It is traced, not run, as one of a batch, since batch norms want to know its axis.

    Args:
        owner: Who asks, for the message.
        argument: The function's name there.
        function: The function.
        inputs: What one sample is like, after what else it takes.
        shape: What it must make of it.
        remedy: What to pass instead.

    Raises:
        ValueError: If it fails on such a sample, or makes anything but one array of that shape.
    """
    sample = told(inputs[-1])
    batch = [jax.ShapeDtypeStruct((1, *like.shape), like.dtype) for like in inputs]
    try:
        made = _shapes_of(function, batch)
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{owner}: `{argument}` does not take {sample} "
            f"({type(error).__name__}: {first}); pass {remedy}."
        ) from error
    leaves = jax.tree.leaves(made)
    if [leaf.shape for leaf in leaves] != [(1, *shape)] or not _is_real(leaves[0]):
        ones = [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in leaves]
        raise ValueError(
            f"{owner}: `{argument}` makes {told(ones[0] if len(ones) == 1 else ones)} of "
            f"{sample}; pass {remedy}."
        )


def _of_batch(structure: Any, leaves: list[Any], batch: list[Any]) -> PyTree:
    """Puts a function together and applies it to a batch."""
    return each(jax.tree.unflatten(structure, leaves))(*batch)


# For its memory: what was traced once for a structure and shapes is not traced again.
_TRACED = jax.jit(_of_batch, static_argnums=0)


def _shapes_of(function: Network, batch: list[jax.ShapeDtypeStruct]) -> PyTree:
    """Traces a function of one sample on a batch; a pytree of arrays, once for all calls."""
    leaves, structure = jax.tree.flatten(function)
    if not all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in leaves):
        return jax.eval_shape(each(function), *batch)
    like = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    return _TRACED.eval_shape(structure, like, batch)


def _is_real(leaf: Any) -> bool:
    if not isinstance(leaf, (int, float, np.ndarray, np.number, jax.Array, jax.ShapeDtypeStruct)):
        return False
    dtype = jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def _one_of_some(owner: str, clouds: Mapping[str, Shaped[Array, "_ *event"]]) -> Any:
    """What a sample is like, of clouds that must all have some."""
    for name, xs in clouds.items():
        check_some(owner, name, xs)
    return one_of(next(iter(clouds.values())))


def check_critic(
    owner: str, argument: str, network: Network, **clouds: Float[Array, "_ *event"]
) -> None:
    """Refuses a discriminator that does not make one number of one of these samples.

    Args:
        owner: Who asks, for the message.
        argument: The discriminator's name there.
        network: The discriminator.
        clouds: Samples, of one event shape, by the name of their argument.

    Raises:
        ValueError: If it does not, or there are no samples.
    """
    one = _one_of_some(owner, clouds)
    check_makes(owner, argument, network, (one,), (), DISCRIMINATOR)


def check_generator(
    owner: str, argument: str, network: Network, latent: int, xs: Float[Array, "_ *event"]
) -> None:
    """Refuses a generator that does not make a sample like these of one noise vector.

    Args:
        owner: Who asks, for the message.
        argument: The generator's name there.
        network: The generator.
        latent: Coordinates of the noise.
        xs: Samples.

    Raises:
        ValueError: If it does not.
    """
    noise, event = jax.ShapeDtypeStruct((latent,), xs.dtype), xs.shape[1:]
    remedy = (
        f"a function that makes a sample of shape {event} of noise of shape ({latent},), "
        "`networks.Generator` or `networks.ConvGenerator` of these sizes for instance, or "
        "another `latent`"
    )
    check_makes(owner, argument, network, (noise,), event, remedy)


def check_over_time(
    owner: str,
    argument: str,
    network: Network,
    score_p: Network | None,
    **clouds: Float[Array, "_ *event"],
) -> None:
    """Refuses a d(t, x) that does not make one number of a time and one of these samples.

    And a score that is none of one of them.

    Args:
        owner: Who asks, for the message.
        argument: The discriminator's name there.
        network: The discriminator.
        score_p: grad log p of one sample, or None.
        clouds: Samples, of one event shape, by the name of their argument.

    Raises:
        ValueError: If it does not, or there are no samples.
    """
    one = _one_of_some(owner, clouds)
    time = jax.ShapeDtypeStruct((), one.dtype)
    check_makes(owner, argument, network, (time, one), (), OVER_TIME)
    if score_p is not None:
        remedy = "a function of one sample that returns grad log p there, of the sample's shape"
        check_makes(owner, "score_p", score_p, (one,), one.shape, remedy)


def scalar_of(owner: str, argument: str, function: Callable[..., Any], *inputs: Any) -> Scalar:
    """Calls a function, and refuses what is not one number.

    Args:
        owner: Who asks, for the message.
        argument: The function's name there.
        function: The function.
        inputs: What it gets.

    Returns:
        The number, as a float.

    Raises:
        ValueError: While tracing, if it returns anything else.
    """
    made = function(*inputs)
    if not _is_real(made) or jnp.shape(made) != ():
        raise ValueError(
            f"{owner}: `{argument}` returns {told(made)}; it must return one real number for each "
            "point, so sum or index what it returns now."
        )
    return as_float(made)


def check_rate(owner: str, argument: str, rate: PyTree, state: PyTree) -> PyTree:
    """Refuses a rate that is not made like the state that it is the rate of.

    Args:
        owner: Who asks, for the message.
        argument: The name there of the function that returned it.
        rate: What it returned.
        state: What it was given.

    Returns:
        The rate, as floats.

    Raises:
        ValueError: While tracing, if the structures or shapes differ.
    """
    leaves, structure = jax.tree.flatten(rate)
    wanted, asked = jax.tree.flatten(state)
    fits = structure == asked and all(
        _is_real(one) and jnp.shape(one) == jnp.shape(other)
        for one, other in zip(leaves, wanted, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{owner}: `{argument}` returns {told(rate)} for {told(state)}; it must return one "
            "number for each of these, in the same structure and shapes."
        )
    return jax.tree.map(as_float, rate)


def named(owner: str, argument: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function refuse, in the words of `scalar_of`, to return anything but one number.

    Args:
        owner: Who asks, for the message.
        argument: The function's name there.
        function: The function.

    Returns:
        The same, for use inside one trace.
    """
    return functools.partial(scalar_of, owner, argument, function)
