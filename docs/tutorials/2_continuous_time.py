# %% [markdown]
# # 2. A flow in continuous time, against theory
#
# With a trained discriminator three errors mix: the ratio's, the steps', the sample's. Here the
# ratio is known, so the flow can be taken apart. At the end of this page you can write the flow of
# any log ratio as an ordinary differential equation, integrate it with any solver, say how fast it
# must go downhill, carry densities along, stop it at an event, and run a family of flows at once.
#
# **The idea.** The velocity is $v = \nabla h(u)$ with $u = \log p/q_t$. Along it
#
# $$\frac{d}{dt}\operatorname{KL}(q_t\Vert p) = -E_{q_t}\bigl[h'(u)\,\lVert\nabla u\rVert^2\bigr],$$
#
# never positive: divergence is lost at exactly the rate at which mass moves.

# %%
import sys

if "google.colab" in sys.modules:
    import glob
    import subprocess

    # A wheel that was uploaded beside this notebook, or else the latest release.
    wanted = sorted(glob.glob("divergence_flows-*.whl")) or ["divergence_flows"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", wanted[-1]], check=True)

# %%
import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optimistix
from jax.scipy.stats import norm

import divergence_flows as df

plt.style.use("divergence_flows.plot.style")

# %% [markdown]
# ## A flow whose every moment is known
#
# The target is a correlated Gaussian, $p = N(0, P)$ with variances 0.8 and correlation $\rho$, the
# start a round one, $N(m_0, s I)$. Under $h(u) = u$, the flow of KL, $q_t$ stays Gaussian, with
#
# $$m_t = e^{-P^{-1}t}\,m_0, \qquad S_t = P + e^{-P^{-1}t}\,(s I - P)\,e^{-P^{-1}t}.$$
#
# Along the axes of $P$ these are numbers: with $\lambda = 0.8\,(1 \pm \rho)$ the mean shrinks by
# $e^{-t/\lambda}$. The correlation is an argument, to be changed later. Nothing below is special to
# Gaussians: any function `log_r(t, x, args)` of one point will do.

# %%
M_0, SPREAD = np.array([4.0, 2.0]), 0.64
AXES = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)


def of_target(rho):
    """Variances of p along its axes."""
    return 0.8 * (1 + rho * jnp.array([1.0, -1.0]))


def moments(t, rho):
    """Mean and variances of q_t along the axes of p, in closed form."""
    decay = jnp.exp(-t / of_target(rho))
    return decay * (AXES @ M_0), of_target(rho) + decay**2 * (SPREAD - of_target(rho))


def log_q(t, x, rho):
    mean, variances = moments(t, rho)
    return jnp.sum(norm.logpdf(AXES @ x, mean, jnp.sqrt(variances)))


def log_p(x, rho):
    return jnp.sum(norm.logpdf(AXES @ x, 0.0, jnp.sqrt(of_target(rho))))


def log_r(t, x, rho):
    return log_p(x, rho) - log_q(t, x, rho)


def kl(t, rho):
    """KL(q_t || p), in closed form."""
    mean, variances = moments(t, rho)
    p = df.Gaussian(jnp.zeros(2), jnp.sqrt(of_target(rho)))
    return df.gaussian_kl(df.Gaussian(mean, jnp.sqrt(variances)), p)


# %% [markdown]
# ## The flow
#
# `velocity` makes a field of $h$ and the log ratio, `integrate` follows it. Underneath is diffrax:
# by default an adaptive solver of order five; `solver=diffrax.Euler(), dt0=0.01` would be the
# steps of tutorial 1.
#
# `integrate` compiles once for each function that it is given. `log_r` is defined once above, and
# what changes, the correlation, goes through `args`. A lambda made anew would cost 2 s at each
# call; where arrays must be bound, say `jax.tree_util.Partial(function, arrays)` over a
# module-level function. `df.f_to_h(f)`, the h of a divergence of your own, compiles once for
# each f in the same way.

# %%
RHO = 0.8
h, ts = df.divergences.kl_qp.h, np.linspace(0.0, 3.0, 31)
field = df.velocity(h, log_r)
x0 = M_0 + np.sqrt(SPREAD) * jr.normal(jr.key(0), (2000, 2))
solution = df.integrate(field, x0, ts, RHO)
xs = solution.ys  # (31, 2000, 2): time is the first axis
print(f"{int(solution.stats['num_steps'])} steps")
for t, cloud in zip(ts[::10], xs[::10], strict=True):
    along, (mean, variances) = cloud @ AXES, moments(t, RHO)
    print(
        f"t = {t:.0f}, long axis: mean {along[:, 0].mean():.3f}, theory {mean[0]:.3f}; "
        f"variance {along[:, 0].var():.3f}, theory {variances[0]:.3f}"
    )


# %%
def in_theory(t):
    """q_t as a Gaussian of the plane."""
    mean, variances = moments(t, RHO)
    return df.Gaussian(AXES @ mean, AXES * jnp.sqrt(variances))


fig, ax = plt.subplots(figsize=(6.2, 4.4))
df.plot.density(lambda x: log_p(x, RHO), ((-3.2, 6.4), (-2.6, 4.6)), ax=ax)
df.plot.paths(xs, count=60, ax=ax)
q_t = jax.vmap(in_theory)(jnp.array([0.0, 0.3, 1.0, 3.0]))
df.plot.ellipses(
    q_t, levels=[2], color="C2", label="two standard deviations of $q_t$, theory", ax=ax
)
ax.set(
    xlabel="$x_1$ [units of x]", ylabel="$x_2$ [units of x]", title="t = 0, 0.3, 1 and 3; p in grey"
)
ax.legend(loc="lower right")

# %% [markdown]
# The mean slides first along the short axis of the target, where the forces are strong, and only
# then along the long one.
#
# A point need not be one array. If it is a pytree, as a model's parameters are, so is the cloud,
# its particles along the first axis of every leaf, and so is the velocity:


# %%
def log_r_of_two(t, point, rho):
    return log_r(t, jnp.stack([point["left"], point["right"]]), rho)


pair = {"left": x0[:, 0], "right": x0[:, 1]}
speeds = df.velocity(h, log_r_of_two)(0.0, pair, RHO)
print("of the pair ", speeds["left"][:2], speeds["right"][:2])
print("of the array", *field(0.0, x0[:2], RHO).T)

# %% [markdown]
# ## How fast must it go down?
#
# `dissipation` is the right-hand side of the law above, as an average over particles. The left-hand
# side comes from the closed form, differentiated in time. The difference is Monte-Carlo error.
#
# Only a number is wanted for each time, not a cloud: `saveat` is diffrax's, and says what to keep.


# %%
def rate_from_particles(t, cloud, rho):
    slopes = jax.vmap(jax.value_and_grad(log_r, argnums=1), in_axes=(None, 0, None))
    return df.dissipation(h, *slopes(t, cloud, rho))


keep = diffrax.SaveAt(ts=ts, fn=rate_from_particles)
measured = df.integrate(field, x0, [0.0, 3.0], RHO, saveat=keep).ys
exact = np.asarray(jax.jit(jax.vmap(jax.grad(kl), in_axes=(0, None)))(jnp.asarray(ts), RHO))
print(
    "relative error of dKL/dt, worst of all times:", f"{np.max(np.abs(measured / exact - 1)):.3f}"
)

# %%
fig, ax = plt.subplots(figsize=(6, 3.4))
ax.semilogy(ts, -exact, color="0.75", lw=5, label="$-d\\,KL/dt$, closed form")
ax.semilogy(ts, -measured, "o", ms=4, color="C0", label="dissipation at 2,000 particles")
ax.set(xlabel="flow time $t$", ylabel="loss of KL\n[nats per unit of flow time]")
ax.legend()

# %% [markdown]
# ## Densities ride along
#
# Along a particle's path $\tfrac{d}{dt}\log q_t(x_t) = -\nabla\cdot v$. `with_log_prob` adds that
# equation to the field; the state is then the pair (particles, their log densities). The density
# at the end was never computed from a formula for $q_t$, so the formula can check it.

# %%
cloud = x0[:200]
start = (cloud, jax.vmap(log_q, in_axes=(None, 0, None))(0.0, cloud, RHO))
ends, log_densities = df.integrate(df.with_log_prob(field), start, [0.0, 1.0], RHO).ys
truth = jax.vmap(log_q, in_axes=(None, 0, None))(1.0, ends[-1], RHO)
error = jnp.max(jnp.abs(log_densities[-1] - truth))
print(f"log q at t = 1, largest error of 200 particles: {error:.1e} nats")

# %% [markdown]
# ## One step further: stop at an event, for many targets at once
#
# When is it done? For this flow $E\lVert v\rVert^2$ *is* the loss of KL per unit of time: stop when
# it is down to 0.01. `df.settle` does that to the nearest step of the solver. An `event` of diffrax
# with a root finder gives the moment itself: the last row of the solution is the time and the state
# at which it stopped. And because $\rho$ is an argument, one `jax.vmap` runs the flows of a family
# of targets, each of which stops at its own time; with `adjoint=diffrax.ForwardMode()`, `jax.jvp`
# says how that time changes with $\rho$. (Sobol points are more even than random ones, so that few
# will do.)

# %%
TOLERANCE = 0.01
even = M_0 + np.sqrt(SPREAD) * df.sobol_nodes(256, 2, key=jr.key(1)).points


def loss_above_tolerance(t, y, args, **kwargs):
    return jnp.mean(jnp.sum(field(t, y, args) ** 2, axis=1)) - TOLERANCE


event = diffrax.Event(loss_above_tolerance, optimistix.Newton(1e-4, 1e-4))


def time_needed(rho):
    how = {"event": event, "adjoint": diffrax.ForwardMode()}
    return df.integrate(field, even, [0.0, 20.0], rho, **how).ts[-1]


@jax.jit
@jax.vmap
def time_and_slope(rho):
    return jax.jvp(time_needed, (rho,), (jnp.ones_like(rho),))


@jax.jit
@jax.vmap
def time_in_theory(rho):
    fine = jnp.linspace(0.0, 20.0, 4001)
    losses = -jax.vmap(jax.grad(kl), in_axes=(0, None))(fine, rho)
    return fine[jnp.argmax(losses < TOLERANCE)]


rhos = jnp.linspace(0.0, 0.9, 7)
(stopped, slopes), expected = time_and_slope(rhos), time_in_theory(rhos)
for rho, found, theory, slope in zip(rhos, stopped, expected, slopes, strict=True):
    print(f"rho = {rho:.2f}: stopped at t = {found:.3f}, theory {theory:.3f}, slope {slope:.2f}")

# %%
fig, ax = plt.subplots(figsize=(5.6, 3.3))
ax.plot(rhos, expected, color="0.75", lw=5, label="closed form")
ax.plot(rhos, stopped, "o", color="C0", label="event, one vmapped solve")
ax.set(
    xlabel="correlation of the target", ylabel="time until the loss of KL\nis 0.01 nats per unit"
)
ax.legend()

# %% [markdown]
# The more correlated the target, the longer it takes: the slowest rate of the flow is the inverse
# of the target's largest variance, here $1/(0.8\,(1 + \rho))$.
#
# ## What can go wrong, and how you notice
#
# - **Stiffness.** A target with very different widths makes an explicit solver take thousands of
#   tiny steps: look at `solution.stats["num_steps"]`. For a handful of particles, or a Gaussian
#   (`gaussian_field`), take an implicit solver, `solver=diffrax.Kvaerno3()`; for a large cloud its
#   Jacobian is too large.
# - **Fixed steps that are too long** end in numbers that are not finite, and `integrate` raises.
#   With `throw=False` it returns, and the states it did not reach are `inf`.
# - **A constant missing from `log_r`** does no harm to $h(u) = u$. For other $h$ it is another
#   divergence: see the theory page, "A target known up to a constant".
# - **A fresh `lambda` for each call** compiles anew each time, for seconds. Write a function once
#   and pass what changes in `args`.
# - **Interacting particles have no density along a path**: `with_log_prob` refuses the fields that
#   it knows to interact.
#
# ## Where to go next
#
# - The same flow restricted to Gaussians fits them to a posterior: tutorial 3.
# - `langevin` is the stochastic equation with the same marginals; `gradient_flow` takes any other
#   energy; `settle` follows a field until it rests; `curve_length` measures the way.
# - A ratio learned at all times instead of a formula: `train_flow_ratio`, `examples/time_ratio.py`.
