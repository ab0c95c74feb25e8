"""Mutual information of many nats, by ratios along a path of densities, beside published errors.

d / 2 pairs of Gaussians of correlation .8: p, their joint law, and q, the product of its margins,
are d / 4 log(1 / .36) nats apart, 40.9 at d = 160. Published are mean squared errors at d = 160:
MVP's path 1.02, the best fixed one 4.18, by plain networks in 20,000 steps of 512 fresh samples.
Ours come from one sample, of the size that a line says, in fewer steps; `errors` are what each run
says of itself. A quadratic has the ratio at every point of the path in its family: rows with one
say how well it is fitted, not how well an unknown ratio is found. "Plain" rows have none.
`nox -s bench -- ratios_high_dimension`, or `python benchmarks/ratios_high_dimension.py [--tiny]`.
"""

import argparse
import pathlib
import time

import jax.numpy as jnp
import jax.random as jr
from _line import tell

import divergence_flows as df

RHO, FOLDS, BATCH = 0.8, 2, 512
# Samples, legs and steps of each dimension, and the seeds of the first row; others have one.
SIZES = {
    160: (100_000, 10, 1500, 2),
    40: (50_000, 8, 1000, 2),
    80: (50_000, 8, 1000, 2),
    320: (100_000, 12, 1200, 1),
}
TINY = {8: (400, 2, 20, 2)}
# Without a path each sample is paired in 16 ways; more of them gain nothing.
WITHOUT = 20_000
FIRST, LARGEST_PLAIN = "path, with a quadratic", 160
PUBLISHED = {160: (("MVP", 1.02), ("best fixed path", 4.18))}
RESULTS = pathlib.Path(__file__).parent / "results" / "ratios_high_dimension.jsonl"


def critics(dim, legs, key):
    """What each row asks: its critic and its path; the least costly last."""
    networks = df.networks
    return {
        "path, with a quadratic": {"path": legs},
        "path, plain": {
            "path": legs,
            "critic": networks.TimeDiscriminator(dim, quadratic=False, key=key),
        },
        "no path, with a quadratic": {},
        "no path, plain": {"critic": networks.Discriminator(dim, key=key)},
    }


def pairs(dim, n, key):
    of_x, of_e = jr.split(key)
    xs = jr.normal(of_x, (n, dim // 2))
    return xs, RHO * xs + (1 - RHO**2) ** 0.5 * jr.normal(of_e, xs.shape)


def measured(dim, n, legs, steps, seeds, name):
    """Estimates of every seed, each from samples of its own."""
    found = {"values": [], "errors": [], "believed": 0}
    for key in jr.split(jr.key(dim), seeds):
        of_data, of_critic, key = jr.split(key, 3)
        asked = critics(dim, legs, of_critic)[name]
        one = df.mutual_information(
            *pairs(dim, n, of_data), **asked, steps=steps, batch_size=BATCH, folds=FOLDS, key=key
        )
        found["values"].append(float(one.value))
        found["errors"].append(float(one.error))
        found["believed"] += int(one.believe)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="dimension 8 alone, to no file")
    parser.add_argument("--dims", nargs="*", type=int, help="these alone, added to the file")
    options = parser.parse_args()
    sizes = TINY if options.tiny else SIZES
    file = None if options.tiny else RESULTS.open("a" if options.dims else "w")
    for dim in options.dims or sizes:
        most, legs, steps, seeds = sizes[dim]
        truth = -dim / 4 * float(jnp.log(1 - RHO**2))
        for name in critics(2, 1, jr.key(0)):
            if name == "path, plain" and dim > LARGEST_PLAIN:
                continue
            n = most if name.startswith("path") else min(most, WITHOUT)
            count = seeds if name == FIRST else 1
            start = time.perf_counter()
            found = measured(dim, n, legs, steps, count, name)
            seconds = (time.perf_counter() - start) / count
            squared = sum((value - truth) ** 2 for value in found["values"]) / count
            published = PUBLISHED.get(dim, ())
            beside = next(iter(published), ("nothing published here", None))
            tell(
                case=f"{dim} dimensions: {name}",
                metric="mean squared error of the mutual information",
                value=squared,
                goal=None,
                ours=squared,
                baseline=beside[1],
                baseline_name=beside[0],
                unit="nats squared",
                file=file,
                truth=truth,
                **found,
                published=dict(published),
                samples=n,
                legs=legs,
                steps=steps,
                seconds=seconds,
            )


if __name__ == "__main__":
    main()
