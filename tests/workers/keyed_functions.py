"""What each public function makes of a key, also on all devices; test_determinism.py runs it.

python tests/workers/keyed_functions.py FILE
"""

import functools
import sys

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import divergence_flows as df

N, G = df.networks, df.gans
SEED, COUNT = 11, 4
SGD = optax.sgd(0.1)
FIXED = jr.key(5)


def keys():
    return jr.split(jr.key(SEED), COUNT)


def legacy():
    """The same keys of the old kind."""
    return jr.split(jr.PRNGKey(SEED), COUNT)


def cloud(seed, n=5):
    return jr.normal(jr.key(seed), (n, 2))


def critic():
    return N.Discriminator(2, 3, 1, key=FIXED)


def pull(t, x, args):
    return -x


def log_p(x):
    return -0.5 * jnp.sum((x - 1) ** 2) - 0.1 * jnp.sum(x**4)


def langevin(key):
    options = {"solver": diffrax.Euler(), "dt0": 0.25}
    return df.langevin(pull, cloud(1), [0.0, 1.0], **options, key=key).ys


def fitted(key):
    q0 = df.Gaussian(jnp.zeros(2), jnp.ones(2))
    q, info = df.fit_gaussian(log_p, q0, n=32, max_steps=16, throw=False, key=key)
    return q, info.elbo, info.gap


def at_a_point(fit, key, **options):
    return fit(cloud(1), cloud(2), bandwidth=1.3, **options, key=key)(0.0, jnp.ones(2), None)


def bandwidth(key):
    options = {"loss": "ulsif", "multiples": (0.5, 1.0), "folds": 2, "features": 2}
    return df.ratio_bandwidth(cloud(1), cloud(2), **options, key=key)


def ratio_step(key):
    state = df.RatioState.start(critic(), SGD)
    return df.ratio_step(G.logit(), SGD, state, (cloud(1), cloud(2)), batch_size=3, key=key)


def gan_step(key):
    state = df.GANState.start(critic(), N.Generator(2, 2, 3, 1, key=FIXED), SGD, SGD)
    return df.gan_step(G.logit(), SGD, SGD, state, cloud(2), latent=2, batch_size=3, key=key)


def train_gan(key):
    maker = N.Generator(2, 2, 3, 1, key=FIXED)
    options = {"latent": 2, "steps": 2, "batch_size": 3, "chunk": 2, "key": key}
    return df.train_gan(G.logit(), critic(), maker, cloud(2), **options)


def transport(key):
    options = {"steps": 2, "critic_steps": 1, "batch_size": 3, "chunk": 2, "key": key}
    return df.transport(G.logit(), critic(), cloud(1), cloud(2), **options)


TIMES = np.array([0.0, 0.1, 0.3])


def clock():
    return N.TimeDiscriminator(2, 3, 1, decays=2, key=FIXED)


def flow_ratio_step(key):
    state = df.FlowRatioState.start(clock(), SGD)
    options = {"ts": TIMES, "batch_size": 3, "key": key}
    return df.flow_ratio_step(G.logit(), SGD, state, (cloud(1), cloud(2)), **options)


def train_flow_ratio(key):
    options = {"ts": TIMES, "steps": 2, "batch_size": 3, "chunk": 2, "key": key}
    return df.train_flow_ratio(G.logit(), clock(), cloud(1), cloud(2), **options)


MAKES = {
    "langevin": langevin,
    "mmd_witness": functools.partial(at_a_point, df.mmd_witness, features=4),
    "rff_log_ratio": functools.partial(at_a_point, df.rff_log_ratio, features=4, newton_steps=2),
    "ulsif_ratio": functools.partial(at_a_point, df.ulsif_ratio, centres=3),
    "ratio_bandwidth": bandwidth,
    "normal_nodes": lambda key: df.normal_nodes(4, 2, key=key),
    "sobol_nodes": lambda key: df.sobol_nodes(4, 2, key=key),
    "fit_gaussian": fitted,
    "ratio_step": ratio_step,
    "gradient_penalty": lambda key: df.gradient_penalty(
        "one", critic(), cloud(1), cloud(2), key=key
    ),
    "gan_step": gan_step,
    "train_gan": train_gan,
    "transport": transport,
    "flow_ratio_step": flow_ratio_step,
    "train_flow_ratio": train_flow_ratio,
    "networks.Discriminator": lambda key: N.Discriminator(2, 3, 1, key=key),
    "networks.Generator": lambda key: N.Generator(2, 2, 3, 1, key=key),
    "networks.TimeDiscriminator": lambda key: N.TimeDiscriminator(2, 3, 1, decays=2, key=key),
    "networks.ConvDiscriminator": lambda key: N.ConvDiscriminator(4, 1, 2, key=key),
    "networks.ConvGenerator": lambda key: N.ConvGenerator(2, 4, 1, 2, key=key),
    "networks.spectral": lambda key: N.spectral(critic(), key=key),
}
# clouds.py and seeds.py lay these over devices, with more steps.
LAID_ELSEWHERE = {"transport", "train_gan", "train_flow_ratio", "rff_log_ratio"}
LAID_ELSEWHERE |= {"ratio_step", "gan_step", "flow_ratio_step"}  # what those three are made of
LAID_ELSEWHERE |= {"fit_gaussian"}  # whose key goes to `sobol_nodes`
LAID = [name for name in MAKES if name not in LAID_ELSEWHERE]


def made(name, key):
    """Every number, in the order of the tree."""
    return jax.tree.leaves(MAKES[name](key))


def one(name):
    return jax.jit(functools.partial(made, name))


def many(name):
    return jax.jit(jax.vmap(functools.partial(made, name)))


def work(file):
    """Each function of one key, and those that are not laid out elsewhere on all devices."""
    out = {f"one/{name}/{i}": x for name in MAKES for i, x in enumerate(one(name)(legacy()[0]))}
    laid = df.over_devices(keys())
    shares = set()
    for name in LAID:
        for i, x in enumerate(many(name)(laid)):
            out[f"laid/{name}/{i}"] = x
            shares.add(len(x.addressable_shards))
    np.savez(file, held=[len(jax.devices()), *shares], **out)


if __name__ == "__main__":
    work(*sys.argv[1:])
