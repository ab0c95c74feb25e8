# %% [markdown]
# # 7. Distil a diffusion model by the divergence you choose
#
# You have a diffusion model and want samples in one step. At the end of this page you can train a
# diffusion model as a teacher, distil it into a one-step generator, and choose the divergence that
# the generator goes down: three of them here, side by side in one call.
#
# **The idea.** Add noise, $y = x + \sigma e$, to data and to samples of the generator. A diffusion
# model knows the score $s_p = \nabla\log p(y)$ of the noised data. A second network learns the
# score $s_q$ of the noised samples, and a classifier learns $u = \log p/q$ at every noise level.
# Then move the samples along
#
# $$v = h'(u)\,(s_p - s_q),$$
#
# which is the velocity $\nabla h(u)$ of tutorial 1, and let the generator follow. $h' = 1$ is
# $\operatorname{KL}(q\Vert p)$, the rule of DMD and Diff-Instruct; any other increasing $h$ is
# another divergence.

# %%
import sys

if "google.colab" in sys.modules:
    import glob
    import subprocess

    # A wheel that was uploaded beside this notebook, or else the latest release.
    wanted = sorted(glob.glob("divergence_flows-*.whl")) or ["divergence_flows"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", wanted[-1]], check=True)

# %%
import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import optax

import divergence_flows as df

plt.style.use("divergence_flows.plot.style")

# %% [markdown]
# ## The data
#
# Two blobs, 70 % of the samples in the left one. The noise goes from less than the width of a blob
# to about half the way between them.

# %%
STEPS, BATCH = 500, 256
left = jr.bernoulli(jr.key(0), 0.7, (4096, 1))
xs_p = jnp.where(left, -1.0, 1.5) + 0.3 * jr.normal(jr.key(1), (4096, 2))
NOISE = functools.partial(df.variance_exploding, sigma_min=0.1, sigma_max=1.0)
NETWORK = {"width": 32, "preserving": False}  # the noise does not preserve the variance

# %% [markdown]
# ## The teacher
#
# `denoising_loss` trains it in your own loop: a few lines of optax and `jax.lax.scan`. The network
# `Denoiser` predicts $x$ from $y$, and the library makes the score of that prediction.


# %%
def step(state, key):
    teacher, memory = state
    keys = jr.split(key, 3)
    xs, noise = jr.choice(keys[0], xs_p, (BATCH,)), jr.normal(keys[1], (BATCH, 2))
    level = NOISE(jr.uniform(keys[2], (BATCH,)))
    slope = jax.grad(df.denoising_loss)(teacher, xs, noise, level, predicts="data")
    updates, memory = OPTIMIZER.update(slope, memory)
    return (optax.apply_updates(teacher, updates), memory), None


OPTIMIZER = optax.adam(optax.cosine_decay_schedule(1e-2, 2 * STEPS))
start = df.networks.Denoiser(2, **NETWORK, key=jr.key(2))
state = start, OPTIMIZER.init(start)
(teacher, _), _ = jax.lax.scan(step, state, jr.split(jr.key(3), 2 * STEPS))


# %% [markdown]
# ## Three generators
#
# A generator that is able to be $p$ ends there with any $h$. The divergence decides what a
# generator does that is *not* able to. Ours is a linear map of Gaussian noise (`depth=0`), so it
# can only be one Gaussian. `train_distilled` trains it, the score $s_q$, which starts as the
# teacher, and the classifier. A divergence is a pytree, so the three of them are an axis.


# %%
def distil(divergence):
    generator = df.networks.Generator(2, 2, depth=0, key=jr.key(4))
    classifier = df.networks.NoisedDiscriminator(2, **NETWORK, key=jr.key(5))
    options = dict(latent=2, schedule=NOISE, predicts_p="data", predicts_q="data")
    options |= dict(steps=STEPS, chunk=STEPS, batch_size=BATCH, critic_steps=3, key=jr.key(6))
    options |= dict(normalise=True, ratio_clip=(0.01, 100.0), ema_decay=0.98)
    options |= dict(g_optimizer=optax.adam(1e-2))
    networks = teacher, generator, teacher, classifier
    state, _ = df.train_distilled(divergence.h, *networks, xs_p, **options)
    return jax.vmap(state.ema)(jr.normal(jr.key(7), (1000, 2)))


D = df.divergences
names = ["KL(q||p)", "JS", "KL(p||q)"]
clouds = jax.jit(jax.vmap(distil))(D.stack(D.kl_qp, D.jensen_shannon, D.kl_pq))

# %% [markdown]
# ## Look

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.6), sharex=True, sharey=True)
for ax, name, xs in zip(axes, names, clouds, strict=True):
    df.plot.samples(xs_p[:1000], color=df.plot.COLORS["p"], ax=ax)
    df.plot.samples(xs, ax=ax)
    ax.set(title=name, xlabel="$x_1$ [units of x]", aspect="equal")
    along = xs.sum(axis=1) / 2**0.5  # on the line through both blobs
    print(f"{name:9s} mean {along.mean():5.2f}, deviation {along.std():.2f}")
print("theory    mean -1.41, deviation 0.3 of one blob; -0.35, 1.65 of all p")

# %% [markdown]
# Grey is $p$, blue the samples of the generators. $\operatorname{KL}(q\Vert p)$ must not put mass
# where $p$ has none, so it stays on the larger blob. $\operatorname{KL}(p\Vert q)$ must not leave
# out mass of $p$, so it covers both and fills the gap, with the mean and the deviation of $p$ as
# well as the learned ratio tells them. JS is between the two: here it stays on one blob, and in
# runs with fewer steps and smaller batches it covered both.
#
# The noise has its say too. The generator goes down the divergence of *noised* samples, averaged
# over all levels, and under much noise two blobs are one. With `sigma_max=2.0` all three generators
# cover both blobs.
#
# ## What can go wrong, and how you notice
#
# - **An untrained teacher.** Take samples of the teacher itself, in many steps, before you distil
#   it: `examples/distill_digits.py` does. A teacher that errs passes it on.
# - **A ratio far off.** The classifier learns while the generator moves, and $h'(u)$ may be large
#   where it errs. `normalise` divides h' by its mean over the batch and `ratio_clip` bounds the
#   ratio, as published code does. Both are off by default: with them the generator goes down
#   another divergence where they bite.
# - **The score of q lags behind.** Then samples overshoot and swing. Take more `critic_steps` or a
#   lower rate of the generator.
# - **The predictions are mixed up.** A network that predicts the noise needs `predicts_p="noise"`;
#   the default is the score itself.
# - **The schedules differ.** Give `train_distilled` the levels that the teacher was trained on.
#
# ## Where to go next
#
# - $h' = 1$ needs no ratio: leave out the classifier and `xs_p`, and a teacher is enough.
# - All rows of the catalogue, with wide generators: `examples/distill_divergences.py`. Images:
#   `examples/distill_digits.py`.
# - Conditions, checkpoints and streams of data work as in `transport`: the recipes.
