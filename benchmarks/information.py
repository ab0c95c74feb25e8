"""Mutual information on the 40 tasks of BMI, whose truth is known, by `conditional_ratio`.

Each coordinate is replaced by the normal score of its rank; the information stays the same. `ours`
is the mean over seeds of `information` [nats], a lower bound up to its error, on samples that no
step has seen. All settings are defaults: none was chosen on a truth. One JSON line a task: `value`
is the distance from the truth, `goal` .1 nat or 5 % of it, the larger. The last line counts the
tasks beyond their goal; the most that was published as solved is 39 of 40, by MMG.
`nox -s bench -- information`, or `python benchmarks/information.py
[--seeds N] [--samples N] [--only NAME ...] [--peers]`; `--peers` adds the suite's InfoNCE and MINE.
"""

import argparse
import pathlib
import time

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _line import tell
from bmi.benchmark import BENCHMARK_TASKS
from bmi.estimators import InfoNCEEstimator, MINEEstimator
from scipy.special import ndtri
from scipy.stats import rankdata

import divergence_flows as df

NEAR, SHARE = 0.1, 0.05  # nats, or of the truth: a task is solved
MOST_MISSED = 1  # of 40: MMG's count
PEERS = {"InfoNCE": InfoNCEEstimator, "MINE": MINEEstimator}
RESULTS = pathlib.Path(__file__).parent / "results" / "information.jsonl"


def scores(xs):
    """Normal scores of the ranks of each coordinate."""
    return jnp.asarray(ndtri((rankdata(xs, axis=0) - 0.5) / len(xs)), jnp.float32)


def measured(task, samples, seeds, peers):
    """Estimates of each seed, from samples of its own; and those of peers on the same samples."""
    found = {"values": [], "errors": [], "believed": 0} | {name: [] for name in peers}
    for seed in range(seeds):
        xs, ys = task.sampler.sample(samples, seed)
        ratio = df.conditional_ratio(scores(xs), scores(ys), key=jr.key(seed))
        found["values"].append(float(ratio.information))
        found["errors"].append(float(ratio.error))
        found["believed"] += int(ratio.believe)
        for name, peer in peers.items():
            found[name].append(float(peer(verbose=False).estimate(xs, ys)))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", choices=[*BENCHMARK_TASKS], help="to no file")
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    missed, names = 0, options.only or [*BENCHMARK_TASKS]
    file = None if options.only else RESULTS.open("w")
    for name in names:
        start = time.perf_counter()
        task = BENCHMARK_TASKS[name]
        peers = PEERS if options.peers else {}
        found = measured(task, options.samples, options.seeds, peers)
        truth, ours = task.mutual_information, float(np.mean(found["values"]))
        off, goal = abs(ours - truth), max(NEAR, SHARE * truth)
        missed += off > goal
        tell(
            case=name,
            metric="mutual information, mean over seeds",
            value=off,
            goal=goal,
            ours=ours,
            baseline=truth,
            baseline_name="truth",
            unit="nats",
            file=file,
            samples=options.samples,
            seconds=(time.perf_counter() - start) / options.seeds,
            **found,
        )
    tell(
        case=f"{len(names)} tasks",
        metric="tasks that are not solved",
        value=missed,
        goal=MOST_MISSED if len(names) == len(BENCHMARK_TASKS) else None,
        ours=missed,
        baseline=MOST_MISSED,
        baseline_name="MMG, as published",
        unit="tasks",
        file=file,
    )


if __name__ == "__main__":
    main()
