"""Eight Gaussians on a ring, 25 on a grid, a GAN that learns them, and how many it finds.

Nothing here touches a device when it is imported: `jax.distributed` comes first.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import divergence_flows as df

TURN = 2 * np.pi * np.arange(8) / 8
MODES = 2 * np.stack([np.cos(TURN), np.sin(TURN)], axis=1)
# Of the ring's mean square.
GRID = np.stack(np.meshgrid(*[np.arange(-2.0, 3.0)] * 2), axis=2).reshape(-1, 2)
SHARE = 0.01
LATENT, WIDTH, DEPTH = 2, 64, 2
# Made once: a new optimiser would be a new program for each loss.
OPTIMIZER = optax.adam(1e-3, b1=0.5, b2=0.999)


def ring(key, count, sd, modes=MODES):
    key_mode, key_noise = jr.split(key)
    which = jr.randint(key_mode, (count,), 0, len(modes))
    return jnp.asarray(modes)[which] + sd * jr.normal(key_noise, (count, 2))


def train(
    gan, steps, xs_p, key, *, count, critic=None, depth=DEPTH, optimizer=OPTIMIZER, **options
):
    """One seed: its networks, its game, `count` samples of its average; NaN if it diverged."""
    key_d, key_g, key_run, key_noise = jr.split(key, 4)
    state, info = df.train_gan(
        gan,
        df.networks.Discriminator(2, WIDTH, DEPTH, **(critic or {}), key=key_d),
        df.networks.Generator(LATENT, 2, WIDTH, depth, key=key_g),
        xs_p,
        latent=LATENT,
        steps=steps,
        d_optimizer=optimizer,
        g_optimizer=optimizer,
        ema_decay=0.99,
        chunk=steps,
        key=key_run,
        **options,
    )
    xs = jax.vmap(state.ema)(jr.normal(key_noise, (count, LATENT)))
    # The state of a run that diverged is the one before the chunk, here the first: no result.
    return jnp.where(info.diverged < 0, xs, jnp.nan)


def score(xs, sd, modes=MODES):
    """Modes covered, and the share of samples near any mode."""
    near = np.linalg.norm(xs[:, None] - modes, axis=2) < 3 * sd
    return np.sum(near.mean(axis=0) >= SHARE), near.any(axis=1).mean()


def draw(axis, xs, title, modes=MODES):
    """Samples, and a ring around each mode of p."""
    look = {"s": 180, "facecolor": "none", "edgecolor": df.plot.COLORS["p"]}
    axis.scatter(*modes.T, **look)
    df.plot.samples(xs, ax=axis)
    axis.spines[:].set_visible(True)
    axis.set(title=title, xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
