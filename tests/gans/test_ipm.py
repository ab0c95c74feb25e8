"""Critics without a ratio: a velocity and nothing that needs p/q; spectral norms keep them flat."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from small_networks import affine, critic, linear, maker

import divergence_flows as df

XS_Q = jr.normal(jr.key(0), (50, 2))
XS_P = jr.normal(jr.key(1), (60, 2)) + jnp.array([2.0, -1.0])
WGAN = df.gans.wasserstein()


def test_what_needs_a_ratio_is_not_there():
    for name in ("log_t", "inverse", "h", "descends", "measures"):
        with pytest.raises(AttributeError, match=f"`{name}`: .* no ratio"):
            getattr(WGAN, name)
    with pytest.raises(AttributeError, match=r"IPM has no `logt`\.$"):
        _ = WGAN.logt
    with pytest.raises(ValueError, match=r"learned_log_ratio: .*IPM.*no ratio"):
        df.learned_log_ratio(WGAN, critic())
    with pytest.raises(ValueError, match=r"ratio_check: .*no ratio"):
        df.ratio_check(df.witness(critic()), XS_Q, XS_P)


def test_its_velocity_is_the_critics_gradient():
    w = jnp.array([0.6, -0.8])
    field = df.velocity(WGAN.h_t, df.witness(linear(w)))
    chex.assert_trees_all_close(field(0.0, XS_Q, None), jnp.tile(w, (50, 1)), rtol=1e-6)
    moved, _ = df.particle_step(WGAN, linear(w), XS_Q, 0.1)
    chex.assert_trees_all_close(moved, XS_Q + 0.1 * w, rtol=1e-5)


def test_a_witness_of_a_gan_gives_its_velocity():
    gan, d = df.gans.arcsinh(), critic()
    one = df.velocity(gan.h_t, df.witness(d))(0.0, XS_Q, None)
    other = df.velocity(gan.h, df.learned_log_ratio(gan, d))(0.0, XS_Q, None)
    chex.assert_trees_all_close(one, other, rtol=1e-5, atol=1e-7)


def test_the_game_is_a_difference_of_means():
    d_p, d_q = jnp.array([1.0, 4.0]), jnp.array([-1.0, 0.0, 4.0])
    chex.assert_trees_all_close(df.discriminator_loss(WGAN, d_p, d_q), -1.5)
    chex.assert_trees_all_close(df.generator_loss(WGAN, d_q), -1.0)


def test_every_leaf_is_an_array_under_plain_jit():
    assert jax.tree.leaves(WGAN) == []
    game = df.IPM(jnp.tanh, lambda d: -jnp.tanh(d), lambda d: d)
    assert jax.jit(lambda game: game.phi(2.0))(game) == jnp.tanh(2.0)


OPTIMA = {  # maximise w.D - weight penalty(w), D the difference of the means
    "r1": lambda gap, weight: gap / (2 * weight),
    "r2": lambda gap, weight: gap / (2 * weight),
    "r1+r2": lambda gap, weight: gap / (4 * weight),
    "zero": lambda gap, weight: gap / (2 * weight),
    "one": lambda gap, weight: gap / np.linalg.norm(gap) + gap / (2 * weight),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("penalty", "optimum"), OPTIMA.items(), ids=OPTIMA)
def test_a_penalised_linear_critic_ends_where_calculus_says(penalty, optimum):
    xs_q, xs_p = (jnp.asarray(np.asarray(xs), float) for xs in (XS_Q, XS_P))
    optimizer, weight = optax.sgd(0.1), 1.5
    state = df.RatioState.start(linear([0.1, 0.0]), optimizer)

    def body(state, key):
        options = {"penalty": penalty, "penalty_weight": weight, "key": key}
        return df.ratio_step(WGAN, optimizer, state, (xs_q, xs_p), **options)

    state, _ = jax.jit(lambda s: jax.lax.scan(body, s, jr.split(jr.key(0), 1000)))(state)
    gap = np.mean(np.asarray(xs_p), 0) - np.mean(np.asarray(xs_q), 0)
    found = state.discriminator.layers[0].weight[0]
    chex.assert_trees_all_close(found, optimum(gap, weight), rtol=1e-6)


def test_a_wasserstein_generator_arrives_at_the_mean():
    state, info = df.train_gan(
        WGAN,
        linear([0.0, 0.0]),
        affine(0.5 * jnp.eye(2), [0, 0]),
        XS_P,
        latent=2,
        steps=600,
        batch_size=60,
        penalty="r1",
        penalty_weight=0.5,
        d_optimizer=optax.sgd(0.3),
        g_optimizer=optax.sgd(optax.cosine_decay_schedule(0.1, 600)),
        key=jr.key(0),
    )
    # Fakes' noise of .5 / sqrt(60) a step, averaged over the last steps.
    chex.assert_trees_all_close(state.generator.layers[0].bias, jnp.mean(XS_P, 0), atol=0.05)
    assert info.penalties[-1] < 0.1 < info.penalties.max()


def top(matrix):
    return np.linalg.svd(np.asarray(matrix), compute_uv=False)[0]


NETS = {
    "linear": lambda: critic(depth=2, width=16),
    "images": lambda: df.networks.ConvDiscriminator(8, 1, 4, key=jr.key(2)),
}


def settled(net):
    """Refreshed until the power iteration stands still."""
    many = lambda net: jax.lax.fori_loop(0, 200, lambda _, net: df.networks.refresh(net), net)
    return jax.jit(many)(net)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_a_spectral_network_is_the_network_of_divided_weights(make):
    net = make()
    divided = net
    for i, weight in enumerate(raw(net)):
        where = lambda net, i=i: list(raw(net))[i]
        # Linear layers have the outputs first, kernels of images last: the other axes are inputs.
        out = 0 if weight.ndim == 2 else -1
        sigma = top(jnp.moveaxis(weight, out, 0).reshape(weight.shape[out], -1))
        divided = eqx.tree_at(where, divided, where(divided) / sigma)
    made = settled(df.networks.spectral(net, key=jr.key(1)))
    x = jr.normal(jr.key(3), (2,) if hasattr(net, "layers") else (1, 8, 8))
    chex.assert_trees_all_close(made(x), divided(x), rtol=1e-6)


def raw(net):
    """The weights of a network as they are stored."""
    layers = net.layers if hasattr(net, "layers") else (net.first, net.second, net.dense)
    for layer in layers:
        yield layer.kernel if hasattr(layer, "kernel") else layer.weight


@pytest.mark.usefixtures("x64")
def test_the_slope_of_a_spectral_norm_counts_its_own_change():
    net = settled(df.networks.spectral(critic(depth=0), key=jr.key(1)))
    x = jnp.array([0.3, -0.7])
    slope = jax.grad(lambda net: net(x))(net).layers[0].layer.weight[0]
    # d(w.x / |w|) / dw = (x - (x.w) w / |w|^2) / |w|
    w = net.layers[0].layer.weight[0]
    size = jnp.linalg.norm(w)
    chex.assert_trees_all_close(slope, (x - (x @ w) * w / size**2) / size, rtol=1e-9)


def test_a_spectral_critic_stays_flat_through_training():
    net = df.networks.spectral(critic(depth=2, width=16, activation=jnp.tanh), key=jr.key(1))
    state, _ = df.train_gan(
        WGAN,
        net,
        maker(),
        10 * XS_P,
        latent=3,
        steps=200,
        d_optimizer=optax.adam(1e-2),
        key=jr.key(0),
    )
    slopes = jax.vmap(jax.grad(state.discriminator))(10 * jr.normal(jr.key(5), (500, 2)))
    # The power iteration lags behind the weights by one step of Adam.
    assert 0.3 < jnp.linalg.norm(slopes, axis=1).max() < 1.02
    assert max(top(layer.layer.weight) for layer in state.discriminator.layers) > 1.5


def test_a_spectral_network_holds_arrays_only_and_runs_seeds_side_by_side():
    make = lambda key: df.networks.spectral(critic(key), key=key)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(make(jr.key(0))))
    keys, x = jr.split(jr.key(1), 3), jnp.array([0.2, 0.4])
    many = jax.vmap(make)(keys)
    together = jax.jit(jax.vmap(lambda net: df.networks.refresh(net)(x)))(many)
    alone = [df.networks.refresh(make(key))(x) for key in keys]
    chex.assert_trees_all_close(together, jnp.stack(alone), rtol=1e-5)


def test_a_penalised_linear_critic_carries_particles_to_the_mean_and_changes_no_shape():
    moved, _ = df.transport(
        WGAN,
        linear([0.0, 0.0]),
        XS_Q,
        XS_P,
        steps=200,
        step_size=0.05,
        penalty="r1",
        penalty_weight=0.5,
        optimizer=optax.sgd(0.5),
        key=jr.key(0),
    )
    # The gap shrinks by .95 a step: 3e-5 of it is left.
    gap = jnp.mean(XS_P, 0) - jnp.mean(XS_Q, 0)
    chex.assert_trees_all_close(moved, XS_Q + gap, atol=1e-3)
