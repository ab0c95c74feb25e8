"""Faces by the logit and the arcsinh loss: Figure 1 of the slides in spirit, on very few faces.

    python examples/gan_faces.py [--fast]

scikit-image's `lfw_subset` has 100 faces of 25 by 25 pixels. 80 of them train, each seen mirrored
and shifted by up to one pixel; 20 are held out. That is far too few to learn what faces are: look
for faces at all, and for the distance to the nearest training image, which says how much is
learned by heart. Writes examples/out/gan_faces.png: training faces, and samples of both losses.
"""

import argparse
import itertools
import pathlib
import time

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _images import COUNT, Scores, Size, draw, in_one_program, train
from skimage.data import lfw_subset
from sklearn.metrics import pairwise_distances

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
GAMES = {"logit": df.gans.logit(), "arcsinh": df.gans.arcsinh()}
SIDE, FACES, HELD = 28, 100, 20


def moved(images):
    """Each image in 18 versions: mirrored or not, shifted by -1, 0 or 1 pixel along both axes.

    The frame around the 25 by 25 pixels continues them, so that all are 28 by 28.
    """
    wide = np.pad(images, ((0, 0), (2, 3), (2, 3)), mode="edge")
    found = []
    for flip, down, right in itertools.product((1, -1), (-1, 0, 1), (-1, 0, 1)):
        found.append(np.roll(wide[:, :, ::flip], (down, right), axis=(1, 2))[:, 1:29, 1:29])
    return np.stack(found, axis=1).reshape(-1, 1, SIDE, SIDE)


def faces(rng):
    """Images in (-1, 1), to train on and held out."""
    images = np.asarray(lfw_subset()[:FACES] * 2 - 1, np.float32)
    images = images[rng.permutation(FACES)]
    return moved(images[HELD:]), moved(images[:HELD])


def nearest(images, train):
    """Median distance to the nearest training image, root mean square over pixels."""
    flat = [np.asarray(each).reshape(len(each), -1) for each in (images, train)]
    return np.median(pairwise_distances(*flat).min(axis=1)) / SIDE


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer seeds and steps, for a check")
    fast = parser.parse_args(argv).fast
    OUT.mkdir(exist_ok=True)
    size = Size(1, 300, 32, 8) if fast else Size(3, 2000, 64, 32, (5e-4, 2.5e-4))
    rng = np.random.default_rng(0)
    xs, held = (rng.permutation(each) for each in faces(rng))
    scores = Scores(xs, held)
    print(
        f"{'training faces':14s} 1000 MMD2 {1000 * scores.mmd(xs[:COUNT]):6.2f}, the floor; "
        f"held-out faces are {nearest(held, xs):.3f} from the nearest training image"
    )
    pictures = {"training faces": xs}
    for name, gan in in_one_program(GAMES).items():
        start = time.perf_counter()
        clouds = [train(gan, size, jnp.asarray(xs), jr.key(i))[0] for i in range(size.seeds)]
        mmds = [f"{1000 * scores.mmd(each):.1f}" for each in clouds]
        near = [f"{nearest(each, xs):.3f}" for each in clouds]
        print(
            f"{name:14s} 1000 MMD2 by seed {', '.join(mmds)}; nearest training image "
            f"{', '.join(near)} ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
        pictures[f"{name}, first seed"] = clouds[0]
    draw(OUT / "gan_faces.png", pictures, across=8, columns=3, cmap="gray")


if __name__ == "__main__":
    main()
