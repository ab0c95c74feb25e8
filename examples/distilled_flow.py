"""A kernel flow distilled into a generator every k steps: one-step samples of the S-curve, digits.

    python examples/distilled_flow.py [--fast]

No discriminator is trained. A round makes fresh samples of the generator, moves them k Euler steps
along grad log p/q, the ratio fitted to the samples at each step by logistic regression on random
features, and regresses the generator onto where they ended. What is distilled is shown beside the
particles themselves, moved without a generator by as many field evaluations: the price of a
sample in one pass. W2 is to held-out samples. On the curve the generator that follows every step
ends near the floor (.16, floor .15, particles .12), and those with fewer rounds behind (.20 and
.28 for k = 5 and 20). The digits, in the plane of 50 principal components, fail, distilled or not:
a ratio fitted to 500 samples of each knows their means and covariances and hardly more;
`two_samples.py` has the learned critic that does better. Writes examples/out/distilled_flow.png.
"""

import argparse
import functools
import pathlib
import time

import _data
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
from _pictures import SIDE, images

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
FITS = 20  # gradient steps of the regression in a round


def same(u):
    return u


# name: settings of the fit, Euler's step, latent coordinates, width of the generator
SETTINGS = {
    "curve": ({"features": 128, "bandwidth": np.float32([0.3, 0.6]), "ridge": 1e-2}, 0.02, 2, 128),
    "digits": ({"features": 64, "bandwidth": 8.0, "ridge": 1e-2}, 0.1, 32, 256),
}


def field_to(xs_p, fit, count, key):
    """The KL flow's velocity to a batch of p, its ratio fitted to the cloud."""
    batch = jr.choice(key, xs_p, (count,))
    options = {"degree": 2, "newton_steps": 4, "key": jr.key(9), **fit}
    fitted = functools.partial(df.rff_log_ratio, xs_p=batch, **options)
    return df.cloud_velocity(same, fitted)


def move(xs, xs_p, fit, step_size, k, key):
    """k Euler steps, each against its own batch of p."""

    def step(xs, key):
        return xs + step_size * field_to(xs_p, fit, len(xs), key)(0.0, xs, None), None

    return jax.lax.scan(step, xs, jr.split(key, k))[0]


@eqx.filter_jit
def distil(generator, xs_p, fit, step_size, k, rounds, count, key):
    """The generator after some rounds."""
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, rounds * FITS))
    arrays, rest = eqx.partition(generator, eqx.is_array)
    latent = generator.layers[0].in_features

    def loss(arrays, zs, targets):
        xs = jax.vmap(eqx.combine(arrays, rest))(zs)
        return 0.5 * jnp.mean(jnp.sum((xs - targets) ** 2, axis=1))

    def fit_once(carry, _):
        arrays, opt_state, zs, targets = carry
        updates, opt_state = optimizer.update(jax.grad(loss)(arrays, zs, targets), opt_state)
        return (optax.apply_updates(arrays, updates), opt_state, zs, targets), None

    def one_round(carry, key):
        arrays, opt_state = carry
        key_z, key_move = jr.split(key)
        zs = jr.normal(key_z, (count, latent))
        xs = jax.vmap(eqx.combine(arrays, rest))(zs)
        targets = move(xs, xs_p, fit, step_size, k, key_move)
        begin = (arrays, opt_state, zs, targets)
        (arrays, opt_state, _, _), _ = jax.lax.scan(fit_once, begin, length=FITS)
        return (arrays, opt_state), None

    begin = (arrays, optimizer.init(arrays))
    (arrays, _), _ = jax.lax.scan(one_round, begin, jr.split(key, rounds))
    return eqx.combine(arrays, rest)


def start(dim, latent, width):
    return df.networks.Generator(latent, dim, width, 3, key=jr.key(1))


def sample(generator, count, key):
    latent = generator.layers[0].in_features
    return jax.vmap(generator)(jr.normal(key, (count, latent)))


def w2(problem, zs):
    """In the user's coordinates, mean over the held-out sets that there are."""
    xs, held = problem.decode(zs), np.float32(problem.held)
    sets = [held[i : i + len(xs)] for i in range(0, len(held) - len(xs) + 1, len(xs))]
    return np.mean([float(df.wasserstein2(xs, each)) for each in sets[:5]])


def show(axis, problem, zs, title):
    xs = problem.decode(zs)
    if xs.shape[1] == SIDE**2:
        df.plot.samples(images(xs[:36]), ax=axis, cmap="gray_r", vmin=0, vmax=1)
    else:
        df.plot.samples(problem.held[:1000], ax=axis, color=df.plot.COLORS["p"])
        df.plot.samples(xs, ax=axis)
        axis.spines[:].set_visible(True)
        axis.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[])
    axis.set_title(title)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer steps, for a check")
    fast = parser.parse_args(argv).fast
    OUT.mkdir(exist_ok=True)
    ks = (20,) if fast else (1, 5, 20)
    budgets = {"curve": 60 if fast else 600, "digits": 20 if fast else 100}
    plt.style.use("divergence_flows.plot.style")
    figure, axes = plt.subplots(2, 2 + len(ks), figsize=(3 * (2 + len(ks)), 6.4))
    for row, (name, (fit, step_size, latent, width)) in zip(axes, SETTINGS.items(), strict=True):
        count, evaluations = 500, budgets[name]
        problem = getattr(_data, name)(np.random.default_rng(0), count)
        xs_p = jnp.asarray(problem.encode(problem.train))
        floor = w2(problem, problem.encode(problem.pool[:count]))
        generator = start(xs_p.shape[1], latent, width)
        xs = sample(generator, count, jr.key(2))
        show(row[0], problem, xs, f"{name}: generator, untrained")
        particles = eqx.filter_jit(move)(xs, xs_p, fit, step_size, evaluations, jr.key(3))
        print(
            f"{name}: W2 floor {floor:.3f}, start {w2(problem, xs):.3f}, particles after "
            f"{evaluations} evaluations {w2(problem, particles):.3f}",
            flush=True,
        )
        show(row[1], problem, particles, f"particles: {w2(problem, particles):.2f}")
        for axis, k in zip(row[2:], ks, strict=True):
            begin = time.perf_counter()
            trained = distil(generator, xs_p, fit, step_size, k, evaluations // k, count, jr.key(4))
            fresh = sample(trained, count, jr.key(5))
            found = w2(problem, fresh)
            seconds = time.perf_counter() - begin
            print(f"  distilled every {k:2d} steps: {found:.3f} ({seconds:.0f} s)", flush=True)
            show(axis, problem, fresh, f"one pass, k = {k}: {found:.2f}")
    figure.savefig(OUT / "distilled_flow.png", dpi=110)
    plt.close(figure)
    print(f"wrote {OUT / 'distilled_flow.png'}")


if __name__ == "__main__":
    main()
