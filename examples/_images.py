"""GANs on small images: the games, their training in one compiled program, scores, a picture.

`df.gans.stack` holds all games in one program, so that a new game compiles nothing.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

import divergence_flows as df

LATENT = 64


class Size(NamedTuple):
    """How much work a run is."""

    seeds: int
    steps: int
    batch: int
    width: int
    rates: tuple = (1e-3, 3e-4)  # of the discriminator and of the generator


def of_raw(gan, last):
    """The game of a network's raw output, which `last` maps into the domain of d."""
    triple = (df.lift(function, last) for function in (gan.phi, gan.psi, gan.h_t))
    return df.GAN(*triple, h=gan.h)


def in_one_program(games):
    """Games by name as pytrees of one structure."""
    stacked = df.gans.stack(*games.values())
    take = lambda i: jax.tree.map(lambda leaf: leaf[i], stacked)
    return {name: take(i) for i, name in enumerate(games)}


@eqx.filter_jit
def train(gan, size, xs_p, key):
    """Samples of one seed's averaged generator, as many as in a score; NaN if it diverged."""
    key_d, key_g, key_run, key_noise = jr.split(key, 4)
    channels, pixels = xs_p.shape[1], xs_p.shape[2]
    state, info = df.train_gan(
        gan,
        df.networks.ConvDiscriminator(pixels, channels, size.width, key=key_d),
        df.networks.ConvGenerator(LATENT, pixels, channels, size.width, key=key_g),
        xs_p,
        latent=LATENT,
        steps=size.steps,
        batch_size=size.batch,
        d_optimizer=optax.adam(size.rates[0], b1=0.5, b2=0.999),
        g_optimizer=optax.adam(size.rates[1], b1=0.5, b2=0.999),
        ema_decay=0.99,
        chunk=size.steps,
        key=key_run,
    )
    images = jax.lax.map(state.ema, jr.normal(key_noise, (COUNT, LATENT)), batch_size=100)
    # The state of a run that diverged is the one before the chunk, here the first: no result.
    return jnp.where(info.diverged < 0, images, jnp.nan), info.d_losses[-1]


COUNT = 500  # samples of each side in a score


class Scores:
    """How far images are from held-out ones, in the principal components of the training set."""

    def __init__(self, train, held, components=50):
        self.axes = PCA(components, random_state=0).fit(train.reshape(len(train), -1))
        self.held = self.project(held[:COUNT])
        apart = pairwise_distances(self.held)
        self.gamma = 1 / (2 * np.median(apart[np.triu_indices(len(apart), 1)]) ** 2)

    def project(self, images):
        return self.axes.transform(np.asarray(images).reshape(len(images), -1))

    def mmd(self, images):
        """Unbiased squared kernel MMD, Gaussian kernel, median bandwidth; 0 is equal."""
        xs, ys = self.project(images), self.held
        xx, yy, xy = (rbf_kernel(a, b, self.gamma) for a, b in ((xs, xs), (ys, ys), (xs, ys)))
        n, m = len(xs), len(ys)
        return (xx.sum() - n) / (n * (n - 1)) + (yy.sum() - m) / (m * (m - 1)) - 2 * xy.mean()

    def accuracy(self, images):
        """Of a support vector machine that tells them from held-out ones; .5 is chance."""
        both = np.concatenate([self.project(images), self.held])
        labels = np.repeat([0, 1], [len(images), len(self.held)])
        order = np.random.default_rng(0).permutation(len(both))
        machine = SVC(C=10.0, gamma="scale")
        return cross_val_score(machine, both[order], labels[order], cv=4).mean()

    def both(self, images):
        """Both, or NaN for a run that has broken: its images are no numbers."""
        if not np.isfinite(images).all():
            return np.nan, np.nan
        return self.mmd(images), self.accuracy(images)


def draw(path, pictures, across, columns, cmap="gray_r"):
    """Some of the images, in (-1, 1), for each title."""
    plt.style.use("divergence_flows.plot.style")
    rows = -(-len(pictures) // columns)
    size = (2.5 * columns, 2.85 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat[len(pictures) :]:
        axis.axis("off")
    for axis, (title, images) in zip(axes.flat, pictures.items(), strict=False):
        df.plot.samples(images[: across**2], ax=axis, cmap=cmap, vmin=-1, vmax=1)
        axis.set_title(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"wrote {path}")
