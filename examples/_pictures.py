"""Pictures of moving samples: before, the path, after; images for digits, dots for the rest."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import divergence_flows as df

SIDE = 28  # of a digit [pixels]


def flat(problem, xs):
    """Samples in the plane: as they are, along the target's principal axes, or spread over y."""
    xs = np.asarray(xs)
    if xs.shape[-1] == 1:
        jitter = np.random.default_rng(0).uniform(-0.4, 0.4, size=xs.shape[-2:])
        return np.concatenate([xs, np.broadcast_to(jitter, xs.shape)], axis=-1)
    if xs.shape[-1] == 2:
        return xs
    mean = problem.train.mean(axis=0)
    return (xs - mean) @ np.linalg.svd(problem.train - mean, full_matrices=False)[2][:2].T


def images(xs):
    return np.reshape(xs, (*np.shape(xs)[:-1], SIDE, SIDE))


def draw_clouds(problem, path, words, log_r=None):
    """Before, path and after in one row; the learned log ratio too, if there is one."""
    count = 4 if log_r is None else 5
    _, axes = plt.subplots(1, count, figsize=(3.6 * count, 3.8))
    clouds, target = flat(problem, path), flat(problem, problem.held[:1024])
    df.plot.before_after(clouds[0], clouds[-1], target, axes=axes[[0, 2, 3]])
    df.plot.paths(clouds, ax=axes[1])
    axes[1].set(title="path", xlim=axes[0].get_xlim(), ylim=axes[0].get_ylim(), box_aspect=1)
    axes[2].set_title(f"moved: {words}")
    axes[3].set_title("p, held out")
    if log_r is not None:
        draw_ratio(axes[4], axes[0].get_xlim(), axes[0].get_ylim(), log_r)


def draw_ratio(axis, xlim, ylim, log_r):
    """A log ratio on the plane, and the line where p = q."""
    sides = np.linspace(*xlim, 160), np.linspace(*ylim, 160)
    points = jnp.stack(jnp.meshgrid(*sides), axis=-1).reshape(-1, 2)
    values = jax.vmap(log_r, in_axes=(None, 0, None))(0.0, points, None).reshape(160, 160)
    filled = axis.contourf(*sides, values, np.linspace(-4, 4, 17), cmap="PuOr", extend="both")
    axis.contour(*sides, values, [0.0], colors="black", linewidths=0.8)
    axis.figure.colorbar(filled, ax=axis, label="log p/q [nats]", ticks=[-4, -2, 0, 2, 4])
    axis.set(title="learned log ratio before the move", box_aspect=1)


def draw_digits(problem, path, words):
    """Digits before, a few paths, digits after, and real ones that were held out."""
    figure, axes = plt.subplots(1, 4, figsize=(16.4, 4.4))
    figure.get_layout_engine().set(wspace=0.05)
    look = {"cmap": "gray_r", "vmin": 0, "vmax": 1}
    before, after, held = (images(xs[:64]) for xs in (path[0], path[-1], problem.held))
    df.plot.before_after(before, after, held, axes=axes[[0, 2, 3]], **look)
    when = np.unique(np.geomspace(1, len(path), 8).astype(int)) - 1  # most happens early
    ways = images(np.stack([path[i][:8] for i in when], axis=1))
    df.plot.samples(ways.reshape(-1, SIDE, SIDE), columns=len(when), ax=axes[1], **look)
    axes[1].set_title("path, left to right")
    axes[2].set_title(f"moved: {words}")
    axes[3].set_title("p, held out")


def animate(problem, path):
    """The path as an animation."""
    axis = plt.subplots(figsize=(4.5, 4.5))[1]
    if problem.name == "digits":
        shown = images(np.stack([xs[:100] for xs in path]))
        return df.plot.animate(shown, cmap="gray_r", vmin=0, vmax=1, ax=axis)
    return df.plot.animate(flat(problem, path), flat(problem, problem.held[:1024]), ax=axis)
