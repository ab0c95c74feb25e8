"""Gaussians that flow: their paths in continuous time, and what the ELBO costs.

    python examples/gaussian_flows.py [--fast]

Writes to examples/out/:

gaussian_paths.png     mean and ellipse on a Gaussian target and on the banana; the flow of the
                       factor S, that of the covariance Sigma, and SGD on the path gradient.
gaussian_elbo.png      the ELBO of a logistic regression against gradient evaluations.
gaussian_mixtures.png  three components on three modes of the line, four on a square.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.tree_util import Partial
from sklearn.datasets import load_breast_cancer

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"


def log_banana(x):
    return -((x[0] - 1) ** 2) - (x[1] - x[0] ** 2) ** 2


def log_logistic(features, labels, w):
    """Bernoulli labels, prior N(0, 1) on every weight, up to a constant [nats]."""
    logits = features @ w
    return jnp.sum(labels * logits - jax.nn.softplus(logits)) - 0.5 * jnp.sum(w**2)


def log_mixture(means, sd, x):
    each = -0.5 * jnp.sum(((x - means) / sd) ** 2, axis=1)
    return jax.nn.logsumexp(each) - jnp.log(len(means))


def stl_descent(log_p, q, steps, optimiser, draws):
    """SGD on the path gradient, and all Gaussians on the way."""

    def step(state, key):
        q, memory = state
        z = jr.normal(key, (draws, q.mean.size))
        slope = jax.grad(lambda q: df.stl_loss(log_p, q, z))(q)
        updates, memory = optimiser.update(slope, memory)
        q = optax.apply_updates(q, updates)
        return (q, memory), q

    keys = jr.split(jr.key(0), steps)
    return jax.jit(lambda q: jax.lax.scan(step, (q, optimiser.init(q)), keys)[1])(q)


def at(path, i):
    return jax.tree.map(lambda leaf: leaf[i], path)


def draw_paths(axis, log_p, q0, nodes, end, box, title):
    """The flow of S, of Sigma, and SGD: three curves that theory says are one."""
    df.plot.density(log_p, box, ax=axis)
    ts = end * jnp.linspace(0.0, 1.0, 101) ** 2  # most happens early
    by_s = df.integrate(df.gaussian_field(log_p, nodes), q0, ts).ys
    means, covariances = df.integrate(df.bures_field(log_p, nodes), (q0.mean, q0.covariance), ts).ys
    step = 0.01
    sgd = stl_descent(log_p, q0, round(end / step), optax.sgd(step), 8)
    sgd = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), at(q0, None), sgd)
    by_sigma = df.Gaussian(means, jnp.linalg.cholesky(covariances))
    words = "SGD on the path gradient, 8 draws"
    df.plot.ellipses(sgd, levels=[1], count=2, color="C1", label=words, ax=axis)
    df.plot.ellipses(by_s, levels=[1], color="C0", label="flow of S", ax=axis)
    look = {"color": "black", "linestyle": (0, (2, 4)), "label": "flow of Sigma"}
    df.plot.ellipses(by_sigma, levels=[1], ax=axis, **look)
    axis.set(title=title, xlim=box[0], ylim=box[1], xlabel="$x_1$", ylabel="$x_2$")
    return float(jnp.max(jnp.abs(by_s.covariance - covariances)))


def paths(fast):
    figure, axes = plt.subplots(1, 2, figsize=(11, 5))
    p = df.Gaussian(jnp.zeros(2), jnp.linalg.cholesky(jnp.array([[0.8, 0.64], [0.64, 0.8]])))
    q0 = df.Gaussian(jnp.array([4.0, 2.0]), 0.8 * jnp.eye(2))
    box = ((-3.0, 5.5), (-3.0, 4.0))
    apart = [draw_paths(axes[0], p.log_prob, q0, df.cubature(2), 5.0, box, "Gaussian target")]
    q0 = df.Gaussian(jnp.array([3.0, -2.0]), jnp.eye(2))
    box = ((-3.5, 5.0), (-4.0, 8.0))
    nodes = df.gauss_hermite(2, 4)
    apart.append(draw_paths(axes[1], log_banana, q0, nodes, 5.0, box, "banana"))
    axes[0].legend(loc="upper left")
    figure.savefig(OUT / "gaussian_paths.png", dpi=130)
    plt.close(figure)
    for name, gap in zip(("Gaussian", "banana"), apart, strict=True):
        print(f"{name}: the flows of S and of Sigma differ by at most {gap:.1e} in the covariance")


def elbo(fast):
    data, labels = load_breast_cancer(return_X_y=True)
    data = (data - data.mean(0)) / data.std(0)
    features = jnp.asarray(np.concatenate([data, np.ones((len(data), 1))], axis=1))
    log_p = Partial(log_logistic, features, jnp.asarray(labels, float))
    dim, draws, steps = features.shape[1], 100, 300 if fast else 3000
    q0 = df.Gaussian(jnp.zeros(dim), jnp.eye(dim))
    z = df.sobol_nodes(4096, dim, key=jr.key(7)).points

    @jax.jit
    def bound(q):
        return jnp.mean(jax.vmap(lambda z: log_p(q.push(z)) - q.log_prob_of_push(z))(z))

    figure, axis = plt.subplots(figsize=(6.5, 4.5))
    kept = np.unique(np.geomspace(1, steps, 40).astype(int)) - 1
    found = {}
    for rate, look in ((1e-2, "-"), (1e-1, "--")):
        path = stl_descent(log_p, q0, steps, optax.adam(rate), draws)
        found[f"Adam on the path gradient, {rate:g}"] = (
            draws * (kept + 1),
            [float(bound(at(path, i))) for i in kept],
            {"color": "C1", "linestyle": look},
        )
    few, ends = [], []
    for tol in (100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-5):
        q, info = df.fit_gaussian(log_p, q0, tol=tol, key=jr.key(0))
        # A step takes one evaluation on its nodes, and its rule of rest one on a quarter of others.
        first, last = (int(count) + 1 for count in info.steps)
        few.append(first * (2 * dim + 256) + last * (1024 + 256))
        ends.append(float(bound(q)))
    found["fit_gaussian"] = (few, ends, {"color": "C0", "marker": "o", "markersize": 4})
    best = max(max(values) for _, values, _ in found.values())
    for name, (counts, values, look) in found.items():
        axis.plot(counts, np.maximum(best - np.array(values), 1e-4), label=name, **look)
        print(f"{name}: ELBO {values[-1]:.3f} after {counts[-1]:,} gradients")
    axis.set(xscale="log", yscale="log", xlabel="gradients of log p", ylabel="ELBO to gain [nats]")
    axis.set_title("logistic regression, breast cancer (31 weights)")
    axis.legend()
    figure.savefig(OUT / "gaussian_elbo.png", dpi=130)
    plt.close(figure)


def mixtures(fast):
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5))
    modes = jnp.array([[-4.0], [0.0], [3.0]])
    log_p = Partial(log_mixture, modes, 0.7)
    start = df.Mixture(jnp.zeros(3), jnp.array([[-2.5], [0.2], [2.0]]), jnp.ones((3, 1, 1)))
    end = 8.0 if fast else 20.0
    field = df.mixture_field(log_p, df.sobol_nodes(128, 1, key=jr.key(0)))
    path = df.integrate(field, start, jnp.linspace(0.0, end, 41)).ys
    xs = jnp.linspace(-7, 6, 400)[:, None]
    # log_mixture leaves out the normaliser of each component
    density = jnp.exp(jax.vmap(log_p)(xs)) / (0.7 * np.sqrt(2 * np.pi))
    axes[0].fill_between(xs[:, 0], density, color=df.plot.COLORS["p"], alpha=0.6, label="target")
    for i, look in ((0, ":"), (4, "--"), (-1, "-")):
        q = at(path, i)
        curve = jnp.exp(jax.vmap(q.log_prob)(xs))
        label = f"three components, t = {end * (i % 41) / 40:.1f}"
        axes[0].plot(xs[:, 0], curve, look, color="C0", label=label)
    axes[0].legend()
    axes[0].set(title="three modes on the line", xlabel="x", ylabel="density")
    modes = jnp.array([[a, b] for a in (-1.5, 1.5) for b in (-1.5, 1.5)])
    log_p = Partial(log_mixture, modes, 0.6)
    begin = 0.8 * modes + jnp.array([[0.3, -0.2], [-0.2, 0.3], [0.1, 0.2], [-0.3, -0.1]])
    start = df.Mixture(jnp.zeros(4), begin, jnp.tile(jnp.eye(2), (4, 1, 1)))
    field = df.mixture_field(log_p, df.sobol_nodes(128, 2, key=jr.key(1)))
    path = df.integrate(field, start, jnp.linspace(0.0, end, 41)).ys
    df.plot.density(log_p, ((-4, 4), (-4, 4)), ax=axes[1])
    df.plot.ellipses(path, levels=[1], count=2, ax=axes[1])
    axes[1].set(title="four modes on a square", xlabel="$x_1$", ylabel="$x_2$")
    figure.savefig(OUT / "gaussian_mixtures.png", dpi=130)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="smaller, for a check")
    fast = parser.parse_args(argv).fast
    jax.config.update("jax_enable_x64", True)
    OUT.mkdir(exist_ok=True)
    plt.style.use("divergence_flows.plot.style")
    for each in (paths, elbo, mixtures):
        each(fast)


if __name__ == "__main__":
    main()
