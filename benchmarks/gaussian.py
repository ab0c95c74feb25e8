"""A Gaussian fitted to a density: how near, with how many gradients, in what time.

One JSON line a target, peer and metric. A gap is the best ELBO that any method found, or the exact
one, minus the method's own. `value` is ours / baseline, or ours - baseline for ELBO gaps, or ours
for a KL; at or below `goal` is good, a KL's being 1e-8 (1e-4 at d = 256). Peers are given the best
of their learning rates, once for the final gap and once for the way to 0.1 nat, outside the clock.
Time leaves compilation out. The time to 0.1 nat is that of a compiled program which returns a law
alone, as those of the peers are; with its verdict, called as a user would, ours has a line of its
own. Run it alone on the machine: `nox -s bench -- gaussian`, or in an
environment with the group `peers`:
`python benchmarks/gaussian.py [--repeats 5] [--only "gaussian 4" ...]`.
"""

import argparse
import functools
import math
import statistics
import time

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
from _line import tell
from _ours import FEW, choices, prepare, rested, way
from _peers import PEERS
from _targets import targets
from scipy.stats import norm, qmc

jax.config.update("jax_enable_x64", True)

OURS = "divergence_flows"
METHODS = {OURS: prepare, **PEERS}
NEAR = 0.1  # nats
CHOSEN = ("gaussian 4", "gaussian 16", "sinh-arcsinh s=0.2 tau=1.1")  # for geometry x estimator
LONG = 20.0  # s; a run longer than that is timed once
SLOW = 2.0  # s; the same for a choice of geometry and estimator
FINAL, TRACE = 2**14, 2**10  # common draws that judge the last Gaussian and those on the way
METRICS = {  # metric: unit
    "gap": "nats",
    "gradients": "evaluations",
    "time": "s",
    "compile": "s",
    "time to 0.1": "s",
    "time to 0.1, with its verdict": "s",
    "gradients to 0.1": "evaluations",
}
BLACKJAX, GSM = "blackjax.fullrank_vi", "gsmvi.GSM"


@functools.cache
def nodes(n, dim):
    """Scrambled Sobol points through the normal quantile, made to have mean 0, covariance I."""
    uniform = qmc.Sobol(dim, rng=np.random.default_rng(0)).random(n)
    z = norm.ppf(uniform)
    z -= z.mean(0)
    return jnp.array(np.linalg.solve(np.linalg.cholesky(z.T @ z / n), z.T).T)


@jax.jit
def elbo(log_prob, z, mean, covariance):
    chol = jnp.linalg.cholesky(covariance)
    entropy = jnp.sum(jnp.log(jnp.diag(chol)) + 0.5 * jnp.log(2 * jnp.pi) + 0.5)
    return entropy + jnp.mean(jax.lax.map(log_prob, mean + z @ chol.T, batch_size=256))


@jax.jit
def kl_qp(optimum, mean, covariance):
    """KL from N(mean, covariance) to the optimum; no difference of nearly equal terms."""
    chol = jnp.linalg.cholesky(optimum[1])
    half = jsp.linalg.solve_triangular(chol, jnp.linalg.cholesky(covariance), lower=True)
    shift = jsp.linalg.solve_triangular(chol, mean - optimum[0], lower=True)
    x = jnp.linalg.svd(half, compute_uv=False) ** 2 - 1
    return 0.5 * jnp.sum(x - jnp.log1p(x)) + 0.5 * jnp.sum(shift**2)


def loss(target, n, mean, covariance):
    """KL to a Gaussian target, else minus the ELBO over n common draws; a nan is infinite."""
    if target.gaussian:
        value = float(kl_qp(target.optimum, mean, covariance))
    else:
        value = -float(elbo(target.log_prob, nodes(n, target.dim), mean, covariance))
    return math.inf if math.isnan(value) else value


def timed(run, rate):
    start = time.perf_counter()
    jax.block_until_ready(run(rate))
    return time.perf_counter() - start


def time_runs(prepared, rates, repeats):
    """Median seconds of each method's run; the runs alternate between methods."""
    seconds = {name: [] for name in prepared}
    for _ in range(repeats):
        for name, each in seconds.items():
            if not each or each[0] < LONG:
                each.append(timed(prepared[name].run, rates[name]))
    return {name: statistics.median(each) for name, each in seconds.items()}


def first_near(gaps, counts):
    """Where the gap first falls to NEAR: linear between checkpoints in the logarithm of the gap."""
    below = np.flatnonzero(gaps <= NEAR)
    if len(below) == 0:
        return math.inf
    i = below[0]
    if i == 0 or math.isinf(gaps[i - 1]) or gaps[i] <= 0:
        return float(counts[i])
    w = math.log(gaps[i - 1] / NEAR) / math.log(gaps[i - 1] / gaps[i])
    return float(counts[i - 1] + w * (counts[i] - counts[i - 1]))


def floors(target, ends):
    """The loss, with FINAL and with TRACE nodes, of the best Gaussian that is known."""
    if target.gaussian:
        return 0.0, 0.0
    known = [*ends, target.optimum] if target.optimum else ends
    best = min(known, key=lambda end: loss(target, FINAL, *end))
    return loss(target, FINAL, *best), loss(target, TRACE, *best)


def soonest(target, traces, floor):
    """Least fraction of a run, and gradients, until a rate's trace is NEAR for the first time."""
    found = []
    for trace in traces.values():
        pairs = zip(trace.means, trace.covariances, strict=True)
        gaps = np.array([loss(target, TRACE, *pair) - floor for pair in pairs])
        found.append((first_near(gaps, trace.fractions), first_near(gaps, trace.evaluations)))
    return min(found)


def own_way(target, floor, repeats, judged):
    """Median seconds, and gradients, of our own fits that stop early: the first that is NEAR."""
    found = [(math.inf, math.inf)]
    for n in FEW:
        runs = [way(target, judged, n) for _ in range(repeats)]
        for column in zip(*runs, strict=True):
            _, gradients, *end = column[0]
            if loss(target, TRACE, *end) - floor <= NEAR:
                found.append((statistics.median(each[0] for each in column), gradients))
                break
    return min(found)


def compare_choices(target, repeats):
    """Time to rest of each geometry and estimator, against the default's; steps in `ours_steps`."""
    made = choices(target)
    seconds, ends = {pair: [] for pair in made}, {}
    for _ in range(repeats):
        for pair, each in seconds.items():
            if not each or each[0] < SLOW:
                start = time.perf_counter()
                ends[pair] = rested(made[pair]())
                each.append(time.perf_counter() - start)
    default, *others = made
    for pair in others:
        ok, steps = ends[pair]
        ours, baseline = (statistics.median(seconds[each]) for each in (pair, default))
        line = {
            "case": f"{target.name}, {' + '.join(pair)}",
            "metric": "time to rest (gap 1e-8)",
            "value": ours / baseline if ok else None,
            "goal": None,
            "ours": ours if ok else None,
            "baseline": baseline,
            "baseline_name": " + ".join(default),
            "unit": "s",
            "ours_steps": steps,
            "baseline_steps": ends[default][1],
        }
        tell(**line)


def judge(target, methods, repeats):
    """{method: {metric: value}} on one target."""
    prepared = {name: prepare(target) for name, prepare in methods.items()}
    traces = {n: {rate: p.run(rate) for rate in p.rates} for n, p in prepared.items()}
    end = lambda trace: (trace.means[-1], trace.covariances[-1])
    finals = {
        name: {rate: loss(target, FINAL, *end(trace)) for rate, trace in runs.items()}
        for name, runs in traces.items()
    }
    rates = {name: min(losses, key=losses.get) for name, losses in finals.items()}
    floor, near_floor = floors(target, [end(t) for runs in traces.values() for t in runs.values()])
    seconds = time_runs(prepared, rates, repeats)
    found = {}
    for name, runs in traces.items():
        final, rate = finals[name][rates[name]], rates[name]
        fraction, gradients = soonest(target, runs, near_floor)
        to_near = seconds[name] * fraction
        judged_to_near = to_near
        if name == OURS:
            to_near, gradients = own_way(target, near_floor, repeats, False)
            judged_to_near, _ = own_way(target, near_floor, repeats, True)
        found[name] = {
            "gap": final - floor,
            "gradients": int(runs[rate].evaluations[-1]),
            "time": seconds[name],
            "compile": prepared[name].compile_seconds,
            "time to 0.1": to_near,
            "time to 0.1, with its verdict": judged_to_near,
            "gradients to 0.1": gradients,
            "rate": rate,
            "loss": final,
        }
    return found


def finite(value):
    return value if value is not None and math.isfinite(value) else None


def compare(target, metric, ours, baseline):
    """The number that a goal bounds: a KL itself, a difference of ELBO gaps, else a ratio."""
    if ours is None or not math.isfinite(ours):
        return None
    if metric == "gap":
        return ours if target.gaussian else ours - baseline
    return ours / baseline


def goal(target, metric, peer):
    """What we set out to reach, where we did."""
    if metric == "gap":
        return (1e-8 if target.dim <= 64 else 1e-4) if target.gaussian else 0.0
    if metric == "time to 0.1" and peer == BLACKJAX:
        return 0.5
    return 1.0 if metric == "time" and "longer" in peer else None


def report(target, found):
    if target.gaussian:
        longer = max(BLACKJAX, GSM, key=lambda peer: found[peer]["time"])
        found = found | {f"the longer, {longer}": {"time": found[longer]["time"]}}
    for peer, theirs in found.items():
        if peer == OURS:
            continue
        for metric in (name for name in METRICS if name in theirs):
            ours, baseline = found[OURS][metric], theirs[metric]
            kind = "KL(q||p)" if target.gaussian else "ELBO gap"
            text = metric.replace("gap", f"final {kind}").replace("0.1", f"{kind} = 0.1 nat")
            line = {
                "case": target.name,
                "metric": text,
                "value": finite(compare(target, metric, ours, baseline)),
                "goal": goal(target, metric, peer),
                "ours": finite(ours),
                "baseline": finite(baseline),
                "baseline_name": peer,
                "unit": METRICS[metric],
            }
            if metric == "gap":
                line["baseline_rate"] = theirs["rate"]
                if not target.gaussian:
                    line |= {"elbo": -found[OURS]["loss"], "baseline_elbo": -theirs["loss"]}
            tell(**line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=[*targets()], default=[*targets()])
    options = parser.parse_args()
    for name in options.only:
        target = targets()[name]()
        report(target, judge(target, METHODS, options.repeats))
        if name in CHOSEN:
            compare_choices(target, options.repeats)
