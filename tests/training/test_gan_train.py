"""Two networks in training: each step is what its formula says, and runs resume bit for bit."""

import functools

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from scipy.stats import norm
from small_runs import Stopped, same, stop_at_20

import divergence_flows as df

XS_P = jr.normal(jr.key(11), (96, 2)) + 2
OPTIONS = {"latent": 3, "steps": 30, "batch_size": 16, "critic_steps": 2, "chunk": 10}
GANS = {
    "vanilla": df.gans.vanilla,
    "arcsinh": df.gans.arcsinh,
    "mle": df.gans.mle,
    "wasserstein": df.gans.wasserstein,
}
FROZEN = optax.sgd(0.0)


def critic(key=None, dim=2, **options):
    options = {"width": 8, "depth": 1, **options}
    return df.networks.Discriminator(dim, key=jr.key(3) if key is None else key, **options)


def maker(key=None, latent=3, dim=2, **options):
    options = {"width": 8, "depth": 1, **options}
    return df.networks.Generator(latent, dim, key=jr.key(5) if key is None else key, **options)


def affine(weight, bias):
    """A generator whose weight and bias are given."""
    weight, bias = jnp.asarray(weight, float), jnp.asarray(bias, float)
    net = maker(latent=weight.shape[1], dim=weight.shape[0], depth=0)
    where = lambda net: (net.layers[0].weight, net.layers[0].bias)
    return eqx.tree_at(where, net, (weight, bias))


def linear(weight):
    """A critic d(x) = w.x."""
    weight = jnp.asarray(weight, float)
    net = critic(dim=weight.size, depth=0)
    where = lambda net: (net.layers[0].weight, net.layers[0].bias)
    return eqx.tree_at(where, net, (weight[None], jnp.zeros(())))


def stepped(gan, d, g, xs_p, *, d_optimizer=FROZEN, g_optimizer=FROZEN, **options):
    state = df.GANState.start(d, g, d_optimizer, g_optimizer)
    options = {"latent": 3, **options}
    step = functools.partial(df.gan_step, gan, d_optimizer, g_optimizer, **options)
    return jax.jit(step)(state, xs_p, key=jr.key(7))


def run(**options):
    options = {**OPTIONS, "key": jr.key(4), **options}
    return df.train_gan(df.gans.vanilla(), critic(), maker(), XS_P, **options)


# What a step does.


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("make", GANS.values(), ids=GANS)
def test_both_forms_of_the_generator_step_agree_up_to_eps(make):
    xs_p, d, g = jnp.asarray(np.asarray(XS_P), float), critic(), maker()
    options = {"d_optimizer": optax.sgd(0.1), "batch_size": 20}
    distilled, one = stepped(
        make(),
        d,
        g,
        xs_p,
        form="distillation",
        step_size=0.3,
        g_optimizer=optax.sgd(1.0),
        **options,
    )
    direct, other = stepped(make(), d, g, xs_p, g_optimizer=optax.sgd(0.3), **options)
    chex.assert_trees_all_close(distilled.generator, direct.generator, rtol=1e-10, atol=1e-13)
    chex.assert_trees_all_close(one.g_loss, other.g_loss, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("form", ["loss", "distillation"])
def test_a_constant_generator_moves_along_the_velocity(form):
    b, gan, d = jnp.array([0.3, -0.2]), df.gans.arcsinh(), critic()
    g = affine(jnp.zeros((2, 3)), b)
    xs_p = jnp.zeros((4, 2))
    new, info = stepped(gan, d, g, xs_p, form=form, step_size=1.0, g_optimizer=optax.sgd(0.05))
    value = lambda x: jnp.arcsinh(d(x))
    chex.assert_trees_all_close(
        new.generator.layers[0].bias, b + 0.05 * jax.grad(value)(b), rtol=1e-12
    )
    chex.assert_trees_all_close(info.g_loss, -value(b), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_several_distillation_steps_end_at_the_target_that_the_first_one_set():
    # The velocity of a linear critic is w everywhere: one target is a shift by eps w, no more.
    w, b = np.array([1.0, -2.0]), np.array([0.1, 0.2])
    weight = np.array([[1.0, 0.5], [0.0, 2.0]])
    new, _ = stepped(
        df.gans.logit(),
        linear(w),
        affine(weight, b),
        jnp.zeros((4, 2)),
        form="distillation",
        step_size=0.25,
        generator_steps=200,
        g_optimizer=optax.sgd(0.5),
        latent=2,
    )
    layer = new.generator.layers[0]
    chex.assert_trees_all_close(layer.bias, b + 0.25 * w, rtol=1e-9)
    chex.assert_trees_all_close(layer.weight, weight, atol=1e-9)


def test_the_critics_steps_are_ratio_steps():
    g, d, optimizer = affine(jnp.zeros((2, 3)), [1.0, 0.0]), critic(), optax.adam(0.01)
    gan, xs_q = df.gans.vanilla(), jnp.array([[1.0, 0.0]] * 5)
    options = {"penalty": "r1", "penalty_weight": 0.1}
    new, info = stepped(
        gan, d, g, XS_P[:5], d_optimizer=optimizer, critic_steps=3, batch_size=5, **options
    )
    ratio = df.RatioState.start(d, optimizer)
    for _ in range(3):
        ratio, info = df.ratio_step(gan, optimizer, ratio, (xs_q, XS_P[:5]), **options)
    chex.assert_trees_all_close(new.discriminator, ratio.discriminator, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_close(info.d_loss, info.loss, rtol=1e-6)
    chex.assert_trees_all_close(info.penalty, info.penalty, rtol=1e-5)


@pytest.mark.parametrize("share", [True, False])
def test_fakes_are_shared_only_if_asked(share):
    w = jnp.array([1.0, -1.0])
    _, info = stepped(
        df.gans.wasserstein(), linear(w), maker(), XS_P, batch_size=96, share_fakes=share
    )
    seen_by_critic = info.d_loss + jnp.mean(XS_P @ w)
    assert np.isclose(seen_by_critic, -info.g_loss, rtol=1e-5, atol=1e-6) == share


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_average_has_its_closed_form(decay):
    d_optimizer = g_optimizer = optax.sgd(0.5)
    state = df.GANState.start(critic(), maker(), d_optimizer, g_optimizer)
    step = functools.partial(
        df.gan_step, df.gans.logit(), d_optimizer, g_optimizer, latent=3, ema_decay=decay
    )
    step, past = jax.jit(step), [state.generator]
    for key in jr.split(jr.key(0), 5):
        state, _ = step(state, XS_P, key=key)
        past.append(state.generator)
    weights = [decay**5, *((1 - decay) * decay ** (5 - i) for i in range(1, 6))]
    mean = jax.tree.map(
        lambda *nets: sum(w * net for w, net in zip(weights, nets, strict=True)), *past
    )
    chex.assert_trees_all_close(state.ema, mean, rtol=1e-5, atol=1e-6)


# Penalties.


@pytest.mark.parametrize(("name", "price"), [("r1", 25.0), ("zero", 25.0), ("one", 16.0)])
def test_a_linear_critic_pays_by_its_slope_alone(name, price):
    xs_q = jr.normal(jr.key(1), (7, 2))
    paid = df.gradient_penalty(name, linear([3.0, -4.0]), XS_P, xs_q, key=jr.key(0))
    chex.assert_trees_all_close(paid, price, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_r1_is_the_mean_square_of_slopes_by_finite_differences():
    d, xs = critic(), np.random.default_rng(0).normal(size=(5, 2))
    slopes = [
        [(d(x + e) - d(x - e)) / 2e-5 for e in 1e-5 * np.eye(2)] for x in map(jnp.asarray, xs)
    ]
    chex.assert_trees_all_close(
        df.gradient_penalty("r1", d, xs, xs), np.mean(np.sum(np.square(slopes), 1)), rtol=1e-7
    )


def half_square(x):
    return jnp.sum(x**2) / 2


def test_points_between_are_uniform_on_the_lines_between_pairs():
    xs_p, xs_q = jnp.tile(jnp.array([[3.0, 0.0]]), (20_000, 1)), jnp.array([[0.0, 0.0]])
    zero, one = (
        df.gradient_penalty(name, half_square, xs_p, xs_q, key=jr.key(0))
        for name in ("zero", "one")
    )
    # Slopes are 3 u, u uniform: E 9 u^2 = 3 and E (3 u - 1)^2 = 1; standard errors .02 and .008.
    chex.assert_trees_all_close(zero, 3.0, atol=0.08)
    chex.assert_trees_all_close(one, 1.0, atol=0.03)


def test_a_flat_critic_can_leave_the_flat():
    price = lambda w: df.gradient_penalty("one", lambda x: w @ x, XS_P, XS_P, key=jr.key(0))
    value, slope = jax.value_and_grad(price)(jnp.zeros(2))
    same((value, slope), (1.0, np.zeros(2)))


# Where training goes.


def test_the_discriminator_finds_the_log_ratio_of_two_gaussians():
    z = jnp.asarray(norm.ppf((np.arange(4000) + 0.5) / 4000)[:, None], jnp.float32)
    state, info = df.train_gan(
        df.gans.logit(),
        critic(dim=1, depth=0),
        affine([[1.0]], [1.0]),
        z,
        latent=1,
        steps=400,
        batch_size=4000,
        d_optimizer=optax.adam(optax.cosine_decay_schedule(0.1, 400)),
        g_optimizer=FROZEN,
        key=jr.key(0),
    )
    layer = state.discriminator.layers[0]
    # Fresh fakes leave some hundredths in the weights, averaged over Adam's last steps.
    chex.assert_trees_all_close(layer.weight[0], jnp.array([-1.0]), atol=0.03)
    chex.assert_trees_all_close(layer.bias[0], 0.5, atol=0.03)
    chex.assert_trees_all_close(info.d_losses[-100:].mean(), 1.163451396, atol=0.005)


class Quadratic(eqx.Module):
    """The family that holds every log ratio of two Gaussians on the line."""

    weights: jax.Array

    def __call__(self, x):
        return jnp.sum(self.weights * jnp.stack([jnp.ones(()), x[0], x[0] ** 2]))


@pytest.mark.parametrize("form", ["loss", "distillation"])
def test_an_affine_generator_reaches_a_gaussians_mean_and_spread(form):
    xs_p = 2 + 0.5 * jr.normal(jr.key(1), (2000, 1))
    cosine = optax.cosine_decay_schedule
    state, info = df.train_gan(
        df.gans.logit(),
        Quadratic(jnp.zeros(3)),
        affine([[1.0]], [0.0]),
        xs_p,
        latent=1,
        steps=2000,
        batch_size=256,
        critic_steps=5,
        form=form,
        step_size=0.02,
        generator_steps=3 if form == "distillation" else 1,
        d_optimizer=optax.adam(cosine(0.05, 10_000, alpha=0.1)),
        g_optimizer=optax.sgd(cosine(0.5, 6000) if form == "distillation" else cosine(0.02, 2000)),
        ema_decay=0.99,
        key=jr.key(0),
    )
    layer = state.ema.layers[0]
    chex.assert_trees_all_close(layer.bias[0], jnp.mean(xs_p), atol=0.01)
    chex.assert_trees_all_close(jnp.abs(layer.weight[0, 0]), jnp.std(xs_p), atol=0.01)
    chex.assert_trees_all_close(info.d_losses[-200:].mean(), 2 * np.log(2), atol=0.02)


# Runs.


def test_a_state_holds_arrays_only_and_passes_plain_jit():
    state, _ = run(steps=1)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    same(jax.jit(lambda state: state)(state), state)


def test_seeds_side_by_side_are_the_seeds_alone():
    def one(key):
        of_d, of_g, of_run = jr.split(key, 3)
        options = {**OPTIONS, "penalty": "one", "key": of_run}
        return df.train_gan(df.gans.vanilla(), critic(of_d), maker(of_g), XS_P, **options)

    keys = jr.split(jr.key(6), 3)
    together, alone = jax.vmap(one)(keys), [one(key) for key in keys]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    # Roundoff of batched matrix products, grown by 60 steps of Adam.
    chex.assert_trees_all_close(together, stacked, rtol=1e-3, atol=1e-4)


def test_chunks_do_not_change_the_result():
    same(run(), run(chunk=18))


def test_a_key_tells_the_run():
    one, other = run()[0], run(key=jr.key(5))[0]
    same(run()[0], one)
    assert not np.allclose(one.generator.layers[0].weight, other.generator.layers[0].weight)


def test_the_loop_is_its_steps_by_hand():
    d_optimizer, g_optimizer = optax.adam(0.01), optax.adam(0.02)
    state, info = run(steps=3, d_optimizer=d_optimizer, g_optimizer=g_optimizer)
    hand = df.GANState.start(critic(), maker(), d_optimizer, g_optimizer)
    options = {"latent": 3, "batch_size": 16, "critic_steps": 2}
    step = jax.jit(
        functools.partial(df.gan_step, df.gans.vanilla(), d_optimizer, g_optimizer, **options)
    )
    for i in range(3):
        hand, info = step(hand, XS_P, key=jr.fold_in(jr.key(4), i))
        chex.assert_trees_all_close(info.d_loss, info.d_losses[i], rtol=1e-5)
        chex.assert_trees_all_close(info.g_loss, info.g_losses[i], rtol=1e-5)
    chex.assert_trees_all_close(hand, state, rtol=1e-4, atol=1e-6)


CHANGES = {
    "steps": {"steps": 31},
    "key": {"key": jr.key(5)},
    "batch_size": {"batch_size": 17},
    "form": {"form": "distillation"},
    "penalty": {"penalty": "r1"},
    "ema_decay": {"ema_decay": 0.5},
    "share_fakes": {"share_fakes": True},
    "g_optimizer": {"g_optimizer": optax.sgd(0.1)},
}


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    file = tmp_path / "run.npz"
    with pytest.raises(Stopped):
        run(checkpoint=file, on_chunk=stop_at_20)
    for name, change in CHANGES.items():
        with pytest.raises(ValueError, match=rf"train_gan: checkpoint .* {name} = "):
            run(checkpoint=file, **change)


def test_a_checkpoint_of_a_transport_is_refused(tmp_path):
    file, gan = tmp_path / "run.npz", df.gans.vanilla()
    df.transport(gan, critic(), XS_P, XS_P, steps=2, checkpoint=file, key=jr.key(4))
    with pytest.raises(ValueError, match=r"train_gan: checkpoint .* run = transport"):
        run(checkpoint=file)
    run(steps=2, checkpoint=tmp_path / "gan.npz")
    with pytest.raises(ValueError, match="transport: checkpoint"):
        df.transport(
            gan, critic(), XS_P, XS_P, steps=2, checkpoint=tmp_path / "gan.npz", key=jr.key(4)
        )


WRONG = {
    "latent": ({"latent": 0}, "`latent` is 0"),
    "batch_size": ({"batch_size": 0}, "`batch_size` is 0"),
    "critic_steps": ({"critic_steps": -1}, "`critic_steps` is -1"),
    "form": ({"form": "direct"}, "`form` is 'direct'; pass 'loss' or 'distillation'"),
    "generator_steps": ({"generator_steps": 2}, "only regression onto a kept target"),
    "penalty": ({"penalty": "r2"}, "`penalty` is 'r2'; pass 'r1'"),
    "penalty_weight": ({"penalty_weight": -1.0}, "`penalty_weight` is -1"),
    "ema_decay": ({"ema_decay": 1.0}, "`ema_decay` is 1.0"),
    "step_size": ({"step_size": 0.0}, "`step_size` is 0"),
}


@pytest.mark.parametrize(("options", "words"), WRONG.values(), ids=WRONG)
def test_an_option_that_makes_no_step_is_refused(options, words):
    with pytest.raises(ValueError, match=f"train_gan: .*{words}"):
        run(**options)
    with pytest.raises(ValueError, match=f"gan_step: .*{words}"):
        stepped(df.gans.logit(), critic(), maker(), XS_P, **options)


def test_a_run_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="train_gan: `steps` is 0"):
        run(steps=0)


def test_a_divergence_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"train_gan: .*h_eff' = -r f'\(r\)"):
        df.train_gan(df.divergences.kl_qp, critic(), maker(), XS_P, latent=3, key=jr.key(0))


TRACES = []


def counted(x):
    TRACES.append(1)
    return jax.nn.silu(x)


def test_neither_chunks_nor_a_second_call_trace_again():
    d = critic(activation=counted)
    options = {**OPTIONS, "key": jr.key(4)}
    df.train_gan(df.gans.vanilla(), d, maker(), XS_P, **options)
    once = len(TRACES)
    df.train_gan(df.gans.vanilla(0.5), d, maker(jr.key(9)), XS_P, **options)
    assert len(TRACES) == once
