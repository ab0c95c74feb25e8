"""DCGANs of one image: a discriminator of two convolutions, and a generator, its mirror image.

Public images are (channels, height, width); inside, channels stand last.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Real

from .._checks import check_counts, check_input
from .._types import AnyArray, as_float, identity
from ._convolution import Image, Kernel, Output, convolve, convolve_transposed
from ._mlp import Activation, NoiseLike

_KERNEL, _STRIDE, _PADDING = 4, 2, 1  # halve an even image, or double it, exactly
_AXIS = "batch"
ImageLike = Real[AnyArray, "channels height width"] | Bool[AnyArray, "channels height width"]


class _Conv(eqx.Module):
    """A convolution that halves an image, or its transpose, which doubles one."""

    kernel: Kernel
    bias: Float[Array, " after"]
    transposed: bool = eqx.field(static=True)

    def __init__(self, channels: int, out: int, transposed: bool = False, *, key: PRNGKeyArray):
        """Draws weights as equinox and PyTorch do, by the number of terms in one output."""
        of_kernel, of_bias = jr.split(key)
        root = (channels * (_KERNEL // _STRIDE if transposed else _KERNEL) ** 2) ** 0.5
        # The kernel of a transpose is that of the way back.
        ends = (out, channels) if transposed else (channels, out)
        self.kernel = jr.uniform(of_kernel, (_KERNEL, _KERNEL, *ends), minval=-1.0) / root
        self.bias = jr.uniform(of_bias, (out,), minval=-1.0) / root
        self.transposed = transposed

    def __call__(self, x: Image) -> Output:
        convolution = convolve_transposed if self.transposed else convolve
        return convolution(x, self.kernel, stride=_STRIDE, padding=_PADDING) + self.bias


class _BatchNorm(eqx.Module):
    """Mean 0 and variance 1 over the samples of this call and their pixels; no running mean."""

    scale: Float[Array, " channels"]
    offset: Float[Array, " channels"]

    def __init__(self, channels: int):
        """Starts from the identity scale."""
        self.scale, self.offset = jnp.ones(channels), jnp.zeros(channels)

    def __call__(self, x: Image) -> Image:
        mean = jax.lax.pmean(jnp.mean(x, axis=(0, 1)), _AXIS)
        variance = jax.lax.pmean(jnp.mean((x - mean) ** 2, axis=(0, 1)), _AXIS)
        return self.scale * (x - mean) * jax.lax.rsqrt(variance + 1e-5) + self.offset


def _norm(wanted: bool, channels: int) -> _BatchNorm | eqx.nn.Identity:
    return _BatchNorm(channels) if wanted else eqx.nn.Identity()


def _check(caller: str, **sizes: int) -> None:
    """Refuses sizes that make no network."""
    check_counts(caller, sizes)
    if sizes["size"] % _STRIDE**2:
        words = f"`size` is {sizes['size']}, which cannot be halved twice"
        raise ValueError(f"{caller}: {words}; pad or crop the images to a multiple of 4.")


class ConvDiscriminator(eqx.Module):
    """A scalar network d(x) of one image, smooth because flows differentiate it in x.

    Two convolutions halve the image, to `width` and to twice as many channels; a linear map ends.
    """

    first: _Conv
    second: _Conv
    norm: _BatchNorm | eqx.nn.Identity
    dense: eqx.nn.Linear
    size: int = eqx.field(static=True)
    channels: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    last: Activation = eqx.field(static=True)

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        width: int = 64,
        *,
        activation: Activation = jax.nn.silu,
        last: Activation = identity,
        batch_norm: bool = False,
        key: PRNGKeyArray,
    ):
        """Draws the weights.

        Args:
            size: Height and width of an image [pixels]; a multiple of 4.
            channels: Channels of an image.
            width: Channels of the first layer.
            activation: Elementwise and smooth; a module-level function, not a fresh lambda.
            last: Elementwise map of the raw output, for instance `jax.nn.softplus` where a GAN
                wants d > 0 (b-GAN, uLSIF).
            batch_norm: Normalises the second layer, as published DCGANs do. d(x) then depends on
                the other samples of its call: its gradient is no field, and flows do not take it.
                It works only under `jax.vmap(d, axis_name="batch")`; elsewhere JAX raises.
            key: Randomness of the weights.

        Raises:
            ValueError: If a size is not positive, or `size` is no multiple of 4.

        References:
            Radford, Metz & Chintala, DCGAN, ICLR 2016.
        """
        _check("ConvDiscriminator", size=size, channels=channels, width=width)
        keys = jr.split(key, 3)
        self.first = _Conv(channels, width, key=keys[0])
        self.second = _Conv(width, 2 * width, key=keys[1])
        self.norm = _norm(batch_norm, 2 * width)
        self.dense = eqx.nn.Linear(size**2 // 8 * width, "scalar", key=keys[2])
        self.size, self.channels = size, channels
        self.activation, self.last = activation, last

    def __call__(self, x: ImageLike) -> Float[Array, ""]:
        """Evaluates one image; `jax.vmap(d)(xs)` evaluates a batch."""
        x = as_float(x)
        check_input("ConvDiscriminator", "x", x, self.channels, self.size, self.size)
        half = self.activation(self.first(jnp.moveaxis(x, 0, -1)))
        quarter = self.activation(self.norm(self.second(half)))
        return self.last(self.dense(jnp.ravel(quarter)))


class ConvGenerator(eqx.Module):
    """A network g(z) that turns latent noise into an image.

    A linear map makes a quarter-size image; two transposed convolutions double it.
    """

    dense: eqx.nn.Linear
    norms: tuple[_BatchNorm | eqx.nn.Identity, ...]
    first: _Conv
    second: _Conv
    size: int = eqx.field(static=True)
    latent: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    last: Activation = eqx.field(static=True)

    def __init__(
        self,
        latent: int = 100,
        size: int = 28,
        channels: int = 1,
        width: int = 64,
        *,
        activation: Activation = jax.nn.silu,
        last: Activation = jnp.tanh,
        batch_norm: bool = False,
        key: PRNGKeyArray,
    ):
        """Draws the weights.

        Args:
            latent: Coordinates of one noise vector.
            size: Height and width of an image [pixels]; a multiple of 4.
            channels: Channels of an image.
            width: Channels of the half-size image; the quarter-size one has twice as many.
            activation: Elementwise; a module-level function, not a fresh lambda.
            last: Elementwise map of the raw output; images in (-1, 1) by default.
            batch_norm: Normalises the hidden layers, as published DCGANs do. g(z) then depends on
                the other noise of its call, as in `ConvDiscriminator`.
            key: Randomness of the weights.

        Raises:
            ValueError: If a size is not positive, or `size` is no multiple of 4.

        References:
            Radford, Metz & Chintala, DCGAN, ICLR 2016.
        """
        _check("ConvGenerator", latent=latent, size=size, channels=channels, width=width)
        keys = jr.split(key, 3)
        self.dense = eqx.nn.Linear(latent, size**2 // 8 * width, key=keys[0])
        self.norms = (_norm(batch_norm, 2 * width), _norm(batch_norm, width))
        self.first = _Conv(2 * width, width, True, key=keys[1])
        self.second = _Conv(width, channels, True, key=keys[2])
        self.size, self.latent = size, latent
        self.activation, self.last = activation, last

    def __call__(self, z: NoiseLike) -> Float[Array, "_ {self.size} {self.size}"]:
        """Evaluates one noise vector; `jax.vmap(g)(zs)` makes a batch."""
        z = as_float(z)
        check_input("ConvGenerator", "z", z, self.latent)
        quarter = self.dense(z).reshape(self.size // 4, self.size // 4, -1)
        quarter = self.activation(self.norms[0](quarter))
        half = self.activation(self.norms[1](self.first(quarter)))
        return self.last(jnp.moveaxis(self.second(half), -1, 0))
