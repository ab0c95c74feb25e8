"""Networks are per-sample pytrees of arrays."""

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import divergence_flows as df

NETWORKS = {
    "discriminator": lambda key: df.networks.Discriminator(3, 8, 2, key=key),
    "generator": lambda key: df.networks.Generator(3, 2, 8, 2, key=key),
}
on_networks = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


@on_networks
def test_every_leaf_is_an_array(make):
    leaves = jax.tree.leaves(make(jr.key(0)))
    assert leaves
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)


@on_networks
def test_a_network_passes_through_plain_jit_and_vmap_over_seeds(make):
    keys, x = jr.split(jr.key(1), 4), jr.normal(jr.key(2), (3,))
    many = jax.vmap(make)(keys)
    together = jax.jit(jax.vmap(lambda net, x: net(x), in_axes=(0, None)))(many, x)
    alone = jnp.stack([make(key)(x) for key in keys])
    chex.assert_trees_all_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("activation", [jax.nn.silu, jax.nn.softplus, jnp.tanh])
def test_a_discriminator_is_smooth_in_its_sample(activation):
    critic = df.networks.Discriminator(3, 8, 2, activation=activation, key=jr.key(0))
    x = jr.normal(jr.key(1), (3,))
    chex.assert_numerical_grads(
        lambda x: critic(jnp.asarray(x)), (x,), order=2, atol=1e-4, rtol=1e-4
    )


@pytest.mark.usefixtures("x64")
def test_without_hidden_layers_a_discriminator_is_affine():
    critic = df.networks.Discriminator(3, depth=0, key=jr.key(0))
    x, y = jr.normal(jr.key(1), (2, 3))
    middle = critic(0.3 * x + 0.7 * y)
    chex.assert_trees_all_close(middle, 0.3 * critic(x) + 0.7 * critic(y), rtol=1e-12)


def test_the_last_map_bounds_the_output():
    key, xs = jr.key(0), 100 * jr.normal(jr.key(1), (50, 2))
    ratio = df.networks.Discriminator(2, last=jax.nn.softplus, key=key)
    raw = df.networks.Discriminator(2, key=key)
    chex.assert_trees_all_close(jax.vmap(ratio)(xs), jax.nn.softplus(jax.vmap(raw)(xs)), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: df.networks.Discriminator(0, key=jr.key(0)), "Discriminator: `dim` is 0"),
        (lambda: df.networks.Discriminator(2, depth=-1, key=jr.key(0)), "`depth` is -1"),
        (lambda: df.networks.Generator(2, 0, key=jr.key(0)), "Generator: `dim` is 0"),
    ],
)
def test_a_size_that_makes_no_network_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
