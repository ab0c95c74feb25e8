# %% [markdown]
# # 3. Fit a Gaussian to a log density
#
# You have the log density of a posterior, up to a constant: your own function, or what numpyro and
# blackjax hand to their samplers. At the end of this page you can fit the best Gaussian to it in
# one call, without a learning rate; say in nats what the fit is worth; tell when not to believe it;
# and correct it by reweighting.
#
# **The idea.** Among all Gaussians $q$, follow the gradient flow of $\operatorname{KL}(q\Vert p)$
# until it rests. At rest $E_q[\nabla\log p] = 0$ and the covariance is the inverse of
# $-E_q[\nabla^2\log p]$: the same equations as Laplace's approximation, but averaged over $q$
# instead of taken at one point. That is why it sees the skew that Laplace misses.

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
from jax.tree_util import Partial

import divergence_flows as df

plt.style.use("divergence_flows.plot.style")

# %% [markdown]
# ## A posterior of two parameters
#
# Twenty animals in four groups got four doses of a drug; 0, 1, 3 and 5 of each group of five died
# (Racine et al., 1986). The model is a logistic regression on the log dose, with a wide normal
# prior. The posterior is skewed: with so few animals a very steep response is hard to exclude.
#
# The parameters come as a dictionary, as samplers pass them. The data come as arguments, arrays
# bound by `Partial`: another data set is then the same program, and nothing compiles twice.

# %%
LOG_DOSE, GROUP = np.array([-0.86, -0.30, -0.05, 0.73]), 5


def log_posterior(died, prior_sd, position):
    logits = position["intercept"] + position["slope"] * LOG_DOSE
    log_likelihood = jnp.sum(died * logits - GROUP * jax.nn.softplus(logits))
    squares = (5 * position["intercept"]) ** 2 + position["slope"] ** 2
    return log_likelihood - 0.5 * squares / prior_sd**2


log_p = Partial(log_posterior, jnp.array([0.0, 1.0, 3.0, 5.0]), jnp.array(10.0))

# %% [markdown]
# ## The fit
#
# One call. The second argument is where to start: a pytree of parameters, in any shape.

# %%
start = {"intercept": 0.0, "slope": 0.0}
q, info = df.fit_gaussian(log_p, start, key=jr.key(0))
for name, value, sd in zip(start, q.mean, jnp.sqrt(jnp.diag(q.covariance)), strict=True):
    print(f"{name:10s} {value:6.2f} +- {sd:.2f}")
print(f"ELBO {info.elbo:.3f} nats, gap {info.gap:.0e} nats, k-hat {info.k_hat:.2f}")

# %% [markdown]
# $q$ lives on the flattened parameters, in the order of `jax.flatten_util.ravel_pytree`;
# `info.position` is its mean as a dictionary again, and `info.unravel` makes such dictionaries of
# samples.
#
# - `info.elbo` is $E_q[\log p - \log q]$, a lower bound of the log evidence. It goes up.
# - `info.gap` is what is left to gain, or the error of the nodes if that is larger: the largest
#   judgement of eight sets of nodes that the fit has not seen.
# - `info.k_hat` judges the *family*, not the fit: above 0.7 the target has mass where the Gaussian
#   does not go.
#
# ## What it is for: predict
#
# How many of the next five animals will die at each dose? Draw parameters, then outcomes: the
# posterior predictive is three lines, here and for any model.

# %%
samples = info.unravel(q.sample(jr.key(1), (4000,)))
logits = samples["intercept"][:, None] + samples["slope"][:, None] * LOG_DOSE
predicted = jr.binomial(jr.key(2), GROUP, jax.nn.sigmoid(logits))
for dose, seen, outcomes in zip(LOG_DOSE, (0, 1, 3, 5), predicted.T, strict=True):
    low, high = jnp.quantile(outcomes, jnp.array([0.05, 0.95]))
    print(f"log dose {dose:5.2f}: {outcomes.mean():.2f}, {low:.0f} to {high:.0f} of 5; seen {seen}")

# %% [markdown]
# ## Check it against the truth
#
# In two dimensions a grid gives the exact posterior. The difference between the log evidence and
# the ELBO must be the KL divergence itself, and no other Gaussian may have a smaller one. Try
# Laplace's approximation, and the Gaussian with the posterior's own mean and covariance.

# %%
side_a, side_b = jnp.linspace(-5.0, 8.0, 300), jnp.linspace(-8.0, 45.0, 400)
cell = (side_a[1] - side_a[0]) * (side_b[1] - side_b[0])
grid = jnp.stack(jnp.meshgrid(side_a, side_b, indexing="ij"), axis=-1).reshape(-1, 2)


def log_p_of(w):
    return log_p({"intercept": w[0], "slope": w[1]})


log_values = jax.jit(jax.vmap(log_p_of))(grid)
log_evidence = jax.nn.logsumexp(log_values) + jnp.log(cell)
posterior = jnp.exp(log_values - log_evidence) * cell
mean = posterior @ grid
covariance = (posterior[:, None] * (grid - mean)).T @ (grid - mean)


@jax.jit
def kl_on_grid(gaussian):
    log_q = jax.vmap(gaussian.log_prob)(grid)
    return jnp.sum(jnp.exp(log_q) * (log_q - log_values + log_evidence)) * cell


@jax.jit
def newton(mode, _):
    bend = jax.hessian(log_p_of)(mode)
    return mode - jnp.linalg.solve(bend, jax.grad(log_p_of)(mode)), jnp.linalg.inv(-bend)


mode, inverses = jax.lax.scan(newton, jnp.zeros(2), length=20)
laplace = df.Gaussian(mode, jnp.linalg.cholesky(inverses[-1]))
matched = df.Gaussian(mean, jnp.linalg.cholesky(covariance))
print(f"log evidence - ELBO   {log_evidence - info.elbo:.4f} nats")
for name, gaussian in {"fit": q, "Laplace": laplace, "moments": matched}.items():
    print(f"KL on the grid, {name:8s} {kl_on_grid(gaussian):.4f} nats")

# %%
fig, ax = plt.subplots(figsize=(6.4, 4))
df.plot.density(log_p_of, ((-2.2, 4), (-4, 24)), ax=ax)
for name, law, color, style in (
    ("fit", q, "C0", "-"),
    ("Laplace", laplace, "C1", "--"),
    ("moments of p", matched, "C2", ":"),
):
    look = {"color": color, "linestyle": style, "label": name}
    df.plot.ellipses(law, levels=[2], ax=ax, **look)
ax.set(xlabel="intercept [logits]", ylabel="slope [logits per unit of log dose]")
ax.legend(title="two standard deviations", loc="upper left")

# %% [markdown]
# Laplace sits at the mode. The fit moves to where most of the mass is, and stays a little narrower
# than the posterior: $\operatorname{KL}(q\Vert p)$ punishes putting mass where $p$ has none more
# than leaving some out.
#
# ## One step further: correct it
#
# Draws of $q$, weighted by $p/q$, give expectations of the *posterior*, not of the Gaussian. Where
# k-hat is below 0.7 these ratios are tame. Here it is above: a steep slope is more likely than any
# Gaussian says, so that a few far draws carry much of the weight. Reweighting is then a try, with
# many points, and needs a check, such as the grid:


# %%
@jax.jit
def reweighted(log_p, q, points):
    """Draws of q, and weights that make them draws of p."""
    draws = jax.vmap(q.push)(points)
    log_r = jax.vmap(log_p)(info.unravel(draws)) - jax.vmap(q.log_prob)(draws)
    return draws, jax.nn.softmax(log_r)


points = df.sobol_nodes(16384, 2, key=jr.key(1)).points
draws, weights = reweighted(log_p, q, points)
steep, sd = (
    weights @ (draws[:, 1] > 15),
    jnp.sqrt(weights @ (draws[:, 1] - weights @ draws[:, 1]) ** 2),
)
print("slope               sd     P(slope > 15)")
print(f"Gaussian          {jnp.sqrt(q.covariance[1, 1]):.2f}   {jnp.mean(draws[:, 1] > 15):.3f}")
print(f"reweighted        {sd:.2f}   {steep:.3f}")
print(f"grid, the truth   {jnp.sqrt(covariance[1, 1]):.2f}   {posterior @ (grid[:, 1] > 15):.3f}")

# %% [markdown]
# The Gaussian has no skew and misses most of that tail; reweighted it is close.
#
# ## What can go wrong, and how you notice
#
# Suppose that nobody died in the two weaker groups and everybody in the other two. No slope is then
# too steep for the data, only the prior holds it back, and the wider the prior, the less the
# posterior looks like an ellipse:

# %%
separated = jnp.array([0.0, 0.0, 5.0, 5.0])
print("prior sd   sd of q   reweighted   gap [nats]   k-hat")
for prior_sd in (10.0, 40.0, 100.0):
    worse = Partial(log_posterior, separated, jnp.array(prior_sd))
    fit, report = df.fit_gaussian(worse, start, key=jr.key(0))
    draws, weights = reweighted(worse, fit, points)
    true_sd = jnp.sqrt(weights @ (draws[:, 1] - weights @ draws[:, 1]) ** 2)
    width = jnp.sqrt(fit.covariance[1, 1])
    print(f"{prior_sd:8.0f} {width:9.1f} {true_sd:12.1f} {report.gap:12.4f} {report.k_hat:7.2f}")

# %% [markdown]
# The more $q$ is too narrow, the larger the gap (the nodes no longer resolve the target) and
# k-hat. What to do:
#
# - **`info.gap` larger than you can accept**: raise `n`, the number of nodes.
# - **`k_hat` above 0.7**: believe neither $q$ nor the reweighting. Change the parameters (a scale
#   becomes its logarithm, with the Jacobian in the density; a hierarchy becomes non-centred), or
#   take a mixture (`mixture_field`) or a family of your own (tutorial 6).
# - **It does not come to rest** and raises: a target with no normaliser has no best Gaussian;
#   otherwise start elsewhere or raise `max_steps`.
# - **All is well and yet wrong**: a second mode that $q$ never visited. No criterion that looks
#   only where $q$ is can see it. Start from several points.
# - **Each call takes seconds.** It compiles each time, because the log density is a fresh `lambda`
#   or has Python numbers bound to it. Write one function, bind arrays.
# - **A constant of the density is missing**: nothing happens to $q$; the ELBO moves by it.
#
# ## Where to go next
#
# - A log density of blackjax goes in as it is. Of a numpyro model take `initialize_model(...)`:
#   minus its `potential_fn`, starting at its `param_info.z`. Both, bounded parameters by numpyro's
#   transforms and by flowjax's bijections, and a comparison with NUTS, are in
#   `examples/fit_log_density.py`.
# - A result starts the next fit when data are added: pass `q` in the place of `start`, with a log
#   density of the flat vector.
# - The flow itself, in the geometry of Bures and Wasserstein or of Fisher and Rao:
#   `gaussian_field`, `bures_field`, `fisher_rao_field`, `examples/gaussian_flows.py`.
# - Other families than Gaussians, other divergences than KL: tutorial 6.
