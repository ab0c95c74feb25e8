"""Convolutions of one image, quick on every platform, and their adjoints.

XLA's own convolutions are an order of magnitude slower than matmuls on a CPU, more so in a `scan`.
There the image is cut into blocks of `stride` pixels, and each offset of blocks is one matmul with
its part of the kernel; other platforms use their library (cuDNN).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Image = Float[Array, "height width channels"]
Kernel = Float[Array, "rows columns channels out"]
Output = Float[Array, "tall wide out"]


def convolve(x: Image, kernel: Kernel, *, stride: int = 1, padding: int = 0) -> Output:
    """Correlates an image with a kernel, as neural networks do and call a convolution."""
    dtype = jnp.result_type(x, kernel)
    return jax.lax.platform_dependent(
        x.astype(dtype),
        kernel.astype(dtype),
        cpu=functools.partial(by_matmul, stride=stride, padding=padding),
        default=functools.partial(by_library, stride=stride, padding=padding),
    )


def convolve_transposed(y: Output, kernel: Kernel, *, stride: int = 1, padding: int = 0) -> Image:
    """The adjoint of `convolve` with the same kernel."""
    dtype = jnp.result_type(y, kernel)
    sizes = [
        stride * (size - 1) + taken - 2 * padding
        for size, taken in zip(y.shape[:2], kernel.shape[:2], strict=True)
    ]
    image = jax.ShapeDtypeStruct((*sizes, kernel.shape[2]), dtype)
    kernel, options = kernel.astype(dtype), {"stride": stride, "padding": padding}
    forward = functools.partial(convolve, kernel=kernel, **options)
    return jax.linear_transpose(forward, image)(y.astype(dtype))[0]


def by_library(x: Image, kernel: Kernel, *, stride: int, padding: int) -> Output:
    """Convolves with the platform's own convolution."""
    pads, layout = [(padding, padding)] * 2, ("NHWC", "HWIO", "NHWC")
    strides = (stride, stride)
    return jax.lax.conv_general_dilated(x[None], kernel, strides, pads, dimension_numbers=layout)[0]


def by_matmul(x: Image, kernel: Kernel, *, stride: int, padding: int) -> Output:
    """Convolves with one matmul for each offset of blocks of `stride` pixels."""
    rows, columns, channels, out = kernel.shape
    # A kernel that is no multiple of the stride gets zeros.
    down, along = -(-rows // stride), -(-columns // stride)
    pads = [(0, down * stride - rows), (0, along * stride - columns), (0, 0), (0, 0)]
    taps = jnp.pad(kernel, pads).reshape(down, stride, along, stride, channels, out)
    tall, wide = (
        (size + 2 * padding - taken) // stride + 1
        for size, taken in zip(x.shape[:2], (rows, columns), strict=True)
    )
    height, width = tall + down - 1, wide + along - 1
    cut = [
        (padding, stride * blocks - size - padding, 0)
        for size, blocks in zip(x.shape[:2], (height, width), strict=True)
    ]
    padded = jax.lax.pad(x, jnp.zeros((), x.dtype), [*cut, (0, 0, 0)])
    blocks = padded.reshape(height, stride, width, stride, channels)
    parts = [
        jnp.einsum("ipjqc,pqco->ijo", blocks[a : a + tall, :, b : b + wide], taps[a, :, b])
        for a in range(down)
        for b in range(along)
    ]
    return functools.reduce(jnp.add, parts)
