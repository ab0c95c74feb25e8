"""Posteriors from simulations alone, on five tasks of sbibm: our draws beside its reference draws.

One JSON line a task and a number of simulations: `value` is C2ST, the accuracy of the suite's own
classifier between 10,000 draws of ours and 10,000 reference draws (.5 is as good as it gets), the
mean over observations; the baseline is what neural ratio estimation was published with. A ratio is
learned once for each number of simulations and serves all observations. It has the critic whose
`information` on held-out simulations is higher, so that no setting knows a reference draw. A line
"exact" has draws of the closed form in place of ours: what the classifier makes of nothing.
`nox -s bench -- simulation`, or `python benchmarks/simulation.py
[--small] [--only NAME ...] [--simulations N ...] [--observations N]`.
"""

import argparse
import functools
import sys
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from _line import tell
from _sbibm import OBSERVATIONS, PUBLISHED, TASKS
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

import divergence_flows as df

DRAWS = 10_000  # of each posterior, as the suite has them
CELLS = 512  # of a grid in the plane, along each side
CANDIDATES, MOVES = 10, 100  # elsewhere: draws of the prior for each of ours, and steps of a chain
# Critics that a task chooses from: width, depth and learning rate.
CRITICS = {"quadratic": (1, 0, 1e-2), "64-64 and quadratic": (64, 2, 5e-3)}
BUDGETS = {1000: {"steps": 2500, "folds": 5}, 10_000: {"steps": 10_000, "folds": 3}}
SMALL = {"steps": 200, "folds": 2}
MEASURE = "C2ST, mean over observations"


def c2st(xs, ys, seed=1):
    """The suite's own: accuracy of a classifier in five folds, on floats in units of the first."""
    xs, ys = np.float32(xs), np.float32(ys)
    mean, deviation = xs.mean(0), xs.std(0, ddof=1)
    data = np.concatenate([xs - mean, ys - mean]) / deviation
    labels = np.repeat([0.0, 1.0], [len(xs), len(ys)])
    units = (10 * xs.shape[1],) * 2
    classifier = MLPClassifier(units, max_iter=10_000, random_state=seed)
    folds = KFold(5, shuffle=True, random_state=seed)
    return cross_val_score(classifier, data, labels, cv=folds, scoring="accuracy").mean()


def chosen_by(log_weights, count, key):
    return jr.choice(key, log_weights.size, (count,), p=jax.nn.softmax(log_weights))


@functools.partial(jax.jit, static_argnums=(1, 2))
def on_grid(log_prob, bound, count, key):
    """Draws of a density on a square, constant in each cell of a grid."""
    of_cell, of_place = jr.split(key)
    middles = (jnp.arange(CELLS) + 0.5) / CELLS
    points = jnp.stack(jnp.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
    values = jax.lax.map(log_prob, bound * (2 * points - 1), batch_size=8192)
    chosen = points[chosen_by(values, count, of_cell)]
    within = jr.uniform(of_place, chosen.shape, minval=-0.5, maxval=0.5) / CELLS
    return bound * (2 * (chosen + within) - 1)


@functools.partial(jax.jit, static_argnums=(1, 2))
def by_chains(log_prob, task, count, key):
    """Draws of a density: of the prior by their ratio to it, then each by a chain of its own.

    A chain moves along the difference of two chains of the other half, which knows scales and
    directions; one time in ten by the whole of it, from mode to mode (ter Braak, 2006).
    """
    of_prior, of_start, of_moves = jr.split(key, 3)
    thetas = jax.vmap(task.prior)(jr.split(of_prior, CANDIDATES * count))
    values = jax.lax.map(log_prob, thetas, batch_size=8192)
    weights = values - jax.vmap(task.log_prior)(thetas)
    start = chosen_by(weights, count, of_start)
    halves, known = thetas[start].reshape(2, -1, task.dim), values[start].reshape(2, -1)
    length = 2.38 / (2 * task.dim) ** 0.5

    def move(state, key):
        halves, known = state
        for own, fresh in enumerate(jr.split(key)):
            of_pairs, of_length, of_noise, of_coin = jr.split(fresh, 4)
            first, second = jr.randint(of_pairs, (2, count // 2), 0, count // 2)
            along = halves[1 - own][first] - halves[1 - own][second]
            far = jr.bernoulli(of_length, 0.1, (count // 2, 1))
            noise = 1e-3 * jnp.std(halves[1 - own], axis=0) * jr.normal(of_noise, along.shape)
            proposed = halves[own] + jnp.where(far, 1.0, length) * along + noise
            value = jax.lax.map(log_prob, proposed, batch_size=8192)
            accepted = jnp.log(jr.uniform(of_coin, value.shape)) < value - known[own]
            halves = halves.at[own].set(jnp.where(accepted[:, None], proposed, halves[own]))
            known = known.at[own].set(jnp.where(accepted, value, known[own]))
        return (halves, known), None

    return jax.lax.scan(move, (halves, known), jr.split(of_moves, MOVES))[0][0].reshape(count, -1)


def sampled(log_prob, task, count, key):
    if task.box and task.dim == 2:
        return on_grid(log_prob, task.box, count, key)
    return by_chains(log_prob, task, count, key)


def learned(task, n, budget):
    """The ratio whose critic finds most information in simulations that it has not seen."""
    thetas, xs = task.simulations(n, jr.key(n))
    found = {}
    for name, (width, depth, rate) in CRITICS.items():
        sizes = thetas.shape[1] + xs.shape[1], width, depth
        critic = df.networks.Discriminator(*sizes, quadratic=True, key=jr.key(0))
        optimizer = optax.adam(optax.cosine_decay_schedule(rate, budget["steps"]))
        how = {"critic": critic, "optimizer": optimizer, **budget}
        found[name] = df.conditional_ratio(thetas, xs, **how, key=jr.key(1))
    name = max(found, key=lambda name: found[name].information)
    told = {name: [float(it.information), float(it.error)] for name, it in found.items()}
    return found[name], {"critic": name, "information": told, "believe": bool(found[name].believe)}


def report(task, n, scores, more):
    mean = float(np.mean(scores))
    published = PUBLISHED[task.name].get(n)
    case = f"{task.name}, " + (f"{n:,} simulations" if n else "exact")
    tell(
        **{"case": case, "metric": MEASURE, "value": mean, "goal": published, "ours": mean},
        **{"baseline": published or 0.5, "unit": "accuracy"},
        baseline_name="NRE, as published" if n else "chance",
        scores=[float(score) for score in scores],
        **more,
    )


def run(task, n, numbers, draws, budget):
    """One ratio, and its posteriors at some observations."""
    start = time.perf_counter()
    ratio, more = learned(task, n, budget)
    seconds, scores = time.perf_counter() - start, []
    print(more, seconds, file=sys.stderr)
    for number in numbers:
        x = jnp.asarray(task.observation(number), jnp.float32)
        log_prob = df.log_posterior(ratio, task.log_prior, x)
        ours = np.asarray(sampled(log_prob, task, draws, jr.key(number)))
        print(number, time.perf_counter() - start, file=sys.stderr, flush=True)
        scores.append(c2st(task.reference(number)[:draws], ours))
        print(scores[-1], time.perf_counter() - start, file=sys.stderr, flush=True)
    report(task, n, scores, {"training": seconds, **more})


def exact(task, numbers, draws):
    """The closed form of `gaussian_linear`, whose prior and noise have one variance."""
    scores = []
    for number in numbers:
        noise = np.random.default_rng(number).normal(size=(draws, task.dim))
        ours = task.observation(number) / 2 + 0.05**0.5 * noise
        scores.append(c2st(task.reference(number)[:draws], ours))
    report(task, 0, scores, {})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", choices=[*TASKS], default=[*TASKS])
    parser.add_argument(
        "--simulations", nargs="*", type=int, choices=[*BUDGETS], default=[*BUDGETS]
    )
    parser.add_argument("--observations", type=int, default=len(OBSERVATIONS))
    parser.add_argument("--small", action="store_true", help="few steps and draws, to try it")
    asked = parser.parse_args()
    numbers = OBSERVATIONS[: 1 if asked.small else asked.observations]
    draws = 200 if asked.small else DRAWS
    for n in asked.simulations:
        for name in asked.only:
            run(TASKS[name], n, numbers, draws, SMALL if asked.small else BUDGETS[n])
            jax.clear_caches()
    if "gaussian_linear" in asked.only:
        exact(TASKS["gaussian_linear"], numbers, draws)
