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


NETWORKS = {
    "discriminator": (lambda key: N.Discriminator(3, 8, 2, key=key), (3,)),
    "generator": (lambda key: N.Generator(3, 2, 8, 2, key=key), (3,)),
    "conv discriminator": (lambda key: critic(key=key), (2, 8, 8)),
    "conv generator": (lambda key: generator(key=key), (5,)),
}
on_images = pytest.mark.parametrize("make", [critic, generator])


def inputs(make, count):
    return jr.normal(jr.key(2), (count, 2, 8, 8) if make is critic else (count, 5))


@jax.jit
def call(net, x):
    return net(x)


@pytest.mark.parametrize(("make", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_batches_and_seeds_are_loops_under_plain_jit(make, shape):
    keys, xs = jr.split(jr.key(1), 3), jr.normal(jr.key(2), (2, *shape))
    many = jax.vmap(make)(keys)
    together = jax.jit(jax.vmap(jax.vmap(call, (None, 0)), (0, None)))(many, xs)
    alone = jnp.stack([jnp.stack([call(net, x) for x in xs]) for net in map(make, keys)])
    chex.assert_trees_all_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "net",
    [
        *(make(jr.key(0)) for make, _ in NETWORKS.values()),
        critic(batch_norm=True),
        generator(batch_norm=True),
    ],
)
def test_every_leaf_is_an_array(net):
    leaves = jax.tree.leaves(net)
    assert leaves
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("activation", [jax.nn.silu, jax.nn.softplus, jnp.tanh, "image"])
def test_a_discriminator_is_smooth_in_its_sample(activation):
    if activation == "image":
        net, shape = critic(), (2, 8, 8)
    else:
        net, shape = N.Discriminator(3, 8, 2, activation=activation, key=jr.key(0)), (3,)
    value = jax.jit(lambda x: net(jnp.asarray(x)))
    x = jr.normal(jr.key(3), shape)
    chex.assert_numerical_grads(value, (x,), order=2, modes="rev", atol=1e-4, rtol=1e-4)


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


def test_without_batch_norm_no_image_sees_another():
    slopes = jax.jit(jax.jacobian(jax.vmap(critic())))(inputs(critic, 4))
    others = slopes[~np.eye(4, dtype=bool)]
    chex.assert_trees_all_equal(others, jnp.zeros_like(others))


@on_images
def test_batch_norm_works_only_where_the_batch_is_named(make):
    net, xs = make(batch_norm=True), inputs(make, 4)
    with pytest.raises(NameError, match="batch"):
        jax.vmap(net)(xs)
    if make is critic:
        with pytest.raises(NameError, match="batch"):
            df.particle_step(df.gans.logit(), net, xs, 0.1)


def test_particles_move_up_the_gradient_of_each_image():
    net, xs = critic(), inputs(critic, 3)
    moved, _ = jax.jit(functools.partial(df.particle_step, df.gans.logit(), net))(xs, 0.1)
    slope = jax.jit(jax.grad(lambda x: reference_critic(net, x[None])[0]))
    expected = jnp.stack([x + 0.1 * slope(x) for x in xs])
    chex.assert_trees_all_close(moved, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [lambda: critic(16, 16, 32), lambda: generator(5, 16, 32, 32)])
@pytest.mark.parametrize("name", ["first", "second"])
def test_white_noise_leaves_a_first_layer_with_a_third_of_its_variance(make, name):
    layer = getattr(make(), name)
    channels = layer.kernel.shape[3 if layer.transposed else 2]
    out = jax.jit(jax.vmap(layer))(jr.normal(jr.key(4), (16, 16, 16, channels)))[:, 2:-2, 2:-2]
    variance = jnp.var(out - layer.bias, axis=(0, 1, 2))
    # fan_in >= 128 uniform weights make each channel's variance, within .9 / sqrt(fan_in) of 1/3.
    np.testing.assert_allclose(jnp.mean(variance), 1 / 3, rtol=0.05)
