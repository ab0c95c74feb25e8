"""The type hook's checker: beartype, with refusals of one line that name function and argument."""

import contextlib
import functools
import inspect
import io
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
from beartype import beartype
from beartype.door import is_bearable
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import (
    AbstractArray,
    AnnotationError,
    ArrayLike,
    PRNGKeyArray,
    TypeCheckError,
    print_bindings,
)

_UNIONS = (typing.Union, types.UnionType)
_KINDS = {
    **{"Real": "a real", "Bool": "boolean", "Float": "a float", "Int": "an integer"},
    **{"int": "an integer", "float": "a number", "str": "a string", "bool": "True or False"},
    "NoneType": "None",
}
_LONGEST = 100


class OneLine(TypeCheckError, AnnotationError):
    """A refusal; of another type jaxtyping would print all arguments and annotations in it."""


# Its name in a traceback is the one that users catch.
OneLine.__module__, OneLine.__name__, OneLine.__qualname__ = "jaxtyping", *["TypeCheckError"] * 2


def typechecked(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `beartype.beartype`, with our words; made at the first call, if there is one."""
    checked = functools.cache(lambda: beartype(function))

    @functools.wraps(function)
    def check(*args: Any, **kwargs: Any) -> Any:
        try:
            return checked()(*args, **kwargs)
        except BeartypeCallHintViolation as violation:
            words = _refusal(function, args, kwargs) or str(violation).split("\n")[0]
        raise OneLine(words)

    return check


def _refusal(function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> str:
    """What is wrong with an argument or a result; nothing if it cannot be told."""
    signature = inspect.signature(function)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    caller = function.__qualname__.lstrip("_").removesuffix(".__init__").removesuffix(".__call__")
    for name, value, hint in _arguments(signature, bound.arguments):
        if not is_bearable(value, hint):
            return f"{caller}: `{name}` is {_described(value)}; pass {_allowed(hint)}."
    hint = signature.return_annotation
    if hint is inspect.Signature.empty or hint is Any:
        return ""
    # jaxtyping passes a result as the last argument.
    made = _described(list(bound.arguments.values())[-1])
    return f"{caller} returns {made}; it must return {_allowed(hint)}."


def _arguments(
    signature: inspect.Signature, values: dict[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    for name, declared in signature.parameters.items():
        if declared.annotation is inspect.Parameter.empty:
            continue
        each = {name: values[name]}
        if declared.kind is inspect.Parameter.VAR_KEYWORD:
            each = values[name]
        elif declared.kind is inspect.Parameter.VAR_POSITIONAL:
            each = {f"{name}[{i}]": value for i, value in enumerate(values[name])}
        yield from ((key, value, declared.annotation) for key, value in each.items())


def _described(value: Any) -> str:
    """A description such as float32[4,2]; of what is long, its type alone."""
    if type(value) is tuple:
        words = f"({', '.join(map(_described, value))})"
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        words = f"{value.dtype}[{','.join(map(str, value.shape))}]"
    else:
        words = eqx.tree_pformat(value, width=10 * _LONGEST)
    short = len(words) <= _LONGEST and "\n" not in words
    return words if short else f"of type {type(value).__name__}"


def _allowed(hint: Any) -> str:
    """An annotation in words: arrays by their dtypes and shape."""
    if hint == PRNGKeyArray:
        return "a key of `jax.random`"
    members = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
    shapes: dict[str, list[str]] = {}
    others = []
    for one in members:
        if isinstance(one, type) and issubclass(one, AbstractArray):
            kind = one.dtype.__name__
            shapes.setdefault(one.dim_str, []).append(_KINDS.get(kind, kind.lower()))
        elif not (shapes and one in typing.get_args(ArrayLike)):  # numbers of Python and numpy
            others.append(_type_name(one))
    sizes = _settled_sizes()
    arrays = [
        f"{' or '.join(dict.fromkeys(kinds))} {_shape_name(shape.split(), sizes)}"
        for shape, kinds in shapes.items()
    ]
    return " or ".join(dict.fromkeys([*arrays, *others]))


def _shape_name(axes: list[str], sizes: dict[str, str]) -> str:
    if not axes:
        return "number"
    if len(axes) == 1 and (axes[0] == "..." or (axes[0][0] == "*" and axes[0][1:] not in sizes)):
        return "array"
    known = [sizes.get(axis.lstrip("*"), axis) for axis in axes]
    shape = ", ".join(size for size in known if size)
    return f"array of shape ({shape}{'' if ',' in shape else ','})"


def _type_name(one: Any) -> str:
    if one is Ellipsis:
        return "..."
    origin, of = typing.get_origin(one), typing.get_args(one)
    if Callable in (one, origin):
        return "a function"
    if origin is tuple:
        return f"a tuple of ({', '.join(map(_allowed, of))})"
    if origin is not None:
        return f"a {origin.__name__} of {_allowed(of[0])}"
    if str(one.__name__).startswith("PyTree"):
        return "a tree of arrays"
    return _KINDS.get(one.__name__, f"a {one.__name__}")


def _settled_sizes() -> dict[str, str]:
    """The sizes that other arguments have given to axes, by name."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        print_bindings()
    lines = (line.split("=", 1) for line in printed.getvalue().splitlines() if "=" in line)
    return {name: size.strip("()").rstrip(",") for name, size in lines}
