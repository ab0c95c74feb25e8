"""Everything that a GPU should speed up, beside PyTorch on the same card, in at most 8 minutes.

One JSON line a case, as in `gan.py` and `flow.py`; the line has the card's name:

    nox -s bench -- gpu --out benchmarks/results/gpu.jsonl

runs all, `--only dcgan fits` some, and `--tiny` runs them at tiny size on any machine, to see that
they work. Without a GPU nothing is measured. A case that fails, or takes longer than its budget,
says so on stderr; the others still run, and the exit code is 1.
"""

import argparse
import functools
import pathlib
import signal
import statistics
import sys
import time
import traceback

import _flow_ratios
import _flow_solver
import _gan_2d
import _gan_dcgan
import _torch_samples as peer
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import torch
from _line import tell, tell_pairs
from _targets import gaussian

import divergence_flows as df

GOAL = 1.0  # of PyTorch
ROUGH, ROUGHER = 0.02, 0.1  # losses in TF32, in bfloat16, after some steps
FAST = {"channels_last": True}
DCGANS = {
    "PyTorch, channels_last": FAST,
    "PyTorch, channels_last, torch.compile": FAST | {"compiler": "inductor"},
}


def seconds(function, *args):
    start = time.perf_counter()
    out = jax.block_until_ready(function(*args))
    return time.perf_counter() - start, out


def dcgan(file, tiny, dtype, name):
    """64x64 images in colour."""
    sizes, kind = {"size": 64, "batch": 256, "repeats": 5}, DCGANS[name]
    if tiny:
        sizes = {"size": 8, "batch": 4, "width": 4, "steps": 2, "repeats": 1}
        # The other compiler writes C++, which takes a minute.
        kind = kind | ({"compiler": "aot_eager"} if "compiler" in kind else {})
    options = {"channels": 3, "dtype": dtype, "kinds": {name: kind}}
    rtol = ROUGHER if dtype == jnp.bfloat16 else ROUGH
    _gan_dcgan.dcgan(functools.partial(tell_pairs, file=file), **sizes, **options, rtol=rtol)


def seeds(file, tiny):
    """A 2-D GAN, 1, 32 and 256 seeds: all in at most 20 times the time of one."""
    counts, steps, repeats = ((1, 2), 100, 1) if tiny else ((1, 32, 256), 300, 3)
    report = functools.partial(tell_pairs, file=file)
    _gan_2d.seeds(report, counts, steps, goal=GOAL, all_goal=20.0, repeats=repeats)


def blog(file, tiny):
    """The particle flow of the MonoFlow blog."""
    report = functools.partial(tell_pairs, file=file)
    count = 64 if tiny else 1024
    for widths, steps in (((512, 256), 40), ((64, 64), 400)):
        _gan_2d.particles(report, widths, 4 if tiny else steps, GOAL, count=count, rtol=ROUGH)


def solver(file, tiny):
    """`integrate` with fixed and adaptive steps beside a scan."""
    report = functools.partial(tell, file=file)
    _flow_solver.overhead(report, goal=1.1, shorter=100 if tiny else 1)
    _flow_solver.first_call(report, rounds=1 if tiny else 3)
    _flow_solver.equal_error(report, tolerances=(1e-2,) if tiny else (1e-2, 1e-4))


def features(file, tiny, width=1.0, newton_steps=4):
    """A ratio fitted to two clouds, and its gradient at all samples of one."""
    n = 4_000 if tiny else 1_000_000
    count, block = _flow_ratios.FEATURES, min(n, 1 << 17)
    xs_q, xs_p = _flow_ratios.clouds(n)
    ridge = 1e-4
    options = {"features": count, "degree": 2, "bandwidth": width, "ridge": ridge}
    options |= {"newton_steps": newton_steps, "block": block, "key": jr.key(0)}

    @jax.jit
    def ours(xs_q, xs_p):
        fit = functools.partial(df.rff_log_ratio, xs_p=xs_p, **options)
        return df.cloud_velocity(_flow_ratios.identity, fit, block=block)(0.0, xs_q, None)

    def theirs():
        return peer.log_ratio_field(xs_q, xs_p, count, width, ridge, newton_steps)

    exact = np.asarray(xs_q) - (np.asarray(xs_q) - 1.0) / 1.5**2
    for name, found in (("ours", ours(xs_q, xs_p)), ("PyTorch", theirs()[1])):  # compiles
        error = np.sqrt(np.mean((np.asarray(found) - exact) ** 2) / np.mean(exact**2))
        if not error < (0.6 if tiny else 0.05):  # it falls as n grows
            raise RuntimeError(f"random features: the field of {name} is off by {error:.0%}")
    pairs = [(seconds(ours, xs_q, xs_p)[0], theirs()[0]) for _ in range(1 if tiny else 5)]
    case = f"rff_log_ratio, {count} features, fit and field at n = m = {n} in the plane"
    tell_pairs(case, "time", pairs, GOAL, "PyTorch, all features in memory", file=file)


def density(file, tiny, width=0.1):
    """A kernel density estimate at some points."""
    n, count = (4_000, 64) if tiny else (1_000_000, 4096)
    xs, points = _flow_ratios.clouds(n)[0], jr.normal(jr.key(3), (count, 2))

    @jax.jit
    def ours(xs, points):
        return jax.vmap(df.kde_log_prob(xs, bandwidth=width, block=4096))(points)

    theirs = functools.partial(peer.kde, xs, points, width)
    if not np.allclose(ours(xs, points), theirs()[1], rtol=1e-3, atol=1e-3):  # compiles
        raise RuntimeError("kernel density: the two estimates differ")
    pairs = [(seconds(ours, xs, points)[0], theirs()[0]) for _ in range(1 if tiny else 5)]
    case = f"kde_log_prob of {n} samples in the plane at {count} points"
    tell_pairs(case, "time", pairs, GOAL, "PyTorch", file=file)


def fits(file, tiny, dim):
    """A Gaussian target: to rest, beside 5,000 steps of Adam, which end less near."""
    steps, dim = (20, max(2, dim // 64)) if tiny else (5000, dim)
    report = functools.partial(tell, file=file)
    with jax.enable_x64(True):
        target = gaussian(dim)
        q0, p = df.Gaussian(target.mean, target.scale), target.optimum
        best = df.Gaussian(p[0], jnp.linalg.cholesky(p[1]))

        def kl(mean, covariance):
            return df.gaussian_kl(df.Gaussian(mean, jnp.linalg.cholesky(covariance)), best)

        run = functools.partial(df.fit_gaussian, target.log_prob, q0, key=jr.key(0))
        first, (q, _) = seconds(run)
        ours = statistics.median(seconds(run)[0] for _ in range(1 if tiny else 3))
        theirs, mean, covariance = peer.gaussian(p[0], target.log_prob.args[1], steps)
        kls = {
            "ours_kl": float(kl(q.mean, q.covariance)),
            "baseline_kl": float(kl(mean, covariance)),
        }
    if not kls["ours_kl"] < 1e-4:
        raise RuntimeError(f"fit_gaussian, d = {dim}: KL(q||p) is {kls['ours_kl']}")
    case = f"fit_gaussian, normal target, d = {dim}"
    words = {"baseline_name": f"PyTorch, {steps} steps of Adam", "unit": "s"}
    numbers = {"value": ours / theirs, "goal": GOAL, "ours": ours, "baseline": theirs}
    report(case=case, metric="time to rest", **numbers, **words, **kls)
    words["baseline_name"], limit = "what issue 17 allows", 3.0
    numbers = {"value": (first - ours) / limit, "goal": 1.0, "ours": first - ours}
    report(case=case, metric="time to compile", baseline=limit, **numbers, **words)


DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# Each case and its budget in seconds: 8 minutes in all.
CASES = {
    **{
        f"dcgan {digits}{', compiled' if 'compile' in name else ''}": (
            functools.partial(dcgan, dtype=dtype, name=name),
            45,
        )
        for digits, dtype in DTYPES.items()
        for name in DCGANS
    },
    "seeds": (seeds, 70),
    "blog": (blog, 40),
    "solver": (solver, 70),
    "features": (features, 25),
    "density": (density, 15),
    **{f"fits {dim}": (functools.partial(fits, dim=dim), 24) for dim in (64, 256, 1024)},
}


def too_long(signum, frame):
    raise TimeoutError("it took longer than its budget")


def run(names, file, tiny):
    """Runs cases, each within its budget; returns those that failed."""
    failed = []
    signal.signal(signal.SIGALRM, too_long)
    for name in names:
        case, budget = CASES[name]
        start = time.perf_counter()
        signal.alarm(0 if tiny else budget)
        try:
            case(file, tiny)
        except Exception:
            print(f"gpu: {name} failed", file=sys.stderr)
            traceback.print_exc()
            failed.append(name)
        signal.alarm(0)
        took = time.perf_counter() - start
        print(f"gpu: {name}: {took:.0f} s of {budget} s", file=sys.stderr, flush=True)
        jax.clear_caches()
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on any machine")
    parser.add_argument("--out", type=pathlib.Path, help="a file for the lines, beside stdout")
    parser.add_argument("--only", nargs="*", choices=[*CASES], default=[*CASES])
    options = parser.parse_args()
    if jax.default_backend() != "gpu" and not options.tiny:
        words = "JAX sees no GPU here, so nothing is measured; --tiny runs all the same"
        print(f"gpu: {words}", file=sys.stderr)
        return 0
    if options.tiny:
        torch.set_num_threads(1)
    with open(options.out or "/dev/null", "w") as file:
        return int(bool(run(options.only, file, options.tiny)))


if __name__ == "__main__":
    raise SystemExit(main())
