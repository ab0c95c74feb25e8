"""Convolutions: two implementations, one map, and its adjoint."""

import functools

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

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
MAPS = {"convolution": convolve, "transposed": convolve_transposed}
on_maps = pytest.mark.parametrize("name", MAPS)


def outputs(case):
    height, width, rows, columns, _, _, s, p = case
    return (height + 2 * p - rows) // s + 1, (width + 2 * p - columns) // s + 1


def data(case, name="convolution"):
    """An input of the map and a kernel."""
    height, width, rows, columns, channels, out, _, _ = case
    shape = (*outputs(case), out) if name == "transposed" else (height, width, channels)
    keys = jr.split(jr.key(0), 2)
    return jr.normal(keys[0], shape), jr.normal(keys[1], (rows, columns, channels, out))


def two_derivatives(function, case):
    """Value, gradient (in x: the transposed map) and Hessian times a direction."""
    at = functools.partial(function, stride=case[-2], padding=case[-1])
    # Not quadratic, so that second derivatives depend on where they are.
    slope = jax.value_and_grad(lambda x, kernel: jnp.sum(jnp.sin(at(x, kernel))), argnums=(0, 1))
    arguments = data(case)
    along = tuple(jnp.cos(jnp.arange(each.size).reshape(each.shape)) for each in arguments)
    return jax.jit(lambda *pair: (at(*pair), jax.jvp(slope, pair, along)))(*arguments)


@pytest.mark.usefixtures("x64")
@on_cases
def test_matmuls_equal_the_library_in_values_and_two_derivatives(case):
    ours, theirs = (two_derivatives(each, case) for each in (by_matmul, by_library))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_matmuls_equal_the_library_in_float32():
    with jax.default_matmul_precision("highest"):  # a GPU would round to 10 bits
        pair = [compiled(each) for each in (by_matmul, by_library)]
        ours, theirs = (each(*data(CASES["dcgan"]), stride=2, padding=1) for each in pair)
    assert ours.dtype == theirs.dtype == jnp.float32
    chex.assert_trees_all_close(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.usefixtures("x64")
@on_cases
def test_a_convolution_is_its_defining_sum_and_the_transposed_one_its_adjoint(case):
    *_, s, p = case
    x, kernel = data(case)
    padded = np.pad(np.asarray(x), ((p, p), (p, p), (0, 0)))
    rows, columns = kernel.shape[:2]
    window = lambda i, j: padded[s * i : s * i + rows, s * j : s * j + columns]
    tall, wide = outputs(case)
    expected = [
        [np.einsum("abc,abco->o", window(i, j), kernel) for j in range(wide)] for i in range(tall)
    ]
    np.testing.assert_allclose(convolve(x, kernel, stride=s, padding=p), expected, rtol=1e-10)
    y, _ = data(case, "transposed")
    back = convolve_transposed(y, kernel, stride=s, padding=p)
    x = jr.normal(jr.key(5), back.shape)
    there = convolve(x, kernel, stride=s, padding=p)
    assert there.shape == y.shape
    np.testing.assert_allclose(jnp.vdot(there, y), jnp.vdot(x, back), rtol=1e-12)


def value(name, x, kernel):
    return jnp.sum(jnp.sin(MAPS[name](jnp.asarray(x), jnp.asarray(kernel), stride=2, padding=1)))


def penalised(name, x, kernel):
    """A loss like R1's: it holds a gradient in x, and is differentiated in the kernel."""
    at, slope = jax.value_and_grad(functools.partial(value, name))(x, kernel)
    return at + jnp.sum(slope**2)


def batch(name, count=3):
    x, kernel = data(CASES["dcgan"], name)
    return jnp.stack([x * (1 + i) for i in range(count)]), kernel


@pytest.mark.usefixtures("x64")
@on_maps
def test_the_platforms_choice_has_two_derivatives_in_both_modes(name):
    at = jax.jit(functools.partial(value, name))
    arguments = data(CASES["dcgan"], name)
    chex.assert_numerical_grads(at, arguments, order=2, atol=1e-4, rtol=1e-4)


def total(name, kernel, xs):
    return jnp.sum(jax.vmap(functools.partial(penalised, name), (0, None))(xs, kernel))


@pytest.mark.usefixtures("x64")
@on_maps
def test_batches_scans_and_jit_change_no_penalty_gradient(name):
    xs, kernel = batch(name)

    def step(kernel, x):
        return kernel, jax.grad(lambda kernel: penalised(name, x, kernel))(kernel)

    expected = sum(jax.jit(step)(kernel, x)[1] for x in xs)
    scanned = jax.jit(lambda kernel, xs: jax.lax.scan(step, kernel, xs)[1])(kernel, xs).sum(0)
    together = jax.jit(jax.grad(functools.partial(total, name)))(kernel, xs)
    chex.assert_trees_all_close(together, expected, rtol=1e-9)
    chex.assert_trees_all_close(scanned, expected, rtol=1e-9)


@on_maps
@pytest.mark.parametrize(("platform", "absent"), [("cpu", "convolution"), ("cuda", "dot_general")])
def test_each_platform_gets_its_own_form_and_no_trace_of_the_other(name, platform, absent):
    present = {"convolution": "dot_general", "dot_general": "convolution"}[absent]
    xs, kernel = batch(name)
    traced = jax.jit(jax.grad(functools.partial(total, name), (0, 1))).trace(kernel, xs)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert f"stablehlo.{present}" in text
    assert f"stablehlo.{absent}" not in text


def test_a_batch_is_more_rows_of_the_same_matmuls():
    """Of the map, of its adjoint, and of the derivatives of both."""
    xs, kernel = batch("convolution")

    def energy(kernel, xs):
        at = lambda x: jnp.sum(jnp.sin(by_matmul(x, kernel, stride=2, padding=1)))
        return jnp.sum(jax.vmap(jax.grad(at))(xs) ** 2)

    text = str(jax.make_jaxpr(jax.grad(energy, (0, 1)))(kernel, xs))
    assert text.count("dot_general[") == text.count("dimension_numbers=(([")
    assert text.count("([], [])") == text.count("dot_general[")
