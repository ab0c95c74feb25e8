"""DCGANs are per-sample pytrees of arrays; batch norm, if asked for, is not hidden."""

import functools

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import divergence_flows as df


def critic(size=8, channels=2, width=3, **options):
    return df.networks.ConvDiscriminator(size, channels, width, **options, key=jr.key(0))


def generator(latent=5, size=8, channels=2, width=3, **options):
    return df.networks.ConvGenerator(latent, size, channels, width, **options, key=jr.key(1))


NETWORKS = {"discriminator": critic, "generator": generator}
on_networks = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def inputs(make, count):
    return jr.normal(jr.key(2), (count, 2, 8, 8) if make is critic else (count, 5))


@on_networks
@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_leaf_is_an_array(make, batch_norm):
    leaves = jax.tree.leaves(make(batch_norm=batch_norm))
    assert leaves
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)


@on_networks
def test_a_batch_is_a_loop_over_samples(make):
    net, xs = make(), inputs(make, 4)
    together, one = jax.jit(jax.vmap(net))(xs), jax.jit(lambda x: net(x))
    chex.assert_trees_all_close(together, jnp.stack([one(x) for x in xs]), rtol=1e-5, atol=1e-6)


@on_networks
def test_seeds_are_an_axis(make):
    factory = {critic: df.networks.ConvDiscriminator, generator: df.networks.ConvGenerator}[make]
    sizes = (8, 2, 3) if make is critic else (5, 8, 2, 3)
    keys, x = jr.split(jr.key(1), 3), inputs(make, 1)[0]
    make_one = jax.jit(lambda key: factory(*sizes, key=key)(x))
    together = jax.jit(jax.vmap(lambda key: factory(*sizes, key=key)(x)))(keys)
    alone = jnp.stack([make_one(key) for key in keys])
    chex.assert_trees_all_close(together, alone, rtol=1e-5, atol=1e-6)


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


def same(x):
    return x


def normalise(x, norm):
    """Batch norm as it is defined, on (sample, channel, height, width); nothing without one."""
    if isinstance(norm, eqx.nn.Identity):
        return x
    mean = x.mean((0, 2, 3), keepdims=True)
    deviation = jnp.sqrt(((x - mean) ** 2).mean((0, 2, 3), keepdims=True) + 1e-5)
    return norm.scale[:, None, None] * (x - mean) / deviation + norm.offset[:, None, None]


def reference_critic(net, xs):
    y = net.activation(convolution(xs, net.first))
    y = convolution(y, net.second)
    y = net.activation(normalise(y, net.norm))
    flat = jnp.moveaxis(y, 1, -1).reshape(len(xs), -1)
    return (flat @ net.dense.weight.T)[:, 0] + net.dense.bias


def reference_generator(net, zs):
    y = zs @ net.dense.weight.T + net.dense.bias
    y = jnp.moveaxis(y.reshape(len(zs), net.size // 4, net.size // 4, -1), -1, 1)
    y = net.activation(normalise(y, net.norms[0]))
    y = transposed(y, net.first)
    y = net.activation(normalise(y, net.norms[1]))
    return jnp.tanh(transposed(y, net.second))


REFERENCES = {critic: reference_critic, generator: reference_generator}


def shaken(net):
    """Gives scales and offsets values that an error would show."""
    return jax.tree.map(
        lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)), net
    )


@pytest.mark.usefixtures("x64")
@on_networks
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_network_is_the_dcgan_that_xla_computes(make, batch_norm):
    net, xs = shaken(make(batch_norm=batch_norm)), inputs(make, 4)
    ours = jax.jit(jax.vmap(net, axis_name="batch"))(xs)
    theirs = jax.jit(functools.partial(REFERENCES[make], net))(xs)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("x64")
@on_networks
@pytest.mark.parametrize("batch_norm", [False, True])
def test_weights_get_the_gradients_that_xla_computes(make, batch_norm):
    net, xs = shaken(make(batch_norm=batch_norm)), inputs(make, 4)

    def slope(function):
        return jax.jit(jax.grad(lambda net: jnp.sum(jnp.sin(function(net)))))(net)

    ours = slope(lambda net: jax.vmap(net, axis_name="batch")(xs))
    theirs = slope(lambda net: REFERENCES[make](net, xs))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("x64")
def test_a_discriminator_is_smooth_in_its_image():
    net, x = critic(), jr.normal(jr.key(3), (2, 8, 8))
    value = jax.jit(lambda x: net(jnp.asarray(x)))
    chex.assert_numerical_grads(value, (x,), order=2, modes="rev", atol=1e-4, rtol=1e-4)


def test_without_batch_norm_no_image_sees_another():
    xs = inputs(critic, 4)
    slopes = jax.jit(jax.jacobian(jax.vmap(critic())))(xs)
    others = slopes[~np.eye(4, dtype=bool)]
    chex.assert_trees_all_equal(others, jnp.zeros_like(others))


@on_networks
def test_batch_norm_works_only_where_the_batch_is_named(make):
    with pytest.raises(NameError, match="batch"):
        jax.vmap(make(batch_norm=True))(inputs(make, 4))


def test_a_flow_refuses_a_discriminator_with_batch_norm():
    with pytest.raises(NameError, match="batch"):
        df.particle_step(df.gans.logit(), critic(batch_norm=True), inputs(critic, 4), 0.1)


def test_particles_move_up_the_gradient_of_each_image():
    net, xs = critic(), inputs(critic, 3)
    moved, _ = jax.jit(functools.partial(df.particle_step, df.gans.logit(), net))(xs, 0.1)
    slope = jax.jit(jax.grad(lambda x: reference_critic(net, x[None])[0]))
    expected = jnp.stack([x + 0.1 * slope(x) for x in xs])
    chex.assert_trees_all_close(moved, expected, rtol=1e-5, atol=1e-6)


LAYERS = {
    "halves": lambda: critic(16, 16, 32).first,
    "halves again": lambda: critic(16, 16, 32).second,
    "doubles": lambda: generator(5, 16, 32, 32).first,
    "doubles again": lambda: generator(5, 16, 32, 32).second,
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_white_noise_leaves_a_first_layer_with_a_third_of_its_variance(make):
    layer = make()
    channels = layer.kernel.shape[3 if layer.transposed else 2]
    out = jax.jit(jax.vmap(layer))(jr.normal(jr.key(4), (64, 16, 16, channels)))[:, 2:-2, 2:-2]
    variance = jnp.var(out - layer.bias, axis=(0, 1, 2))
    # fan_in >= 128 uniform weights make each channel's variance, within .9 / sqrt(fan_in) of 1/3.
    np.testing.assert_allclose(jnp.mean(variance), 1 / 3, rtol=0.05)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: critic(size=30), "ConvDiscriminator: `size` is 30, which cannot be halved twice"),
        (lambda: generator(size=25), "ConvGenerator: `size` is 25, which cannot be halved twice"),
        (lambda: critic(channels=0), "ConvDiscriminator: `channels` is 0"),
        (lambda: critic(width=-1), "ConvDiscriminator: `width` is -1"),
        (lambda: generator(latent=0), "ConvGenerator: `latent` is 0"),
        (lambda: generator(size=0), "ConvGenerator: `size` is 0"),
    ],
)
def test_a_size_that_makes_no_network_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"`x` has shape \(2, 12, 12\)"):
        critic()(jnp.zeros((2, 12, 12)))
