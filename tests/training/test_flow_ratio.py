"""A ratio at all times: its fixed point is exact, and what it learns moves new particles."""

import functools
from collections.abc import Callable

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.scipy.stats import norm
from scipy.stats import norm as normal
from small_runs import same, train_flow_ratio

import divergence_flows as df

# The KL flow from N(2, 1/4) to N(0, 1), known from evenly spread samples.
MEAN, VARIANCE = 2.0, 0.25
LEVELS = normal.ppf((np.arange(2000) + 0.5) / 2000)
XS_Q = np.float32(MEAN + np.sqrt(VARIANCE) * LEVELS)[:, None]
XS_P = np.float32(LEVELS)[:, None]
TS, GRID = (np.linspace(0.0, 1.0, count) ** 2 for count in (9, 33))
GANS = {"logit": df.gans.logit(), "exponential": df.gans.exponential()}
LOGIT = GANS["logit"]
FORMS = ("self_consistent", "sequential")


def moments(t):
    return MEAN * jnp.exp(-t), 1 + (VARIANCE - 1) * jnp.exp(-2 * t)


class Exact(eqx.Module):
    """The optimal d(t, x) of that flow, with mean and log variance of q_t off by two weights."""

    off: jax.Array
    inverse: Callable

    def __call__(self, t, x):
        mean, variance = moments(t)
        deviation = jnp.sqrt(variance * jnp.exp(self.off[1]))
        return self.inverse(norm.logpdf(x[0]) - norm.logpdf(x[0], mean + self.off[0], deviation))


def network(**options):
    return df.networks.TimeDiscriminator(1, 8, 1, horizon=1.0, key=jr.key(3), **options)


@functools.partial(jax.jit, static_argnames="which")
def slopes(which, off, neighbours, score_weight):
    """Gradients of the loss at `Exact(off)`, one for each of many keys: plain SGD tells them."""
    gan, optimizer = GANS[which], optax.sgd(1.0)
    state = df.FlowRatioState.start(Exact(off, gan.inverse), optimizer)
    step = functools.partial(
        df.flow_ratio_step,
        gan,
        optimizer,
        state,
        (XS_Q, XS_P),
        ts=GRID,
        batch_size=100,
        neighbours=neighbours,
        score_p=jnp.negative,
        score_weight=score_weight,
    )
    one = lambda key: step(key=key)
    new, info = jax.vmap(one)(jr.split(jr.key(5), 40))
    return off - new.discriminator.off, info


# What a step does.

WEIGHTS = {"plain": (0.0, 0.0), "neighbours": (5.0, 0.0), "score": (0.0, 5.0)}
on_weights = pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)


@on_weights
@pytest.mark.parametrize("which", GANS)
def test_at_the_exact_ratio_the_mean_gradient_is_zero(which, weights):
    gradients = np.asarray(slopes(which, jnp.zeros(2), *weights)[0])
    error = gradients.std(axis=0) / np.sqrt(len(gradients))
    assert np.all(np.abs(gradients.mean(axis=0)) < 4 * error)


@on_weights
def test_away_from_the_exact_ratio_the_mean_gradient_points_back(weights):
    # The particles follow the wrong ratio too, which alone would not say where back is.
    off = np.array([0.2, -0.3])
    gradients = np.asarray(slopes("logit", jnp.asarray(off), *weights)[0])
    error = gradients.std(axis=0) / np.sqrt(len(gradients))
    assert np.all(np.sign(off) * gradients.mean(axis=0) > 4 * error)


def test_the_losses_at_the_exact_ratio_are_two_log_2_minus_twice_jensen_shannon():
    # Between p and q_t, and between one time and the next; by quadrature on the grid.
    x = np.linspace(-8, 8, 4001)
    info = slopes("logit", jnp.zeros(2), 0.0, 0.0)[1]
    q = np.array([normal.pdf(x, float(m), float(np.sqrt(v))) for m, v in map(moments, GRID)])

    def both(p, q):  # -E_p[log p/(p + q)] - E_q[log q/(p + q)]
        values = p * np.log1p(q / p) + q * np.log1p(p / q)
        return values.sum(axis=-1) * (x[1] - x[0])

    assert abs(info.loss.mean() - both(normal.pdf(x), q).mean()) < 0.02
    assert abs(info.neighbour_loss.mean() - both(q[1:] + 1e-99, q[:-1] + 1e-99).mean()) < 0.005


# What it learns.

RATE = optax.adam(optax.cosine_decay_schedule(1e-2, 900))


@functools.cache
def trained(form):
    options = {"ts": TS, "steps": 900, "batch_size": 32, "chunk": 900, "optimizer": RATE}
    net = network(like=np.concatenate([XS_Q, XS_P]))
    return df.train_flow_ratio(LOGIT, net, XS_Q, XS_P, form=form, key=jr.key(8), **options)[0]


# What the sequential form got wrong at a time stays in the clouds of all later ones.
ALLOWED = {"self_consistent": 0.2, "sequential": 0.3}


@pytest.mark.parametrize("form", FORMS)
def test_new_particles_follow_the_exact_flow_with_their_density(form):
    state = trained(form)
    field = df.with_log_prob(df.velocity(LOGIT.h, df.flow_log_ratio(LOGIT, state.ema)))
    new = MEAN + np.sqrt(VARIANCE) * np.linspace(-2.0, 2.0, 101)[:, None]
    log_q = normal.logpdf(new[:, 0], MEAN, np.sqrt(VARIANCE))
    ts = np.array([0.0, 0.2, 0.6, 1.0])
    xs, log_qs = df.integrate(field, (np.float32(new), np.float32(log_q)), ts).ys
    mean, variance = (m[:, None] for m in moments(ts))
    exact = mean + np.sqrt(variance / VARIANCE) * (new[:, 0] - MEAN)
    assert np.max(np.abs(xs[..., 0] - exact)) < ALLOWED[form]
    log_exact = normal.logpdf(exact, mean, np.sqrt(variance))
    assert np.max(np.abs(log_qs - log_exact)) < ALLOWED[form]


@pytest.mark.usefixtures("x64")
def test_flow_log_ratio_is_log_t_of_the_network():
    gan = GANS["exponential"]
    log_r = df.flow_log_ratio(gan, Exact(jnp.zeros(2), gan.inverse))
    mean, variance = moments(0.4)
    x = 0.7
    expected = normal.logpdf(x) - normal.logpdf(x, mean, np.sqrt(variance))
    chex.assert_trees_all_close(log_r(0.4, np.array([x]), None), expected, rtol=1e-6)


def test_the_sequential_form_keeps_the_clouds_it_has_moved():
    replay = trained("sequential").replay
    np.testing.assert_array_equal(replay.clouds[0], XS_Q)
    mean, variance = moments(replay.ts)
    assert np.max(np.abs(replay.clouds.mean(axis=(1, 2)) - mean)) < 0.2
    assert np.max(np.abs(replay.clouds.var(axis=(1, 2)) - variance)) < 0.2


def test_the_sequential_form_moves_one_time_after_each_stage_and_no_more():
    seen = []
    train_flow_ratio(steps=27, chunk=3, on_chunk=lambda state, _: seen.append(state.replay.clouds))
    known = [int(np.sum(np.any(clouds != seen[0][0], axis=(1, 2)))) for clouds in seen]
    # 27 steps for 9 times: 3 each. The first stage ends with step 3, and is acted on in step 4.
    assert known == list(range(9))


def weights(net):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(net) if leaf.ndim])


def test_the_average_forgets_its_first_weights_soon_and_what_is_fixed_is_not_trained():
    optimizer, step = optax.sgd(0.1), eqx.filter_jit(df.flow_ratio_step)
    state = df.FlowRatioState.start(network(like=XS_P), optimizer)
    for k in range(2):
        before, batch = state, (XS_Q, XS_P)
        state, _ = step(LOGIT, optimizer, before, batch, ts=TS, batch_size=8, key=jr.key(k))
        past = (1 + k) / (10 + k)  # while that is less than ema_decay
        mean = past * weights(before.ema) + (1 - past) * weights(state.discriminator)
        chex.assert_trees_all_close(weights(state.ema), mean, rtol=1e-4, atol=1e-6)
        for one, other in ((state.ema, before.ema), (state.discriminator, before.discriminator)):
            same((one.center, one.scale, one.horizon), (other.center, other.scale, other.horizon))
