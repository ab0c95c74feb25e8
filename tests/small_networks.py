"""Networks of a few weights, also of given ones, for the tests of GANs."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import divergence_flows as df


def critic(key=None, dim=2, **options):
    options = {"width": 8, "depth": 1, **options}
    return df.networks.Discriminator(dim, key=jr.key(3) if key is None else key, **options)


def maker(latent=3, dim=2, **options):
    return df.networks.Generator(latent, dim, **{"width": 8, "depth": 1, **options}, key=jr.key(5))


def holding(net, weight, bias):
    """A network of one layer with these weights."""
    where = lambda net: (net.layers[0].weight, net.layers[0].bias)
    return eqx.tree_at(where, net, (jnp.asarray(weight, float), jnp.asarray(bias, float)))


def affine(weight, bias):
    """A generator g(z) = W z + b."""
    dim, latent = np.shape(weight)
    return holding(maker(latent, dim, depth=0), weight, bias)


def linear(weight):
    """A critic d(x) = w.x."""
    return holding(critic(dim=len(weight), depth=0), jnp.asarray(weight)[None], 0.0)
