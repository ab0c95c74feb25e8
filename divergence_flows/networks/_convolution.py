r"""Convolutions of one image, quick on every platform, and their adjoints.

XLA's own convolutions are an order of magnitude slower than matmuls on a CPU, more so in a `scan`.
There the image is cut into blocks of `stride` pixels, and each offset of blocks is one matmul with
its part of the kernel; elsewhere the library of the platform is asked (cuDNN). The choice is made
at lowering. Channels stand last, so that `vmap` over images makes rows of the same matmuls.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Image = Float[Array, "height width channels"]
Kernel = Float[Array, "rows columns channels out"]
Output = Float[Array, "tall wide out"]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolve(x: Image, kernel: Kernel, *, stride: int = 1, padding: int = 0) -> Output:
    """Correlates an image with a kernel, as neural networks do and call a convolution."""
    dtype = jnp.result_type(x, kernel)
    return jax.lax.platform_dependent(
        x.astype(dtype),
        kernel.astype(dtype),
        cpu=functools.partial(by_matmul, stride, padding),
        default=functools.partial(by_library, stride, padding),
    )


def convolve_transposed(y: Output, kernel: Kernel, *, stride: int = 1, padding: int = 0) -> Image:
    """The adjoint of `convolve` with the same kernel."""
    dtype = jnp.result_type(y, kernel)
    return jax.lax.platform_dependent(
        y.astype(dtype),
        kernel.astype(dtype),
        cpu=functools.partial(transposed_by_matmul, stride, padding),
        default=functools.partial(transposed_by_library, stride, padding),
    )


def by_library(stride: int, padding: int, x: Image, kernel: Kernel) -> Output:
    """Convolves with the platform's own convolution."""
    pads = [(padding, padding)] * 2
    strides = (stride, stride)
    return jax.lax.conv_general_dilated(x[None], kernel, strides, pads, dimension_numbers=_LAYOUT)[
        0
    ]


def transposed_by_library(stride: int, padding: int, y: Output, kernel: Kernel) -> Image:
    """Applies the adjoint with the platform's own convolution."""
    pads = [(size - 1 - padding, size - 1 - padding) for size in kernel.shape[:2]]
    strides = (stride, stride)
    return jax.lax.conv_transpose(
        y[None], kernel, strides, pads, dimension_numbers=_LAYOUT, transpose_kernel=True
    )[0]


def by_matmul(stride: int, padding: int, x: Image, kernel: Kernel) -> Output:
    """Convolves with one matmul for each offset of blocks of `stride` pixels."""
    taps = _taps(stride, kernel)
    tall, wide = (
        (size + 2 * padding - taken) // stride + 1
        for size, taken in zip(x.shape[:2], kernel.shape[:2], strict=True)
    )
    height, width = tall + taps.shape[0] - 1, wide + taps.shape[2] - 1
    cut = [
        (padding, stride * blocks - size - padding, 0)
        for size, blocks in zip(x.shape[:2], (height, width), strict=True)
    ]
    padded = jax.lax.pad(x, jnp.zeros((), x.dtype), [*cut, (0, 0, 0)])
    blocks = padded.reshape(height, stride, width, stride, x.shape[2])
    parts = [
        jnp.einsum("ipjqc,pqco->ijo", blocks[a : a + tall, :, b : b + wide], taps[a, :, b])
        for a in range(taps.shape[0])
        for b in range(taps.shape[2])
    ]
    return functools.reduce(jnp.add, parts)


def transposed_by_matmul(stride: int, padding: int, y: Output, kernel: Kernel) -> Image:
    """Applies the adjoint with one matmul for each offset of blocks, and adds what overlaps."""
    taps = _taps(stride, kernel)
    down, along = taps.shape[0], taps.shape[2]
    parts = [
        jnp.pad(
            jnp.einsum("ijo,pqco->ipjqc", y, taps[a, :, b]),
            [(a, down - 1 - a), (0, 0), (b, along - 1 - b), (0, 0), (0, 0)],
        )
        for a in range(down)
        for b in range(along)
    ]
    blocks = functools.reduce(jnp.add, parts)
    full = blocks.reshape(stride * blocks.shape[0], stride * blocks.shape[2], kernel.shape[2])
    cut = [
        (-padding, stride * (size - 1) + taken - padding - whole, 0)
        for size, taken, whole in zip(y.shape[:2], kernel.shape[:2], full.shape[:2], strict=True)
    ]
    return jax.lax.pad(full, jnp.zeros((), full.dtype), [*cut, (0, 0, 0)])


def _taps(stride: int, kernel: Kernel) -> Float[Array, "down {stride} along {stride} channels out"]:
    """Cuts a kernel into blocks; one that is no multiple of the stride gets zeros."""
    rows, columns, channels, out = kernel.shape
    down, along = -(-rows // stride), -(-columns // stride)
    pads = [(0, down * stride - rows), (0, along * stride - columns), (0, 0), (0, 0)]
    return jnp.pad(kernel, pads).reshape(down, stride, along, stride, channels, out)
