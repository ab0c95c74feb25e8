"""The main job: mass arrives, runs resume bit for bit, seeds run side by side."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from small_runs import Stopped, same, stop_at_20

import divergence_flows as df

XS_Q = jr.normal(jr.key(10), (64, 2))
XS_P = jr.normal(jr.key(11), (96, 2)) + 2
OPTIONS = {"steps": 25, "critic_steps": 2, "batch_size": 16, "chunk": 10}


def critic(key=None):
    return df.networks.Discriminator(2, 8, 1, key=jr.key(3) if key is None else key)


def run(**options):
    options = {**OPTIONS, "key": jr.key(4), **options}
    return df.transport(df.gans.vanilla(), critic(), XS_Q, XS_P, **options)


def test_a_gaussian_arrives_at_another():
    q = 0.5 * jr.normal(jr.key(0), (256, 2))
    p, held, other = jr.normal(jr.key(1), (3, 256, 2)) * 0.8 + jnp.array([2.0, -1.0])
    net = df.networks.Discriminator(2, 32, 2, key=jr.key(2))
    moved, info = df.transport(
        df.gans.logit(), net, q, p, steps=600, step_size=0.02, critic_steps=3, key=jr.key(3)
    )
    # Held-out distance: a quarter above that of two independent samples is allowed, from 9 times.
    assert df.wasserstein2(moved, held) < 1.25 * df.wasserstein2(other, held)
    assert df.wasserstein2(q, held) > 5 * df.wasserstein2(other, held)
    chex.assert_trees_all_close(info.losses[-100:].mean(), 2 * np.log(2), atol=0.05)


def test_chunks_do_not_change_the_result():
    same(run()[0], run(chunk=25)[0])


CHANGES = {
    "steps": {"steps": 26},
    "key": {"key": jr.key(5)},
    "batch_size": {"batch_size": None},
    "step_size": {"step_size": 0.5},
    "chunk": {"chunk": 5},
}


@pytest.mark.parametrize(("name", "change"), CHANGES.items(), ids=CHANGES)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, name, change):
    file = tmp_path / "run.npz"
    with pytest.raises(Stopped):
        run(checkpoint=file, on_chunk=stop_at_20)
    with pytest.raises(ValueError, match=rf"transport: checkpoint .* {name} = "):
        run(checkpoint=file, **change)


def test_a_checkpoint_of_another_gan_data_or_network_is_refused(tmp_path):
    file = tmp_path / "run.npz"
    run(checkpoint=file)
    options = {**OPTIONS, "key": jr.key(4), "checkpoint": file}
    with pytest.raises(ValueError, match="gan = "):
        df.transport(df.gans.logit(), critic(), XS_Q, XS_P, **options)
    with pytest.raises(ValueError, match="xs_p = "):
        df.transport(df.gans.vanilla(), critic(), XS_Q, XS_P + 1, **options)
    with pytest.raises(ValueError, match="discriminator = "):
        df.transport(df.gans.vanilla(), critic(jr.key(9)), XS_Q, XS_P, **options)


def test_seeds_side_by_side_are_the_seeds_alone():
    keys = jr.split(jr.key(6), 3)

    def one(key):
        options = {**OPTIONS, "key": key}
        return df.transport(df.gans.vanilla(), critic(key), XS_Q, XS_P, **options)

    together = jax.vmap(one)(keys)
    alone = [one(key) for key in keys]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    # Roundoff of batched matrix products, grown by 50 steps of Adam.
    chex.assert_trees_all_close(together, stacked, rtol=1e-3, atol=1e-4)


TRACES = []


def counted(x):
    TRACES.append(1)
    return jax.nn.silu(x)


def test_neither_chunks_nor_a_second_call_trace_again():
    net = df.networks.Discriminator(2, 8, 1, activation=counted, key=jr.key(0))
    options = {**OPTIONS, "steps": 30, "key": jr.key(4)}
    df.transport(df.gans.vanilla(), net, XS_Q, XS_P, **{**options, "step_size": 0.1})
    once = len(TRACES)
    df.transport(df.gans.vanilla(0.5), net, XS_Q, XS_P, **{**options, "step_size": 0.2})
    assert len(TRACES) == once


def test_the_path_starts_at_the_source_and_ends_at_the_result():
    moved, info = run()
    same((info.path[0], info.path[-1]), (XS_Q, moved))
    assert info.path_steps.tolist() == [0, 10, 20, 25]
    assert info.losses.shape == info.speeds.shape == (25,)


def test_one_step_by_hand_is_one_step_of_the_loop():
    moved, info = run(steps=1, critic_steps=1, batch_size=None, step_size=0.3)
    again, _ = df.particle_step(df.gans.vanilla(), info.discriminator, XS_Q, 0.3)
    chex.assert_trees_all_close(moved, again, rtol=1e-5, atol=1e-6)


WRONG = {
    "steps": ({"steps": 0}, "transport: `steps` is 0"),
    "critic_steps": ({"critic_steps": 0}, "transport: `critic_steps` is 0"),
    "chunk": ({"chunk": -1}, "transport: `chunk` is -1"),
}


@pytest.mark.parametrize(("options", "words"), WRONG.values(), ids=WRONG)
def test_a_count_that_makes_no_run_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        run(**options)


def test_samples_that_are_not_finite_are_refused():
    with pytest.raises(eqx.EquinoxRuntimeError, match="xs_p"):
        df.transport(
            df.gans.logit(), critic(), XS_Q, XS_P.at[3, 0].set(jnp.nan), **OPTIONS, key=jr.key(0)
        )


def test_a_divergence_is_no_gan():
    with pytest.raises(ValueError, match="pass a GAN"):
        df.transport(df.divergences.kl_qp, critic(), XS_Q, XS_P, key=jr.key(0))
