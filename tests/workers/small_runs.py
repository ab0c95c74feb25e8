"""Small runs of the three loops, and processes of their own that can be stopped from outside."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax.tree_util import Partial

import divergence_flows as df

SCRIPT = pathlib.Path(__file__).with_name("drills.py")
XS_Q = jr.normal(jr.key(10), (64, 2))
XS_P = jr.normal(jr.key(11), (96, 2)) + 2
TS = np.linspace(0.0, 1.0, 9) ** 2
OPTIONS = {"steps": 30, "batch_size": 16, "chunk": 10}


TRACES = []


def counted(x):
    TRACES.append(1)
    return jax.nn.silu(x)


def critic(key=None):
    return df.networks.Discriminator(
        2, 8, 1, activation=counted, key=jr.key(3) if key is None else key
    )


def maker():
    return df.networks.Generator(3, 2, 8, 1, key=jr.key(5))


class Bend(eqx.Module):
    """A small d(t, x), which compiles in a sixth of the time of a network."""

    weights: jax.Array

    def __call__(self, t, x):
        return jnp.sum(self.weights * jnp.stack([x, t * x, counted(x)]))


def clock():
    return Bend(0.1 * jnp.arange(6.0).reshape(3, 2))


class From(eqx.Module):
    """A number that is another from a step on; arrays, so that others compile nothing new."""

    start: jax.Array
    before: jax.Array
    after: jax.Array

    def __init__(self, before, start=0, after=None):
        after = before if after is None else after
        self.start = jnp.asarray(start)
        self.before, self.after = jnp.asarray(before, float), jnp.asarray(after, float)

    def __call__(self, step):
        return jnp.where(step < self.start, self.before, self.after)


def init(weights):
    return jnp.asarray(0), jax.tree.map(jnp.zeros_like, weights)


def update(rate, slopes, opt_state, weights=None):
    count, past = opt_state
    past = jax.tree.map(lambda m, slope: 0.9 * m + slope, past, slopes)
    return jax.tree.map(lambda m: -rate(count) * m, past), (count + 1, past)


def sgd(*rate):
    """Descent with momentum, one program for all rates; it steps once for each update."""
    return optax.GradientTransformation(init, Partial(update, From(*rate)))


def transport(gan=None, d=None, xs_q=XS_Q, xs_p=XS_P, **options):
    gan, d = gan or df.gans.vanilla(), d or critic()
    rates = {"optimizer": sgd(0.01), "step_size": From(0.1)}
    options = {**OPTIONS, **rates, "critic_steps": 2, "key": jr.key(4), **options}
    return df.transport(gan, d, xs_q, xs_p, **options)


def train_gan(gan=None, d=None, g=None, xs_p=XS_P, **options):
    gan, d, g = gan or df.gans.vanilla(), d or critic(), g or maker()
    rates = {"d_optimizer": sgd(0.01), "g_optimizer": sgd(0.01)}
    options = {**OPTIONS, **rates, "latent": 3, "key": jr.key(4), **options}
    return df.train_gan(gan, d, g, xs_p, **options)


def train_flow_ratio(gan=None, d=None, xs_q=XS_Q, xs_p=XS_P, **options):
    gan, d = gan or df.gans.logit(), d or clock()
    rates = {"ts": TS, "form": "sequential", "optimizer": sgd(0.01)}
    options = {**OPTIONS, **rates, "key": jr.key(4), **options}
    return df.train_flow_ratio(gan, d, xs_q, xs_p, **options)


RUNS = {run.__name__: run for run in (transport, train_gan, train_flow_ratio)}


class Stopped(Exception):
    pass


def stop_at_20(state, metrics):
    if state.step == 20:
        raise Stopped


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def steps_in(file):
    """Steps that a checkpoint has seen, by its first line alone; 0 if there is none."""
    if not file.exists():
        return 0
    with open(file, "rb") as content:
        return json.loads(content.readline())["done"]


def leftovers(file):
    """Temporary files beside a checkpoint."""
    return list(file.parent.glob(f"{file.name}.*.tmp"))


class Child:
    """A run in a process of its own: `python drills.py LOOP FILE STEPS CHUNK [WORD]`."""

    def __init__(self, loop, file, *words):
        command = [sys.executable, str(SCRIPT), loop, str(file), *map(str, words)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
        self.process = subprocess.Popen(command, text=True, **pipes, env=environment)
        # One that waits for what never comes would hold up all tests.
        self.limit = threading.Timer(500, self.process.kill)
        self.limit.start()

    def wait_for(self, word):
        """Reads lines up to one that starts with a word."""
        for line in self.process.stdout:
            if line.startswith(word):
                return line.strip()
        raise RuntimeError(f"no {word!r}: {self.process.stderr.read()}")

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def send(self, number):
        self.process.send_signal(number)

    def end(self):
        """Waits until it has ended; how it did."""
        self.process.communicate()
        self.limit.cancel()
        return self.process.returncode

    def kill(self):
        """Kills it, unless it has ended; whether the kill ended it."""
        self.send(signal.SIGKILL)
        return self.end() == -signal.SIGKILL
