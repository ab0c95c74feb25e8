"""A drifting model is our distillation step with a kernel field, of which three stand here.

    python examples/drifting.py [--fast]

A one-step generator is trained by regression onto its own samples, each moved by a drift: a mean
shift towards samples of p minus one towards its own. In the Gaussian-kernel form, with kernels
normalised as in a mean shift the drift is b^2 grad(log kde_p - log kde_q), b the bandwidth:
`df.velocity` of the log ratio of two kernel densities, hence the flow of KL(q||p) between the
smoothed densities; `check` measures it. The second field is the slope of an MMD's witness, the
third the drift as its authors released it, `df.drift_field`, which weighs pairs over rows and
columns and has the same size however near q is to p; its radius is in units of the mean distance.
It is meant for features of a pretrained network: on pixels, where all distances are alike, it
fails. The bandwidth decides: samples farther than a few b from all data feel little of it, and
modes closer than b are one. Writes examples/out/drifting.png, the first seed of each.
"""

import argparse
import pathlib

import _ring
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
SD, BATCH, EPS = 0.05, 256, 1.0
OPTIMIZER = optax.adam(1e-3)


def same(u):
    return u


def mean_shift(x, ys, bandwidth):
    """From x to the mean of the samples, weighted by a Gaussian kernel around x."""
    weights = jax.nn.softmax(-jnp.sum((ys - x) ** 2, axis=1) / (2 * bandwidth**2))
    return jnp.sum(weights[:, None] * (ys - x), axis=0)


def drift(xs, xs_q, xs_p, bandwidth):
    """The drift, Gaussian-kernel form: attraction to data minus repulsion from own samples."""
    return jax.vmap(lambda x: mean_shift(x, xs_p, bandwidth) - mean_shift(x, xs_q, bandwidth))(xs)


def smoothed_log_ratio(xs_q, xs_p, bandwidth):
    """log p/q of the two kernel densities, a log ratio like any other."""
    log_p, log_q = (df.kde_log_prob(xs, bandwidth=bandwidth) for xs in (xs_p, xs_q))
    return lambda t, x, args: log_p(x) - log_q(x)


def check(bandwidth=0.5):
    """The drift is bandwidth^2 times the velocity of KL(q||p) between the smoothed densities."""
    with jax.enable_x64(True):
        key_p, key_q, key_x = jr.split(jr.key(7), 3)
        xs_p, xs_q = _ring.ring(key_p, 500, SD), jr.normal(key_q, (300, 2))
        xs = 1.5 * jr.normal(key_x, (200, 2))
        field = df.velocity(same, smoothed_log_ratio(xs_q, xs_p, bandwidth))
        apart = jnp.abs(drift(xs, xs_q, xs_p, bandwidth) - bandwidth**2 * field(0.0, xs, None))
        most = float(jnp.max(apart))
    if most > 1e-5:
        raise RuntimeError(f"the drift is no slope of a log ratio: {most} apart")
    print(f"drift - b^2 grad(log kde_p - log kde_q): at most {most:.1e}")


def normalised(xs_q, xs_p, bandwidth):
    field = df.velocity(same, smoothed_log_ratio(xs_q, xs_p, bandwidth))
    return lambda xs: bandwidth**2 * field(0.0, xs, None)


def witness(xs_q, xs_p, bandwidth):
    field = df.velocity(same, df.mmd_witness(xs_q, xs_p, bandwidth=bandwidth))
    return lambda xs: bandwidth**2 * field(0.0, xs, None)


def released(xs_q, xs_p, bandwidth):
    return lambda xs: df.drift_field(xs, xs_p, radii=[bandwidth])


FIELDS = {
    "grad log kde_p/kde_q": normalised,
    "grad of MMD's witness": witness,
    "as released": released,
}
WIDTHS = {"0.1": (0.1, 0.1), "0.3": (0.3, 0.3), "1": (1.0, 1.0), "1 to 0.1": (1.0, 0.1)}


@eqx.filter_jit
def train(make, steps, xs_p, widths, key):
    """One seed; the bandwidth goes from the first of `widths` to the second, geometrically."""
    key_net, key_run, key_last = jr.split(key, 3)
    generator = df.networks.Generator(_ring.LATENT, 2, _ring.WIDTH, _ring.DEPTH, key=key_net)
    trained, rest = eqx.partition(generator, eqx.is_array)

    def sample(trained, key, count):
        zs = jr.normal(key, (count, _ring.LATENT))
        return jax.vmap(eqx.combine(trained, rest))(zs)

    def step(carry, inputs):
        trained, opt_state = carry
        done, key = inputs
        key_z, key_q, key_p = jr.split(key, 3)
        some_p = jr.choice(key_p, xs_p, (BATCH,))
        # Fresh samples repel: in its own kernel density a sample would hold on to itself.
        xs_q = sample(trained, key_q, BATCH)
        drift = make(xs_q, some_p, widths[0] ** (1 - done) * widths[1] ** done)

        def loss(trained):
            xs = sample(trained, key_z, BATCH)
            return df.distillation_loss(xs, drift(jax.lax.stop_gradient(xs)), EPS)

        updates, opt_state = OPTIMIZER.update(jax.grad(loss)(trained), opt_state)
        return (optax.apply_updates(trained, updates), opt_state), None

    inputs = (jnp.linspace(0.0, 1.0, steps), jr.split(key_run, steps))
    (trained, _), _ = jax.lax.scan(step, (trained, OPTIMIZER.init(trained)), inputs)
    return sample(trained, key_last, 2000)


def w2(xs, fresh):
    return np.mean([float(df.wasserstein2(xs[: len(each)], each)) for each in fresh])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer steps, for a check")
    fast = parser.parse_args(argv).fast
    OUT.mkdir(exist_ok=True)
    check()
    seeds, steps = (2, 300) if fast else (5, 3000)
    xs_p, keys = _ring.ring(jr.key(1), 4096, SD), jr.split(jr.key(0), seeds)
    fresh = [_ring.ring(jr.key(10 + i), 500, SD) for i in range(4)]
    print(f"W2 floor {w2(_ring.ring(jr.key(20), 500, SD), fresh):.3f}")
    size = (3 * len(WIDTHS), 3.3 * len(FIELDS))
    plt.style.use("divergence_flows.plot.style")
    figure, axes = plt.subplots(len(FIELDS), len(WIDTHS), figsize=size)
    for row, (name, make) in zip(axes, FIELDS.items(), strict=True):
        one = lambda key, widths, make=make: train(make, steps, xs_p, widths, key)
        run = jax.jit(jax.vmap(one, (0, None)))
        for axis, (words, widths) in zip(row, WIDTHS.items(), strict=True):
            clouds = np.asarray(run(keys, jnp.array(widths)))
            modes, near = np.array([_ring.score(xs, SD) for xs in clouds], float).T
            far = np.mean([w2(xs, fresh) for xs in clouds])
            print(
                f"{name:22s} b = {words:8s} modes {modes.mean():.1f}, near a mode "
                f"{near.mean():.0%}, W2 {far:.3f}",
                flush=True,
            )
            _ring.draw(axis, clouds[0], f"{name}\nb = {words}: W2 {far:.2f}")
    figure.savefig(OUT / "drifting.png", dpi=110)
    print(f"wrote {OUT / 'drifting.png'}")


if __name__ == "__main__":
    main()
