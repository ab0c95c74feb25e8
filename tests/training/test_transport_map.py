"""The map that a transport keeps: new points follow the Euler steps of the run."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from small_runs import XS_P, XS_Q, Stopped, critic, same, stop_at_20, transport

import divergence_flows as df

NEW = jr.normal(jr.key(20), (7, 2))


@pytest.fixture(scope="module")
def run():
    return transport(keep_map=True)


def test_the_points_of_a_run_end_where_they_ended_bit_for_bit(run):
    moved, info = run
    same(moved, transport()[0])
    same(info.push(XS_Q), moved)
    assert float(info.map.error) == 0
    # Another number of points, and one of them by hand.
    here = NEW
    for k, eps in enumerate(info.map.step_sizes[:, 0]):
        d = jax.tree.map(lambda leaf, k=k: leaf[k], info.map.discriminators)
        here = df.particle_step(df.gans.vanilla(), d, here, eps)[0]
    np.testing.assert_allclose(info.push(NEW), here, rtol=1e-5, atol=1e-6)


def test_conditions_go_along():
    from test_batches import LABELS_P, LABELS_Q, OneHot

    d = OneHot(df.networks.Discriminator(5, 8, 1, key=jr.key(2)))
    data = {"xs_q": (XS_Q, LABELS_Q), "xs_p": (XS_P, LABELS_P)}
    moved, info = transport(d=d, keep_map=True, **data)
    same(info.push(data["xs_q"]), moved)
    other = info.push((XS_Q, (LABELS_Q + 1) % 3))
    assert float(jnp.max(jnp.abs(other - moved))) > 1e-3


def test_a_thinned_map_states_its_error(run):
    for every, most in ((4, 0.3), (1, 0.0)):
        moved, info = transport(keep_map=every, steps=30, chunk=7)
        kept = len(info.map.step_sizes)
        assert kept == -(-30 // every) and len(jax.tree.leaves(info.map.discriminators)[0]) == kept
        gap = jnp.sqrt(jnp.mean(jnp.sum((info.push(XS_Q) - moved) ** 2, axis=1)))
        np.testing.assert_allclose(info.map.error, gap, rtol=1e-4, atol=1e-7)
        assert float(gap) <= most * float(jnp.linalg.norm(moved - XS_Q) / 8)
    # The discriminators that stay are those of the whole map.
    thin = transport(keep_map=4)[1].map.discriminators
    same(thin, jax.tree.map(lambda leaf: leaf[::4], run[1].map.discriminators))


def test_density_follows_by_the_jacobian(run):
    log_q0 = lambda x: -0.5 * jnp.sum(x**2, axis=-1) - jnp.log(2 * jnp.pi)
    moved, log_q = run[1].push_with_log_prob(NEW, log_q0(NEW))
    same(moved, run[1].push(NEW))
    whole = jax.vmap(jax.jacfwd(lambda x: run[1].push(x[None])[0]))(NEW)
    expected = log_q0(NEW) - jnp.linalg.slogdet(whole)[1]
    np.testing.assert_allclose(log_q, expected, rtol=1e-4, atol=1e-4)


def test_a_step_that_turns_space_over_has_no_density():
    # d = a |x|^2, moved by h_t(d) = d with a step of -3 / (2 a): x -> -2 x.
    quadratic = lambda a, x: a * jnp.sum(x**2)
    d = jax.tree_util.Partial(quadratic, jnp.asarray(-1.0))
    options = {
        "optimizer": optax.set_to_zero(),
        "step_size": 1.5,
        "steps": 1,
        "chunk": 1,
        "critic_steps": 1,
    }
    options |= {"keep_map": True, "batch_size": None}
    moved, info = transport(gan=df.gans.logit(), d=d, **options)
    np.testing.assert_allclose(moved, -2 * XS_Q, rtol=1e-6)
    # In the plane the determinant is 4; on a line it is -2.
    np.testing.assert_allclose(
        info.push_with_log_prob(NEW, jnp.zeros(7))[1], -2 * np.log(2), rtol=1e-5
    )
    line = {"xs_q": XS_Q[:, :1], "xs_p": XS_P[:, :1]}
    _, info = transport(gan=df.gans.logit(), d=d, **line, **options)
    with pytest.raises(Exception, match="turned space over at a point"):
        info.push_with_log_prob(NEW[:, :1], jnp.zeros(7))


def test_seeds_keep_their_maps_side_by_side():
    keys = jr.split(jr.key(1))
    one = lambda key: transport(keep_map=True, key=key)
    moved, infos = jax.jit(jax.vmap(one))(keys)
    pushed = jax.vmap(lambda info: info.push(XS_Q))(infos)
    np.testing.assert_allclose(pushed, moved, rtol=1e-5, atol=1e-6)
    jitted = jax.jit(lambda info, xs: info.push(xs))(one(keys[0])[1], NEW)
    np.testing.assert_allclose(jitted, one(keys[0])[1].push(NEW), rtol=1e-5, atol=1e-6)


def test_a_run_that_goes_on_has_its_whole_map(run, tmp_path):
    file = tmp_path / "run"
    with pytest.raises(Stopped):
        transport(keep_map=True, checkpoint=file, on_chunk=stop_at_20)
    same(transport(keep_map=True, checkpoint=file), run)
    with pytest.raises(ValueError, match="keep_map = 1, and this run has 0"):
        transport(checkpoint=file)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda run: transport()[1].push(NEW), "push: no map was kept; call transport"),
        (lambda run: run[1].push(NEW[:, :1]), "push: `xs` has shape (1,), and this one was made"),
        (lambda run: run[1].push_with_log_prob(NEW, jnp.zeros(6)), "`log_prob` has shape (6,)"),
        (lambda run: transport(keep_map=-1), "transport: `keep_map` is -1; pass a positive"),
    ],
)
def test_what_cannot_be_pushed_is_refused(run, call, words):
    with pytest.raises(ValueError) as refusal:
        call(run)
    assert words in str(refusal.value)


def test_weights_of_a_map_are_on_the_host(run):
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(run[1].map.discriminators))
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(critic()))
