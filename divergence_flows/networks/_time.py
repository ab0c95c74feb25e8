r"""A discriminator of a time and a sample: d(t, x), one network for all of a flow.

Log ratios are steep where a flow starts and flat where it ends, and quadratic in the tails wherever
p and q_t have tails like Gaussians. So the network takes time as exponentials, most of them fast,
and a quadratic whose coefficients depend on these is added to it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_counts, check_input, check_positive, check_samples, constant
from .._types import RowsLike, ScalarLike, VectorLike, as_float, identity
from ._mlp import Activation, Layers, forward, linear_layers
from ._quadratic import quadratic_layers, quadratic_of


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
        like: RowsLike | None = None,
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
            decays: Number of functions of time that the network takes.
            quadratic: Whether to add the quadratic, which decides how d goes on beyond the samples.
            like: Samples, best of p and q together, whose mean and standard deviation standardise
                each coordinate first [units of x]; None takes samples as they are.
            activation: Elementwise and smooth; a module-level function, not a fresh lambda.
            last: Elementwise map of the raw output, as in `Discriminator`.
            key: Randomness of the weights.

        Raises:
            ValueError: If a size or `horizon` is not positive, or `like` are other samples.
            EquinoxRuntimeError: If `like` is not finite, or too large for its floats.
        """
        caller = "TimeDiscriminator"
        check_counts(caller, {"dim": dim, "decays": decays})
        check_positive(caller, horizon=horizon)
        key_net, key_time = jax.random.split(key)
        sizes = {"dim + decays": dim + decays, "width": width}
        self.layers = linear_layers(caller, sizes, "scalar", depth, key_net)
        features = {"decays": decays}
        self.quadratic = quadratic_layers(caller, features, dim, key_time) if quadratic else None
        self.center, self.scale, self.horizon = jnp.zeros(dim), jnp.ones(dim), as_float(horizon)
        if like is not None:
            xs = check_samples(caller, like=like)[0]
            check_input(caller, "like", xs, len(xs), dim)
            # The deviation of a constant coordinate would be rounding.
            self.center = jnp.mean(xs, axis=0)
            self.scale = jnp.where(constant(xs), 1.0, jnp.std(xs, axis=0))
        self.count, self.activation, self.last = decays, activation, last

    def __call__(self, t: ScalarLike, x: VectorLike) -> Float[Array, ""]:
        """Evaluates one sample at one time; `jax.vmap(d, (None, 0))(t, xs)` a cloud."""
        x = as_float(x)
        check_input("TimeDiscriminator", "x", x, self.center.size)
        fixed = (self.center, self.scale, self.horizon)
        center, scale, horizon = jax.lax.stop_gradient(fixed)
        b, z = decays(t, horizon, self.count), (x - center) / scale
        b = b.astype(z.dtype)
        raw = forward(self.layers, self.activation, identity, jnp.concatenate([z, b]))
        if self.quadratic is not None:
            raw = raw + quadratic_of(self.quadratic, b, z)
        return self.last(raw)
