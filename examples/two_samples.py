"""Moves the samples of one data set onto another, and says how close they came.

    python examples/two_samples.py                       # three demonstrations
    python examples/two_samples.py --only curve          # 8 Gaussians to an S-curve
    python examples/two_samples.py --source a.npy --target b.npy --out moved.npy

W2, the Wasserstein-2 distance, is taken between moved particles and target samples that were held
out. The floor is W2 between two independent target samples of that size, the held-out one and
another, mean of ten pairs. Particles can come in below it: samples are random, particles spread
more evenly. Your own samples first take the target's mean and spread, coordinate by coordinate,
by an affine map; the flow does the rest.
"""

import argparse
import functools
import importlib.util
import pathlib
import sys
import time

import _data
import _pictures
import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import divergence_flows as df

HERE = pathlib.Path(__file__).parent
# Held-out samples in a set, Euler steps, the first of them, critic steps, batch, width and depth.
SETTINGS = {
    "curve": (1024, 4000, 1e-2, 5, 256, 64, 3),
    "digits": (500, 2000, 4e-2, 3, 128, 256, 2),
    "bananas": (512, 3000, 1e-2, 5, 256, 64, 3),
    "own": (1000, 4000, 1e-2, 5, 256, 64, 3),
}
FAST = (64, 40, 1e-2, 5, 64, 16, 2)


def meter():
    """A bar on a terminal, a few lines elsewhere."""
    if sys.stdout.isatty() and importlib.util.find_spec("tqdm"):
        return diffrax.TqdmProgressMeter(refresh_steps=20)
    return diffrax.TextProgressMeter(minimum_increase=0.25)


def w2(xs, ys):
    """W2 between as many of each as the smaller has."""
    count = min(len(xs), len(ys))
    return float(df.wasserstein2(np.float32(xs[:count]), np.float32(ys[:count])))


def batches(held, count):
    """Held-out sets of some size, up to ten."""
    return [held[i : i + count] for i in range(0, min(len(held), 10 * count) - count + 1, count)]


def distance(xs, sets):
    """W2 to each set, mean; of particles there may be more than a set has."""
    return np.mean([w2(xs, each) for each in sets])


def floor(sets, pool, rng, pairs=10):
    """W2 between two independent target samples, a held-out and another, mean of some pairs."""
    chosen = [sets[i % len(sets)] for i in range(pairs)]
    return np.mean([w2(rng.permutation(pool)[: len(each)], each) for each in chosen])


def flow(problem, settings, key):
    """Moves the source; returns the path in the user's coordinates, seconds, and the info."""
    _, steps, eps, critic_steps, batch_size, width, depth = settings
    key_net, key_run = jr.split(key)
    source, target = problem.encode(problem.source), problem.encode(problem.train)
    critic = df.networks.Discriminator(source.shape[1], width, depth, key=key_net)
    start = time.perf_counter()
    moved, info = df.transport(
        df.gans.logit(),
        critic,
        source,
        target,
        steps=steps,
        step_size=optax.cosine_decay_schedule(eps, steps, alpha=0.1),
        critic_steps=critic_steps,
        batch_size=batch_size,
        chunk=max(1, steps // 40),
        keep_map=problem.name == "curve",
        progress=meter(),
        key=key_run,
    )
    jax.block_until_ready(moved)
    seconds = time.perf_counter() - start
    return [problem.decode(xs) for xs in info.path], seconds, info


def ratio_update(gan, optimizer, rest, batch, arrays, key):
    """One scanned step of a discriminator between two sets that stay where they are."""
    state = eqx.combine(arrays, rest)
    state, info = df.ratio_step(gan, optimizer, state, batch, batch_size=256, key=key)
    return eqx.filter(state, eqx.is_array), info.loss


def learn_ratio(problem, steps, key):
    """Log ratio of target to source, and how far it is from one on samples it has not seen."""
    gan, optimizer = df.gans.logit(), optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    critic = df.networks.Discriminator(2, 32, 2, key=key)
    half = len(problem.source) // 2
    batch = (jnp.float32(problem.source[:half]), jnp.float32(problem.train))
    state = df.RatioState.start(critic, optimizer)
    arrays, rest = eqx.partition(state, eqx.is_array)
    update = functools.partial(ratio_update, gan, optimizer, rest, batch)
    arrays, _ = jax.jit(functools.partial(jax.lax.scan, update))(arrays, jr.split(key, steps))
    log_r = df.learned_log_ratio(gan, eqx.combine(arrays, rest).discriminator)
    unseen = np.float32(problem.source[half:]), np.float32(problem.held)
    return log_r, df.ratio_check(log_r, *unseen)


def report(problem, path, seconds, rng):
    """Prints what the move reached; returns a line for the picture."""
    count = min(len(path[-1]), len(problem.held), len(problem.pool))
    some, sets = rng.permutation(len(path[-1]))[:count], batches(problem.held, count)
    before, after = (distance(xs[some], sets) for xs in (path[0], path[-1]))
    least = floor(sets, problem.pool, rng)
    print(
        f"{problem.name}: W2 {before:.3f} -> {after:.3f}, floor {least:.3f} "
        f"({count} particles, {len(sets)} x {count} held-out samples; moved in {seconds:.1f} s)"
    )
    return f"W2 {after:.3f}, floor {least:.3f}"


def report_new(problem, info, source, rng):
    """Moves points that training never saw by the same steps; they are random, as the floor is."""
    new = problem.decode(info.push(problem.encode(source)))
    sets = batches(problem.held, min(len(new), len(problem.held)))
    found, least = distance(new, sets), floor(sets, problem.pool, rng)
    print(
        f"{problem.name}: W2 {found:.3f} of {len(new)} new points, moved by the same steps; "
        f"{found / least:.2f} of the floor"
    )


def show(problem, path, info, args, log_r=None):
    """Writes the picture, and the animation if it is wanted."""
    args.out_dir.mkdir(parents=True, exist_ok=True)
    picture = args.out_dir / f"{problem.name}.png"
    plt.style.use("divergence_flows.plot.style")
    if problem.name == "digits":
        _pictures.draw_digits(problem, path, info)
    else:
        _pictures.draw_clouds(problem, path, info, log_r)
    plt.savefig(picture, dpi=110)
    print(f"{problem.name}: wrote {picture}")
    if args.animate:
        film = picture.with_suffix(".gif")
        _pictures.animate(problem, path).save(film, writer="pillow", fps=10)
        print(f"{problem.name}: wrote {film}")
    plt.close("all")


def ratio_of(problem, args, key):
    """Learns and checks the ratio of the two classes."""
    log_r, check = learn_ratio(problem, 40 if args.fast else 3000, key)
    print(
        f"{problem.name}: learned ratio on held-out samples: E_q[r] = {check.mean_r:.3f}, "
        f"E_p[1/r] = {check.mean_inverse_r:.3f} (both 1 if true), effective sample size "
        f"{check.effective_sample_size:.0f} of {len(problem.source) - len(problem.source) // 2}"
    )
    return log_r


def solve(make, name, args):
    """One problem from data to picture."""
    rng, key = np.random.default_rng(args.seed), jr.key(args.seed)
    settings = FAST if args.fast else SETTINGS[name]
    problem = make(rng, settings[0])
    key_flow, key_ratio = jr.split(key)
    log_r = ratio_of(problem, args, key_ratio) if name == "bananas" else None
    path, seconds, info = flow(problem, settings, key_flow)
    path = path if problem.start is None else [np.float32(problem.start), *path]
    show(problem, path, report(problem, path, seconds, rng), args, log_r)
    if info.map is not None:
        fresh = make(np.random.default_rng(1000 + args.seed), settings[0])
        report_new(problem, info, fresh.source, rng)
    return path[-1]


def arguments(argv):
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("curve", "digits", "bananas"), help="one demonstration")
    parser.add_argument("--source", metavar="FILE", help="your samples to move, .npy or .csv")
    parser.add_argument("--target", metavar="FILE", help="samples to move them onto")
    parser.add_argument("--out", metavar="FILE", help="where the moved samples go")
    parser.add_argument("--out-dir", type=pathlib.Path, default=HERE / "out", help="for pictures")
    parser.add_argument("--pixels", action="store_true", help="digits: pixels, no components")
    parser.add_argument("--animate", action="store_true", help="write a GIF too")
    parser.add_argument("--fast", "--small", action="store_true", help="a few steps only")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def run(args):
    """Does what the command line asks for."""
    files = (args.source, args.target, args.out)
    if any(files):
        if not all(files):
            raise _data.BadInput("--source, --target and --out go together; pass all three")
        _data.check_output(args.out)
        own = functools.partial(_data.own, source_path=args.source, target_path=args.target)
        _data.write(args.out, solve(own, "own", args))
        print(f"own: wrote {args.out}")
        return
    makers = {
        "curve": _data.curve,
        "digits": functools.partial(_data.digits, pixels=args.pixels),
        "bananas": _data.bananas,
    }
    for name in [args.only] if args.only else makers:
        solve(makers[name], name, args)


def main(argv=None):
    """Runs, and says in one line what was wrong with the input, or stopped the run."""
    try:
        run(arguments(argv))
    except (_data.BadInput, df.RunDiverged, KeyboardInterrupt) as error:
        kinds = {_data.BadInput: 2, df.RunDiverged: 3}
        print(f"two_samples: {str(error) or 'stopped'}", file=sys.stderr)
        return kinds.get(type(error), 130)
    return 0


if __name__ == "__main__":
    sys.exit(main())
