"""How divergences and GANs print: in one line, as the call that makes them."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax

from .._types import Function, as_float, traced

P = ParamSpec("P")
T = TypeVar("T")


class Label(eqx.Module):
    """What stands between the parentheses: words, with places for arguments that are arrays."""

    words: str = eqx.field(static=True)
    arguments: dict[str, Any]

    def __str__(self) -> str:
        return self.words.format(**{name: _shown(value) for name, value in self.arguments.items()})


def label_of(*functions: Function, **named: Function) -> Label:
    """The label of what is made of a user's functions: their names."""
    words = [*map(_name, functions), *(f"{key}={_name(each)}" for key, each in named.items())]
    return Label(", ".join(words), {})


def labelled(make: Callable[P, T]) -> Callable[P, T]:
    """Makes what a constructor returns print as its call; only numbers and options may differ."""
    signature = inspect.signature(make)

    @functools.wraps(make)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        made, bound = make(*args, **kwargs), signature.bind(*args, **kwargs)
        bound.apply_defaults()
        words, arguments = [repr(make.__name__)], {}
        for name, value in bound.arguments.items():
            if isinstance(value, bool):  # an option: part of the structure
                default = signature.parameters[name].default
                words += [] if value is default else [f"{name}={value}"]
                continue
            is_number = not isinstance(value, eqx.Module)
            words += [f"{name}={{{name}}}" if is_number else f"{{{name}}}"]
            arguments[name] = as_float(value) if is_number else value
        label = Label(", ".join(words), arguments)
        return eqx.tree_at(lambda one: one._label, made, label)

    return call


def _name(function: Function) -> str:
    """What a user calls a function, which ours may wrap."""
    while isinstance(function, functools.partial):
        inner = [one for one in function.args if callable(one)]
        ours = str(getattr(function.func, "__module__", "")).startswith("divergence_flows.")
        function = inner[0] if ours and inner else function.func
    return getattr(function, "__name__", type(function).__name__)


def _shown(value: Any) -> str:
    """A number, an array's dtype and shape, or what a module prints as."""
    if isinstance(value, jax.Array) and value.ndim == 0 and not traced(value):
        return f"{float(value):g}"
    if hasattr(value, "_label"):
        return repr(value)
    return eqx.tree_pformat(value).removeprefix("weak_")
