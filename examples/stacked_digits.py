"""StackedMNIST from 5,000 digits: of 1,000 modes, how many does R3GAN find?

    python examples/stacked_digits.py [--medium | --fast]

An image is three random digits, its three channels, and a mode is the number that they spell: 000
to 999, all alike likely. A classifier of single digits reads 10,000 generated images; a mode is
found if one of them is read so. The second number is KL from the histogram of modes to the uniform
one, [nats]: with 10,000 samples of p itself it is .05, chance alone. Held-out digits in random
threes go through the same classifier: the floor. Networks, rates and batches are those of
gan_digits.py; rows differ in loss and penalty, whose gamma falls from 1 to .1 along a cosine as in
R3GAN. Writes examples/out/stacked_digits.png.

--medium (one seed, 1,500 steps of 64 images, networks of width 16) found: non-saturating 697 modes,
KL 1.13; with r1 + r2 945, .51; R3GAN 890, .71; the floor is 1000, .07, and the classifier reads 95
% of held-out single digits right. So in a short run the penalties do most, and one seed does not
rank the last two. The images are far from digits still: a classifier of ten classes reads a blot as
one of them, so a mode found is not a number that a person can read. The full form is for a GPU and
was not run.

These numbers are not like for like with published StackedMNIST. There digits are of all 60,000 of
MNIST, networks and runs are far larger, 26,000 images are read, by another classifier; here are
5,000 digits, small networks and a CPU. What can be compared is one row with another.
"""

import argparse
import pathlib
import time

import jax
import jax.random as jr
import numpy as np
import optax
from _images import LATENT, Size, draw
from conditional_digits import PIXELS, digits
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
MODES, READ = 1000, 10_000
GAMES = {
    "non-saturating": (df.gans.non_saturating(), None),
    "non-saturating, r1 + r2": (df.gans.non_saturating(), "r1+r2"),
    "R3GAN": (df.gans.relativistic(), "r1+r2"),
}


def stacked(images, rng, count):
    """Random threes of digits, one a channel."""
    return images[rng.integers(len(images), size=(count, 3)), 0]


def modes(judge, stacks):
    """The number that each image spells, digit by digit."""
    read = judge.predict(np.reshape(stacks, (-1, PIXELS**2))).reshape(-1, 3)
    return read @ [100, 10, 1]


def score(judge, stacks):
    """Modes found, and KL of their histogram to the uniform one; NaN if numbers broke."""
    if not np.isfinite(stacks).all():
        return np.nan, np.nan
    counts = np.bincount(modes(judge, stacks), minlength=MODES)
    shares = counts[counts > 0] / len(stacks)
    return len(shares), np.sum(shares * np.log(MODES * shares))


def train(gan, penalty, size, images, key):
    """Images of one seed's averaged generator."""

    def batch(step):  # fresh threes, any step's at any time
        return stacked(images, np.random.default_rng(step), size.batch)

    key_d, key_g, key_run, key_noise = jr.split(key, 4)
    gamma = optax.cosine_decay_schedule(1.0, size.steps, 0.1)
    state, _ = df.train_gan(
        gan,
        df.networks.ConvDiscriminator(PIXELS, 3, size.width, key=key_d),
        df.networks.ConvGenerator(LATENT, PIXELS, 3, size.width, key=key_g),
        batch,
        latent=LATENT,
        steps=size.steps,
        batch_size=size.batch,
        d_optimizer=optax.adam(size.rates[0], b1=0.5, b2=0.999),
        g_optimizer=optax.adam(size.rates[1], b1=0.5, b2=0.999),
        penalty=penalty,
        penalty_weight=lambda step: gamma(step) / 2,
        ema_decay=0.99,
        chunk=50,
        key=key_run,
    )
    zs = jr.normal(key_noise, (READ, LATENT))
    return np.asarray(jax.jit(lambda zs: jax.lax.map(state.ema, zs, batch_size=100))(zs))


def words(scores):
    """Mean of the seeds, and where there are several their deviation."""
    (found, kl), sd = np.mean(scores, axis=0), np.std(scores, axis=0)
    errors = (f" +- {sd[0]:.0f}", f" +- {sd[1]:.2f}") if len(scores) > 1 else ("", "")
    return f"modes {found:.0f}{errors[0]} of {MODES}, KL to uniform {kl:.2f}{errors[1]}"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="few steps, for a check")
    parser.add_argument("--medium", action="store_true", help="one seed, for two CPU cores")
    asked = parser.parse_args(argv)
    OUT.mkdir(exist_ok=True)
    size = Size(3, 20_000, 256, 64)
    if asked.medium:
        size = Size(1, 1500, 64, 16)
    if asked.fast:
        size = Size(1, 50, 32, 8)
    (images, labels), (held, truth) = digits()
    flat = lambda xs: xs.reshape(len(xs), -1)
    judge = make_pipeline(PCA(50, random_state=0), SVC(C=10.0)).fit(flat(images), labels)
    print(f"the classifier reads {judge.score(flat(held), truth):.1%} of held-out digits right")
    real = stacked(held, np.random.default_rng(0), READ)
    print(f"{'held-out digits':24s} {words([score(judge, real)])}: the floor")
    pictures = {"held out": real}
    for name, (gan, penalty) in GAMES.items():
        start = time.perf_counter()
        made = [train(gan, penalty, size, images, jr.key(i)) for i in range(size.seeds)]
        scores = [score(judge, each) for each in made]
        pictures[name] = made[0]
        print(f"{name:24s} {words(scores)} ({time.perf_counter() - start:.0f} s)", flush=True)
    colours = {name: each[:36].transpose(0, 2, 3, 1) for name, each in pictures.items()}
    draw(OUT / "stacked_digits.png", colours, across=6, columns=4)


if __name__ == "__main__":
    main()
