"""Refuses forward mode where only reverse derivatives exist, and says what to pass instead.

diffrax's default adjoint is a `custom_vjp`; of a `jvp` JAX says only that such a function has
none. Reverse mode goes through the same rule of derivatives, and then transposes it: a linear
identity that can be transposed but not evaluated tells the two apart.
"""

import functools
from typing import Any, NoReturn

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .._types import AnyFloat


def _refuse(*_: Any, words: str, **__: Any) -> NoReturn:
    """Raises, because a tangent is to be evaluated."""
    raise ValueError(words)


def _abstract(x: Any, tangent: Any, *, words: str) -> Any:
    """The tangent's own shape and dtype."""
    return tangent


def _transposed(cotangent: Any, x: Any, tangent: Any, *, words: str) -> tuple[None, Any]:
    """The identity: reverse mode passes."""
    return None, cotangent


def _batched(args: Any, axes: Any, *, words: str) -> tuple[Any, Any]:
    """Evaluates a batch at once; many tangents at one point are a Jacobian by forward mode."""
    if axes[0] is batching.not_mapped:
        raise ValueError(words)
    return _tangent.bind(*args, words=words), axes[1]


_tangent = Primitive("reverse_only")
_tangent.def_impl(_refuse)
_tangent.def_abstract_eval(_abstract)
ad.primitive_transposes[_tangent] = _transposed
batching.primitive_batchers[_tangent] = _batched
mlir.register_lowering(_tangent, _refuse)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def reverse_only(words: str, x: AnyFloat) -> AnyFloat:
    """Leaves an array as it is; forward mode through it is a `ValueError` of these words."""
    return x


@reverse_only.defjvp
def _reverse_only_jvp(words: str, primals: Any, tangents: Any) -> tuple[AnyFloat, Any]:
    """Marks the tangent, and the value for derivatives of derivatives."""
    return reverse_only(words, primals[0]), _tangent.bind(primals[0], tangents[0], words=words)
