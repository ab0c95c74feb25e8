"""What `integrate` costs beside a hand-written scan of the same Euler scheme.

One JSON line a case; `value` is ours / baseline, and at or below `goal` is good. Run it alone on
the machine: `nox -s bench -- flow`.
"""

import functools
import json
import statistics
import time

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr

import divergence_flows as df

REPEATS = 15
GOAL = 1.05
END = 3.0


def log_r(t, x, args):
    return 0.5 * jnp.sum(x**2) * (1 / (1 + 3 * jnp.exp(-2 * t)) - 1)


def rotation(t, y, args):
    return jnp.roll(y, 1) - y


FIELDS = {"velocity": df.velocity(jnp.arcsinh, log_r), "linear": rotation}


@functools.partial(jax.jit, static_argnames=("name", "steps"))
def ours(y0, *, name, steps):
    ts = jnp.array([0.0, END])
    options = {"solver": diffrax.Euler(), "dt0": END / steps, "max_steps": steps + 1}
    return df.integrate(FIELDS[name], y0, ts, **options).ys[-1]


@functools.partial(jax.jit, static_argnames=("name", "steps"))
def baseline(y0, *, name, steps):
    dt = END / steps

    def step(y, i):
        return y + dt * FIELDS[name](i * dt, y, None), None

    return jax.lax.scan(step, y0, jnp.arange(steps))[0]


def seconds(function, y0):
    start = time.perf_counter()
    jax.block_until_ready(function(y0))
    return time.perf_counter() - start


def compare(case, name, shape, steps):
    y0 = 2 * jr.normal(jr.key(0), shape)
    pair = [functools.partial(each, name=name, steps=steps) for each in (ours, baseline)]
    first, second = (each(y0) for each in pair)  # compiles
    if not jnp.allclose(first, second, rtol=1e-3, atol=1e-4):
        raise RuntimeError(f"{case}: the two schemes differ by {jnp.max(jnp.abs(first - second))}")
    runs = [[seconds(each, y0) for each in pair] for _ in range(REPEATS)]  # alternating
    mine, theirs = (statistics.median(column) for column in zip(*runs, strict=True))
    line = {
        "case": case,
        "metric": "time of a jitted Euler solve / of a scan",
        "value": mine / theirs,
        "goal": GOAL,
        "ours": mine,
        "baseline": theirs,
        "baseline_name": "jax.lax.scan",
        "unit": "s",
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    compare("1024 particles in 2 dimensions, 1000 steps", "velocity", (1024, 2), 1000)
    compare("64 particles in 784 dimensions, 300 steps", "velocity", (64, 784), 300)
    compare("one state of 10, 20000 steps", "linear", (10,), 20000)
