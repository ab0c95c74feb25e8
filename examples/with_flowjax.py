"""A flow of flowjax is fitted as q, then serves as p; ott-jax judges the particles that it moved.

    python examples/with_flowjax.py [--fast]

1. q: `stl_loss` takes any law through the two-line adapter below; optax trains it on a banana.
2. p: the fitted flow is a density like any other. A cloud flows onto it, and its own density, which
   the ratio needs, is a kernel estimate anew at each moment.
3. How near? The Sinkhorn divergence of ott-jax to fresh draws of the banana, beside what
   independent draws have among themselves.

Needs flowjax and ott-jax: `nox -s examples` brings them. Writes examples/out/with_flowjax.png.
"""

import argparse
import functools
import itertools
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
from flowjax.distributions import StandardNormal, Transformed
from flowjax.flows import coupling_flow
from jax.tree_util import Partial
from ott.tools.sinkhorn_divergence import sinkdiv

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
BOX = ((-4.0, 4.0), (-2.5, 6.0))


class Flow(eqx.Module):
    """The adapter: what flowjax calls transform is our push."""

    law: Transformed

    def push(self, z):
        return self.law.bijection.transform(z)

    def log_prob(self, x):
        return self.law.log_prob(x)


def banana(x):
    """Log density of x1 ~ N(0, 1), x2 ~ N((x1^2 - 1)/2, 1/4), with its constant."""
    return -0.5 * (x[0] ** 2 + (2 * x[1] - x[0] ** 2 + 1) ** 2) - jnp.log(jnp.pi)


def draws(key, count):
    z = jr.normal(key, (count, 2))
    return jnp.stack([z[:, 0], (z[:, 0] ** 2 - 1 + z[:, 1]) / 2], axis=1)


def fit(q, steps, key):
    """The user's own loop: only the loss is ours."""
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    trained, rest = eqx.partition(q, eqx.is_inexact_array)

    def loss(trained, z):
        return df.stl_loss(banana, eqx.combine(trained, rest), z)

    def step(carry, key):
        trained, memory = carry
        slope = jax.grad(loss)(trained, jr.normal(key, (128, 2)))
        updates, memory = optimizer.update(slope, memory, trained)
        return (optax.apply_updates(trained, updates), memory), None

    run = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[0])
    trained, _ = run((trained, optimizer.init(trained)), jr.split(key, steps))
    return eqx.combine(trained, rest)


def log_ratio(p, log_q, t, x, args):
    return p.log_prob(x) - log_q(x)


def to_law(xs, p):
    """Log p/q of a cloud, p known and q estimated from the cloud itself."""
    return Partial(log_ratio, p, df.kde_log_prob(xs))


def kl(u):  # h of the KL(q||p) flow
    return u


@jax.jit
def sinkhorn(xs, ys):
    return sinkdiv(xs, ys, epsilon=0.2)[0]


def draw(flow, path):
    """Draws of the fitted flow, and the way of the particles that moved onto it."""
    plt.style.use("divergence_flows.plot.style")
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.4), sharex=True, sharey=True)
    df.plot.samples(jax.vmap(flow.push)(jr.normal(jr.key(5), (2000, 2))), ax=axes[0])
    df.plot.paths(path, ax=axes[1])
    for axis, title in zip(axes, ("q: draws of a flow of flowjax", "onto that flow"), strict=True):
        df.plot.density(banana, BOX, ax=axis)
        axis.set_title(title)
    axes[1].legend()
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / "with_flowjax.png", dpi=110)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer steps and points, for a check")
    fast = parser.parse_args(argv).fast
    steps, count = (400, 128) if fast else (2000, 256)
    law = coupling_flow(
        jr.key(0), base_dist=StandardNormal((2,)), flow_layers=3, nn_width=32, invert=False
    )
    flow = fit(Flow(law), steps, jr.key(1))
    # The value of the loss is KL(q||p) itself, in nats: the banana's constant is known.
    nats = [df.stl_loss(banana, q, jr.normal(jr.key(2), (4096, 2))) for q in (Flow(law), flow)]
    print(f"KL(flow || banana): {nats[0]:.3f} before, {nats[1]:.3f} nat after {steps} steps")
    assert nats[1] < (0.1 if fast else 0.03)

    start = jr.normal(jr.key(3), (count, 2))
    field = df.cloud_velocity(kl, functools.partial(to_law, p=flow))
    path = df.integrate(field, start, np.linspace(0.0, 2.0, 21)).ys
    moved = path[-1]
    sets = [draws(key, count) for key in jr.split(jr.key(4), 5)]
    floor = np.array([sinkhorn(xs, ys) for xs, ys in itertools.pairwise(sets)])
    before, after = (np.mean([sinkhorn(xs, ys) for ys in sets[:3]]) for xs in (start, moved))
    print(
        f"Sinkhorn divergence to the banana: {before:.3f} before, {after:.3f} after; "
        f"between draws {floor.mean():.3f} (of four, {floor.min():.3f} to {floor.max():.3f})"
    )
    assert after < floor.max()
    assert before > 3 * after
    draw(flow, path)


if __name__ == "__main__":
    main()
