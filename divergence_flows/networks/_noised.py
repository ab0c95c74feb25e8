r"""Networks of a noise level and a noised sample: scores and ratios at all levels.

A level is $\lambda = \log \sigma/\alpha$ of $y = \alpha x + \sigma e$. Inside, all schedules are
one: $y/\alpha = x + e^\lambda e$, and inputs and outputs are scaled to unit variance at each level.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_counts, check_input, check_positive
from .._types import Scalar, ScalarLike, Vector, VectorLike, as_float, identity
from ._mlp import Activation, Layers, forward, linear_layers
from ._quadratic import quadratic_layers, quadratic_of

# Where steps of the level's features lie: e^-6 to e^6 times the data's deviation.
_STEPS = np.linspace(-6.0, 6.0, 9)


def steps_of(level: ScalarLike) -> Float[Array, " steps"]:
    """Smooth steps of the log noise level, constant far out."""
    return jnp.tanh((level - _STEPS) / 1.5)


class _Scales(eqx.Module):
    """What is known of data before training: their deviation, and whether noise preserves it."""

    deviation: Float[Array, ""]
    preserving: bool = eqx.field(static=True)

    def inputs(
        self, level: ScalarLike, y: Vector
    ) -> tuple[Vector, Scalar, Vector, Float[Array, " steps"]]:
        """y/alpha, its deviation, and both inputs of a network: scaled y and the level's steps."""
        deviation = jax.lax.stop_gradient(self.deviation).astype(y.dtype)
        level = jnp.asarray(level, y.dtype)
        # Where noise preserves the variance alpha^2 + sigma^2 = 1.
        x = y * jnp.sqrt(1 + jnp.exp(2 * level)) if self.preserving else y
        whole = jnp.sqrt(deviation**2 + jnp.exp(2 * level))
        return x, whole, x / whole, steps_of(level - jnp.log(deviation)).astype(y.dtype)


def _layers(caller: str, out: int | str, key: PRNGKeyArray, **sizes: int) -> Layers:
    dim, width, depth = (sizes[name] for name in ("dim", "width", "depth"))
    check_counts(caller, {"dim": dim})
    of_layers = {"dim + steps": dim + len(_STEPS), "width": width}
    return linear_layers(caller, of_layers, out, depth, key)


def _scales(caller: str, deviation: ScalarLike, preserving: bool) -> _Scales:
    check_positive(caller, deviation=deviation)
    return _Scales(as_float(deviation), preserving)


class Denoiser(eqx.Module):
    r"""A network that predicts x of a noised y: of predicts="data", with EDM's scales.

    $$\hat x(\lambda, y) = \frac{c^2}{k^2}\,\frac{y}{\alpha}
    + \frac{c\,s}{k}\;\mathrm{net}\Big(\frac{y}{\alpha k}, \lambda\Big)$$
    with $s = e^\lambda = \sigma/\alpha$, c the data's deviation, $k^2 = c^2 + s^2$. The net alone
    is trained; at zero it leaves the best linear guess for data of mean zero.

    References:
        Karras et al., EDM, NeurIPS 2022, table 1.
    """

    layers: Layers
    scales: _Scales
    dim: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        width: int = 64,
        depth: int = 2,
        *,
        deviation: ScalarLike = 1.0,
        preserving: bool = True,
        activation: Activation = jax.nn.silu,
        key: PRNGKeyArray,
    ):
        """Builds `depth` hidden layers of `width` units on a noised sample and its level.

        Args:
            dim: Coordinates of one sample.
            width: Units of each hidden layer.
            depth: Number of hidden layers.
            deviation: c, the standard deviation of the data's coordinates [units of x].
            preserving: Whether the schedule preserves variance, alpha^2 + sigma^2 = 1, as
                `variance_preserving`, or has alpha = 1, as `variance_exploding`.
            activation: Elementwise and smooth; a module-level function, not a fresh lambda.
            key: Randomness of the weights.

        Raises:
            ValueError: If a size or the deviation is not positive.
        """
        caller = "Denoiser"
        self.layers = _layers(caller, dim, key, dim=dim, width=width, depth=depth)
        self.scales = _scales(caller, deviation, preserving)
        self.dim, self.activation = dim, activation

    def __call__(self, level: ScalarLike, y: VectorLike) -> Float[Array, " dim"]:
        """Evaluates one sample at one level; `jax.vmap(s)(levels, ys)` a batch."""
        y = as_float(y)
        check_input("Denoiser", "y", y, self.dim)
        x, whole, scaled, steps = self.scales.inputs(level, y)
        made = forward(self.layers, self.activation, identity, jnp.concatenate([scaled, steps]))
        kept = jax.lax.stop_gradient(self.scales.deviation).astype(y.dtype) / whole
        noise = jnp.exp(jnp.asarray(level, y.dtype))
        return kept**2 * x + kept * noise * made


class NoisedDiscriminator(eqx.Module):
    r"""A scalar network d(lambda, y) of a noise level and a noised sample, smooth in both.

    A net of the scaled sample and the level, plus a quadratic whose coefficients depend on the
    level: log ratios of noised laws are quadratic in their tails.
    """

    layers: Layers
    quadratic: Layers | None
    scales: _Scales
    dim: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    last: Activation = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        width: int = 64,
        depth: int = 2,
        *,
        deviation: ScalarLike = 1.0,
        preserving: bool = True,
        quadratic: bool = True,
        activation: Activation = jax.nn.silu,
        last: Activation = identity,
        key: PRNGKeyArray,
    ):
        """Builds `depth` hidden layers of `width` units on a noised sample and its level.

        Args:
            dim: Coordinates of one sample.
            width: Units of each hidden layer.
            depth: Number of hidden layers.
            deviation: The standard deviation of the data's coordinates [units of x].
            preserving: Whether the schedule preserves variance, as in `Denoiser`.
            quadratic: Whether to add the quadratic.
            activation: Elementwise and smooth; a module-level function, not a fresh lambda.
            last: Elementwise map of the raw output, as in `Discriminator`.
            key: Randomness of the weights.

        Raises:
            ValueError: If a size or the deviation is not positive.
        """
        caller = "NoisedDiscriminator"
        key_net, key_level = jax.random.split(key)
        self.layers = _layers(caller, "scalar", key_net, dim=dim, width=width, depth=depth)
        features = {"steps": len(_STEPS)}
        self.quadratic = quadratic_layers(caller, features, dim, key_level) if quadratic else None
        self.scales = _scales(caller, deviation, preserving)
        self.dim, self.activation, self.last = dim, activation, last

    def __call__(self, level: ScalarLike, y: VectorLike) -> Float[Array, ""]:
        """Evaluates one sample at one level; `jax.vmap(d)(levels, ys)` a batch."""
        y = as_float(y)
        check_input("NoisedDiscriminator", "y", y, self.dim)
        _, _, z, steps = self.scales.inputs(level, y)
        raw = forward(self.layers, self.activation, identity, jnp.concatenate([z, steps]))
        if self.quadratic is not None:
            raw = raw + quadratic_of(self.quadratic, steps, z)
        return self.last(raw)
