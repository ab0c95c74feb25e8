"""Which loss may a generator take from a ratio that it does not differentiate? A table of verdicts.

    python examples/ratio_verdicts.py [--fast]

p = N(0, L L^T), q = N(mu, S S^T) from N((1, 1), I), Adam on (mu, S). The log ratio u = log p/q is
exact but detached (q's parameters stopped inside u), or learned by a logistic discriminator that
trains along. Two losses of each divergence:

E_q[f(r)]     the divergence itself. With u detached its gradient drives the flow of
              h_eff' = -r f'(r), which is the divergence's own h' = r^2 f''(r), up to scale, for
              KL(q||p) and for alpha < 1 without the linear term of f. Of the others it drives
              some samples the wrong way, all that are near p if f'(1) > 0.
-E_q[h(u)]    MonoFlow's: right for every increasing h, e^{1.5 u} too.

Prints KL(q||p) at the end and the verdict beside the one that theory predicts; writes
examples/out/ratio_verdicts.png. `df.generator_loss` takes the second form only.

References: Yi, Zhu & Liu, MonoFlow, ICML 2023.
"""

import argparse
import functools
import pathlib

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
P = df.Gaussian(jnp.zeros(2), jnp.array([[1.0, 0.0], [0.8, 0.5]]))
START = df.Gaussian(jnp.ones(2), jnp.eye(2))
NAMES = df.divergences
# name: u -> f(e^u) and h, f with the constants of the textbook
ROWS = {
    "KL(q||p)": NAMES.kl_qp,
    "KL(p||q)": NAMES.kl_pq,
    "Jensen-Shannon": NAMES.jensen_shannon,
    "Pearson": NAMES.pearson,
    "Hellinger": NAMES.squared_hellinger,
    "Hellinger, f = 2 - 2 sqrt r": df.Divergence(lambda r: 2 - 2 * jnp.sqrt(r)),
    "h = e^{1.5 u}": NAMES.alpha(1.5),
}
CONVERGED = 0.05  # KL(q||p) [nats], of 2.67 at the start


def direct_loss(div, u):
    return jnp.mean(div.log_f(u))


def monoflow_loss(div, u):
    return -jnp.mean(div.h(u))


LOSSES = {"E f(r)": direct_loss, "-E h(u)": monoflow_loss}


def predicted(div, form):
    """Whether the flow that the loss drives is, up to scale, the divergence's own."""
    us = jnp.linspace(-2.0, 2.0, 21)
    own = div.h_prime(us)
    driven = own if form == "-E h(u)" else -jnp.exp(us) * div.activation(us)
    scale = np.asarray(driven / own)
    same = scale.min() > 0 and np.ptp(scale) < 1e-6 * scale.max()
    return "converges" if same else "fails"


def exact(q, critic, key):
    """The true log ratio, q's parameters stopped; there is nothing to train."""
    frozen = jax.lax.stop_gradient(q)
    return critic, lambda x: P.log_prob(x) - frozen.log_prob(x)


def learned(optimizer, count, batch, q, critic, key):
    """A few steps of the discriminator on fresh samples, then its log ratio."""
    gan = df.gans.logit()

    def step(critic, key):
        key_q, key_p = jr.split(key)
        xs_q = jax.vmap(q.push)(jr.normal(key_q, (batch, 2)))
        xs_p = jax.vmap(P.push)(jr.normal(key_p, (batch, 2)))
        return df.ratio_step(gan, optimizer, critic, (xs_q, xs_p))

    critic, _ = jax.lax.scan(step, critic, jr.split(key, count))
    return critic, critic.discriminator


def descend(loss, div, ratio, first, optimizer, steps, batch, key):
    """Adam on (mu, S); KL(q||p) after each step."""

    def value(q, log_r, z):
        return loss(div, jax.vmap(lambda z: log_r(q.push(z)))(z))

    def step(state, key):
        q, memory, critic = state
        key_z, key_critic = jr.split(key)
        critic, log_r = ratio(q, critic, key_critic)
        slope = jax.grad(value)(q, log_r, jr.normal(key_z, (batch, 2)))
        updates, memory = optimizer.update(slope, memory)
        q = optax.apply_updates(q, updates)
        return (q, memory, critic), df.gaussian_kl(q, P)

    begin = (START, optimizer.init(START), first)
    return jax.lax.scan(step, begin, jr.split(key, steps))[1]


def one_run(loss, div, learns, settings, key):
    """One seed; a learned ratio first trains on q as it starts."""
    steps, batch, width, warm, count = settings
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    if not learns:
        return descend(loss, div, exact, None, optimizer, steps, batch, key)
    key_net, key_warm, key = jr.split(key, 3)
    of_critic = optax.adam(5e-3, b1=0.5)
    net = df.networks.Discriminator(2, width, 2, key=key_net)
    first = df.RatioState.start(net, of_critic)
    first, _ = learned(of_critic, warm, batch, START, first, key_warm)
    ratio = functools.partial(learned, of_critic, count, batch)
    return descend(loss, div, ratio, first, optimizer, steps, batch, key)


def curves(loss, div, learns, settings, seeds):
    run = functools.partial(one_run, loss, div, learns, settings)
    return np.asarray(jax.jit(jax.vmap(run))(jr.split(jr.key(0), seeds)))


def cell(paths, theory):
    """KL at the end, median of the seeds, and what to make of it."""
    middle = np.median(np.where(np.isfinite(paths[:, -1]), paths[:, -1], np.inf))
    seen = "converges" if middle < CONVERGED else "fails" if middle > paths[0, 0] / 2 else "nears p"
    words = "as predicted" if seen == theory else f"theory: {theory}"
    return f"{middle:9.2g} {seen:10s} {words}"


def draw(found, path):
    plt.style.use("divergence_flows.plot.style")
    figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), sharey=True)
    for (form, learns), rows in found.items():
        axis = axes[int(learns), list(LOSSES).index(form)]
        for name, paths in rows.items():
            axis.plot(np.median(paths, axis=0), label=name)
        axis.axhline(CONVERGED, color="#9a9a9a", linestyle=":", linewidth=1)
        axis.set(title=f"{form}, {'learned' if learns else 'exact, detached'} ratio")
        axis.set(yscale="log", ylim=(1e-7, 1e3), xlabel="Adam steps", ylabel="KL(q||p) [nats]")
    axes[0, 0].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"wrote {path}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="smaller, for a check")
    fast = parser.parse_args(argv).fast
    jax.config.update("jax_enable_x64", True)
    OUT.mkdir(exist_ok=True)
    # Adam steps, batch, width of the discriminator, its steps before the first and at each
    settings, seeds = ((600, 256, 32, 300, 3), 2) if fast else ((3000, 512, 32, 1000, 5), 3)
    print(f"KL(q||p) at the start {df.gaussian_kl(START, P):.3f}; at the end, median of {seeds}:")
    found = {(form, learns): {} for learns in (False, True) for form in LOSSES}
    for name, div in ROWS.items():
        for form, learns in found:
            paths = curves(LOSSES[form], div, learns, settings, seeds)
            found[form, learns][name] = paths
            ratio = "learned" if learns else "exact"
            print(f"{name:28s} {form:8s} {ratio:8s}{cell(paths, predicted(div, form))}", flush=True)
    draw(found, OUT / "ratio_verdicts.png")
    try:
        df.generator_loss(df.divergences.jensen_shannon, jnp.zeros(3))
    except ValueError as error:
        print(f"The wrong form, asked of the library:\n  {error}")


if __name__ == "__main__":
    main()
