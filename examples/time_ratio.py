"""One network for the log ratio at all times moves Gaussian particles it has never seen.

    python examples/time_ratio.py [--fast]

The flow from N((4, 2), .64 I) to a correlated Gaussian is known exactly. At its start p and q
barely overlap, and samples of the two say little about their ratio: the plain discriminator is
wrong there. Neighbouring times do overlap, and a quadratic goes on where samples end; a known
grad log p says the rest. Writes examples/out/time_ratio.png: mean and covariance over time, exact
and learned, and the error of the velocity.
"""

import argparse
import pathlib
import time

import _ou
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
GAN = df.gans.logit()
RUNS = {
    "plain": {"neighbours": 0.0},
    "neighbours and quadratic": {},
    "grad log p known": {"score_p": _ou.score_p},
}


def train(name, steps, batch, xs_q, xs_p):
    """The plain network is an MLP alone; the others are quadratics of x that time changes."""
    shape = {"width": 64, "depth": 2, "quadratic": False} if name == "plain" else {"depth": 0}
    both = np.concatenate([xs_q[:50_000], xs_p[:50_000]])
    net = df.networks.TimeDiscriminator(2, horizon=_ou.HORIZON, like=both, key=jr.key(1), **shape)
    rate = 2e-3 if name == "plain" else 2e-2
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    options = {"steps": steps, "batch_size": batch, "ema_decay": 0.999, "optimizer": optimizer}
    options |= {"ts": _ou.GRID, "key": jr.key(7)}
    state, _ = df.train_flow_ratio(GAN, net, xs_q, xs_p, **options, **RUNS[name])
    return state.ema


def draw(found, ts, path):
    plt.style.use("divergence_flows.plot.style")
    figure, axes = plt.subplots(1, 3, figsize=(13, 4))
    exact = [_ou.moments(t) for t in ts]
    axes[0].plot(ts, [mean for mean, _ in exact], color="black", label=["exact", None])
    lines = [[c[0, 0], c[0, 1]] for _, c in exact]
    axes[1].plot(ts, lines, color="black", label=["exact", None])
    for color, (name, (xs, error)) in zip(("C1", "C0", "C2"), found.items(), strict=True):
        axes[0].plot(ts, xs.mean(axis=1), "--", color=color, label=[name, None])
        covariances = np.array([np.cov(cloud.T) for cloud in xs])
        lines = covariances[:, 0]
        axes[1].plot(ts, lines, "--", color=color, label=[name, None])
        axes[2].semilogy(ts, error, color=color, label=name)
    axes[0].set(title="mean", xlabel="t")
    axes[1].set(title="variance of x, covariance", xlabel="t")
    axes[2].set(title="relative error of the velocity", xlabel="t")
    axes[0].legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    print(f"wrote {path}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer steps, for a check")
    fast = parser.parse_args(argv).fast
    OUT.mkdir(exist_ok=True)
    steps, batch = (400, 16) if fast else (6000, 512)
    # So many that training sees each a few times only: fewer would be learned by heart.
    xs_q, xs_p = (np.float32(xs) for xs in _ou.samples(jr.key(0), 50_000 if fast else 1_000_000))
    ts = np.linspace(0, _ou.HORIZON, 31, dtype=np.float32)
    found = {}
    for name in RUNS:
        start = time.perf_counter()
        network = train(name, steps, batch, xs_q, xs_p)
        seconds = time.perf_counter() - start
        error = np.asarray(_ou.velocity_error(GAN, network, ts))
        found[name] = (np.asarray(_ou.moved(GAN, network, ts)[0]), error)
        of_mean, of_covariance, of_log_q = _ou.errors(GAN, network).max(axis=0)
        print(
            f"{name:25s} at t = .3, 1, 3 at most: mean off by {of_mean:.3f}, covariance by "
            f"{of_covariance:.3f}, log q by {of_log_q:.3f} nat; velocity {error.mean():.1%} "
            f"({seconds:.0f} s)",
            flush=True,
        )
    draw(found, ts, OUT / "time_ratio.png")


if __name__ == "__main__":
    main()
