r"""A path of intermediate densities between two samples, and the loss of log ratios along it.

Samples of q and p in pairs give samples of every density between: $x_t = a x_q + b x_p$ with
$a^2 + b^2 = 1$. Neighbours overlap where q and p do not, and their log ratios add up to log p/q.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Cloud, Function, IntScalar, Scalar
from ..gans._losses import discriminator_loss

Rows = Float[Array, "n dim"]


class Path(eqx.Module):
    """So many legs from q at time 0 to p at time 1; the first columns are the same in a pair."""

    legs: int = eqx.field(static=True)
    fixed: int = eqx.field(static=True)

    def at(self, place: Scalar | IntScalar, xs_q: Rows, xs_p: Rows) -> Rows:
        """The samples between, `place` legs from q; both ends are exact."""
        angle = 0.5 * jnp.pi * place / self.legs
        a, b = jnp.where(place == self.legs, 0, jnp.cos(angle)), jnp.sin(angle)
        moved = a.astype(xs_p.dtype) * xs_q + b.astype(xs_p.dtype) * xs_p
        return jnp.where(jnp.arange(xs_p.shape[1]) < self.fixed, xs_p, moved)

    def leg(self, rates: Function, leg: IntScalar, xs: Rows) -> Float[Array, " n"]:
        """The log ratio of the ends of a leg, from its rate in the middle [nats]."""
        return rates((leg + 0.5) / self.legs, xs) / self.legs

    def loss(self, gan: Any, rates: Function, xs_p: Cloud, xs_q: Cloud) -> Scalar:
        """The ends of each leg against each other, on pairs that it does not share with others."""

        def of_leg(leg: IntScalar, xs_q: Rows, xs_p: Rows) -> tuple[Array, Array]:
            """Discriminator values at the far end and at the near one: of the same pairs."""
            far, near = (self.at(place, xs_q, xs_p) for place in (leg + 1, leg))
            return tuple(gan.inverse(self.leg(rates, leg, xs)) for xs in (far, near))

        split = [xs.reshape(self.legs, -1, xs.shape[1]) for xs in (xs_q, xs_p)]
        far, near = jax.vmap(of_leg)(jnp.arange(self.legs), *split)
        return discriminator_loss(gan, far, near)
