"""The three loops: chunks, seeds, checkpoints and kills change no number; bad steps stop them."""

import inspect
import re
import signal
import time

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from small_runs import RUNS, TRACES, Child, From, Stopped, clock, critic, maker, same, sgd

from small_runs import TS, XS_P, XS_Q, leftovers, steps_in, stop_at_20  # isort: skip

import divergence_flows as df
from divergence_flows.runs import _loop

transport, train_gan, train_flow_ratio = RUNS.values()
on_every_loop = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def metrics(info):
    """What was measured at each step."""
    return {name: part for name, part in vars(info).items() if name.endswith(("losses", "speeds"))}


# Chunks, seeds and steps by hand.


@on_every_loop
def test_chunks_do_not_change_the_result(run):
    (one, info), (other, told) = run(), run(chunk=30)
    same((one, metrics(info)), (other, metrics(told)))


@on_every_loop
def test_seeds_side_by_side_are_the_seeds_alone(run):
    def one(key):
        # A penalty is a derivative inside a derivative, under vmap here.
        more = {"d": critic(key), "penalty": "one"} if run is train_gan else {}
        return run(key=key, steps=10, **more)

    keys = jr.split(jr.key(6), 2)
    together, alone = jax.jit(jax.vmap(one))(keys), [one(key) for key in keys]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    # Round-off of batched matrix products, grown by the steps.
    chex.assert_trees_all_close(together, stacked, rtol=1e-3, atol=1e-4)
    assert not np.allclose(*(next(iter(metrics(info).values())) for _, info in alone))
    assert int(alone[0][1].diverged) == -1


SGD, OF_STEPS = sgd(0.01), {"batch_size": 16}
BATCH, VANILLA, LOGIT = (XS_Q, XS_P), df.gans.vanilla(), df.gans.logit()


def transport_step(state, key):
    xs, ratio = state
    for one in jr.split(key, 2):
        ratio, info = df.ratio_step(VANILLA, SGD, ratio, (xs, XS_P), key=one, **OF_STEPS)
    return (df.particle_step(VANILLA, ratio.discriminator, xs, 0.1)[0], ratio), info.loss


def gan_step(state, key):
    state, info = df.gan_step(VANILLA, SGD, SGD, state, XS_P, latent=3, key=key, **OF_STEPS)
    return state, info.d_loss


def flow_step(state, key):
    options = {"ts": TS, "hold": 30 // 9, "key": key, **OF_STEPS}
    state, info = df.flow_ratio_step(LOGIT, SGD, state, BATCH, **options)
    return state, info.loss


BY_HAND = {
    transport: (transport_step, lambda: (XS_Q, df.RatioState.start(critic(), SGD))),
    train_gan: (gan_step, lambda: df.GANState.start(critic(), maker(), SGD, SGD)),
    train_flow_ratio: (flow_step, lambda: df.FlowRatioState.start(clock(), SGD, xs_q=XS_Q, ts=TS)),
}


@on_every_loop
def test_a_loop_is_its_steps_by_hand(run):
    at_10, (step, start) = [], BY_HAND[run]
    _, info = run(on_chunk=lambda state, metrics: at_10.append(state))
    keys = jax.vmap(lambda i: jr.fold_in(jr.key(4), i))(jnp.arange(10))
    state, losses = jax.jit(lambda: jax.lax.scan(step, start(), keys))()
    found = (at_10[0].xs, at_10[0].ratio) if run is transport else at_10[0]
    chex.assert_trees_all_close(found, state, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(next(iter(metrics(info).values()))[:10], losses, rtol=1e-5)


@on_every_loop
def test_neither_chunks_nor_a_second_call_trace_again(run):
    run(steps=10)
    once = len(TRACES)
    more = {"gan": df.gans.vanilla(0.5)} if run is not train_flow_ratio else {}
    d = jax.tree.map(lambda leaf: 0.9 * leaf, clock() if run is train_flow_ratio else critic())
    run(d=d, key=jr.key(9), steps=30, **more)
    assert len(TRACES) == once


def test_the_path_of_a_transport_starts_at_the_source_and_ends_at_the_result():
    moved, info = transport()
    same((info.path[0], info.path[-1]), (XS_Q, moved))
    assert info.path_steps.tolist() == [0, 10, 20, 30]
    assert transport(chunk=20)[1].path_steps.tolist() == [0, 20, 30]
    assert info.losses.shape == info.speeds.shape == (30,)


# Runs that are stopped, or killed.


@on_every_loop
def test_a_stopped_run_resumes_bit_for_bit(run, tmp_path):
    file, seen = tmp_path / "run", []
    with pytest.raises(Stopped):
        run(checkpoint=file, on_chunk=stop_at_20)
    refused = {
        "chunk = 10, and this run has 15": {"chunk": 15},
        "other numbers: other data, weights, options or another key": {"key": jr.key(5)},
        "another program: another GAN, network, optimiser or option": {"batch_size": 17},
    }
    for words, change in refused.items():
        with pytest.raises(
            ValueError, match=rf"{run.__name__}: checkpoint .* written with {words}"
        ):
            run(checkpoint=file, **change)
    other = train_gan if run is transport else transport
    with pytest.raises(ValueError, match=f"with caller = {run.__name__}, and this run has"):
        other(checkpoint=file)
    whole = run()
    same(run(checkpoint=file, on_chunk=lambda state, metrics: seen.append(int(state.step))), whole)
    assert seen == [30]
    same(run(checkpoint=file), whole)  # and once more from the finished file
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    """The checkpoint of a process of its own, what it said when Ctrl-C stopped it, and the rest."""
    file = tmp_path_factory.mktemp("child") / "run"
    child = Child("transport", file, 15_000, 5_000, "tested")
    # In a chunk, which lasts, or if this machine is slow just after it; then in a save.
    child.wait_for("step 5000")
    child.go()
    time.sleep(0.1)
    child.send(signal.SIGINT)
    said = [child.wait_for("stopped")]
    child.wait_for("saving")
    child.send(signal.SIGINT)
    said.append(child.wait_for("stopped"))
    # Killed while it writes the transport's second checkpoint; the other loops stand at step 20.
    child.wait_for("saving")
    child.go()
    child.wait_for("saving")
    assert child.kill()
    return file, said


def test_runs_of_a_process_that_was_killed_resume_bit_for_bit(child):
    for run, steps in zip(RUNS.values(), (10, 20, 20), strict=True):
        file = child[0].with_name(f"run-{run.__name__}")
        assert (steps_in(file), len(leftovers(file))) == (steps, run is transport)
        # The fingerprint is the same in both processes, or this would be refused.
        same(run(checkpoint=file), run())


def test_ctrl_c_leaves_a_whole_checkpoint_and_says_where_it_stands(child):
    file, said = child
    words = (
        r"stopped transport: stopped after step (\d+) of 15000; (.*) holds step (\d+); the same "
    )
    in_chunk, in_save = (re.match(words + r"call goes on from there\.$", line) for line in said)
    at = int(in_chunk[1])
    assert at in (5_000, 10_000)
    assert in_chunk.groups() == (str(at), str(file), str(at))
    assert in_save.groups() == (str(at + 5_000), str(file), str(at))
    assert steps_in(file) == at
    assert leftovers(file) == []


@on_every_loop
def test_a_checkpoint_inside_a_trace_is_refused(run, tmp_path):
    call = lambda key: run(key=key, checkpoint=tmp_path / "x")[0]
    with pytest.raises(ValueError, match="inside `jit` or `vmap`"):
        jax.vmap(call)(jr.split(jr.key(0)))
    with pytest.raises(ValueError, match="inside `jit` or `vmap`"):
        jax.jit(lambda: call(jr.key(0)))()  # no argument of the call is a tracer
    rates = lambda rate: run(checkpoint=tmp_path / "x", **rated(run, optax.sgd(rate)))[0]
    with pytest.raises(ValueError, match="inside `jit` or `vmap`"):
        jax.vmap(rates)(jnp.ones(2))  # a tracer in a closure only
    assert list(tmp_path.iterdir()) == []


def rated(run, optimizer):
    return {"d_optimizer" if run is train_gan else "optimizer": optimizer}


# The fingerprint of a run has every argument in it.

SPECTRAL = df.networks.spectral(critic(), key=jr.key(0))
ADAM = optax.adam(0.01)
OF_ALL = {
    "chunk": 15,
    "batch_size": 17,
    "key": jr.key(5),
    "xs_q": XS_Q.at[3, 1].add(1e-3),
    "xs_p": XS_P.at[3, 1].add(1e-3),
}
OF_CRITIC = {"penalty": "zero", "penalty_weight": 9.0, "critic_steps": 3}
PENALISED = {"penalty": "one", "penalty_weight": 10.0}
CHANGES = {
    "transport": (
        {"optimizer": ADAM, "step_size": 0.1, **PENALISED},
        {
            **OF_ALL,
            **OF_CRITIC,
            "gan": df.gans.logit(),
            "discriminator": critic(jr.key(9)),
            "keep_map": True,
            "step_size": 0.2,
            "optimizer": optax.adam(0.01, b1=0.8),
        },
    ),
    "train_gan": (
        {"d_optimizer": ADAM, "g_optimizer": ADAM, "form": "distillation", **PENALISED},
        {
            **{name: value for name, value in OF_ALL.items() if name != "xs_q"},
            **OF_CRITIC,
            "gan": df.gans.arcsinh(),
            "discriminator": SPECTRAL,
            "generator": jax.tree.map(lambda leaf: leaf + 1e-3, maker()),
            "d_optimizer": optax.adam(0.01, b2=0.9),
            "g_optimizer": optax.sgd(0.01),
            "latent": None,
            "generator_steps": 2,
            "form": "loss",
            "step_size": 0.2,
            "tau": 0.5,
            "ema_decay": 0.5,
            "share_fakes": True,
        },
    ),
    "train_flow_ratio": (
        {"optimizer": optax.sgd(0.1, momentum=0.9), "score_p": jnp.negative},
        {
            **OF_ALL,
            "gan": df.gans.exponential(),
            "discriminator": jax.tree.map(lambda leaf: leaf + 1e-3, clock()),
            "optimizer": optax.sgd(0.1, momentum=0.8),
            "ts": TS + 0.1,
            "horizon": None,
            "form": "self_consistent",
            "neighbours": 0.5,
            "score_p": jnp.sin,
            "score_weight": 0.5,
            "ema_decay": 0.5,
        },
    ),
}
# What looks on, and changes no number.
FREE = {"progress", "checkpoint", "on_chunk", "save_every", "steps"}
SHORT = {"discriminator": "d", "generator": "g"}


@on_every_loop
def test_the_fingerprint_tells_every_argument_of_a_run(run, monkeypatch):
    class Seen(Exception):
        pass

    def see(path, header):
        raise Seen(header)

    def fingerprint(**options):
        with pytest.raises(Seen) as caught:
            run(checkpoint="x", **options)
        return caught.value.args[0]

    monkeypatch.setattr(_loop, "Checkpoint", see)
    base, changes = CHANGES[run.__name__]
    whole = fingerprint(**base)
    assert fingerprint(**base) == whole
    assert {*changes, *FREE} == set(inspect.signature(getattr(df, run.__name__)).parameters)
    for name, value in changes.items():
        if name == "latent":  # the generator and its noise go together
            change = {"latent": 4, "g": df.networks.Generator(4, 2, 8, 1, key=jr.key(5))}
        elif name == "horizon":
            change = {"ts": None, "horizon": 1.0}
        elif name == "tau":  # of one form alone
            proximal = {**base, "form": "proximal"}
            assert fingerprint(**proximal, tau=value) != fingerprint(**proximal)
            continue
        else:
            change = {SHORT.get(name, name): value}
        assert fingerprint(**{**base, **change}) != whole, name


# Steps that are too large.


def stops(run, **options):
    with pytest.raises(df.RunDiverged) as caught:
        run(**options)
    return caught.value


# A rate of 1e30 makes the next evaluation overflow. The critic of the transport takes two steps at
# each step, of which the second tells the loss; the GAN's generator sees the critic at once, and
# the critic sees the generator one step later; so does the flow's critic see itself.
BLOWN = {
    "the transport's critic": (transport, {"optimizer": sgd(0.01, 32, 1e30)}, 16, "losses"),
    "particles": (transport, {"step_size": From(0.1, 12, 1e6)}, 12, "speeds"),
    "the GAN's critic": (train_gan, {"d_optimizer": sgd(0.01, 14, 1e30)}, 14, "g_losses"),
    "the generator": (train_gan, {"g_optimizer": sgd(0.01, 14, 1e38)}, 15, "d_losses"),
    "the flow's critic": (train_flow_ratio, {"optimizer": sgd(0.01, 14, np.inf)}, 15, "losses"),
}
ADVICE = {
    "losses": "lower its learning rate",
    "speeds": "lower `step_size`",
    "g_losses": "lower its learning rate, or take a GAN whose h_T grows slowly",
    "d_losses": "bound it by `penalty` or `networks.spectral`",
}


@pytest.mark.parametrize(("run", "options", "step", "quantity"), BLOWN.values(), ids=BLOWN)
def test_a_step_too_large_stops_the_run_where_it_shows_and_keeps_the_state_before(
    run, options, step, quantity, tmp_path
):
    file, seen = tmp_path / "run", []
    stop = stops(
        run, checkpoint=file, on_chunk=lambda state, metrics: seen.append(state), **options
    )
    assert (stop.step, stop.quantity, stop.done) == (step, quantity, 10)
    # Up to step 10 it was the run of the small steps, and nothing came after.
    good = []
    run(on_chunk=lambda state, metrics: good.append(state))
    assert len(seen) == 1
    same((stop.state, seen[0]), (good[0], good[0]))
    words = str(stop)
    assert words.startswith(f"{run.__name__}: diverged at step {step} (counted from 0) of 30: ")
    assert f"`{quantity}` " in words and ADVICE[quantity] in words
    assert f"after 10 steps: `.state` of this error; checkpoint {file} holds it" in words
    assert words.endswith("change a setting, and pass another `checkpoint`.")
    # The file holds the good state, and the same call diverges again from there.
    assert steps_in(file) == 10
    again = stops(run, checkpoint=file, **options)
    assert (again.step, again.quantity, again.done) == (step, quantity, 10)
    same(again.state, stop.state)


def broken(net):
    """The network with weights that are no numbers."""
    return jax.tree.map(lambda x: x + jnp.nan if eqx.is_inexact_array(x) else x, net)


NETS = {
    "transport": (transport, {"d": broken(critic())}, "losses", "ratio"),
    "train_gan": (train_gan, {"d": broken(critic())}, "d_losses", "discriminator"),
    "the generator": (train_gan, {"g": broken(maker())}, "d_losses", "generator`, `ema"),
    "train_flow_ratio": (train_flow_ratio, {"d": broken(clock())}, "losses", "discriminator`, `em"),
}


@pytest.mark.parametrize(("run", "options", "quantity", "where"), NETS.values(), ids=NETS)
def test_a_network_that_starts_with_nan_is_named_at_step_0(run, options, quantity, where, tmp_path):
    file, seen = tmp_path / "run", []
    stop = stops(
        run, checkpoint=file, on_chunk=lambda state, metrics: seen.append(state), **options
    )
    assert (stop.step, stop.quantity, stop.done, seen) == (0, quantity, 0, [])
    assert f"NaN stood in `{where}" in str(stop)
    # Nothing good was ever there, and nothing was written.
    assert "checkpoint" not in str(stop)
    assert not file.exists()


def test_a_state_that_breaks_in_the_last_step_of_a_chunk_is_not_kept():
    # All metrics are finite: the generator breaks after its loss has been taken.
    stop = stops(train_gan, g_optimizer=sgd(0.01, 19, np.inf))
    assert (stop.step, stop.quantity, stop.done) == (19, "generator", 10)
    assert "`generator` of the state has NaN or inf" in str(stop)


def test_the_step_of_an_error_does_not_depend_on_the_chunk():
    stop = stops(transport, optimizer=sgd(1e3))
    assert (stop.quantity in ("losses", "speeds"), stop.done) == (True, 0)
    # What it keeps is the start, bit for bit.
    same((stop.state.xs, stop.state.ratio.discriminator), (XS_Q, critic()))
    later = stops(transport, optimizer=sgd(1e3), chunk=1)
    assert (later.step, later.quantity, later.done) == (stop.step, stop.quantity, stop.step)
