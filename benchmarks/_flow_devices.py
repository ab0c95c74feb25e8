"""Clouds over several devices, for `flow.py`: more devices for one cloud, and a cloud for each.

CPU devices share the machine's cores, and XLA uses all cores on one device too: here the lines
show what sharing costs. On a machine with several accelerators they show what it gains.
"""

import json
import os
import pathlib
import subprocess
import sys

PARTICLES, DIM = 1 << 16, 8
WORK = """
import functools, json, statistics, sys, time
import jax, jax.numpy as jnp, jax.random as jr
import divergence_flows as df
import _flow_solver as bench

count = int(sys.argv[1])
x0, xs_p = jr.normal(jr.key(0), (count, 8)) + 1.0, jr.normal(jr.key(1), (count, 8))
fit = functools.partial(df.rff_log_ratio, features=64, bandwidth=3.0, newton_steps=3, key=jr.key(2))

def exact(x0, xs_p):
    return df.integrate(bench.FIELDS["exact"], x0, jnp.array([0.0, 3.0])).ys[-1]

def features(x0, xs_p):
    return df.cloud_velocity(bench.identity, functools.partial(fit, xs_p=xs_p))(0.0, x0, None)

def learned(x0, xs_p):
    critic = df.networks.Discriminator(8, 64, 2, key=jr.key(3))
    steps = {"steps": 3, "critic_steps": 1, "chunk": 3, "step_size": 0.1}
    return df.transport(df.gans.logit(), critic, x0, xs_p, **steps, key=jr.key(4))[0]

clouds = df.over_devices((x0, xs_p))
found = {}
for name, flow in {"exact": exact, "features": features, "learned": learned}.items():
    run = jax.jit(flow)
    jax.block_until_ready(run(*clouds))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(run(*clouds))
        times.append(time.perf_counter() - start)
    found[name] = statistics.median(times)
print(json.dumps(found))
"""
WORDS = {
    "exact": "exact ratio, adaptive steps",
    "features": "random features, fit and field",
    "learned": "learned ratio, 3 steps",
}


def times(devices, count):
    """Seconds of each flow in a process of its own."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    forced = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", WORK, str(count)],
        capture_output=True,
        text=True,
        check=True,
        cwd=pathlib.Path(__file__).parent,
        env=os.environ | forced,
    )
    return json.loads(run.stdout.splitlines()[-1])


def scaling(report):
    one = times(1, PARTICLES)
    for devices in (2, 4):
        kinds = (("strong", PARTICLES), ("weak", PARTICLES * devices))
        for kind, count in kinds:
            more = times(devices, count)
            for name, words in WORDS.items():
                report(
                    case=f"{words}, {count} particles in {DIM} dimensions, {devices} CPU devices",
                    metric=f"{kind} scaling: time / time of {PARTICLES} on one device",
                    value=more[name] / one[name],
                    goal=None,
                    ours=more[name],
                    baseline=one[name],
                    baseline_name="one device, same cores",
                    unit="s",
                )
