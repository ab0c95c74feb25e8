"""Networks are per-sample pytrees of arrays; DCGANs are XLA's, and batch norm is not hidden."""

import functools

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import divergence_flows as df

N = df.networks


def critic(size=8, channels=2, width=3, key=jr.key(0), **options):
    return N.ConvDiscriminator(size, channels, width, **options, key=key)


def generator(latent=5, size=8, channels=2, width=3, key=jr.key(1), **options):
    return N.ConvGenerator(latent, size, channels, width, **options, key=key)


on_images = pytest.mark.parametrize("make", [critic, generator])


@jax.jit
def call(net, *point):
    return net(*point)


def inputs(make, count):
    return jr.normal(jr.key(2), (count, 2, 8, 8) if make is critic else (count, 5))


SMOOTH = {
    "vector": lambda: (N.Discriminator(3, 8, 2, key=jr.key(0)), (3,)),
    "image": lambda: (critic(), (2, 8, 8)),
    "time": lambda: (N.TimeDiscriminator(2, 8, 2, horizon=3.0, key=jr.key(0)), (), (2,)),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SMOOTH)
def test_a_discriminator_is_smooth_in_time_and_sample(name):
    net, *shapes = SMOOTH[name]()
    net = jax.tree.map(lambda leaf: leaf + 0.02, net)
    points = tuple(0.4 * jr.normal(jr.key(3), shape) for shape in shapes)
    value = jax.jit(lambda *points: net(*map(jnp.asarray, points)))
    chex.assert_numerical_grads(value, points, order=2, modes="rev", atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("x64")
def test_without_hidden_layers_a_discriminator_is_affine():
    net = N.Discriminator(3, depth=0, key=jr.key(0))
    x, y = jr.normal(jr.key(1), (2, 3))
    chex.assert_trees_all_close(net(0.3 * x + 0.7 * y), 0.3 * net(x) + 0.7 * net(y), rtol=1e-12)


def test_the_last_map_bounds_the_output():
    key, xs = jr.key(0), 100 * jr.normal(jr.key(1), (50, 2))
    ratio, raw = (N.Discriminator(2, key=key, **last) for last in ({"last": jax.nn.softplus}, {}))
    chex.assert_trees_all_close(jax.vmap(ratio)(xs), jax.nn.softplus(jax.vmap(raw)(xs)), rtol=1e-5)


# Images


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_the_generator_makes_the_discriminator_takes(size, channels):
    images = jax.eval_shape(jax.vmap(generator(5, size, channels)), jnp.zeros((4, 5)))
    assert images.shape == (4, channels, size, size)
    values = jax.eval_shape(jax.vmap(critic(size, channels)), images)
    assert values.shape == (4,)


def convolution(x, layer):
    """In PyTorch's layout, by XLA."""
    kernel = jnp.transpose(layer.kernel, (3, 2, 0, 1))
    y = jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)))
    return y + layer.bias[:, None, None]


def transposed(x, layer):
    """The same, its zeros written out: a convolution with the kernel turned by half a circle."""
    kernel = jnp.transpose(layer.kernel[::-1, ::-1], (2, 3, 0, 1))
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2))
    return y + layer.bias[:, None, None]


def normalise(x, norm):
    """Batch norm as it is defined, on (sample, channel, height, width); nothing without one."""
    if isinstance(norm, eqx.nn.Identity):
        return x
    mean = x.mean((0, 2, 3), keepdims=True)
    deviation = jnp.sqrt(((x - mean) ** 2).mean((0, 2, 3), keepdims=True) + 1e-5)
    return norm.scale[:, None, None] * (x - mean) / deviation + norm.offset[:, None, None]


def reference_critic(net, xs):
    y = net.activation(convolution(xs, net.first))
    y = net.activation(normalise(convolution(y, net.second), net.norm))
    flat = jnp.moveaxis(y, 1, -1).reshape(len(xs), -1)
    return (flat @ net.dense.weight.T)[:, 0] + net.dense.bias


def reference_generator(net, zs):
    y = zs @ net.dense.weight.T + net.dense.bias
    y = jnp.moveaxis(y.reshape(len(zs), net.size // 4, net.size // 4, -1), -1, 1)
    y = net.activation(normalise(y, net.norms[0]))
    y = net.activation(normalise(transposed(y, net.first), net.norms[1]))
    return jnp.tanh(transposed(y, net.second))


@pytest.mark.usefixtures("x64")
@on_images
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_network_and_its_gradients_are_the_dcgans_that_xla_computes(make, batch_norm):
    # Scales and offsets get values that an error would show.
    shaken = lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape))
    net, xs = jax.tree.map(shaken, make(batch_norm=batch_norm)), inputs(make, 4)
    reference = reference_critic if make is critic else reference_generator

    def value_and_slope(function):
        def loss(net):
            made = function(net, xs)
            return jnp.sum(jnp.sin(made)), made

        return jax.jit(jax.grad(loss, has_aux=True))(net)

    ours = value_and_slope(lambda net, xs: jax.vmap(net, axis_name="batch")(xs))
    chex.assert_trees_all_close(ours, value_and_slope(reference), rtol=1e-9, atol=1e-11)


@on_images
def test_batch_norm_works_only_where_the_batch_is_named(make):
    net, xs = make(batch_norm=True), inputs(make, 4)
    with pytest.raises(NameError, match="batch"):
        jax.vmap(net)(xs)
    if make is critic:
        with pytest.raises(ValueError, match="depends on the other samples of its batch"):
            df.particle_step(df.gans.logit(), net, xs, 0.1)


@pytest.mark.parametrize("make", [lambda: critic(16, 16, 32), lambda: generator(5, 16, 32, 32)])
@pytest.mark.parametrize("name", ["first", "second"])
def test_white_noise_leaves_a_first_layer_with_a_third_of_its_variance(make, name):
    layer = getattr(make(), name)
    channels = layer.kernel.shape[3 if layer.transposed else 2]
    out = jax.jit(jax.vmap(layer))(jr.normal(jr.key(4), (16, 16, 16, channels)))[:, 2:-2, 2:-2]
    variance = jnp.var(out - layer.bias, axis=(0, 1, 2))
    # fan_in >= 128 uniform weights make each channel's variance, within .9 / sqrt(fan_in) of 1/3.
    np.testing.assert_allclose(jnp.mean(variance), 1 / 3, rtol=0.05)


# Of time and sample


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("degree", [1, 2], ids=["affine", "quadratic"])
def test_without_hidden_layers_it_is_a_polynomial_of_the_sample(degree):
    net = N.TimeDiscriminator(2, depth=0, quadratic=degree == 2, key=jr.key(0))
    if degree == 2:
        net = jax.tree.map(lambda leaf: leaf + 0.1, net)  # the quadratic starts at zero
    x, way = jr.normal(jr.key(1), (2, 2))
    values = jax.jit(jax.vmap(lambda k: net(0.3, x + k * way)))(jnp.arange(4))
    np.testing.assert_allclose(jnp.diff(values, degree + 1), 0.0, atol=1e-10)
    assert abs(jnp.diff(values, degree)[0]) > 1e-3


def test_like_makes_a_time_discriminator_blind_to_the_units_of_each_coordinate():
    xs = jr.normal(jr.key(0), (500, 2))
    unit, shift = jnp.array([3.0, 0.1]), jnp.array([5.0, -1.0])
    make = functools.partial(N.TimeDiscriminator, 2, 8, 2, key=jr.key(1))
    one, other = make(like=xs), make(like=unit * xs + shift)
    found = call(one, 0.3, xs[0]), call(other, 0.3, unit * xs[0] + shift)
    chex.assert_trees_all_close(*found, rtol=1e-4)


def test_far_beyond_the_horizon_a_time_discriminator_stands_still():
    net = N.TimeDiscriminator(1, 8, 1, horizon=1.0, key=jr.key(3))
    net, x = jax.tree.map(lambda leaf: leaf + 0.1, net), jnp.array([0.7])
    chex.assert_trees_all_close(call(net, 1e4, x), call(net, 1e6, x), rtol=1e-3)
