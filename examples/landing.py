"""The picture at the top of the README and of the documentation: eight Gaussians become an S.

    python examples/landing.py [--fast]

Samples of q flow down KL(q||p) to samples of p: the velocity is the slope of log p/q, and the
ratio that of two kernel density estimates of one bandwidth, fitted anew wherever the cloud is. A
particle keeps the colour of the Gaussian that it came from. Writes docs/pictures/landing.png (with
--fast examples/out/landing.png).
"""

import argparse
import functools
import pathlib
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import make_s_curve

import divergence_flows as df

HERE = pathlib.Path(__file__).parent
HORIZON, BANDWIDTH = 3.0, 0.25
SHARES = (0.0, 0.025, 0.12, 1.0)  # of the horizon, one a frame
COLORS = ("#3b6fb6", "#4fa3a5", "#5aa55a", "#a7a13a", "#e0a13c", "#dd6e42", "#c0487a", "#7a559c")


def clouds(count):
    """Eight Gaussians in a ring with the number of each sample's, and an S-curve amid them."""
    rng = np.random.default_rng(0)
    which = np.arange(count) % 8
    ring = 2 * np.stack([np.cos(which * np.pi / 4), np.sin(which * np.pi / 4)], axis=1)
    curve = make_s_curve(2 * count, noise=0.05, random_state=0)[0][:, [0, 2]] / 1.3
    return jnp.float32(ring + 0.13 * rng.normal(size=(count, 2))), jnp.float32(curve), which


def log_ratio(p, q, t, x, args):
    return p(x) - q(x)


def fit(xs_q, xs_p):
    """log p/q of two kernel density estimates: zero everywhere once the clouds agree."""
    p, q = (df.kde_log_prob(xs, bandwidth=BANDWIDTH) for xs in (xs_p, xs_q))
    return jax.tree_util.Partial(log_ratio, p, q)


def move(xs_q, xs_p):
    """The particles at many times, the first of them close together."""
    field = df.cloud_velocity(df.divergences.kl_qp.h, functools.partial(fit, xs_p=xs_p))
    ts = HORIZON * jnp.linspace(0.0, 1.0, 121) ** 2
    path = df.integrate(field, xs_q, ts).ys
    before, after = (df.wasserstein2(xs, xs_p[: len(xs)]) for xs in (xs_q, path[-1]))
    floor = df.wasserstein2(xs_p[-len(xs_q) :], xs_p[: len(xs_q)])
    print(f"W2 {before:.3f} -> {after:.3f}, between two samples of the curve {floor:.3f}")
    return np.asarray(path), np.asarray(ts)


def frame(axis, path, xs_p, which, caption):
    """The particles at the end of a path, their way there, and the target in grey."""
    colors = [COLORS[i] for i in which]
    df.plot.samples(xs_p, color=df.plot.COLORS["p"], s=2, ax=axis)
    if len(path) > 1:
        df.plot.paths(path, count=320, color=colors, ax=axis)
    df.plot.samples(path[-1], color=colors, s=6, zorder=4, ax=axis)
    axis.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5))
    axis.set_aspect("equal")
    axis.axis("off")
    axis.text(0.5, -0.02, caption, transform=axis.transAxes, ha="center", va="top", fontsize=13)


def draw(file, path, times, xs_p, which):
    """Four moments in one row, as a PNG of few colours."""
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.75), facecolor="white")
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.09, top=1.0, wspace=0.02)
    for axis, share in zip(axes, SHARES, strict=True):
        i = int(np.searchsorted(times, share * times[-1]))
        name = {0.0: ": samples of q", 1.0: ": moved onto p, in grey"}.get(share, "")
        frame(axis, path[: i + 1], xs_p, which, f"t = {times[i]:.2g}{name}")
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)
    Image.open(file).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
        file, optimize=True
    )
    print(f"wrote {file}, {file.stat().st_size / 1000:.0f} kB")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="a few steps only")
    fast = parser.parse_args(argv).fast
    folder = HERE / "out" if fast else HERE.parent / "docs" / "pictures"
    xs_q, xs_p, which = clouds(64 if fast else 768)
    start = time.perf_counter()
    path, times = move(xs_q, xs_p)
    print(f"moved in {time.perf_counter() - start:.0f} s")
    draw(folder / "landing.png", path, times, xs_p, which)


if __name__ == "__main__":
    main()
