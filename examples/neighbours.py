"""f-flows beside their neighbours: MMD flows, a WGAN's critic flow, Langevin and SVGD.

    python examples/neighbours.py [--fast]

300 particles from N(0, I) onto three rings and a swiss roll, the field's own targets, made of many
narrow Gaussians so that samples and score are exact. What a method may see differs: some see 2,000
samples of the target, some its score. Each is scored by the exact W2 to fresh samples (mean over
five sets; the floor is W2 between two fresh sets) and by kernel MMD, against the evaluations of a
gradient for each particle: a step of Euler is one, each critic step one more. Of three step sizes
the one with the least final W2 is shown, for every method. Writes examples/out/neighbours.png,
W2 over evaluations, and neighbours_clouds.png, the particles at the end.
"""

import argparse
import functools
import pathlib
import time

import blackjax
import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.metrics.pairwise import rbf_kernel

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
COUNT, SAMPLES, SD, SETS = 300, 2000, 0.05, 5


# Targets


def rings():
    turn = 2 * np.pi * np.arange(64) / 64
    circle = 0.7 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    at = np.pi / 2 + 2 * np.pi * np.arange(3) / 3
    return np.concatenate([circle + 1.2 * np.array([np.cos(a), np.sin(a)]) for a in at])


def roll():
    turn = 1.5 * np.pi * np.sqrt(1 + 8 * (np.arange(256) + 0.5) / 256)  # even along the curve
    return np.stack([turn * np.cos(turn), turn * np.sin(turn)], axis=1) * 1.8 / (4.5 * np.pi)


TARGETS = {"three rings": rings(), "swiss roll": roll()}


def sample(centres, key, count):
    key_which, key_noise = jr.split(key)
    which = jr.randint(key_which, (count,), 0, len(centres))
    return jnp.asarray(centres, jnp.float32)[which] + SD * jr.normal(key_noise, (count, 2))


def log_p(centres, x):
    apart = jnp.sum((jnp.asarray(centres, x.dtype) - x) ** 2, axis=1)
    return jax.nn.logsumexp(-apart / (2 * SD**2))


# Methods: each takes the problem, a step size and the step numbers to look at, and returns clouds


class Problem(eqx.Module):
    centres: jax.Array
    xs_p: jax.Array
    x0: jax.Array

    def score(self, t, x, args):
        return jax.grad(functools.partial(log_p, self.centres))(x)


def euler(field, x0, step_size, marks):
    ts = np.asarray(marks, float) * step_size
    return df.integrate(field, x0, ts, solver=diffrax.Euler(), dt0=step_size).ys


def same(u):
    return u


def features(problem, step_size, marks):
    """KL(q||p) with log p/q by logistic regression on random features, fitted at each step."""
    fit = functools.partial(
        df.rff_log_ratio,
        xs_p=problem.xs_p,
        features=128,
        degree=2,
        bandwidth=0.3,
        ridge=1e-4,
        newton_steps=4,
        key=jr.key(2),
    )
    return euler(df.cloud_velocity(same, fit), problem.x0, step_size, marks)


def kernel_density(problem, step_size, marks):
    """KL(q||p) with the true log p and a kernel density of the particles."""

    def fit(xs):
        log_q = df.kde_log_prob(xs, bandwidth=0.15)
        return lambda t, x, args: log_p(problem.centres, x) - log_q(x)

    return euler(df.cloud_velocity(same, fit), problem.x0, step_size, marks)


def mmd(problem, step_size, marks):
    fit = functools.partial(df.mmd_witness, xs_p=problem.xs_p, bandwidth=0.5)
    return euler(df.cloud_velocity(same, fit), problem.x0, step_size, marks)


def noisy_mmd(problem, step_size, marks, noise=0.4):
    """The witness's slope is taken at points moved by noise, which fades (Arbel et al., 2019)."""

    def step(xs, inputs):
        i, key = inputs
        u = df.mmd_witness(xs, problem.xs_p, bandwidth=0.5)
        level = noise * (1 - i / marks[-1])
        at = xs + level * jr.normal(key, xs.shape)
        return xs + step_size * df.velocity(same, u)(0.0, at, None), xs

    keys = jr.split(jr.key(3), marks[-1])
    last, path = jax.lax.scan(step, problem.x0, (jnp.arange(marks[-1]), keys))
    return jnp.concatenate([path, last[None]])[np.asarray(marks)]


CRITIC = optax.adam(2e-3, b1=0.5, b2=0.999)


def learned(gan, problem, step_size, marks, **options):
    """`transport`: a critic retrained at each step, here by 4 gradient steps."""
    critic = df.networks.Discriminator(2, 128, 2, key=jr.key(4))
    steps = marks[-1] // 5
    _, info = df.transport(
        gan,
        critic,
        problem.x0,
        problem.xs_p,
        steps=steps,
        step_size=step_size,
        critic_steps=4,
        optimizer=CRITIC,
        chunk=marks[1] // 5,
        key=jr.key(5),
        **options,
    )
    path = info.path[np.asarray(marks) // marks[1]]
    # Inside `jit` a run that diverged stays where it was before; its clouds are no result.
    return jnp.where(info.diverged < 0, path, jnp.nan)


def langevin(problem, step_size, marks):
    ts = np.asarray(marks, float) * step_size
    return df.langevin(problem.score, problem.x0, ts, dt0=step_size, key=jr.key(6)).ys


def svgd(problem, step_size, marks):
    method = blackjax.svgd(lambda x: problem.score(0.0, x, None), optax.adagrad(step_size))

    def step(state, _):
        return method.step(state), state.particles

    start = method.init(problem.x0)
    last, path = jax.lax.scan(step, start, length=marks[-1])
    return jnp.concatenate([path, last.particles[None]])[np.asarray(marks)]


# name: (method, what it sees, three step sizes)
METHODS = {
    "KL flow, random features": (features, "samples", (0.003, 0.01, 0.03)),
    "KL flow, learned critic": (
        functools.partial(learned, df.gans.logit()),
        "samples",
        (0.01, 0.03, 0.1),
    ),
    "WGAN critic, penalty": (
        functools.partial(learned, df.gans.wasserstein(), penalty="one"),
        "samples",
        (0.01, 0.03, 0.1),
    ),
    "MMD flow": (mmd, "samples", (0.1, 0.3, 1.0)),
    "MMD flow, noise": (noisy_mmd, "samples", (0.1, 0.3, 1.0)),
    "KL flow, kernel density": (kernel_density, "score", (0.0003, 0.001, 0.003)),
    "Langevin": (langevin, "score", (0.0003, 0.001, 0.003)),
    "SVGD, blackjax": (svgd, "score", (0.01, 0.03, 0.1)),
}


# Scores


def scores(cloud, fresh):
    w2 = np.mean([float(df.wasserstein2(cloud, each)) for each in fresh])
    xs, ys = np.asarray(cloud), np.asarray(fresh[0])
    gamma = 1 / (2 * 0.5**2)
    kernels = (rbf_kernel(a, b, gamma).mean() for a, b in ((xs, xs), (ys, ys), (xs, ys)))
    xx, yy, xy = kernels
    return w2, np.sqrt(max(xx + yy - 2 * xy, 0.0))


def best(method, sizes, problem, marks, fresh):
    """The step size with the least W2 at the end: its clouds, scores on the way, and seconds."""
    found = []
    for size in sizes:
        run = eqx.filter_jit(functools.partial(method, step_size=size, marks=marks))
        jax.block_until_ready(run(problem))  # compiles
        start = time.perf_counter()
        clouds = np.asarray(run(problem))
        seconds = time.perf_counter() - start
        if np.isfinite(clouds).all():
            along = np.array([scores(cloud, fresh) for cloud in clouds])
            found.append((along[-1, 0], size, clouds, along, seconds))
    return min(found, key=lambda row: row[0])[1:]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer steps, for a check")
    fast = parser.parse_args(argv).fast
    OUT.mkdir(exist_ok=True)
    marks = (0, 50, 100) if fast else (0, 50, 100, 200, 400, 800, 1600)
    plt.style.use("divergence_flows.plot.style")
    curves, axes = plt.subplots(1, 2, figsize=(12, 4.6))
    clouds, panels = plt.subplots(2, len(METHODS), figsize=(2.5 * len(METHODS), 5.6))
    for axis, row, (target, centres) in zip(axes, panels, TARGETS.items(), strict=True):
        problem = Problem(
            jnp.asarray(centres, jnp.float32),
            sample(centres, jr.key(0), SAMPLES),
            jr.normal(jr.key(1), (COUNT, 2)),
        )
        fresh = [sample(centres, jr.key(10 + i), COUNT) for i in range(SETS)]
        others = [sample(centres, jr.key(20 + i), COUNT) for i in range(SETS)]
        floor = np.mean([scores(other, fresh)[0] for other in others])
        start = scores(problem.x0, fresh)[0]
        print(f"{target}: W2 at the floor {floor:.3f}, at the start {start:.3f}")
        axis.axhline(floor, color="#9a9a9a", linestyle=":", label="floor")
        for panel, (name, (method, sees, sizes)) in zip(row, METHODS.items(), strict=True):
            sizes = sizes[1:2] if fast else sizes
            size, path, along, seconds = best(method, sizes, problem, marks, fresh)
            print(
                f"  {name:25s} sees {sees:8s} W2 {along[-1, 0]:.3f}  MMD {along[-1, 1]:.3f}  "
                f"after {marks[-1]} evaluations, step {size:g} ({seconds:.1f} s)",
                flush=True,
            )
            style = "-" if sees == "samples" else "--"
            axis.plot(marks, along[:, 0], style, label=f"{name} ({sees})")
            df.plot.samples(problem.xs_p, ax=panel, color=df.plot.COLORS["p"], s=1)
            df.plot.samples(path[-1], ax=panel, s=4)
            panel.spines[:].set_visible(True)
            panel.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), aspect="equal", xticks=[], yticks=[])
            panel.set_title(f"{name}\n{along[-1, 0]:.3f}", fontsize=8)
        axis.set(
            title=target, xlabel="gradient evaluations per particle", ylabel="W2 to fresh samples"
        )
        axis.set(yscale="log", xscale="symlog")
    axes[1].legend(fontsize=7)
    for figure, name in ((curves, "neighbours.png"), (clouds, "neighbours_clouds.png")):
        figure.savefig(OUT / name, dpi=120)
        plt.close(figure)
        print(f"wrote {OUT / name}")


if __name__ == "__main__":
    main()
