# %% [markdown]
# # 1. Move samples of one distribution onto samples of another
#
# You have two clouds of points, samples of $q$ and samples of $p$, and no density of either. At the
# end of this page you can move the first cloud onto the second, tell from two numbers whether that
# worked, change the divergence that it goes down, and stop and resume a run.
#
# **The idea.** Train a classifier to tell the two clouds apart. At its optimum its logit is
# $d(x) = \log p(x)/q(x)$: positive where there should be more points, negative where there are too
# many. So move every point a little way uphill, $x \leftarrow x + \epsilon\,\nabla d(x)$, train a
# little more, move again. In the limit of small steps this is the gradient flow of
# $\operatorname{KL}(q\Vert p)$, and nothing is left to do once the classifier has given up.

# %%
import sys

if "google.colab" in sys.modules:
    import glob
    import subprocess

    # A wheel that was uploaded beside this notebook, or else the latest release.
    wanted = sorted(glob.glob("divergence_flows-*.whl")) or ["divergence_flows"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", wanted[-1]], check=True)

# %%
import pathlib
import tempfile

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import make_moons

import divergence_flows as df

plt.style.use("divergence_flows.plot.style")

# %% [markdown]
# ## Two clouds
#
# The target is a pair of moons, brought to mean zero and unit spread, the source one blob. Keep
# some samples of the target out of the training: they will be the judge. Samples are arrays of
# numpy or JAX, tensors of torch, or data frames of pandas or polars, one sample a row.


# %%
def moons(count, seed):
    xs, _ = make_moons(count, noise=0.06, random_state=seed)
    return np.float32((xs - [0.5, 0.25]) / [0.87, 0.5])


xs_p, held_out, another = moons(4000, 0), moons(400, 1), moons(400, 2)
xs_q = 0.7 * jr.normal(jr.key(0), (400, 2))

# %% [markdown]
# ## Move
#
# `transport` needs a GAN, a discriminator and the two clouds. `df.gans.logit()` is the pair of
# logistic losses of an ordinary classifier together with $h(u) = u$, "go straight up the logit".
# Each step trains the discriminator a few times on minibatches and then moves all points once. The
# step of the points and the learning rate of the discriminator may be schedules of optax: both go
# down, so that the points come to rest.

# %%
STEPS, CRITIC_STEPS = 600, 10
gan = df.gans.logit()
discriminator = df.networks.Discriminator(2, width=64, depth=3, key=jr.key(1))
moved, info = df.transport(
    gan,
    discriminator,
    xs_q,
    xs_p,
    steps=STEPS,
    step_size=optax.cosine_decay_schedule(2e-2, STEPS, alpha=0.05),
    critic_steps=CRITIC_STEPS,
    optimizer=optax.adam(optax.cosine_decay_schedule(5e-3, STEPS * CRITIC_STEPS, alpha=0.05)),
    batch_size=256,
    chunk=30,
    key=jr.key(2),
)

# %% [markdown]
# ## Look
#
# `info.path` holds the cloud at the end of every chunk, `info.losses` the discriminator's loss.
# `df.plot` draws both: axes go in and come out, and q, what has moved and p have the same colours
# everywhere.

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.9), sharey=True)
df.plot.before_after(xs_q, moved, held_out, axes=axes)
axes[0].set_ylabel("$x_2$ [units of the data]")
fig.supxlabel("$x_1$ [units of the data]")

# %%
fig, ax = plt.subplots(figsize=(4.6, 4.6))
df.plot.paths(info.path, count=100, ax=ax)
ax.set(title="a hundred of the particles", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
ax.legend()

# %% [markdown]
# ## Did it work?
#
# Pictures flatter. Two numbers do not.
#
# 1. **Distance.** `wasserstein2` is the exact Wasserstein distance between two clouds. It is not
#    zero between two samples of the *same* distribution, so measure that too: it is the floor.
# 2. **The classifier's loss.** At its optimum the sum of the two logistic losses is
#    $2\log 2 - 2\operatorname{JS}(p, q)$. If it has climbed to $2\log 2$, the discriminator cannot
#    tell the clouds apart any more.

# %%
before, after, floor = (df.wasserstein2(xs, held_out) for xs in (xs_q, moved, another))
last_loss = float(jnp.mean(info.losses[-100:]))
print(f"W2 to held-out samples: {before:.3f} before, {after:.3f} after")
print(f"W2 between two samples of p, the floor: {floor:.3f}")
early_loss = float(jnp.mean(info.losses[10:30]))
print(f"discriminator loss: {early_loss:.3f} early, {last_loss:.3f} late")
print(f"theory for p = q, 2 log 2: {2 * np.log(2):.3f}")

# %%
course = [float(df.wasserstein2(xs, held_out)) for xs in info.path]
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
left.plot(info.path_steps, course, label="particles")
left.axhline(floor, ls=":", lw=0.8, label="two samples of p")
left.set(xlabel="step", ylabel="$W_2$ to held-out samples\n[units of the data]", ylim=0)
left.legend()
df.plot.losses(info, gan=gan, ax=right)

# %% [markdown]
# ## One step further: another divergence
#
# The discriminator only estimates the ratio. Which divergence the points go down is the choice of
# $h$ in the velocity $\nabla h(\log p/q)$, and any increasing $h$ will do. Give `df.GAN` the two
# functions of the discriminator's loss and your own $h$. Here $h(d) = \tanh(d/2)$: wherever the
# classifier is certain, the pull fades, on both sides.
#
# Two short runs, two velocities, one discriminator's loss:


# %%
def cautious(d):
    return jnp.tanh(d / 2)


def short_run(choice, **options):
    return df.transport(
        choice,
        discriminator,
        xs_q,
        xs_p,
        steps=100,
        step_size=2e-2,
        batch_size=128,
        chunk=10,
        key=jr.key(3),
        **options,
    )


choices = {
    "h = d, KL(q||p)": gan,
    "h = tanh(d/2), our own": df.GAN(gan.phi, gan.psi, cautious),
}
runs = {name: short_run(choice) for name, choice in choices.items()}
distances = {
    name: [float(df.wasserstein2(xs, held_out)) for xs in info.path]
    for name, (_, info) in runs.items()
}
for name, values in distances.items():
    print(f"{name:24s} W2 {values[4]:.3f} after 40 steps, {values[-1]:.3f} after 100")

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.4))
for (name, values), style in zip(distances.items(), ("-", "--"), strict=True):
    ax.plot(10 * np.arange(11), values, ls=style, lw=2, label=name)
ax.axhline(floor, ls=":", lw=0.8, label="two samples of p")
ax.set(xlabel="step", ylabel="$W_2$ to held-out samples\n[units of the data]", ylim=0)
ax.legend()

# %% [markdown]
# Their clocks differ, because the slope of $h$ is the speed: for $h(d) = d$ it is 1, for our own at
# most a half, and least on the points that the classifier has seen through. The resting place of
# both is $p = q$. Ask the library for the divergence that belongs to your $h$: `df.h_to_f(h)` is
# its $f$ (tutorial 4).
#
# ## One step further: stop and resume
#
# A long run gets a `checkpoint`: it is written after every chunk, and the same call goes on from
# it. Here `on_chunk` stops the run in the middle, as a closed laptop would, and the second call
# ends where the uninterrupted one did, bit for bit.


# %%
class Interrupted(Exception):
    pass


def stop_half_way(state, metrics):
    if state.step == 50:
        raise Interrupted


with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "run.ckpt"
    try:
        short_run(gan, checkpoint=path, on_chunk=stop_half_way)
    except Interrupted:
        print("stopped after 50 of 100 steps")
    resumed, _ = short_run(gan, checkpoint=path)
uninterrupted, _ = runs["h = d, KL(q||p)"]
same = bool(jnp.all(resumed == uninterrupted))
print(f"resumed and uninterrupted runs agree in every bit: {same}")

# %% [markdown]
# ## New points
#
# The particles have moved; what of points that were not there? `keep_map=True` keeps the
# discriminator of each step, and `info.push` lets new points take the same steps. The particles of
# the run end where they ended, bit for bit.

# %%
kept, info = short_run(gan, keep_map=True)
fresh = 0.7 * jr.normal(jr.key(9), (400, 2))
pushed = info.push(fresh)
print(f"particles again, in every bit: {bool(jnp.all(info.push(xs_q) == kept))}")
print(f"W2 to held-out samples: {df.wasserstein2(kept, held_out):.3f} of the particles, ", end="")
print(f"{df.wasserstein2(pushed, held_out):.3f} of new points")

# %% [markdown]
# ## More data than memory holds
#
# For an array `transport` also takes a function `batch(step)`, which may read from a disk, or a
# loader of batches: torch's, grain's, any iterable. The batches of a chunk are loaded while the
# device computes the chunk before. Where samples have conditions, classes for one, pass `(xs, cs)`
# and a discriminator `d(x, c)` (`examples/conditional_digits.py`).


# %%
def batch(step):
    rows = np.random.default_rng(step).integers(len(xs_p), size=640)
    return xs_p[rows]


def look(state, metrics):
    print(f"step {int(state.step):3d}  loss {metrics['losses'].mean():.3f}")
    return state.step >= 30  # True ends the run


streamed, _ = df.transport(
    gan,
    discriminator,
    xs_q,
    batch,
    steps=100,
    batch_size=128,
    chunk=10,
    on_chunk=look,
    key=jr.key(3),
)

# %% [markdown]
# ## The same by hand
#
# Fifteen lines of JAX and optax do what the first call on this page did. They are worth reading:
# this is all that the method is.

# %%
optimizer = optax.adam(2e-3)
weights, rest = eqx.partition(discriminator, eqx.is_array)
target = jnp.asarray(xs_p)


def loss(weights, xs, ys):  # a classifier's
    d = jax.vmap(eqx.combine(weights, rest))
    return jnp.mean(jax.nn.softplus(-d(ys))) + jnp.mean(jax.nn.softplus(d(xs)))


def step(state, key):
    xs, weights, memory = state
    for one in jr.split(key, 5):
        rows_q, rows_p = jr.randint(one, (2, 128), 0, jnp.array([[len(xs)], [len(target)]]))
        slope = jax.grad(loss)(weights, xs[rows_q], target[rows_p])
        updates, memory = optimizer.update(slope, memory)
        weights = optax.apply_updates(weights, updates)
    xs = xs + 2e-2 * jax.vmap(jax.grad(eqx.combine(weights, rest)))(xs)
    return (xs, weights, memory), None


state = (xs_q, weights, optimizer.init(weights))
(by_hand, *_), _ = jax.jit(lambda s, keys: jax.lax.scan(step, s, keys))(
    state, jr.split(jr.key(3), 100)
)
ours, _ = short_run(gan, optimizer=optimizer)
print(f"W2 after 100 steps: {df.wasserstein2(ours, held_out):.3f} by `transport`, ", end="")
print(f"{df.wasserstein2(by_hand, held_out):.3f} by hand")

# %% [markdown]
# What `transport` adds at nearly the same speed (`benchmarks/`, "a scan by hand": its steps take up
# to 1.08 of those by hand, its first call 1.8): any divergence and any
# penalty, seeds by `vmap`, a progress bar, data from a disk, checkpoints, the map for new points,
# and a run that stops with advice where its numbers break. If you need none of it, take the fifteen
# lines.
#
# ## What can go wrong, and how you notice
#
# - **The discriminator lags.** The points run into a wall of their own making, or oscillate: the
#   loss rises *above* $2\log 2$ or W2 stops falling far above the floor. Take more `critic_steps`,
#   or a smaller `step_size`.
# - **It overfits.** With few samples of $p$ the classifier learns them by heart; the points land
#   *on* the training samples. W2 to the training samples is then far below W2 to held-out ones.
#   Use `penalty="r1"`, a smaller network or fewer steps.
# - **Scales differ.** The defaults suit data of about unit scale: standardise each coordinate
#   first, and undo it at the end.
# - **A W2 at the floor is necessary, not sufficient**, above all in many dimensions, where the
#   floor is high. Look at `info.losses` as well.
#
# ## Where to go next
#
# - What the flow does in continuous time, with an exact ratio: tutorial 2.
# - `transport` moves *these* points. `train_flow_ratio` learns a field that moves new ones,
#   `train_gan` a generator (tutorial 5).
# - Real data, from the command line: `examples/two_samples.py`.
