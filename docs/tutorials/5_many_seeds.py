# %% [markdown]
# # 5. Train GANs, many seeds at once
#
# "Loss A beats loss B" from one run each says nothing: two seeds of *one* loss often differ by
# more. At the end of this page you can train many seeds of several losses in one compiled call, on
# one device or all you have, and say with an error bar whether a loss is better.
#
# **The idea.** A training run is a pure function of its key. Then the seeds are an axis:
# `jax.vmap`. A GAN is a pytree whose parameters are leaves, so a family of losses is an axis too.

# %%
import sys

if "google.colab" in sys.modules:
    import glob
    import subprocess

    # A wheel that was uploaded beside this notebook, or else the latest release.
    wanted = sorted(glob.glob("divergence_flows-*.whl")) or ["divergence_flows"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", wanted[-1]], check=True)

# %%
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.scipy.stats import norm

import divergence_flows as df

plt.style.use("divergence_flows.plot.style")

# %% [markdown]
# ## The target
#
# The mixture of tutorial 4, but known by samples only. On the line everything can be seen and the
# Wasserstein distance between samples is a matter of sorting.

# %%
SEEDS, LATENT, STEPS, CRITIC_STEPS, COUNT = 16, 2, 600, 2, 1000


def mixture(key, count):
    key_side, key_noise = jr.split(key)
    z = jr.normal(key_noise, (count, 1))
    return jnp.where(jr.uniform(key_side, (count, 1)) < 0.7, -1 + 0.6 * z, 2 + 0.9 * z)


xs_p = mixture(jr.key(0), 4096)

# %% [markdown]
# ## One run, as a function of its loss and its key
#
# `train_gan` plays the game: two discriminator steps, one generator step, again. The generator
# descends the divergence of the *shifted* vanilla loss, $h(u) = \operatorname{softplus}(u + C)$:
# twice JS for $C = 0$, almost $\operatorname{KL}(q\Vert p)$ for large $C$ (tutorial 4).


# %%
def optimizer(rate, updates):
    return optax.adam(optax.cosine_decay_schedule(rate, updates, alpha=0.05), b1=0.5, b2=0.999)


OF_D, OF_G = optimizer(1e-2, STEPS * CRITIC_STEPS), optimizer(5e-3, STEPS)


def run(shift, key):
    key_d, key_g, key_run, key_noise = jr.split(key, 4)
    state, info = df.train_gan(
        df.gans.vanilla(shift),
        df.networks.Discriminator(1, width=32, key=key_d),
        df.networks.Generator(LATENT, 1, width=32, key=key_g),
        xs_p,
        latent=LATENT,
        steps=STEPS,
        critic_steps=CRITIC_STEPS,
        d_optimizer=OF_D,
        g_optimizer=OF_G,
        ema_decay=0.98,
        chunk=STEPS,
        key=key_run,
    )
    # state.ema is the generator, averaged over the last steps
    return jax.vmap(state.ema)(jr.normal(key_noise, (COUNT, LATENT))), info


# %% [markdown]
# ## All of them
#
# The inner `vmap` is over keys, the outer one over $C$. `over_devices` lays the keys over every
# device there is; on one device it changes nothing. Every loss gets the *same* keys: the networks
# start alike, so the losses can be compared pair by pair.

# %%
shifts = jnp.array([0.0, 3.0, 8.0])
keys = df.over_devices(jr.split(jr.key(1), SEEDS))
everything = jax.jit(jax.vmap(jax.vmap(run, in_axes=(None, 0)), in_axes=(0, None)))
xs, info = everything(shifts, keys)
print("samples, (loss, seed, sample, coordinate):", xs.shape)

# %% [markdown]
# ## Look

# %%
edges = np.linspace(-4, 6, 51)
side = np.linspace(-4, 6, 300)
density = 0.7 * norm.pdf(side, -1, 0.6) + 0.3 * norm.pdf(side, 2, 0.9)
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.2), sharey=True)
for ax, shift, clouds in zip(axes, shifts, xs, strict=True):
    ax.fill_between(side, density, color=df.plot.COLORS["p"], alpha=0.6, lw=0, label="p")
    for i, cloud in enumerate(clouds):
        label = "each seed" if i == 0 else None
        df.plot.samples(cloud, bins=edges, lw=0.5, alpha=0.6, label=label, ax=ax)
    whole = clouds.reshape(-1, 1)
    df.plot.samples(whole, bins=edges, color="C1", lw=1.8, label="all seeds together", ax=ax)
    ax.set(title=f"C = {shift:g}", xlabel="x [units of x]")
axes[0].set_ylabel("density [per unit of x]")
axes[0].legend()

# %% [markdown]
# `info` has the axes of loss and seed too, in front. `df.plot.losses` draws the median of the
# seeds and the band of the middle 80 %, and names what each player measures or descends.

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), sharey=True)
for i, (ax, shift) in enumerate(zip(axes, shifts, strict=True)):
    of_shift = jax.tree.map(lambda leaf, i=i: leaf[i], info)
    df.plot.losses(of_shift.d_losses, gan=df.gans.vanilla(shift), ax=ax)
    ax.set(title=f"C = {shift:g}", ylim=(1.2, 1.45))
    ax.label_outer()

# %% [markdown]
# ## Judge
#
# Two checks, as in tutorial 1. The discriminator's loss must have come up to $2\log 2$, where it
# cannot tell the two apart. And W2 to fresh samples has a floor, W2 between two samples of $p$.


# %%
def w2(xs, ys):
    """On the line the best coupling is the sorted one."""
    return np.sqrt(np.mean((np.sort(np.ravel(xs)) - np.sort(np.ravel(ys))) ** 2))


fresh = [mixture(key, COUNT) for key in jr.split(jr.key(2), 20)]
floor = np.mean([w2(one, other) for one, other in zip(fresh[::2], fresh[1::2], strict=True)])
distances = np.array([[np.mean([w2(cloud, ys) for ys in fresh]) for cloud in row] for row in xs])
late = np.asarray(info.d_losses[..., -100:]).mean(axis=(1, 2))
print(f"floor of W2 {floor:.3f}; 2 log 2 = {2 * np.log(2):.3f}")
for shift, row, loss in zip(shifts, distances, late, strict=True):
    error = row.std(ddof=1) / np.sqrt(len(row))
    print(
        f"C = {shift:g}: W2 {row.mean():.3f} +- {error:.3f}, "
        f"single seeds {row.min():.3f} to {row.max():.3f}; discriminator loss {loss:.3f}"
    )
difference = distances[2] - distances[0]
error = difference.std(ddof=1) / np.sqrt(len(difference))
wins = np.mean(difference < 0)
print(f"C = 8 less C = 0, paired: {difference.mean():+.3f} +- {error:.3f}")
print(f"with one seed each, C = 8 would have won {wins:.0%} of the time")

# %%
fig, ax = plt.subplots(figsize=(5.6, 3.5))
places = np.arange(3)
ax.plot(places, distances, color="0.75", lw=0.7, zorder=1)
ax.plot(places, distances, "o", ms=4, color="C0", zorder=2)
ax.plot(places, distances.mean(axis=1), "_", ms=32, mew=2.5, color="C1", zorder=3)
ax.axhline(floor, color="C2", ls="--")
ax.text(2.4, floor, "two samples of p ", color="C2", ha="right", va="bottom")
ax.set_xticks(places, [f"C = {shift:g}" for shift in shifts])
ax.set(ylabel="$W_2$ to fresh samples [units of x]", ylim=0, xlim=(-0.4, 2.4))
ax.set_title("one line a seed; orange: the mean")

# %% [markdown]
# The spread over seeds is of the size of any difference between the losses, or larger. Where the
# paired error bar is not small beside the difference, the honest verdict is "no difference seen".
# On this target that is what theory expects, too: both nets are rich enough for $q = p$, all three
# losses have their minimum there, and the discriminator is never sure of itself, so the slope of
# $h$ hardly matters. It matters where samples and data lie far apart (tutorial 4, and
# `examples/gan_digits.py`).
#
# ## One step further: an ensemble
#
# Seeds err in different ways. Samples of all generators, thrown together, are samples of the
# averaged density, and closer to $p$ than the typical member:

# %%
many = mixture(jr.key(3), SEEDS * COUNT)
for shift, row, clouds in zip(shifts, distances, xs, strict=True):
    print(f"C = {shift:g}: members {row.mean():.3f}, ensemble {w2(clouds, many):.3f}")

# %% [markdown]
# (A part of that gain is only that more samples have a lower floor.)
#
# Losses that are no family of one parameter share an axis too:
# `df.gans.stack(df.gans.vanilla(), df.gans.logit(), df.gans.mle())` is one GAN whose leaves have a
# leading axis of three. Let `run` take the GAN itself, and the axis of $C$ becomes one of losses.
#
# ## What can go wrong, and how you notice
#
# - **Memory.** 64 seeds hold 64 states. Split the keys and loop, or lay them over more devices.
# - **The number of keys** must be a multiple of the number of devices; `over_devices` says so.
# - **One seed diverges.** Count the seeds whose losses are not finite before you average.
# - **The discriminator's loss is at $2\log 2$, but W2 is not at its floor.** The discriminator is
#   too weak or too slow for what is left: more `critic_steps`, a higher rate, a wider net.
# - **A checkpoint inside `vmap`** is refused: write one run a file, or keep the states yourself.
#
# ## Where to go next
#
# - The same on a ring of eight Gaussians, and on a cluster: `examples/many_seeds.py`.
# - Images: `networks.ConvGenerator`, `networks.ConvDiscriminator`, `examples/gan_faces.py`.
# - Particles that a generator is then regressed onto: `form="distillation"` of `train_gan`; or a
#   proximal step, `form="proximal"`, in the recipes.
