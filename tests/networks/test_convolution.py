"""Convolutions: two implementations, one map, and its adjoint."""

import functools

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.signal

from divergence_flows.networks import _convolution
from divergence_flows.networks._convolution import by_library, by_matmul

compiled = functools.partial(jax.jit, static_argnames=("stride", "padding"))
convolve = compiled(_convolution.convolve)
convolve_transposed = compiled(_convolution.convolve_transposed)

# height, width, rows, columns, channels, out, stride, padding
CASES = {
    "dcgan": (8, 12, 4, 4, 3, 5, 2, 1),
    "odd image": (9, 7, 4, 4, 2, 3, 2, 1),
    "odd kernel": (7, 9, 3, 5, 2, 3, 2, 1),
    "stride 1": (5, 6, 3, 2, 2, 3, 1, 1),
    "stride 3": (11, 10, 4, 5, 1, 2, 3, 2),
    "stride beyond kernel": (9, 8, 2, 1, 2, 2, 3, 0),
    "one pixel out": (4, 4, 4, 4, 2, 3, 2, 0),
}
on_cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
PAIRS = {
    "convolution": (by_matmul, by_library),
    "transposed": (transposed_by_matmul, transposed_by_library),
}
on_pairs = pytest.mark.parametrize("name", PAIRS)


def outputs(case):
    height, width, rows, columns, _, _, s, p = case
    return (height + 2 * p - rows) // s + 1, (width + 2 * p - columns) // s + 1


def data(case, name="convolution", dtype=float):
    """An input of the map and a kernel."""
    height, width, rows, columns, channels, out, _, _ = case
    shape = (*outputs(case), out) if name == "transposed" else (height, width, channels)
    keys = jr.split(jr.key(0), 2)
    return jr.normal(keys[0], shape, dtype), jr.normal(
        keys[1], (rows, columns, channels, out), dtype
    )


def energy(function, case):
    """A scalar that is not quadratic, so that second derivatives depend on where they are."""

    def value(x, kernel):
        return jnp.sum(jnp.sin(function(*case[-2:], x, kernel)))

    return value


def direction(case, name):
    return tuple(jnp.cos(jnp.arange(each.size).reshape(each.shape)) for each in data(case, name))


def two_derivatives(function, case, name):
    """Value, gradient and Hessian times a direction, forward over reverse."""
    slope = jax.value_and_grad(energy(function, case), argnums=(0, 1))

    @jax.jit
    def both(arguments, along):
        return function(*case[-2:], *arguments), jax.jvp(slope, arguments, along)

    return both(data(case, name), direction(case, name))


@pytest.mark.usefixtures("x64")
@on_pairs
@on_cases
def test_matmuls_equal_the_library_in_values_and_two_derivatives(name, case):
    ours, theirs = (two_derivatives(each, case, name) for each in PAIRS[name])
    chex.assert_trees_all_close(ours, theirs, rtol=1e-10, atol=1e-10)


@on_pairs
@on_cases
def test_matmuls_equal_the_library_in_float32(name, case):
    arguments = data(case, name, jnp.float32)
    with jax.default_matmul_precision("highest"):  # a GPU would round to 10 bits
        pair = [jax.jit(functools.partial(each, *case[-2:])) for each in PAIRS[name]]
        ours, theirs = (each(*arguments) for each in pair)
    assert ours.dtype == theirs.dtype == jnp.float32
    chex.assert_trees_all_close(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.usefixtures("x64")
@on_cases
def test_a_convolution_is_its_defining_sum(case):
    *_, s, p = case
    x, kernel = data(case)
    padded = np.pad(np.asarray(x), ((p, p), (p, p), (0, 0)))
    rows, columns = kernel.shape[:2]
    expected = [
        [
            np.einsum("abc,abco->o", padded[s * i : s * i + rows, s * j : s * j + columns], kernel)
            for j in range(outputs(case)[1])
        ]
        for i in range(outputs(case)[0])
    ]
    np.testing.assert_allclose(convolve(x, kernel, stride=s, padding=p), expected, rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("shape", "taken"), [((5, 6), (3, 2)), ((4, 9), (4, 5))])
def test_stride_one_is_scipys_correlation(shape, taken):
    x, kernel = jr.normal(jr.key(0), shape), jr.normal(jr.key(1), taken)
    ours = convolve(x[..., None], kernel[..., None, None])[..., 0]
    np.testing.assert_allclose(ours, scipy.signal.correlate2d(x, kernel, "valid"), rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("shape", "taken"), [((5, 6), (3, 2)), ((4, 9), (4, 5))])
def test_transposed_at_stride_one_is_scipys_full_convolution(shape, taken):
    y, kernel = jr.normal(jr.key(0), shape), jr.normal(jr.key(1), taken)
    ours = convolve_transposed(y[..., None], kernel[..., None, None])[..., 0]
    np.testing.assert_allclose(ours, scipy.signal.convolve2d(y, kernel), rtol=1e-10)


@pytest.mark.usefixtures("x64")
@on_cases
def test_the_transposed_convolution_is_the_adjoint(case):
    *_, s, p = case
    y, kernel = data(case, "transposed")
    back = convolve_transposed(y, kernel, stride=s, padding=p)
    x = jr.normal(jr.key(5), back.shape)
    there = convolve(x, kernel, stride=s, padding=p)
    assert there.shape == y.shape
    np.testing.assert_allclose(jnp.vdot(there, y), jnp.vdot(x, back), rtol=1e-12)


MAPS = {"convolution": convolve, "transposed": convolve_transposed}


@pytest.mark.usefixtures("x64")
@on_pairs
@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_the_platforms_choice_has_two_derivatives_in_both_modes(name, mode):
    case = CASES["dcgan"]

    @jax.jit
    def value(x, kernel):
        arguments = jnp.asarray(x), jnp.asarray(kernel)
        return jnp.sum(jnp.sin(MAPS[name](*arguments, stride=2, padding=1)))

    chex.assert_numerical_grads(value, data(case, name), order=2, modes=mode, atol=1e-4, rtol=1e-4)


def penalised(name, x, kernel):
    """A loss like R1's: it holds a gradient in x, and is differentiated in the kernel."""

    def value(x):
        return jnp.sum(jnp.sin(MAPS[name](x, kernel, stride=2, padding=1)))

    return value(x) + jnp.sum(jax.grad(value)(x) ** 2)


def batch(name, count=3):
    x, kernel = data(CASES["dcgan"], name)
    return jnp.stack([x * (1 + i) for i in range(count)]), kernel


@pytest.mark.usefixtures("x64")
@on_pairs
def test_batches_scans_and_jit_change_no_penalty_gradient(name):
    xs, kernel = batch(name)

    def total(kernel):
        return jnp.sum(jax.vmap(lambda x: penalised(name, x, kernel))(xs))

    def step(kernel, x):
        return kernel, jax.grad(lambda kernel: penalised(name, x, kernel))(kernel)

    slope = jax.jit(jax.grad(lambda kernel, x: penalised(name, x, kernel)))
    expected = sum(slope(kernel, x) for x in xs)
    scanned = jax.jit(lambda kernel, xs: jax.lax.scan(step, kernel, xs)[1])(kernel, xs).sum(0)
    chex.assert_trees_all_close(jax.jit(jax.grad(total))(kernel), expected, rtol=1e-9)
    chex.assert_trees_all_close(scanned, expected, rtol=1e-9)


@on_pairs
def test_seeds_with_kernels_of_their_own_are_a_loop_over_seeds(name):
    x, kernel = data(CASES["dcgan"], name)
    kernels = jnp.stack([kernel, -2 * kernel, kernel**2])
    function = jax.vmap(lambda kernel: MAPS[name](x, kernel, stride=2, padding=1))
    loop = [MAPS[name](x, kernel, stride=2, padding=1) for kernel in kernels]
    chex.assert_trees_all_close(function(kernels), jnp.stack(loop), rtol=1e-5, atol=1e-5)


def lowered(name, platform):
    """What the compiler gets for the gradient of a batch's penalised loss."""
    xs, kernel = batch(name)

    def total(kernel, xs):
        return jnp.sum(jax.vmap(lambda x: penalised(name, x, kernel))(xs))

    traced = jax.jit(jax.grad(total, (0, 1))).trace(kernel, xs)
    return traced.lower(lowering_platforms=(platform,)).as_text()


@on_pairs
@pytest.mark.parametrize(("platform", "absent"), [("cpu", "convolution"), ("cuda", "dot_general")])
def test_each_platform_gets_its_own_form_and_no_trace_of_the_other(name, platform, absent):
    present = {"convolution": "dot_general", "dot_general": "convolution"}[absent]
    text = lowered(name, platform)
    assert f"stablehlo.{present}" in text
    assert f"stablehlo.{absent}" not in text


@on_pairs
def test_a_batch_is_more_rows_of_the_same_matmuls(name):
    xs, kernel = batch(name)

    def total(kernel, xs):
        return jnp.sum(jnp.sin(jax.vmap(lambda x: PAIRS[name][0](2, 1, x, kernel))(xs)))

    text = str(jax.make_jaxpr(jax.grad(total, (0, 1)))(kernel, xs))
    assert text.count("dot_general[") == text.count("dimension_numbers=(([")
    assert text.count("([], [])") == text.count("dot_general[")
