# %% [markdown]
# # 6. Path gradients of any f-divergence, in your own loop
#
# You do variational inference with your own model $q$, your own optimiser, your own loop. At the
# end of this page you can replace your ELBO by a loss whose gradient has no noise at the solution,
# use it with any $q$ that can sample and evaluate its density, and descend any f-divergence, not
# only $\operatorname{KL}(q\Vert p)$.
#
# **The idea.** With $x = g_\theta(z)$ a sample of $q_\theta$ and $u = \log p/q_\theta$,
#
# $$\nabla_\theta F = -E_z\bigl[h'(u)\,\nabla_x u\;\partial_\theta g_\theta(z)\bigr].$$
#
# Samples are pulled along the velocity $\nabla h(u)$ of the particle flow, and $\theta$ follows.
# The gradient of an ELBO has one term more, from the density's own dependence on $\theta$: its mean
# is zero, its noise is not. And where $q = p$, $u$ is constant and $\nabla_x u = 0$: *every
# sample's* path gradient vanishes.

# %%
import sys

if "google.colab" in sys.modules:
    import glob
    import subprocess

    # A wheel that was uploaded beside this notebook, or else the latest release.
    wanted = sorted(glob.glob("divergence_flows-*.whl")) or ["divergence_flows"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", wanted[-1]], check=True)

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import divergence_flows as df

plt.style.use("divergence_flows.plot.style")

# %% [markdown]
# ## A target with an answer
#
# A banana, $\log p(x) = -(x_1 - 1)^2 - (x_2 - x_1^2)^2$ up to a constant. Its integral is $\pi$, so
# the log evidence is $\log\pi$, and the best Gaussian for $\operatorname{KL}(q\Vert p)$ is known:
# it has mean $(1, \tfrac54)$ and misses the truth by $\tfrac12\log 2 - \tfrac18$ nats.


# %%
def log_p(x):
    return -((x[0] - 1) ** 2) - (x[1] - x[0] ** 2) ** 2


# %% [markdown]
# ## Your loop
#
# `stl_loss(log_p, q, z)` takes a model and a batch of noise, and is differentiated with respect to
# the model. Any optimiser will do. A model is any pytree with `push(z)` and `log_prob(x)`, for one
# point each; `df.Gaussian` is one.

# %%
STEPS = 1500
OPTIMIZER = optax.adam(optax.cosine_decay_schedule(0.05, STEPS))


@eqx.filter_jit
def fit(q, key):
    def step(carry, key):
        q, memory = carry
        z = jr.normal(key, (64, 2))
        loss, slope = jax.value_and_grad(df.stl_loss, argnums=1)(log_p, q, z)
        updates, memory = OPTIMIZER.update(slope, memory)
        return (optax.apply_updates(q, updates), memory), loss

    (q, _), losses = jax.lax.scan(step, (q, OPTIMIZER.init(q)), jr.split(key, STEPS))
    return q, losses


gaussian, losses = fit(df.Gaussian(jnp.zeros(2), jnp.eye(2)), jr.key(0))
ZS = df.sobol_nodes(8192, 2, key=jr.key(1)).points


@eqx.filter_jit
def kl(q):
    """KL(q || p), on even points."""
    return df.stl_loss(log_p, q, ZS) + jnp.log(jnp.pi)


print("mean", gaussian.mean, " theory 1, 1.25")
print(f"KL {kl(gaussian):.4f} nats, theory {np.log(2) / 2 - 1 / 8:.4f}")

# %% [markdown]
# ## Your model
#
# The banana is a bent Gaussian, so bend: $x_1 = m + s z_1$, $x_2 = c + b\,x_1^2 + t z_2$. Twelve
# lines, and the family contains the target.


# %%
class Bent(eqx.Module):
    m: jax.Array
    log_s: jax.Array
    b: jax.Array
    c: jax.Array
    log_t: jax.Array

    def push(self, z):
        first = self.m + jnp.exp(self.log_s) * z[0]
        return jnp.stack([first, self.c + self.b * first**2 + jnp.exp(self.log_t) * z[1]])

    def log_prob(self, x):
        z1 = (x[0] - self.m) / jnp.exp(self.log_s)
        z2 = (x[1] - self.c - self.b * x[0] ** 2) / jnp.exp(self.log_t)
        return -0.5 * (z1**2 + z2**2) - self.log_s - self.log_t - jnp.log(2 * jnp.pi)


start = Bent(*jnp.array([-0.5, 0.5, 0.0, 0.5, 0.5]))
bent, bent_losses = fit(start, jr.key(0))
print(f"KL {kl(bent):.1e} nats, theory 0")
print(
    f"-loss {-bent_losses[-1]:.6f}: log evidence from one batch of 64, log pi {np.log(np.pi):.6f}"
)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.9))
df.plot.density(log_p, ((-2, 4), (-2.5, 8)), ax=left)
df.plot.ellipses(gaussian, levels=[2], label="Gaussian", ax=left)
turn = jnp.linspace(0, 2 * jnp.pi, 200)
circle = 2 * jnp.stack([jnp.cos(turn), jnp.sin(turn)], axis=1)
left.plot(*jax.vmap(bent.push)(circle).T, color="C1", label="bent")
left.set(xlabel="$x_1$ [units of x]", ylabel="$x_2$ [units of x]")
left.legend(loc="upper left", title="image of |z| = 2")
both = {"Gaussian": losses + jnp.log(jnp.pi), "bent": bent_losses + jnp.log(jnp.pi)}
df.plot.losses(both, ax=right, linewidth=0.7)
right.axhline(np.log(2) / 2 - 1 / 8, color="black", ls=":", lw=1, label="the best Gaussian, theory")
right.set(ylabel="loss + log $\\pi$ of one batch [nats]", ylim=(-0.4, 2))
right.legend()

# %% [markdown]
# The Gaussian's loss keeps jumping, from batch to batch: $\log p/q$ is not constant. The bent
# family's curve becomes a line: at $q = p$ the loss of any batch *is* minus the log evidence.
#
# ## See the noise go
#
# Beside the path gradient stands the one that you get by differentiating the ELBO whole. Walk from
# the start to $p$ itself and look, at each place, at mean and spread over many single samples.


# %%
def plain_loss(log_p, q, z):
    def one(z):
        x = q.push(z)
        return q.log_prob(x) - log_p(x)

    return jnp.mean(jax.vmap(one)(z))


exact = Bent(*jnp.array([1.0, np.log(0.5) / 2, 1.0, 0.0, np.log(0.5) / 2]))
samples = jr.normal(jr.key(2), (2000, 1, 2))


@eqx.filter_jit
def statistics(loss, q):
    """Mean of the gradient, and root of the sum of variances."""
    slopes = jax.vmap(jax.grad(loss, argnums=1), in_axes=(None, None, 0))(log_p, q, samples)
    flat = jnp.stack(jax.tree.leaves(slopes), axis=1)
    return flat.mean(axis=0), jnp.sqrt(jnp.sum(flat.var(axis=0)))


distances = jnp.array([1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0])
walk = [jax.tree.map(lambda a, b, s=s: b + s * (a - b), start, exact) for s in distances]
path, plain = ([statistics(loss, q) for q in walk] for loss in (df.stl_loss, plain_loss))
apart = jnp.abs(path[2][0] - plain[2][0]) / (plain[2][1] / np.sqrt(len(samples)))
print(f"means at distance 0.1: apart by at most {apart.max():.1f} standard errors")
print(f"spread at q = p: {path[-1][1]:.1e} of the path gradient, {plain[-1][1]:.2f} of the plain")

# %%
fig, ax = plt.subplots(figsize=(5.8, 3.4))
for found, style, name in ((path, "o-", "path gradient"), (plain, "s--", "whole gradient")):
    spreads = [spread for _, spread in found[:-1]]
    ax.loglog(distances[:-1], spreads, style, label=name)
ax.set(
    xlabel="distance from p [the start is at 1]", ylabel="spread of one sample's\ngradient [nats]"
)
ax.legend()

# %% [markdown]
# Far away the two are alike, and the path gradient may even be the noisier one. Near the solution
# its noise is proportional to the distance, while the other's stays.
#
# ## One step further: another divergence, and all of them
#
# The argument `h` chooses the divergence: a row of `df.divergences`, or `df.f_to_h` of an $f$ of
# your own. The alpha family leads from $\operatorname{KL}(q\Vert p)$ at $\alpha = 0$, which would
# rather leave mass out, to $\operatorname{KL}(p\Vert q)$ at 1, whose best Gaussian has exactly the
# moments of $p$: mean $(1, \tfrac32)$, variances $\tfrac12$ and 3, covariance 1. The order is an
# array, so it can be an axis. Large $\alpha$ means heavy weights $e^{\alpha u}$, for which random
# noise is a bad rule: use `Nodes`, a quadrature, in the place of `z`.

# %%
step = 0.2 * np.arange(-30, 31)
z_1, z_2 = np.meshgrid(step, step)
points = np.stack([z_1.ravel(), z_2.ravel()], axis=1)
mass = np.exp(-0.5 * np.sum(points**2, axis=1))
nodes = df.Nodes(points, mass / mass.sum())


@jax.jit
@jax.vmap
def of_order(a):
    h = df.divergences.alpha(a).h
    slope = jax.grad(df.stl_loss, argnums=1)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, 400))

    def step(carry, _):
        q, memory = carry
        updates, memory = optimizer.update(slope(log_p, q, nodes, h=h), memory)
        return (optax.apply_updates(q, updates), memory), None

    (q, _), _ = jax.lax.scan(step, (gaussian, optimizer.init(gaussian)), length=400)
    return q


orders = jnp.array([0.0, 0.5, 1.0])
fits = of_order(orders)  # Gaussians along one axis
means, covariances = fits.mean, fits.covariance
print("alpha   mean            variances       covariance")
for a, m, c in zip(orders, means, covariances, strict=True):
    print(f"{a:4.1f}  {m[0]:6.3f} {m[1]:6.3f}  {c[0, 0]:6.3f} {c[1, 1]:6.3f}  {c[0, 1]:6.3f}")
print("theory for 0:  1 1.25, 0.25 1.5, 0.5;  for 1:  1 1.5, 0.5 3, 1")

# %%
fig, ax = plt.subplots(figsize=(5.2, 4))
df.plot.density(log_p, ((-2, 4), (-2.5, 6.5)), ax=ax)
for i, a in enumerate(orders):
    q = jax.tree.map(lambda leaf, i=i: leaf[i], fits)
    df.plot.ellipses(q, levels=[2], color=f"C{i}", label=f"$\\alpha$ = {a:g}", ax=ax)
ax.set(xlabel="$x_1$ [units of x]", ylabel="$x_2$ [units of x]")
ax.legend(loc="upper left", title="two standard deviations")

# %% [markdown]
# ## What can go wrong, and how you notice
#
# - **The value of the loss.** For $h(u) = u$ it is $\operatorname{KL}(q\Vert p)$ up to the
#   evidence. For any other $h$ it is $-E_q[h]$, which is *no* divergence: only its gradient counts,
#   and it may rise while all goes well. Monitor something else.
# - **A target without its constant.** Nothing changes for $h(u) = u$, only the speed for powers;
#   any other $h$ then descends another divergence.
# - **Heavy weights.** If a few samples carry the gradient, start from the KL fit as above, take
#   more noise or `Nodes`, or a smaller $\alpha$.
# - **Passing $f$ instead of $h$** is the classic slip; `stl_loss` refuses it where it can tell.
# - **Parameters that `push` does not see**, such as those of a base distribution, get no gradient.
#
# ## Where to go next
#
# - flowjax's flows as $q$ and as $p$: `examples/with_flowjax.py`; mixtures: `df.Mixture`.
# - For Gaussians there is a better loop than yours: `fit_gaussian`, tutorial 3.
# - Why this is the gradient of $F$, and what the path gradient has to do with particle flows
#   and Bures-Wasserstein descent: the theory page.
