"""Before the work: import, first calls, and calls of single numbers outside of `jit`.

One JSON line a case, as in `flow.py`. Each import and each first call is a process of its own.
"""

import json
import statistics
import subprocess
import sys
import time

import _line

BASE = "import jax, diffrax, equinox, optax"
OURS = "import divergence_flows"
FIT = """
import time
import jax, jax.numpy as jnp
{x64}
import divergence_flows as df

def log_p(x):
    return {log_p}

def fit(seed):
    start = time.perf_counter()
    q0 = df.Gaussian(jnp.zeros({dim}), {scale})
    jax.block_until_ready(df.fit_gaussian(log_p, q0, key=jax.random.key(seed), {options}))
    return time.perf_counter() - start

jnp.zeros(3) + 1
first = fit(0)
print([first, first - fit(1)])
"""
SMALL = {
    "x64": "jax.config.update('jax_enable_x64', True)",
    "log_p": "-0.5 * jnp.sum((x - 1.0) ** 2) - 0.1 * jnp.sum(jnp.cos(x))",
    "dim": 5,
    "scale": "jnp.eye(5)",
    "options": "",
}
LATENTS = {
    "x64": "",
    "log_p": "jnp.sum(3.0 * x - jnp.exp(x)) - 0.5 * jnp.sum((x - 1.0) ** 2)",
    "dim": 2048,
    "scale": "jnp.ones(2048)",
    "options": "n=64, tol=1e-2",
}


def seconds_of(program):
    """What a process takes from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - start


def imports(rounds=7):
    seconds_of(OURS)  # writes bytecode
    runs = [(seconds_of(OURS), seconds_of(BASE)) for _ in range(rounds)]
    words = "importing jax, diffrax, equinox and optax"
    _line.tell_pairs("import divergence_flows", "time of a process", runs, 1.15, words)


def allowed(case, metric, ours, limit, unit="s"):
    """A line whose baseline is a number that was set, in an issue, before the measurement."""
    numbers = {"value": ours / limit, "goal": 1.0, "ours": ours, "baseline": limit}
    _line.tell(case=case, metric=metric, **numbers, baseline_name="what issue 17 allows", unit=unit)


def fits(rounds=3):
    cases = {
        "fit_gaussian, 5 dimensions, float64": (SMALL, 1, "time of compilation", 3.0),
        "fit_gaussian, mean field of 2048 latents, 64 nodes": (LATENTS, 0, "first call", 20.0),
    }
    for case, (settings, which, metric, limit) in cases.items():
        run = [sys.executable, "-c", FIT.format(**settings)]
        said = [
            subprocess.run(run, capture_output=True, text=True, check=True).stdout
            for _ in range(rounds)
        ]
        allowed(case, metric, statistics.median(json.loads(one)[which] for one in said), limit)


def eager(calls=2000):
    import jax
    import jax.numpy as jnp

    import divergence_flows as df

    div, r = df.divergences.jensen_shannon, jnp.array(1.5)
    cases = {
        "div.f(r)": lambda: div.f(r),
        "div.h(u)": lambda: div.h(r),
        "f_to_h(f)(u)": lambda h=df.f_to_h(div.f): h(r),
        "gan.h_t(d)": lambda h_t=df.gans.vanilla().h_t: h_t(r),
    }
    for case, call in cases.items():
        jax.block_until_ready(call())
        start = time.perf_counter()
        for _ in range(calls):
            made = call()
        jax.block_until_ready(made)
        each = (time.perf_counter() - start) / calls
        allowed(f"{case} of one number, outside of jit", "time of a call", 1e3 * each, 0.3, "ms")


CASES = {"imports": imports, "eager": eager, "fits": fits}

if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        CASES[name]()
