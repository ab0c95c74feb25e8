"""Two networks in training: each step is what its formula says."""

import functools

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from small_networks import affine, critic, linear, maker
from small_runs import same

import divergence_flows as df

XS_P = jr.normal(jr.key(11), (96, 2)) + 2
# The loss itself is distilled alike for others too: test_losses.py.
GANS = {"arcsinh": df.gans.arcsinh, "wasserstein": df.gans.wasserstein}
FROZEN = optax.sgd(0.0)


def stepped(gan, d, g, xs_p, *, d_optimizer=FROZEN, g_optimizer=FROZEN, **options):
    state = df.GANState.start(d, g, d_optimizer, g_optimizer)
    options = {"latent": 3, **options}
    step = functools.partial(df.gan_step, gan, d_optimizer, g_optimizer, **options)
    return jax.jit(step)(state, xs_p, key=jr.key(7))


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
def test_a_constant_generator_moves_along_the_velocity():
    b, gan, d = jnp.array([0.3, -0.2]), df.gans.arcsinh(), critic()
    g = affine(jnp.zeros((2, 3)), b)
    xs_p = jnp.zeros((4, 2))
    new, info = stepped(gan, d, g, xs_p, g_optimizer=optax.sgd(0.05))
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
    ratio, step = df.RatioState.start(d, optimizer), eqx.filter_jit(df.ratio_step)
    for _ in range(3):
        ratio, last = step(gan, optimizer, ratio, (xs_q, XS_P[:5]), **options)
    chex.assert_trees_all_close(new.discriminator, ratio.discriminator, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_close(info.d_loss, last.loss, rtol=1e-6)
    chex.assert_trees_all_close(info.penalty, last.penalty, rtol=1e-5)


@pytest.mark.parametrize("share", [True, False])
def test_fakes_are_shared_only_if_asked(share):
    w = jnp.array([1.0, -1.0])
    _, info = stepped(
        df.gans.wasserstein(), linear(w), maker(), XS_P, batch_size=96, share_fakes=share
    )
    seen_by_critic = info.d_loss + jnp.mean(XS_P @ w)
    assert np.isclose(seen_by_critic, -info.g_loss, rtol=1e-5, atol=1e-6) == share


def test_the_average_has_its_closed_form():
    sgd = optax.sgd(0.5)
    step = jax.jit(functools.partial(df.gan_step, df.gans.logit(), sgd, sgd, latent=3))
    for decay in (0.0, 0.9):
        state = df.GANState.start(critic(), maker(), sgd, sgd)
        past = [state.generator]
        for key in jr.split(jr.key(0), 5):
            state, _ = step(state, XS_P, ema_decay=decay, key=key)
            past.append(state.generator)
        weights = [decay**5, *((1 - decay) * decay ** (5 - i) for i in range(1, 6))]
        mean = lambda *nets: sum(w * net for w, net in zip(weights, nets, strict=True))  # noqa: B023
        chex.assert_trees_all_close(state.ema, jax.tree.map(mean, *past), rtol=1e-5, atol=1e-6)


# Penalties.


OF_A_LINE = {"r1": 25.0, "r2": 25.0, "r1+r2": 50.0, "zero": 25.0, "one": 16.0}


@pytest.mark.parametrize(("name", "price"), OF_A_LINE.items(), ids=OF_A_LINE)
def test_a_linear_critic_pays_by_its_slope_alone(name, price):
    xs_q = jr.normal(jr.key(1), (7, 2))
    paid = df.gradient_penalty(name, linear([3.0, -4.0]), XS_P, xs_q, key=jr.key(0))
    chex.assert_trees_all_close(paid, price, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_r1_and_r2_are_mean_squares_of_slopes_at_p_and_q_by_finite_differences():
    d, rng = critic(), np.random.default_rng(0)
    xs_p, xs_q = rng.normal(size=(5, 2)), rng.normal(size=(3, 2)) + 1
    steps = 1e-5 * np.eye(2)
    slope = lambda x: [(d(x + e) - d(x - e)) / 2e-5 for e in steps]
    mean = lambda xs: np.mean([np.sum(np.square(slope(x))) for x in map(jnp.asarray, xs)])
    wanted = {"r1": mean(xs_p), "r2": mean(xs_q), "r1+r2": mean(xs_p) + mean(xs_q)}
    found = {name: df.gradient_penalty(name, d, xs_p, xs_q) for name in wanted}
    chex.assert_trees_all_close(found, wanted, rtol=1e-7)


@pytest.mark.parametrize("run", ["train_gan", "transport"])
def test_a_penaltys_weight_may_be_a_schedule_of_the_steps(run):
    """With a weight that is 0 but at the second step, that step alone differs."""
    weights = {"none": 0.0, "second": lambda step: jnp.where(step == 1, 0.5, 0.0), "all": 0.5}

    def losses(weight, steps):
        options = {"penalty": "r1+r2", "penalty_weight": weight, "steps": steps, "key": jr.key(0)}
        if run == "transport":
            last = {"step_size": 0.1, "critic_steps": 1, "optimizer": optax.sgd(0.1)}
            return df.transport(df.gans.logit(), critic(), XS_P - 2, XS_P, **last, **options)[1]
        last = {"latent": 3, "batch_size": 8, "d_optimizer": optax.sgd(0.1), "g_optimizer": FROZEN}
        return df.train_gan(df.gans.logit(), critic(), maker(), XS_P, **last, **options)[1]

    found = {name: losses(weight, 3) for name, weight in weights.items()}
    at = {
        name: getattr(info, "d_losses", getattr(info, "losses", 0)) for name, info in found.items()
    }
    same(at["second"][:2], at["none"][:2])
    assert at["second"][2] != at["none"][2] and at["all"][1] != at["none"][1]


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
