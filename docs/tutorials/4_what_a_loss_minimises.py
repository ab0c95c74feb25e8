# %% [markdown]
# # 4. What does a loss really minimise?
#
# A GAN is three functions of the discriminator's value $d$: it maximises
# $E_p[\phi(d)] + E_q[\psi(d)]$, and the generator maximises $E_q[h_T(d)]$. At the end of this page
# you can compute, for any three functions, the divergence that the discriminator measures and the
# one that the generator descends; see that they need not be the same; and check the answer by an
# experiment in which nothing is left to luck.
#
# **The idea.** The best discriminator is a function of the ratio $r = p/q$: $\phi$ and $\psi$ fix
# $r = T(d)$. Written in $u = \log r$ the generator's loss is $h(u) = h_T(T^{-1}(e^u))$; its samples
# move with the velocity $\nabla h(u)$; and that is the gradient flow of the f-divergence with
# $r^2 f''(r) = h'(\log r)$. Two lines of code undo the disguise: `lower` gives $h$, `h_to_f` gives
# $f$.

# %%
import sys

if "google.colab" in sys.modules:
    import glob
    import subprocess

    # A wheel that was uploaded beside this notebook, or else the latest release.
    wanted = sorted(glob.glob("divergence_flows-*.whl")) or ["divergence_flows"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", wanted[-1]], check=True)

# %%
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from jax.scipy.stats import norm

import divergence_flows as df

jax.config.update("jax_enable_x64", True)  # digits, to compare two ways of computing
plt.style.use("divergence_flows.plot.style")

# %% [markdown]
# ## Ask
#
# The non-saturating GAN, as everybody trains it: its discriminator measures the Jensen-Shannon
# divergence. What does its generator descend? Compare with the softened reverse KL,
# $2\operatorname{KL}(\tfrac{p+q}{2}\Vert p)$, whose $f$ with $f(1) = f'(1) = 0$ is
# $(1 + r)\log\tfrac{1+r}{2r} + r - 1$.

# %%
r = jnp.array([0.1, 0.5, 1.0, 2.0, 10.0])
gan = df.gans.non_saturating()
f = jax.jit(df.h_to_f(df.lower(gan.h_t, gan.log_t)))
softened = (1 + r) * jnp.log((1 + r) / (2 * r)) + r - 1
print("r              ", r)
print("what it descends", f(r))
print("softened KL     ", softened)

# %% [markdown]
# Two more ways to the same answer, for any GAN of the library: `gan.descends` and `gan.measures`.
#
# ## Your own loss
#
# Write three functions. Here the exponential loss of boosting, $\phi = -e^{-d}$, $\psi = -e^d$,
# with a bounded generator loss, $h_T = \tanh$. No closed form is needed: the library finds $T$ by
# differentiation and its inverse by root finding. (If you know the inverse, pass it, it is faster:
# here $T = e^{2d}$, so $d = u/2$.)


# %%
def phi(d):
    return -jnp.exp(-d)


def psi(d):
    return -jnp.exp(d)


def half(u):
    return u / 2


found = jax.jit(df.h_to_f(df.lower(jnp.tanh, df.log_ratio(phi, psi))))(r)
own = df.GAN(phi, psi, jnp.tanh, inverse=half)
print("our own descends", found)
print("the same        ", jax.jit(own.descends)(r))

# %% [markdown]
# Now compare, for four GANs, what is measured with what is descended. Only the shape of an $f$
# counts: $f + a\,(r - 1)$ is the same divergence and $c\,f$ the same flow at another speed, so
# `df.plot.curves` draws both with $f(1) = f'(1) = 0$ and $f''(1) = 1$, and $h$ below them.

# %%
gans = {
    "vanilla": df.gans.vanilla(),
    "non-saturating": gan,
    "logit": df.gans.logit(),
    "boosting, tanh (our own)": own,
}

fig, axes = plt.subplots(2, 4, figsize=(11, 5.4), sharey="row", sharex="row")
for column, (name, each) in zip(axes.T, gans.items(), strict=True):
    df.plot.curves(each, axes=column)
    measured, descended = (line.get_ydata() for line in column[0].lines)
    column[0].set_title(name)
    gap = jnp.max(jnp.abs(measured - descended) / (1 + measured))
    print(f"{name:26s} {'one divergence' if gap < 1e-6 else 'two divergences'}")
for ax in axes.flat:
    ax.label_outer()

# %% [markdown]
# Only the vanilla GAN descends what it measures: its game is zero-sum, $h_T = -\psi$ up to a
# constant. The left arm of a curve is the price of $q$ where $p$ has nothing, the right arm the
# price of leaving $p$ uncovered.
#
# ## Check it: an experiment without luck
#
# Take $p$ a mixture of two normals on the line and $q = N(m, s^2)$, which cannot be $p$. Then the
# divergence *decides* where $q$ ends. The generator is $x = m + s z$, and in place of a trained
# discriminator it plays against the best one, $d = T^{-1}(p/q)$, held fixed while the generator
# takes its gradient. Beside it stands the $f$ that the library claims: $\int q\,f(p/q)\,dx$ on a
# grid, with the whole gradient, no generator and no discriminator. If the claim is true, the two
# gradients are equal, everywhere.

# %%
LEFT, RIGHT = (-1.0, 0.6), (2.0, 0.9)  # mean and standard deviation
NODES = df.trapezoid(1)  # a quadrature rule for z, so that no noise is left
X = jnp.linspace(-9.0, 11.0, 1001)
START = jnp.array([0.5, 0.3])  # m and log s


def log_p(x):
    return jnp.logaddexp(
        jnp.log(0.7) + norm.logpdf(x, *LEFT), jnp.log(0.3) + norm.logpdf(x, *RIGHT)
    )


def as_generator(gan, q):
    x, fixed = q[0] + jnp.exp(q[1]) * NODES.points[:, 0], jax.lax.stop_gradient(q)
    u = log_p(x) - norm.logpdf(x, fixed[0], jnp.exp(fixed[1]))
    return -jnp.sum(NODES.weights * gan.h_t(gan.inverse(u)))


def on_a_grid(gan, q):
    log_q = norm.logpdf(X, q[0], jnp.exp(q[1]))
    return jnp.sum(jnp.exp(log_q) * gan.descends(jnp.exp(log_p(X) - log_q))) * (X[1] - X[0])


@eqx.filter_jit
def gradients(gan, q):
    return [jax.grad(loss, argnums=1)(gan, q) for loss in (as_generator, on_a_grid)]


print(f"{'':26s} as a generator      on a grid")
for name, each in gans.items():
    one, other = gradients(each, START)
    print(f"{name:26s} {one[0]:8.5f} {one[1]:8.5f}   {other[0]:8.5f} {other[1]:8.5f}")

# %% [markdown]
# They are. So train, and see where each loss leaves $q$:

# %%
OPTIMIZER = optax.adam(optax.cosine_decay_schedule(0.05, 500))


@eqx.filter_jit
def train(gan):
    def step(carry, _):
        q, memory = carry
        updates, memory = OPTIMIZER.update(jax.grad(as_generator, argnums=1)(gan, q), memory)
        return (optax.apply_updates(q, updates), memory), None

    (q, _), _ = jax.lax.scan(step, (START, OPTIMIZER.init(START)), length=500)
    return q


ends = {name: train(each) for name, each in gans.items()}
for name, (m, log_s) in ends.items():
    print(f"{name:26s} m = {m:6.3f}, s = {jnp.exp(log_s):.3f}")

# %%
fig, ax = plt.subplots(figsize=(6.6, 3.6))
ax.fill_between(X, jnp.exp(log_p(X)), color=df.plot.COLORS["p"], alpha=0.6, lw=0, label="p")
for (name, (m, log_s)), style in zip(ends.items(), ("-", "--", "-.", ":"), strict=True):
    ax.plot(X, norm.pdf(X, m, jnp.exp(log_s)), ls=style, lw=2, label=name)
ax.set(xlabel="x [units of x]", ylabel="density [per unit of x]", xlim=(-5, 6), ylim=0)
ax.legend()

# %% [markdown]
# One discriminator's loss, several resting places. None of them is wrong: each is the best normal
# for *its* divergence. If $q$ were able to equal $p$ all of them would end there, and the losses
# would differ in speed alone.
#
# ## One step further: the shift trick, as an axis
#
# The vanilla generator barely learns where the discriminator is sure, since $h'(u) = \sigma(u)$
# vanishes there. Shift it: $h(u) = \operatorname{softplus}(u + C)$. What does that minimise? A GAN
# is a pytree and $C$ one of its leaves, so one `vmap` trains a whole family. As $C$ grows it must
# move from twice JS to $\operatorname{KL}(q\Vert p)$, what the logit loss descends.

# %%
shifts = jnp.arange(0.0, 25.0, 3.0)
family = jax.vmap(df.gans.vanilla)(shifts)
places = eqx.filter_vmap(train)(family)
print("shift C ", shifts)
print("mean m  ", places[:, 0].round(3))
print(f"vanilla {ends['vanilla'][0]:.3f}, logit {ends['logit'][0]:.3f}")

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3))
values = (places[:, 0], jnp.exp(places[:, 1]))
limits = [(m, jnp.exp(log_s)) for m, log_s in (ends["vanilla"], ends["logit"])]
for i, (ax, label) in enumerate(zip(axes, ("mean m", "standard deviation s"), strict=True)):
    ax.plot(shifts, values[i], "o-")
    for limit, color, name in zip(limits, ("C2", "C1"), ("2 JS", "KL(q||p)"), strict=True):
        ax.axhline(limit[i], color=color, ls="--", label=name)
    ax.set(xlabel="shift C [nats]", ylabel=f"{label} [units of x]")
axes[0].legend()

# %% [markdown]
# ## What can go wrong, and how you notice
#
# - **A pair that is no ratio estimator.** Then $T$ is not monotone or not positive, and `log_ratio`
#   says NaN. The hinge loss is one: its best discriminator keeps only the sign of $p - q$.
# - **An $h$ that falls.** Least squares with labels $(-1, 1, 0)$ makes the generator flee from
#   where $p > q$. No divergence belongs to that, and the library refuses:


# %%
def square_phi(d):
    return -((d - 1) ** 2)


def square_psi(d):
    return -((d + 1) ** 2)


def to_zero(d):
    return -(d**2)


def best(u):
    return jnp.tanh(u / 2)


try:
    wrong = df.GAN(square_phi, square_psi, to_zero, inverse=best)
    eqx.filter_jit(wrong.descends)(jnp.array([0.5, 2.0]))
except RuntimeError as error:
    said = next(line for line in str(error).splitlines() if "decreases" in line)
    print(textwrap.fill(said, 90))

# %% [markdown]
# - **$E_q[f(r)]$ as a generator's loss.** Tempting, and wrong: with the ratio held fixed it
#   descends something else. `generator_loss` takes a GAN and refuses a divergence.
#   `df.gans.f_gan(div)` descends $f$.
# - **A real discriminator is not the best one.** All this holds at the optimum $d^*$; far from it
#   the loss is whatever the network makes of it.
#
# ## Where to go next
#
# - The table of all named divergences and GANs, with proofs in a line: the theory page.
# - The same question for a dozen losses at once: `examples/what_does_it_minimise.py`.
# - Several losses and many seeds, trained for real: tutorial 5.
