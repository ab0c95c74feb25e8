# %% [markdown]
# # 8. How far apart are two samples?
#
# You have samples of p and of q and want one number, with its error. At the end of this page you
# can estimate any f-divergence between samples, and mutual information, and know when not to
# believe the number.
#
# **The idea.** A critic learns $u = \log p/q$ on one part of the samples and is asked on another.
# For any $u$, right or wrong,
#
# $$F \ge E_p[f'(e^u)] - E_q[h(u)],$$
#
# with $h$ the MonoFlow of $f$: the same $h$ that moves samples in tutorial 1. At the true ratio it
# is an equality, and a small error of $u$ costs only its square.

# %%
import sys

if "google.colab" in sys.modules:
    import glob
    import subprocess

    # A wheel that was uploaded beside this notebook, or else the latest release.
    wanted = sorted(glob.glob("divergence_flows-*.whl")) or ["divergence_flows"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", wanted[-1]], check=True)

# %%
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt

import divergence_flows as df

plt.style.use("divergence_flows.plot.style")

# %% [markdown]
# ## More samples, smaller errors
#
# Two Gaussians in the plane, one moved by 1 along an axis: KL(q||p) is 1/2.

# %%
STEPS, SIZES = 300, (100, 300, 1000, 3000)
kl = df.divergences.kl_qp
estimates = []
for n in SIZES:
    xs_p, xs_q = jr.normal(jr.key(0), (n, 2)), jr.normal(jr.key(1), (n, 2)) + jnp.array([1.0, 0.0])
    found = df.divergence_between(xs_p, xs_q, kl, steps=STEPS, key=jr.key(2))
    print(f"{n:5d} samples: {found.value:.2f} +- {found.error:.2f} nats, believe: {found.believe}")
    estimates.append(found)

fig, ax = plt.subplots()
values, errors = ([float(getattr(e, name)) for e in estimates] for name in ("value", "error"))
ax.errorbar(SIZES, values, yerr=[2 * e for e in errors], fmt="o", capsize=3)
ax.axhline(0.5, color="black", linewidth=1)
ax.set(xscale="log", xlabel="samples of each", ylabel="KL(q||p), two standard errors [nats]")
plt.show()

# %% [markdown]
# ## Mutual information
#
# The joint law against the product of its marginals: each step pairs the samples anew.

# %%
xs = jr.normal(jr.key(3), (1000, 1))
ys = 0.8 * xs + 0.6 * jr.normal(jr.key(4), (1000, 1))
information = df.mutual_information(xs, ys, steps=STEPS, key=jr.key(5))
truth = -0.5 * jnp.log(1 - 0.8**2)
print(f"{information.value:.2f} +- {information.error:.2f} nats; the truth is {truth:.2f}")

# %% [markdown]
# ## What can go wrong
#
# Far apart, no sample of q lies where p is, and no critic can learn the ratio: E_q[r] is not 1.
# The value is still a lower bound, up to its error, and `believe` says that it is no more.

# %%
far = df.divergence_between(xs_p, xs_q + 4.0, kl, steps=STEPS, key=jr.key(6))
print(
    f"{far.value:.1f} +- {far.error:.1f}, believe: {far.believe}, E_q[r] = {far.check.mean_r:.1g}"
)

# %% [markdown]
# ## Farther
#
# Densities between the two overlap where the two do not: `path=` asks for so many legs, of about a
# nat or two each, and adds up their log ratios. The truth is 20.5 nats. The error is wide, because
# a leg's critic is asked where it has seen no samples.

# %%
farther = df.divergence_between(
    xs_p[:1000], xs_q[:1000] + 4.0, kl, path=10, folds=2, steps=STEPS, key=jr.key(6)
)
print(f"{farther.value:.1f} +- {farther.error:.1f}, believe: {farther.believe}")

# %% [markdown]
# A difference that the critic misses makes the value too small, believed or not: the verdict asks
# whether the ratio is calibrated, and cannot ask for what nobody saw.
#
# ## Where to go next
#
# The [API](../api/ratios.md) has `gaussianise=True` for heavy tails and `seeds=` for ensembles.
# [What is guaranteed](../guarantees.md) says what the verdict is worth.
