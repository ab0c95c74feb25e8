"""Gradient penalties: what keeps a critic from being steep, by each sample's own gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import Network, check_critic, check_number
from .._linalg import safe_sqrt
from .._types import Function, Scalar, ScalarLike
from ..runs._batches import Data, Samples, samples

PENALTIES = ("r1", "r2", "r1+r2", "zero", "one")
DRAWING = ("zero", "one")  # at random points between p and q
_NAMES = ", ".join(map(repr, PENALTIES[:-1])) + f" or {PENALTIES[-1]!r}"


def check_weights(caller: str, **weights: Any) -> None:
    """Refuses weights of losses that are negative or infinite."""
    for name, value in weights.items():
        check_number(caller, name, value, (value >= 0) & (value < np.inf), "0 or more")


def check_penalty(caller: str, penalty: str | None, weight: ScalarLike | Function = 0.0) -> None:
    """Refuses an unknown penalty, and a weight that is none; a schedule is not known yet."""
    if not callable(weight):
        check_weights(caller, penalty_weight=weight)
    if penalty is not None and penalty not in PENALTIES:
        raise ValueError(f"{caller}: `penalty` is {penalty!r}; pass {_NAMES}.")


def _between(data_p: Data, data_q: Data, key: Any) -> Data:
    """One random point on the line between each pair; the smaller cloud starts again."""
    count = max(data_p[0].shape[0], data_q[0].shape[0])
    which = jnp.arange(count)
    ends_p, *conditions = jax.tree.map(lambda leaf: leaf[which % leaf.shape[0]], data_p)
    xs_q = data_q[0]
    ends_q = xs_q[which % xs_q.shape[0]]
    where = jax.random.uniform(key, (count, *[1] * (xs_q.ndim - 1)), ends_p.dtype)
    return ends_q + where * (ends_p - ends_q), *conditions


def gradient_penalty(
    penalty: str,
    discriminator: Network,
    xs_p: Samples,
    xs_q: Samples,
    *,
    key: PRNGKeyArray | None = None,
) -> Scalar:
    r"""How steep a critic is, from its gradient at each sample.

    - "r1": $E_p\|\nabla d\|^2$, zero-centred at samples of p;
    - "r2": $E_q\|\nabla d\|^2$, the same at samples of q;
    - "r1+r2": their sum;
    - "zero": $E\|\nabla d(\hat x)\|^2$ at points $\hat x$ uniform on lines between p and q;
    - "one": $E(\|\nabla d(\hat x)\| - 1)^2$ at the same points, as WGAN-GP has it.

    No factor 1/2 is in it: R1, or R1 + R2, with the customary gamma/2 has weight gamma/2 here.

    Args:
        penalty: Its name.
        discriminator: A module d(x) of one sample, or d(x, c).
        xs_p: Samples of p [units of x], or `(xs, cs)` with conditions, which stay where they are;
            the points between have those of p.
        xs_q: Samples of q, paired in order with those of p by "zero" and "one"; "r1" ignores them.
        key: Randomness of the points between; "r1", "r2" and "r1+r2" need none.

    Returns:
        The penalty [units of d squared per unit of x squared; "one" takes both as 1].

    Raises:
        ValueError: If the name is unknown, `key` is needed and missing, samples that it uses
            are empty, or the discriminator does not make one number of one sample.

    References:
        Mescheder, Geiger & Nowozin, ICML 2018 ("r1", "r2"); Huang et al., NeurIPS 2024 (their
        sum); Thanh-Tung, Tran & Venkatesh, ICLR 2019
        ("zero"); Gulrajani et al., NeurIPS 2017 ("one").
    """
    check_penalty("gradient_penalty", penalty)
    unused = penalty == "r1" and getattr(xs_q, "shape", ())[:1] == (0,)
    used = {"xs_p": xs_p} if unused else {"xs_p": xs_p, "xs_q": xs_q}
    data_p, *_ = data = samples("gradient_penalty", **used)
    check_critic("gradient_penalty", "discriminator", discriminator, data_p)
    if penalty in DRAWING and key is None:
        raise ValueError(f"gradient_penalty: {penalty!r} draws points; pass `key` too.")
    return unchecked_penalty(penalty, discriminator, data_p, data[-1], key)


def unchecked_penalty(
    penalty: str, discriminator: Network, data_p: Data, data_q: Data, key: PRNGKeyArray | None
) -> Scalar:
    """`gradient_penalty` of arguments that have been checked."""
    if penalty not in DRAWING:
        points = {"r1": [data_p], "r2": [data_q], "r1+r2": [data_p, data_q]}[penalty]
        means = [jnp.mean(_squared_slopes(discriminator, one)) for one in points]
        return jnp.sum(jnp.stack(means))
    squared = _squared_slopes(discriminator, _between(data_p, data_q, key))
    # The slope of `safe_sqrt` at zero is zero: a critic that is flat somewhere still trains.
    return jnp.mean((safe_sqrt(squared) - 1) ** 2 if penalty == "one" else squared)


def _squared_slopes(discriminator: Network, points: Data) -> Float[Array, " n"]:
    slopes = jax.vmap(jax.grad(discriminator))(*points)
    return jnp.sum(slopes**2, axis=tuple(range(1, slopes.ndim)))
