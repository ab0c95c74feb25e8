"""Eight Gaussians on a ring: how many of them does a GAN find, by the generator's loss?

    python examples/ring_of_gaussians.py [--fast]

Networks, rates, batches and seeds are the same for all losses; the seeds of one loss train side by
side in one jitted call, `df.train_gan` under `jax.vmap`. The pull on a sample that gives itself
away, h'(u) for u far below 0, is what the losses differ in: see gan_losses.py. A mode is covered
if one sample in 100 lies within 3 sd of it. Writes examples/out/ring_of_gaussians.png (modes
covered, mean of the seeds, bars of one standard error) and ring_of_gaussians_samples.png.
"""

import argparse
import pathlib
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import optax

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
TURN = 2 * jnp.pi * jnp.arange(8) / 8
MODES = 2 * jnp.stack([jnp.cos(TURN), jnp.sin(TURN)], axis=1)
SD = 0.05
SHARE = 0.01
LATENT, WIDTH, DEPTH = 2, 64, 2
# Made once: a new optimiser would be a new program for each loss.
OPTIMIZER = optax.adam(1e-3, b1=0.5, b2=0.999)
GANS = {
    "vanilla": df.gans.vanilla(),
    "vanilla, C = 1": df.gans.vanilla(1),
    "vanilla, C = 3": df.gans.vanilla(3),
    "vanilla, C = 5": df.gans.vanilla(5),
    "non-saturating": df.gans.non_saturating(),
    "logit": df.gans.logit(),
    "arcsinh": df.gans.arcsinh(),
    "MLE": df.gans.mle(),
    "least squares": df.gans.least_squares(),
}


def raw(d):
    return d


def ring(key, count):
    key_mode, key_noise = jr.split(key)
    which = jr.randint(key_mode, (count,), 0, len(MODES))
    return MODES[which] + SD * jr.normal(key_noise, (count, 2))


def train(gan, last, steps, xs_p, key):
    """One seed: its networks, its game, and samples of the averaged generator."""
    key_d, key_g, key_run, key_noise = jr.split(key, 4)
    state, _ = df.train_gan(
        gan,
        df.networks.Discriminator(2, WIDTH, DEPTH, last=last, key=key_d),
        df.networks.Generator(LATENT, 2, WIDTH, DEPTH, key=key_g),
        xs_p,
        latent=LATENT,
        steps=steps,
        d_optimizer=OPTIMIZER,
        g_optimizer=OPTIMIZER,
        critic_steps=5,  # theory is about a discriminator near its optimum
        ema_decay=0.99,
        chunk=steps,
        key=key_run,
    )
    return jax.vmap(state.ema)(jr.normal(key_noise, (2000, LATENT)))


@eqx.filter_jit
def train_all(gan, last, steps, xs_p, keys):
    """All seeds at once; the shifted rows differ by an array, so they share one program."""
    return jax.vmap(lambda key: train(gan, last, steps, xs_p, key))(keys)


def score(xs):
    """Modes covered, and the share of samples near any mode."""
    near = np.linalg.norm(xs[:, None] - np.asarray(MODES), axis=2) < 3 * SD
    return np.sum(near.mean(axis=0) >= SHARE), near.any(axis=1).mean()


def draw_bars(scores, seeds, steps, path):
    figure, axis = plt.subplots(figsize=(9, 4.5), layout="constrained")
    modes = {name: each[:, 0] for name, each in scores.items()}
    errors = [each.std(ddof=1) / np.sqrt(seeds) for each in modes.values()]
    heights = [each.mean() for each in modes.values()]
    axis.bar(range(len(modes)), heights, yerr=errors, capsize=4, color="#1f5fa8", alpha=0.8)
    axis.set_xticks(range(len(modes)), modes, rotation=25)
    axis.set(ylim=(0, 8.4), ylabel="modes covered, of 8")
    axis.set_title(f"{seeds} seeds, {steps:,} steps; bars: one standard error")
    figure.savefig(path, dpi=130)
    plt.close(figure)
    print(f"wrote {path}")


def draw_samples(clouds, path):
    figure, axes = plt.subplots(3, 3, figsize=(9, 9.4), layout="constrained")
    for axis, (name, xs) in zip(axes.flat, clouds.items(), strict=True):
        axis.scatter(*xs[0].T, s=2, color="#1f5fa8")
        axis.scatter(*np.asarray(MODES).T, marker="+", color="#d9772b")
        axis.set(title=f"{name}, first seed", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"wrote {path}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer seeds and steps, for a check")
    fast = parser.parse_args(argv).fast
    OUT.mkdir(exist_ok=True)
    seeds, steps = (3, 600) if fast else (20, 5000)
    xs_p, keys = ring(jr.key(1), 4096), jr.split(jr.key(0), seeds)
    clouds, scores = {}, {}
    for name, gan in GANS.items():
        # The least-squares discriminator is a probability.
        last = jax.nn.sigmoid if name == "least squares" else raw
        start = time.perf_counter()
        clouds[name] = np.asarray(train_all(gan, last, steps, xs_p, keys))
        seconds = time.perf_counter() - start
        scores[name] = np.array([score(xs) for xs in clouds[name]], float)
        modes, near = scores[name].T
        print(
            f"{name:16s} modes {modes.mean():.2f} +- {modes.std(ddof=1) / np.sqrt(seeds):.2f}, "
            f"near a mode {near.mean():.0%} of the samples, all 8 in {np.sum(modes == 8)} of "
            f"{seeds} seeds ({seconds:.0f} s)",
            flush=True,
        )
    draw_bars(scores, seeds, steps, OUT / "ring_of_gaussians.png")
    draw_samples(clouds, OUT / "ring_of_gaussians_samples.png")


if __name__ == "__main__":
    main()
