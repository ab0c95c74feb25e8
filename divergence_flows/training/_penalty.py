"""Gradient penalties: what keeps a critic from being steep, by each sample's own gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray, Real

from .._checks import Network, check_critic, check_number
from .._linalg import safe_sqrt
from .._types import AnyCloud, Scalar, ScalarLike, as_float

PENALTIES = ("r1", "zero", "one")


def check_weights(caller: str, **weights: Any) -> None:
    """Refuses weights of losses that are negative or infinite."""
    for name, value in weights.items():
        check_number(caller, name, value, (value >= 0) & (value < np.inf), "0 or more")


def check_penalty(caller: str, penalty: str | None, weight: ScalarLike = 0.0) -> None:
    """Refuses an unknown penalty, and a weight that is none."""
    check_weights(caller, penalty_weight=weight)
    if penalty is not None and penalty not in PENALTIES:
        raise ValueError(f"{caller}: `penalty` is {penalty!r}; pass 'r1', 'zero' or 'one'.")


def _between(xs_p: AnyCloud, xs_q: AnyCloud, key: Any) -> AnyCloud:
    """One random point on the line between each pair; the smaller cloud starts again."""
    count = max(xs_p.shape[0], xs_q.shape[0])
    which = jnp.arange(count)
    ends_p, ends_q = xs_p[which % xs_p.shape[0]], xs_q[which % xs_q.shape[0]]
    where = jax.random.uniform(key, (count, *[1] * (xs_p.ndim - 1)), xs_p.dtype)
    return ends_q + where * (ends_p - ends_q)


def gradient_penalty(
    penalty: str,
    discriminator: Network,
    xs_p: Real[ArrayLike, "m *event"],
    xs_q: Real[ArrayLike, "n *event"],
    *,
    key: PRNGKeyArray | None = None,
) -> Scalar:
    r"""How steep a critic is, from its gradient at each sample.

    - "r1": $E_p\|\nabla d\|^2$, zero-centred at samples of p;
    - "zero": $E\|\nabla d(\hat x)\|^2$ at points $\hat x$ uniform on lines between p and q;
    - "one": $E(\|\nabla d(\hat x)\| - 1)^2$ at the same points, as WGAN-GP has it.

    No factor 1/2 is in it: R1 with the customary gamma/2 has weight gamma/2 here.

    Args:
        penalty: Its name.
        discriminator: A module d(x) of one sample.
        xs_p: Samples of p [units of x].
        xs_q: Samples of q, paired in order with those of p; "r1" ignores them.
        key: Randomness of the points between; "r1" needs none.

    Returns:
        The penalty [units of d squared per unit of x squared; "one" takes both as 1].

    Raises:
        ValueError: If the name is unknown, `key` is needed and missing, samples that it uses
            are empty, or the discriminator does not make one number of one sample.

    References:
        Mescheder, Geiger & Nowozin, ICML 2018 ("r1"); Thanh-Tung, Tran & Venkatesh, ICLR 2019
        ("zero"); Gulrajani et al., NeurIPS 2017 ("one").
    """
    check_penalty("gradient_penalty", penalty)
    points, others = as_float(xs_p), as_float(xs_q)
    clouds = {"xs_p": points} if penalty == "r1" else {"xs_p": points, "xs_q": others}
    check_critic("gradient_penalty", "discriminator", discriminator, **clouds)
    if penalty != "r1" and key is None:
        raise ValueError(f"gradient_penalty: {penalty!r} draws points; pass `key` too.")
    return unchecked_penalty(penalty, discriminator, points, others, key)


def unchecked_penalty(
    penalty: str, discriminator: Network, xs_p: AnyCloud, xs_q: AnyCloud, key: PRNGKeyArray | None
) -> Scalar:
    """`gradient_penalty` of arguments that have been checked."""
    points = xs_p if penalty == "r1" else _between(xs_p, xs_q, key)
    slopes = jax.vmap(jax.grad(discriminator))(points)
    squared = jnp.sum(slopes**2, axis=tuple(range(1, slopes.ndim)))
    # The slope of `safe_sqrt` at zero is zero: a critic that is flat somewhere still trains.
    return jnp.mean((safe_sqrt(squared) - 1) ** 2 if penalty == "one" else squared)
