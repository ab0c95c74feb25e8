"""Critics of pairs against quadrature and counting: p = N(0, 1), q = N(1, 1), log r = 1/2 - x."""

import functools

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from small_networks import affine, critic, linear

import divergence_flows as df

GAME = df.gans.relativistic()
SGD = optax.sgd(0.1)
# Midpoint quantiles of N(0, 1): what is bounded and smooth has its mean right to 1e-7.
QUANTILES = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
WEIGHTS = WEIGHTS / np.sum(WEIGHTS)
XS_Q, XS_P = jr.normal(jr.key(0), (5, 2)), jr.normal(jr.key(1), (7, 2)) + 1.0


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def log_sigmoid(v):
    return -np.logaddexp(0, -v)


def pull(u):
    """h'(u) = E_p[sigma(log r(X) - u)], by adaptive quadrature."""
    kernel = lambda x: norm.pdf(x) * sigmoid(0.5 - x - u)
    return quad(kernel, -12, 12, epsabs=1e-13, epsrel=1e-13)[0]


@pytest.mark.usefixtures("x64")
def test_the_pull_depends_on_p_and_is_its_quadrature():
    h = GAME.against(0.5 - QUANTILES)
    found = [float(jax.grad(h)(u)) for u in (-5.0, 0.0, 5.0)]
    np.testing.assert_allclose(found, [pull(u) for u in (-5, 0, 5)], atol=1e-6)
    np.testing.assert_allclose(found, [0.993, 0.602, 0.0175], rtol=1e-3)


COUNTS_P, COUNTS_Q = np.array([1, 2, 5, 3]), np.array([4, 1, 3, 2])
# Games with c'(-v) = e^v c'(v): the logistic one, and that of boosting.
HONEST = {"relativistic": GAME, "exponential": df.PairGAN(lambda v: -jnp.exp(-v / 2), jnp.tanh)}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("game", HONEST.values(), ids=HONEST)
def test_the_best_critic_is_log_r_up_to_a_constant_on_points_that_are_counted(game):
    def loss(table):
        return df.discriminator_loss(game, *(jnp.repeat(table, n) for n in (COUNTS_P, COUNTS_Q)))

    p, q = COUNTS_P / COUNTS_P.sum(), COUNTS_Q / COUNTS_Q.sum()
    for constant in (0.0, -1.7):
        best = jnp.asarray(np.log(p / q) + constant)
        np.testing.assert_allclose(jax.grad(loss)(best), np.zeros(4), atol=1e-15)
        assert np.linalg.norm(jax.grad(loss)(1.1 * best)) > 1e-3
        # What a refusal advises: log E_q[e^d] is the constant.
        d_q = jnp.repeat(best, COUNTS_Q)
        constant_found = jax.nn.logsumexp(d_q) - jnp.log(d_q.size)
        np.testing.assert_allclose(constant_found, constant, atol=1e-15)


@pytest.mark.usefixtures("x64")
def test_the_best_affine_critic_of_two_gaussians_has_the_slope_of_log_r():
    def attained(weights):
        """E critic(d(x) - d(y)) by Gauss and Hermite's rule in x and y."""
        d = lambda x: weights[0] + weights[1] * x
        gaps = d(NODES)[:, None] - d(NODES + 1)
        return WEIGHTS @ GAME.critic(gaps) @ WEIGHTS

    slope = jax.jit(jax.grad(attained))
    for a in (0.5, -3.0):
        np.testing.assert_allclose(slope(jnp.array([a, -1.0])), [0.0, 0.0], atol=1e-9)
    assert slope(jnp.array([0.5, -0.9]))[1] < -1e-2 < 1e-2 < slope(jnp.array([0.5, -1.1]))[1]


@pytest.mark.usefixtures("x64")
def test_the_generators_slope_is_the_monoflow_pushed_through_it():
    """g(z) = m + s z at q = N(m, s^2) = N(1, 1): the slope is -E[h'(u) grad u (1, z)]."""
    h_t = GAME.against(0.5 - QUANTILES)

    def loss(weights):
        d = 0.5 - (weights[0] + weights[1] * NODES)
        return -jnp.sum(WEIGHTS * h_t(d))

    h_prime = np.array([pull(0.5 - (1 + z)) for z in NODES])
    wanted = [np.sum(WEIGHTS * h_prime), np.sum(WEIGHTS * h_prime * NODES)]  # grad u = -1
    np.testing.assert_allclose(jax.grad(loss)(jnp.array([1.0, 1.0])), wanted, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_losses_are_means_over_all_pairs_whatever_their_numbers():
    d_p, d_q = np.array([0.3, -1.0, 2.0]), np.array([[0.7], [-0.4]])
    pairs = [(x, y) for x in d_p for y in d_q.ravel()]
    of_critic = -np.mean([log_sigmoid(x - y) for x, y in pairs])
    of_generator = -np.mean([log_sigmoid(y - x) for x, y in pairs])
    np.testing.assert_allclose(df.discriminator_loss(GAME, d_p, d_q), of_critic, rtol=1e-14)
    np.testing.assert_allclose(df.generator_loss(GAME, d_q, d_p), of_generator, rtol=1e-14)
    own = df.PairGAN(lambda v: v, lambda v: v)  # WGAN's game is one of pairs too
    gap = np.mean(d_p) - np.mean(d_q)
    np.testing.assert_allclose(df.discriminator_loss(own, d_p, d_q), -gap, rtol=1e-14)


@pytest.mark.usefixtures("x64")
def test_particles_move_by_the_mean_over_samples_of_p():
    d, (xs_q, xs_p) = critic(), (jnp.asarray(np.asarray(xs), float) for xs in (XS_Q, XS_P))
    moved, info = df.particle_step(GAME, d, xs_q, 0.3, xs_p=xs_p)
    pairs = lambda y: jnp.mean(jnp.stack([-jax.nn.softplus(d(x) - d(y)) for x in xs_p]))
    wanted = jnp.stack([y + 0.3 * jax.grad(pairs)(y) for y in xs_q])
    chex.assert_trees_all_close(moved, wanted, rtol=1e-12)
    values = jnp.stack([pairs(y) for y in xs_q])
    chex.assert_trees_all_close(info.loss, -jnp.mean(values), rtol=1e-12)
    field = df.velocity(GAME.against(jax.vmap(d)(xs_p)), df.witness(d))
    chex.assert_trees_all_close(xs_q + 0.3 * field(0.0, xs_q, None), wanted, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("form", ["loss", "distillation"])
def test_a_gan_step_is_the_critics_step_and_then_the_generators_by_hand(form):
    """A batch of as many as there are is all of them: nothing is drawn but noise, which is null."""
    d, g = critic(), affine(jnp.zeros((2, 3)), [0.3, -0.2])
    xs_p = jnp.asarray(np.asarray(XS_P), float)
    xs_q = jnp.tile(jnp.array([0.3, -0.2]), (7, 1))
    ratio, told = df.ratio_step(GAME, SGD, df.RatioState.start(d, SGD), (xs_q, xs_p))
    loss = lambda y: jnp.mean(jax.nn.softplus(jax.vmap(ratio.discriminator)(xs_p) - at(y)))
    at = ratio.discriminator
    rate = 0.05 if form == "loss" else 0.5
    optimizer = optax.sgd(rate)
    state = df.GANState.start(d, g, SGD, optimizer)
    options = {"latent": 3, "batch_size": 7, "form": form, "step_size": 0.1, "key": jr.key(0)}
    step = jax.jit(functools.partial(df.gan_step, GAME, SGD, optimizer, **options))
    new, info = step(state, xs_p)
    chex.assert_trees_all_close(new.discriminator, ratio.discriminator, rtol=1e-10, atol=1e-14)
    chex.assert_trees_all_close(info.d_loss, told.loss, rtol=1e-12)
    chex.assert_trees_all_close(info.g_loss, loss(xs_q[0]), rtol=1e-12)
    bias = xs_q[0] - 0.05 * jax.grad(loss)(xs_q[0])
    chex.assert_trees_all_close(new.generator.layers[0].bias, bias, rtol=1e-12)


def test_particles_and_a_generator_arrive_where_p_is():
    options = {"penalty": "r1", "penalty_weight": 0.05, "key": jr.key(0)}
    moved, _ = df.transport(
        GAME,
        linear([0.0, 0.0]),
        XS_Q,
        XS_P,
        steps=300,
        step_size=0.1,
        optimizer=optax.sgd(0.5),
        batch_size=6,
        **options,
    )
    # A linear critic is flat once the means are one; six of seven samples of p are drawn each time.
    chex.assert_trees_all_close(jnp.mean(moved, axis=0), jnp.mean(XS_P, axis=0), atol=0.1)
    xs_p = jr.normal(jr.key(1), (200, 2)) + 1.0
    state, _ = df.train_gan(
        GAME,
        linear([0.0, 0.0]),
        affine(jnp.eye(2), [-1.0, 0.0]),
        xs_p,
        latent=2,
        steps=400,
        d_optimizer=optax.sgd(0.5),
        g_optimizer=optax.sgd(optax.cosine_decay_schedule(0.2, 400)),
        **options,
    )
    bias = state.generator.layers[0].bias
    chex.assert_trees_all_close(bias, jnp.mean(xs_p, axis=0), atol=0.15)


def test_each_of_a_stack_of_games_is_what_it_is_alone():
    games = (GAME, df.PairGAN(jnp.tanh, lambda v: v))
    both = df.gans.stack(*games)
    play = lambda game: (
        df.discriminator_loss(game, XS_P[:, 0], XS_Q[:, 0]),
        game.against(XS_P[:, 0])(XS_Q[:, 1]),
    )
    together = jax.jit(jax.vmap(play))(both)
    for i, game in enumerate(games):
        chex.assert_trees_all_close(jax.tree.map(lambda x: x[i], together), play(game), rtol=1e-6)  # noqa: B023
    assert repr(both) == "PairGAN('relativistic' | (tanh, <lambda>))"


def test_what_needs_a_ratio_is_refused_and_says_what_there_is():
    for name in ("log_t", "inverse", "h", "descends", "measures"):
        with pytest.raises(AttributeError, match=f"`{name}`: .* up to a constant"):
            getattr(GAME, name)
    with pytest.raises(AttributeError, match=r"`h_t`: .*`against\(d_p\)`"):
        _ = GAME.h_t
    with pytest.raises(AttributeError, match=r"`psi`: `critic` is one function"):
        _ = GAME.psi
    with pytest.raises(AttributeError, match=r"PairGAN has no `logt`\.$"):
        _ = GAME.logt
