"""What `integrate` costs beside a scan written by hand, and what adaptive steps save; `flow.py`.

`report` prints one JSON line of the keywords it gets. Each function is one case.
"""

import functools
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


def variance(t):
    return 1 + 3 * jnp.exp(-2 * t)


def log_r(t, x, args):
    """N(0, 4 I) flows to N(0, I); up to a constant."""
    return 0.5 * jnp.sum(x**2) * (1 / variance(t) - 1)


def rotation(t, y, args):
    return jnp.roll(y, 1) - y


def identity(u):
    return u


FIELDS = {
    "velocity": df.velocity(jnp.arcsinh, log_r),
    "linear": rotation,
    "exact": df.velocity(identity, log_r),
}


@functools.partial(jax.jit, static_argnames=("name", "steps"))
def ours(y0, *, name, steps):
    options = {"solver": diffrax.Euler(), "dt0": END / steps}
    return df.integrate(FIELDS[name], y0, [0.0, END], **options).ys[-1]


@functools.partial(jax.jit, static_argnames=("name", "steps"))
def by_hand(y0, *, name, steps):
    dt = END / steps

    def step(y, i):
        return y + dt * FIELDS[name](i * dt, y, None), None

    return jax.lax.scan(step, y0, jnp.arange(steps))[0]


def seconds(function, y0):
    start = time.perf_counter()
    jax.block_until_ready(function(y0))
    return time.perf_counter() - start


def medians(pair, y0, repeats):
    """Median seconds of two functions that take turns."""
    runs = [[seconds(each, y0) for each in pair] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*runs, strict=True)]


def compare(report, case, name, shape, steps, goal):
    y0 = 2 * jr.normal(jr.key(0), shape)
    pair = [functools.partial(each, name=name, steps=steps) for each in (ours, by_hand)]
    first, second = (each(y0) for each in pair)  # compiles
    if not jnp.allclose(first, second, rtol=1e-3, atol=1e-4):
        raise RuntimeError(f"{case}: the two schemes differ by {jnp.max(jnp.abs(first - second))}")
    mine, theirs = medians(pair, y0, REPEATS)
    report(
        case=case,
        metric="time of a jitted Euler solve / of a scan",
        value=mine / theirs,
        goal=goal,
        ours=mine,
        baseline=theirs,
        baseline_name="jax.lax.scan",
        unit="s",
    )


def overhead(report, goal=GOAL, shorter=1):
    """Many small steps, few large ones, and steps of next to no work; `shorter` divides them."""
    for case, name, shape, steps in (
        ("1024 particles in 2 dimensions", "velocity", (1024, 2), 1000),
        ("64 particles in 784 dimensions", "velocity", (64, 784), 300),
        ("one state of 10", "linear", (10,), 20000),
    ):
        steps //= shorter
        compare(report, f"{case}, {steps} steps", name, shape, steps, goal)


def first_call(report, rounds=5):
    """Trace, compile and run, in an empty cache each time."""
    y0 = 2 * jr.normal(jr.key(0), (1024, 2))
    runs = []
    for _ in range(rounds):
        pair = []
        for each in (ours, by_hand):
            jax.clear_caches()
            pair.append(seconds(functools.partial(each, name="velocity", steps=1000), y0))
        runs.append(pair)
    mine, theirs = (statistics.median(column) for column in zip(*runs, strict=True))
    report(
        case="1024 particles in 2 dimensions, 1000 steps",
        metric="time of the first call, compilation with it",
        value=mine / theirs,
        goal=2.0,
        ours=mine,
        baseline=theirs,
        baseline_name="jax.lax.scan",
        unit="s",
    )


@functools.partial(jax.jit, static_argnames="tolerance")
def adaptive(y0, *, tolerance):
    """Tsit5; also how often it evaluated the field."""
    control = diffrax.PIDController(rtol=tolerance, atol=tolerance)
    ts = jnp.array([0.0, END])
    solution = df.integrate(FIELDS["exact"], y0, ts, stepsize_controller=control)
    return solution.ys[-1], 6 * solution.stats["num_steps"] + 1  # its seventh is the next's first


def equal_error(report, tolerances=(1e-2, 1e-4)):
    """Fixed Euler with the fewest steps, by doubling, that is no worse than adaptive steps."""
    with jax.enable_x64(True):
        y0 = 2 * jr.normal(jr.key(0), (1024, 2))
        exact = y0 * jnp.sqrt(variance(END) / variance(0.0))
        for tolerance in tolerances:
            first = functools.partial(adaptive, tolerance=tolerance)
            end, evaluations = first(y0)
            error, steps = float(jnp.max(jnp.abs(end - exact))), 8
            while True:
                second = functools.partial(by_hand, name="exact", steps=steps)
                if float(jnp.max(jnp.abs(second(y0) - exact))) <= error:
                    break
                steps *= 2
            case = f"N(0, 4 I) to N(0, I) to within {error:.1e}, Tsit5 at {tolerance:g}"
            more = {"case": case, "goal": 1.0, "baseline_name": f"fixed Euler, {steps} steps"}
            count = int(evaluations)
            report(
                metric="evaluations of the field at equal error",
                value=count / steps,
                ours=count,
                baseline=steps,
                unit="evaluations",
                **more,
            )
            mine, theirs = medians([first, second], y0, REPEATS)
            report(
                metric="time at equal error",
                value=mine / theirs,
                ours=mine,
                baseline=theirs,
                unit="s",
                **more,
            )
