r"""A discriminator that knows the time: d(t, x), one network for all of a flow.

Log ratios are steep and far from zero where a flow starts and flat where it ends, and in the tails
they are quadratic wherever p and q_t have tails like Gaussians. So time comes in as exponentials,
most of them fast, and a quadratic whose coefficients are linear in these is added to the net.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real

from .._checks import check_counts, check_input, check_positive, check_samples, constant
from .._types import ScalarLike, as_float, identity
from ._layers import Activation, Layers, forward, layers

# Hidden units between the functions of time and the quadratic's coefficients.
_HIDDEN = 32


def _standard(
    samples: Real[ArrayLike, "n dim"] | None, dim: int
) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
    """Mean and standard deviation of samples; one for a coordinate that does not vary."""
    if samples is None:
        return jnp.zeros(dim), jnp.ones(dim)
    xs = check_samples("TimeDiscriminator", like=samples)[0]
    check_input("TimeDiscriminator", "like", xs, len(xs), dim)
    still = constant(xs)  # whose deviation would be rounding
    return jnp.mean(xs, axis=0), jnp.where(still, 1.0, jnp.std(xs, axis=0))


def decays(t: ScalarLike, horizon: ScalarLike, count: int) -> Float[Array, " {count}"]:
    r"""Functions of time $2 e^{-t/\tau_j} - 1$ with $\tau_j = 2^{1-j} T$, j from 0."""
    rates = 2.0 ** np.arange(-1, count - 1) / as_float(horizon)
    return 2 * jnp.exp(-rates * t) - 1


class TimeDiscriminator(eqx.Module):
    r"""A scalar network d(t, x) of one time and one sample, smooth in both.

    $$d(t, x) = \mathrm{net}(z, b(t)) + z^T A(t) z + B(t) \cdot z + c(t)$$
    with z the standardised sample, b the time's `decays`, and A, B and c a small network of b.
    Neither the standardisation nor the horizon is trained.
    """

    layers: Layers
    quadratic: Layers | None
    center: Float[Array, " dim"]
    scale: Float[Array, " dim"]
    horizon: Float[Array, ""]
    count: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    last: Activation = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        width: int = 64,
        depth: int = 2,
        *,
        horizon: ScalarLike = 1.0,
        decays: int = 8,
        quadratic: bool = True,
        like: Real[ArrayLike, "n dim"] | None = None,
        activation: Activation = jax.nn.silu,
        last: Activation = identity,
        key: PRNGKeyArray,
    ):
        """Builds `depth` hidden layers of `width` units on a sample and a time.

        Args:
            dim: Coordinates of one sample.
            width: Units of each hidden layer.
            depth: Number of hidden layers; 0 leaves a map that is affine in sample and decays.
            horizon: Where the flow ends [units of flow time]; beyond it d stays almost constant.
            decays: How many functions of time the network sees.
            quadratic: Whether the quadratic is there. Where p and q barely overlap it is what
                decides how d goes on beyond the samples.
            like: Samples, best of p and q together, whose mean and standard deviation standardise
                each coordinate first [units of x]; without, samples are taken as they are.
            activation: Elementwise and smooth; a module-level function, not a fresh lambda.
            last: Elementwise map of the raw output, as in `Discriminator`.
            key: Randomness of the weights.

        Raises:
            ValueError: If a size or `horizon` is not positive, or `like` are other samples.
            EquinoxRuntimeError: If `like` is not finite, or its numbers are too large for their
                floats.
        """
        check_counts("TimeDiscriminator", {"dim": dim, "decays": decays})
        check_positive("TimeDiscriminator", horizon=horizon)
        key_net, key_time = jax.random.split(key)
        sizes = {"dim + decays": dim + decays, "width": width}
        self.layers = layers("TimeDiscriminator", sizes, "scalar", depth, key_net)
        sizes = {"decays": decays, "width": _HIDDEN}
        out = dim * dim + dim + 1
        self.quadratic = layers("TimeDiscriminator", sizes, out, 1, key_time) if quadratic else None
        self.center, self.scale = _standard(like, dim)
        self.horizon = as_float(horizon)
        self.count, self.activation, self.last = decays, activation, last

    def __call__(self, t: ScalarLike, x: Real[ArrayLike, " dim"]) -> Float[Array, ""]:
        """Evaluates one sample at one time; `jax.vmap(d, (None, 0))(t, xs)` a cloud."""
        x = as_float(x)
        check_input("TimeDiscriminator", "x", x, self.center.size)
        fixed = (self.center, self.scale, self.horizon)
        center, scale, horizon = jax.lax.stop_gradient(fixed)
        b, z = decays(t, horizon, self.count), (x - center) / scale
        raw = forward(
            self.layers, self.activation, identity, jnp.concatenate([z, b.astype(z.dtype)])
        )
        if self.quadratic is not None:
            coefficients = forward(self.quadratic, jax.nn.silu, identity, b.astype(z.dtype))
            a, slope, level = jnp.split(coefficients, (z.size**2, z.size**2 + z.size))
            raw = raw + z @ (a.reshape(z.size, z.size) @ z) + slope @ z + level[0]
        return self.last(raw)
