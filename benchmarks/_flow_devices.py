"""Clouds and seeds over several devices, for `flow.py`: more devices for one job, and a job each.

Strong scaling gives 1, 2, 4 and 8 devices the same particles, or seeds; weak scaling gives each as
many as one had. CPU devices share the machine's cores, and XLA uses all cores on one device too:
here the lines show what sharing costs. On a machine with several accelerators they show what it
gains.
"""

import json
import os
import pathlib
import subprocess
import sys

from _line import cpu

PARTICLES, DIM, SEEDS = 1 << 16, 8, 8
DEVICES = (2, 4, 8)
WORK = """
import functools, json, statistics, sys, time
import jax, jax.numpy as jnp, jax.random as jr
import divergence_flows as df
import _flow_solver as bench

count, seeds = map(int, sys.argv[1:])
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

def games(keys, xs_p):
    def train(key):
        key_d, key_g, key = jr.split(key, 3)
        nets = (
            df.networks.Discriminator(8, 64, 2, key=key_d),
            df.networks.Generator(4, 8, 64, 2, key=key_g),
        )
        options = {"latent": 4, "steps": 50, "chunk": 50, "batch_size": 128, "key": key}
        return df.train_gan(df.gans.logit(), *nets, xs_p, **options)
    return jax.vmap(train)(keys)

clouds = df.over_devices((x0, xs_p))
keys = df.over_devices(jr.split(jr.key(5), seeds)), xs_p[:4096]
flows = {"exact": exact, "features": features, "learned": learned}
jobs = {name: (flow, clouds) for name, flow in flows.items()} | {"seeds": (games, keys)}
found = {}
for name, (job, inputs) in jobs.items():
    run = jax.jit(job)
    jax.block_until_ready(run(*inputs))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(run(*inputs))
        times.append(time.perf_counter() - start)
    found[name] = statistics.median(times)
print(json.dumps(found))
"""
CLOUD = f"{{particles}} particles in {DIM} dimensions"
WORDS = {
    "exact": f"exact ratio, adaptive steps, {CLOUD}",
    "features": f"random features, fit and field, {CLOUD}",
    "learned": f"learned ratio, 3 steps, {CLOUD}",
    "seeds": "GAN, 64-64, batch 128, 50 steps, {seeds} seeds",
}


def times(devices, particles, seeds):
    """Seconds of each job in a process of its own."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    forced = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", WORK, str(particles), str(seeds)],
        capture_output=True,
        text=True,
        check=True,
        cwd=pathlib.Path(__file__).parent,
        env=os.environ | forced,
    )
    return json.loads(run.stdout.splitlines()[-1])


def scaling(report, particles=PARTICLES, seeds=SEEDS):
    one = times(1, particles, seeds)
    for devices in DEVICES:
        for kind, share in (("strong", 1), ("weak", devices)):
            sizes = {"particles": particles * share, "seeds": seeds * share}
            more = times(devices, **sizes)
            for name, words in WORDS.items():
                first = seeds if name == "seeds" else particles
                report(
                    case=f"{words.format(**sizes)}, {devices} CPU devices",
                    metric=f"{kind} scaling: time / time of {first} on one device",
                    value=more[name] / one[name],
                    goal=None,
                    ours=more[name],
                    baseline=one[name],
                    baseline_name="one device, same cores",
                    unit="s",
                    hardware=cpu(),
                )
