"""Fits to samples for `flow.py`: how time and memory grow with them, and where a flow arrives.

`report` prints one JSON line of the keywords it gets. Each function is one case.
"""

import functools
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import divergence_flows as df

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
COUNTS = (10_000, 100_000, 1_000_000)
BLOCK, FEATURES = 8192, 128
FITS = {
    "rff_log_ratio": functools.partial(
        df.rff_log_ratio, features=FEATURES, newton_steps=4, key=jr.key(0)
    ),
    "ulsif_ratio": functools.partial(df.ulsif_ratio, centres=FEATURES, key=jr.key(0)),
    "mmd_witness of features": functools.partial(df.mmd_witness, features=FEATURES, key=jr.key(0)),
}


def identity(u):
    return u


def clouds(n):
    """As many samples of q as of p, in the plane."""
    return jr.normal(jr.key(1), (n, 2)), 1.5 * jr.normal(jr.key(2), (n, 2)) + 1.0


@jax.jit
def rate(field, xs):
    return field(0.0, xs, None)


def field_of(name, xs_p):
    fit = functools.partial(FITS[name], xs_p=xs_p, bandwidth=1.0)
    return df.cloud_velocity(identity, fit, block=BLOCK)


def seconds(name, n, repeats):
    """The fastest of some evaluations: one fit to the cloud, and the velocity of all of it."""
    xs_q, xs_p = clouds(n)
    field, found = field_of(name, xs_p), []
    jax.block_until_ready(rate(field, xs_q))  # compiles
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(rate(field, xs_q))
        found.append(time.perf_counter() - start)
    return min(found)


def kernels(report):
    """Slope of log time on log n, and the most memory at the largest n, in a process of its own."""
    for name in FITS:
        times = [seconds(name, n, 3) for n in COUNTS]
        slope = np.polyfit(np.log(COUNTS), np.log(times), 1)[0]
        report(
            case=f"{name}, {FEATURES} features, fit and field in the plane",
            metric=f"slope of log time on log n, n from {COUNTS[0]} to {COUNTS[-1]}",
            value=float(slope),
            goal=1.1,
            ours=times[-1],
            baseline=times[0],
            baseline_name=f"the same at n = {COUNTS[0]}",
            unit="s",
        )
        peak = memory(name, COUNTS[-1])
        report(
            case=f"{name}, {FEATURES} features, fit and field in the plane",
            metric=f"peak memory of the process at n = m = {COUNTS[-1]} / 4 GB",
            value=peak / 4e9,
            goal=1.0,
            ours=peak / 1e9,
            baseline=4.0,
            baseline_name="what issue 5 allows",
            unit="GB",
        )


MEMORY = """
import resource, sys
import jax
import _flow_ratios as bench
xs_q, xs_p = bench.clouds(int(sys.argv[2]))
jax.block_until_ready(bench.rate(bench.field_of(sys.argv[1], xs_p), xs_q))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def memory(name, n):
    """Bytes at the peak of a process that does nothing else; Linux counts in KiB."""
    here = pathlib.Path(__file__).parent
    command = [sys.executable, "-c", MEMORY, name, str(n)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=here)
    return float(run.stdout)


# The S-curve


# Step sizes and how many steps of each: the flow is stiff near a curve.
PHASES = ((100, 0.02), (120, 0.01), (80, 0.003), (40, 0.001))
S_CURVE = {"features": 128, "bandwidth": np.float32([0.2, 0.6]), "ridge": 5e-3, "newton_steps": 4}


@jax.jit
def follow(field, xs, steps):
    """Euler steps of given sizes."""

    def step(xs, dt):
        return xs + dt * field(0.0, xs, None), None

    return jax.lax.scan(step, xs, steps)[0]


def w2(xs, ys):
    return float(df.wasserstein2(np.float32(xs), np.float32(ys)))


def between(xs, ys, size, pairs):
    """Mean W2 between parts of two clouds: of all 10,000 it would take an hour."""
    return np.mean(
        [w2(xs[i * size : (i + 1) * size], ys[i * size : (i + 1) * size]) for i in range(pairs)]
    )


def sliced(xs, ys, directions=90):
    """Root of the mean over directions of the squared W2 of projections, by sorting."""
    turn = np.pi * np.arange(directions) / directions
    lines = np.stack([np.cos(turn), np.sin(turn)])
    return np.sqrt(np.mean((np.sort(xs @ lines, axis=0) - np.sort(ys @ lines, axis=0)) ** 2))


def problem_of(n):
    sys.path.insert(0, str(EXAMPLES))
    import _data

    return _data.curve(np.random.default_rng(0), n)


def to_the_curve(problem, n):
    """Moves eight Gaussians to the S-curve with no network; seconds too, compilation apart."""
    source, target = jnp.float32(problem.source), jnp.float32(problem.train[: 2 * n])
    fit = functools.partial(df.rff_log_ratio, xs_p=target, key=jr.key(0), **S_CURVE)
    field = df.cloud_velocity(identity, fit, block=BLOCK)
    steps = jnp.concatenate([jnp.full(count, size) for count, size in PHASES])
    run = follow.lower(field, source, steps).compile()
    start = time.perf_counter()
    moved = np.asarray(run(field, source, steps))
    if not np.isfinite(moved).all():
        raise RuntimeError("the flow to the S-curve broke")
    return moved, time.perf_counter() - start


def s_curve(report, n=10_000, size=1000, pairs=10):
    """Eight Gaussians flow to the S-curve of `examples/two_samples.py` with no network."""
    problem = problem_of(n)
    moved, took = to_the_curve(problem, n)
    ours = between(moved, problem.held, size, pairs)
    floor = between(problem.pool, problem.held, size, pairs)
    report(
        case=f"8 Gaussians to an S-curve, {n} particles, random features, {took:.0f} s",
        metric=f"W2 / its floor, mean of {pairs} pairs of {size}",
        value=ours / floor,
        goal=1.1,
        ours=ours,
        baseline=floor,
        baseline_name="two samples of the target",
        unit="units of x",
    )
    held, pool = (each.reshape(-1, n, 2)[:5] for each in (problem.held, problem.pool))
    ours = np.mean([sliced(moved, each) for each in held])
    floor = np.mean([sliced(*each) for each in zip(pool, held, strict=True)])
    report(
        case=f"8 Gaussians to an S-curve, {n} particles, random features",
        metric=f"sliced W2 of all / its floor, mean of {len(held)} held-out samples",
        value=ours / floor,
        goal=1.1,
        ours=ours,
        baseline=floor,
        baseline_name="two samples of the target",
        unit="units of x",
    )
