"""Cases (a) and (c) of `gan.py`: small networks, where what is not arithmetic shows.

Each is timed against PyTorch and against a `lax.scan` written by hand in jax and optax, with the
networks as lists of arrays, or as equinox's layers: what is left is our overhead.
"""

import functools
import subprocess
import sys
import time

import _torch_2d as peer
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import divergence_flows as df

REPEATS = 7


def clock(function, *args):
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def alternate(contenders, repeats=REPEATS):
    """Seconds of each, by name; they take turns, so that a slow moment hits all."""
    found = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            found[name].append(run())
    return found


def layers_of(net):
    return [(layer.weight, layer.bias) for layer in net.layers]


def forward(params, activation, xs):
    """A multilayer perceptron on a batch."""
    for w, b in params[:-1]:
        xs = activation(xs @ w.T + b)
    w, b = params[-1]
    return xs @ w.T + b


# (a) the particle flow of the MonoFlow blog, on Neal's funnel


def leaky(x):
    return jax.nn.leaky_relu(x, 0.2)


class Critic(eqx.Module):
    """d(x) with hidden layers of given widths."""

    layers: tuple

    def __init__(self, widths, *, key):
        sizes = (2, *widths, "scalar")
        keys = jr.split(key, len(sizes) - 1)
        pairs = zip(sizes[:-1], sizes[1:], keys, strict=True)
        self.layers = tuple(eqx.nn.Linear(a, b, key=k) for a, b, k in pairs)

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = leaky(layer(x))
        return self.layers[-1](x)


def funnel(key, count):
    key_y, key_x = jr.split(key)
    y = jr.normal(key_y, (count,))
    return jnp.stack([jnp.exp(y) / 10 * jr.normal(key_x, (count,)), y], axis=1)


def value_of(params, xs):
    return forward(params, leaky, xs)[:, 0]


def flow_by_hand(optimizer, eps, values, slopes, params, xs, xs_p, steps):
    """What `df.transport` does for `gans.logit`, by hand."""

    def loss(params, xs):
        on_p, on_q = values(params, xs_p), values(params, xs)
        return jnp.mean(jax.nn.softplus(-on_p)) + jnp.mean(jax.nn.softplus(on_q))

    def step(state, _):
        params, memory, xs = state
        now, slope = jax.value_and_grad(loss)(params, xs)
        updates, memory = optimizer.update(slope, memory)
        params = optax.apply_updates(params, updates)
        return (params, memory, xs + eps * slopes(params, xs)), now

    begin = (params, optimizer.init(params), xs)
    (_, _, xs), losses = jax.lax.scan(step, begin, length=steps)
    return xs, losses


def raw_flow(optimizer, eps, params, xs, xs_p, steps):
    """By hand, with a network of plain arrays."""
    slopes = jax.grad(lambda params, xs: jnp.sum(value_of(params, xs)), argnums=1)
    return flow_by_hand(optimizer, eps, value_of, slopes, params, xs, xs_p, steps)


def layered_flow(optimizer, eps, critic, xs, xs_p, steps):
    """By hand, with a critic made of equinox's layers, as users write theirs."""
    params, rest = eqx.partition(critic, eqx.is_array)
    values = lambda params, xs: jax.vmap(eqx.combine(params, rest))(xs)
    slopes = lambda params, xs: jax.vmap(jax.grad(eqx.combine(params, rest)))(xs)
    return flow_by_hand(optimizer, eps, values, slopes, params, xs, xs_p, steps)


def flows(widths, steps, rate, eps, count):
    """What all need, and the flow by `df.transport` and by hand."""
    critic, optimizer = Critic(widths, key=jr.key(0)), optax.adam(rate)
    xs = 0.5 * jr.normal(jr.key(1), (count, 2)) + jnp.array([0.0, 2.0])
    xs_p, layers = funnel(jr.key(2), count), layers_of(critic)
    settings = {"steps": steps, "chunk": steps, "step_size": eps, "critic_steps": 1}

    def ours():
        moved, info = df.transport(
            df.gans.logit(), critic, xs, xs_p, **settings, optimizer=optimizer, key=jr.key(3)
        )
        return moved, info.losses

    by_hand = jax.jit(functools.partial(raw_flow, optimizer, eps, steps=steps))
    layered = eqx.filter_jit(functools.partial(layered_flow, optimizer, eps, steps=steps))
    raw = functools.partial(by_hand, layers, xs, xs_p)
    return layers, xs, xs_p, ours, functools.partial(layered, critic, xs, xs_p), raw


def particles(report, widths, steps, goal, rate=1e-3, eps=1e-3, count=1024, rtol=1e-3):
    """One critic step to an Euler step, all particles in a batch."""
    layers, xs, xs_p, ours, layered, raw = flows(widths, steps, rate, eps, count)
    theirs = functools.partial(peer.flow, layers, xs, xs_p, steps, rate, eps)
    (mine, losses), (again, _), (_, yours, loss) = ours(), raw(), theirs()  # compiles
    like_ours, _ = layered()
    # Rounding sends particles at the kinks of leaky ReLU apart in time: most must agree.
    for other in (again, like_ours, yours):
        apart = np.median(np.abs(np.asarray(mine) - np.asarray(other)))
        if not apart < rtol:
            raise RuntimeError(f"particles {widths}: ours ended {apart} away, in the median")
    if not np.isclose(losses[-1], loss, rtol=rtol):
        raise RuntimeError(f"particles {widths}: the last losses are {losses[-1]} and {loss}")
    runs = {"ours": ours, "layered": layered, "raw": raw}
    runs = {name: functools.partial(clock, run) for name, run in runs.items()}
    seconds = alternate({**runs, "torch": lambda: theirs()[0]})
    case = f"particle flow, critic 2-{'-'.join(map(str, widths))}-1, {count} particles"
    peers = (("torch", "PyTorch", goal), ("layered", "a scan by hand", 1.05))
    for name, words, aim in (*peers, ("raw", "a scan by hand, a network of plain arrays", 1.05)):
        pairs = zip(seconds["ours"], seconds[name], strict=True)
        pairs = [(one / steps, other / steps) for one, other in pairs]
        report(case, "time of a step", pairs, aim, words)


def first(report, rounds=3):
    """The first call of a process, compilation with it."""
    found = []
    for _ in range(rounds):  # alternating
        runs = [[sys.executable, __file__, which] for which in ("ours", "raw")]
        said = [subprocess.run(run, capture_output=True, text=True, check=True) for run in runs]
        found.append(tuple(float(one.stdout) for one in said))
    case = "particle flow, critic 2-64-64-1, 1024 particles"
    report(case, "time of the first call", found, 1.5, "a scan by hand")


def blog(report):
    particles(report, (512, 256), 40, 0.85)
    particles(report, (64, 64), 400, 0.55)
    first(report)


# (c) a 2-D GAN, one seed and many

LATENT, BATCH, RATE, BETAS, DECAY = 2, 128, 1e-3, (0.5, 0.999), 0.999


def ring(key, count):
    key_mode, key_noise = jr.split(key)
    turn = 2 * jnp.pi * jr.randint(key_mode, (count,), 0, 8) / 8
    return 2 * jnp.stack([jnp.cos(turn), jnp.sin(turn)], 1) + 0.1 * jr.normal(key_noise, (count, 2))


def networks(key):
    key_d, key_g = jr.split(key)
    d = df.networks.Discriminator(2, 64, 2, key=key_d)
    return d, df.networks.Generator(LATENT, 2, 64, 2, key=key_g)


def our_game(optimizer, xs_p, steps, d, g, key):
    options = {"steps": steps, "chunk": steps, "batch_size": BATCH, "ema_decay": DECAY}
    tools = {"d_optimizer": optimizer, "g_optimizer": optimizer}
    gan = df.gans.non_saturating()
    state, info = df.train_gan(gan, d, g, xs_p, latent=LATENT, **options, **tools, key=key)
    return state.ema, info.d_losses


def raw_game(optimizer, xs_p, steps, d, g, key):
    """What `df.train_gan` does for `gans.non_saturating`, by hand."""

    def value(d, xs):
        return forward(d, jax.nn.silu, xs)[:, 0]

    def fakes(g, key):
        return forward(g, jax.nn.silu, jr.normal(key, (BATCH, LATENT)))

    def loss_d(d, xs, ys):
        return jnp.mean(jax.nn.softplus(-value(d, xs))) + jnp.mean(jax.nn.softplus(value(d, ys)))

    def loss_g(g, d, key):
        return jnp.mean(jax.nn.softplus(-value(d, fakes(g, key))))

    def step(state, key):
        d, g, ema, d_memory, g_memory = state
        key_p, key_d, key_g = jr.split(key, 3)
        xs = xs_p[jr.randint(key_p, (BATCH,), 0, len(xs_p))]
        told_d, slope = jax.value_and_grad(loss_d)(d, xs, fakes(g, key_d))
        updates, d_memory = optimizer.update(slope, d_memory)
        d = optax.apply_updates(d, updates)
        told_g, slope = jax.value_and_grad(loss_g)(g, d, key_g)
        updates, g_memory = optimizer.update(slope, g_memory)
        g = optax.apply_updates(g, updates)
        ema = jax.tree.map(lambda old, new: DECAY * old + (1 - DECAY) * new, ema, g)
        return (d, g, ema, d_memory, g_memory), (told_d, told_g)

    begin = (d, g, g, optimizer.init(d), optimizer.init(g))
    state, (losses, _) = jax.lax.scan(step, begin, jr.split(key, steps))
    return state[2], losses


def contenders(seeds, steps, optimizer, xs_p):
    """Ours, by hand, and PyTorch: each returns seconds and the losses of all seeds."""
    keys = jr.split(jr.key(4), seeds)
    d, g = jax.vmap(networks)(jr.split(jr.key(5), seeds))
    ours = functools.partial(our_game, optimizer, xs_p, steps)
    raw = functools.partial(raw_game, optimizer, xs_p, steps)
    runs = {
        "ours": functools.partial(eqx.filter_jit(jax.vmap(ours)), d, g, keys),
        "raw": functools.partial(jax.jit(jax.vmap(raw)), layers_of(d), layers_of(g), keys),
    }
    if seeds == 1:  # as a user calls it
        one = functools.partial(jax.tree.map, lambda leaf: leaf[0])
        runs = {
            "ours": functools.partial(ours, one(d), one(g), keys[0]),
            "raw": functools.partial(jax.jit(raw), layers_of(one(d)), layers_of(one(g)), keys[0]),
        }

    def timed(run):
        start = time.perf_counter()
        _, losses = jax.block_until_ready(run())
        return time.perf_counter() - start, np.asarray(losses)

    def stacked(by_func=False):
        game = peer.Game(layers_of(d), layers_of(g), xs_p, RATE, BETAS, DECAY, by_func)
        seconds, losses = game.run(steps, BATCH)
        return seconds, losses.T  # time last, as ours

    def one_by_one():
        first = jax.tree.map(lambda leaf: leaf[0], (layers_of(d), layers_of(g)))
        seconds, losses = peer.Game(*first, xs_p, RATE, BETAS, DECAY).run(steps, BATCH)
        return seconds * seeds, losses

    runs = {name: functools.partial(timed, run) for name, run in runs.items()}
    many = {"stacked": stacked, "func": functools.partial(stacked, by_func=True)}
    return {**runs, "torch": one_by_one, **(many if seeds > 1 else {})}


def check(losses):
    """All play the same game: the mean loss of all seeds near the end agrees."""
    ends = {name: float(np.mean(each[..., -50:])) for name, each in losses.items()}
    if not np.allclose(list(ends.values()), ends["ours"], rtol=0.05):
        raise RuntimeError(f"2-D GAN: the losses differ: {ends}")


WORDS = {
    "torch": "PyTorch",
    "raw": "a scan by hand",
    "stacked": "PyTorch, seeds stacked",
    "func": "PyTorch, seeds stacked by torch.func",
}


def seeds(report, counts=(1, 32), steps=300, goal=0.5, all_goal=None, repeats=REPEATS):
    """One seed and many; times are a step of one seed.

    The most seeds take at most `all_goal` times as long as one, or as many times as there are.
    """
    optimizer, xs_p = optax.adam(RATE, *BETAS), ring(jr.key(6), 4096)
    runs = {}
    for count in counts:
        for name, run in contenders(count, steps, optimizer, xs_p).items():
            runs[name, count] = run
    losses = {key: run()[1] for key, run in runs.items()}  # compiles
    most = counts[-1]
    check({name: x for (name, count), x in losses.items() if count == most and name != "torch"})
    found = alternate({key: (lambda run=run: run()[0]) for key, run in runs.items()}, repeats)
    each = {key: [one / steps / key[1] for one in found[key]] for key in found}
    network = f"2-D GAN, 64-64, batch {BATCH}"
    for count in counts:
        for name, words in WORDS.items():
            if (name, count) in each:
                aim = 1.05 if name == "raw" else goal
                pairs = list(zip(each["ours", count], each[name, count], strict=True))
                report(f"{network}, {count} seeds", "time of a step of a seed", pairs, aim, words)
    pairs = list(zip(each["ours", most], each["ours", 1], strict=True))
    aim = (all_goal or most) / most
    report(f"{network}, {most} seeds", "time of a step of a seed", pairs, aim, "ours, one seed")


if __name__ == "__main__":
    *_, ours, _, raw = flows((64, 64), 400, 1e-3, 1e-3, 1024)
    print(clock({"ours": ours, "raw": raw}[sys.argv[1]]))
