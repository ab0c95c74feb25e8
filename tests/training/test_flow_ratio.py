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
from small_runs import Stopped, same, stop_at_20

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
OPTIONS = {"ts": TS, "steps": 30, "batch_size": 8, "chunk": 10}


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


def network(key=None, **options):
    options = {"width": 8, "depth": 1, "horizon": 1.0, **options}
    return df.networks.TimeDiscriminator(1, key=jr.key(3) if key is None else key, **options)


def run(form="sequential", **options):
    options = {**OPTIONS, "key": jr.key(4), **options}
    return df.train_flow_ratio(LOGIT, network(), XS_Q, XS_P, form=form, **options)


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
    options = {"steps": 900, "batch_size": 32, "chunk": 900, "optimizer": RATE}
    net = network(like=np.concatenate([XS_Q, XS_P]))
    return df.train_flow_ratio(
        LOGIT, net, XS_Q, XS_P, form=form, key=jr.key(8), **{**OPTIONS, **options}
    )[0]


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
    run(steps=27, chunk=3, on_chunk=lambda state: seen.append(state.replay.clouds))
    known = [int(np.sum(np.any(clouds != XS_Q, axis=(1, 2)))) for clouds in seen]
    # 27 steps for 9 times: 3 each. The first stage ends with step 3, and is acted on in step 4.
    assert known == list(range(9))


# Long runs.


@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(form, tmp_path):
    file, whole = tmp_path / "run.npz", run(form)
    with pytest.raises(Stopped):
        run(form, checkpoint=file, on_chunk=stop_at_20)
    chunks = []
    resumed = run(form, checkpoint=file, on_chunk=chunks.append)
    same(whole, resumed)
    assert len(chunks) == 1


def weights(net):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(net) if leaf.ndim])


def test_the_average_forgets_its_first_weights_soon():
    optimizer = optax.sgd(0.1)
    state, step = df.FlowRatioState.start(network(), optimizer), eqx.filter_jit(df.flow_ratio_step)
    for k in range(2):
        before, batch = state, (XS_Q, XS_P)
        state, _ = step(LOGIT, optimizer, before, batch, ts=TS, batch_size=8, key=jr.key(k))
        past = (1 + k) / (10 + k)  # while that is less than ema_decay
        mean = past * weights(before.ema) + (1 - past) * weights(state.discriminator)
        chex.assert_trees_all_close(weights(state.ema), mean, rtol=1e-4, atol=1e-6)


def test_a_vmapped_run_is_each_run_alone():
    keys = jr.split(jr.key(9), 2)
    together = jax.jit(jax.vmap(lambda key: run(key=key)[0].ema))(keys)
    for index, key in enumerate(keys):
        alone = run(key=key)[0].ema
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=index: leaf[i], together), alone, rtol=1e-3, atol=1e-4
        )


OTHERS = {
    "neighbours": {"neighbours": 0.5},
    "score_p": {"score_p": jnp.negative},
    "ts": {"ts": TS + 0.1},
    "form": {"form": "self_consistent"},
}


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_the_checkpoint_of_another_run_is_refused(options, tmp_path):
    file = tmp_path / "run.npz"
    run(steps=1, chunk=1, checkpoint=file)
    with pytest.raises(ValueError, match="was written with"):
        run(**{"steps": 1, "chunk": 1, "checkpoint": file, **options})


# Refusals.

REFUSED = {
    "no time": ({"ts": None}, "either `horizon`"),
    "both times": ({"horizon": 1.0}, "either `horizon`"),
    "one time": ({"ts": [0.0]}, "at least two"),
    "times that stand": ({"ts": [0.0, 1.0, 1.0]}, "must increase"),
    "form": ({"form": "parallel"}, "'self_consistent' or 'sequential'"),
    "batch_size": ({"batch_size": 0}, "`batch_size` is 0"),
    "ema_decay": ({"ema_decay": 1.0}, "`ema_decay` is 1.0"),
    "neighbours": ({"neighbours": -1.0}, "`neighbours` is -1.0"),
    "score_weight": ({"score_weight": -1.0}, "`score_weight` is -1.0"),
    "steps": ({"steps": 0}, "`steps` is 0"),
}


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=REFUSED)
def test_options_that_make_no_run_are_refused_in_words(options, words):
    with pytest.raises(ValueError, match=words):
        run(**options)


def test_a_critic_without_a_ratio_is_refused():
    with pytest.raises(ValueError, match="no `log_t`"):
        df.train_flow_ratio(
            df.gans.wasserstein(), network(), XS_Q, XS_P, horizon=1.0, key=jr.key(0)
        )
    with pytest.raises(ValueError, match="no `log_t`"):
        df.flow_log_ratio(df.gans.wasserstein(), network())


def test_a_state_needs_both_samples_and_times_or_neither():
    with pytest.raises(ValueError, match="or neither"):
        df.FlowRatioState.start(network(), optax.sgd(0.1), ts=TS)


# The network.


@pytest.mark.usefixtures("x64")
def test_the_network_is_smooth_in_time_and_sample():
    net = df.networks.TimeDiscriminator(2, 8, 2, horizon=3.0, key=jr.key(0))
    net = jax.tree.map(lambda leaf: leaf + 0.02, net)
    value, x = jax.jit(lambda t, x: net(t, x)), jr.normal(jr.key(1), (2,))
    chex.assert_numerical_grads(value, (jnp.asarray(0.4), x), order=2, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("x64")
def test_without_hidden_layers_the_network_is_a_quadratic_of_the_sample():
    net = df.networks.TimeDiscriminator(2, depth=0, key=jr.key(0))
    net = jax.tree.map(lambda leaf: leaf + 0.1, net)
    x, way = jr.normal(jr.key(1), (2, 2))
    values = jnp.array([net(0.3, x + k * way) for k in range(4)])
    chex.assert_trees_all_close(jnp.diff(values, 3), jnp.zeros(1), atol=1e-10)
    assert abs(jnp.diff(values, 2)[0]) > 1e-3


@pytest.mark.usefixtures("x64")
def test_without_the_quadratic_it_is_affine_in_the_sample():
    net = df.networks.TimeDiscriminator(2, depth=0, quadratic=False, key=jr.key(0))
    x, way = jr.normal(jr.key(1), (2, 2))
    values = jnp.array([net(0.3, x + k * way) for k in range(3)])
    chex.assert_trees_all_close(jnp.diff(values, 2), jnp.zeros(1), atol=1e-12)
    assert abs(jnp.diff(values)[0]) > 1e-3


def test_like_makes_the_network_blind_to_the_units_of_each_coordinate():
    xs = jr.normal(jr.key(0), (500, 2))
    unit, shift = jnp.array([3.0, 0.1]), jnp.array([5.0, -1.0])
    make = functools.partial(df.networks.TimeDiscriminator, 2, 8, 2, key=jr.key(1))
    one, other = make(like=xs), make(like=unit * xs + shift)
    chex.assert_trees_all_close(one(0.3, xs[0]), other(0.3, unit * xs[0] + shift), rtol=1e-4)


def test_like_keeps_the_unit_of_a_coordinate_that_does_not_vary():
    net = df.networks.TimeDiscriminator(2, like=jnp.array([[1.0, 7.0], [3.0, 7.0]]), key=jr.key(1))
    np.testing.assert_array_equal(net.scale, [1.0, 1.0])
    np.testing.assert_array_equal(net.center, [2.0, 7.0])


def test_standardisation_and_horizon_are_not_trained():
    before, after = network(like=XS_P), run()[0].discriminator
    assert after.horizon == 1.0
    state, _ = df.train_flow_ratio(
        LOGIT, before, XS_Q, XS_P, **{**OPTIONS, "steps": 3, "chunk": 3}, key=jr.key(0)
    )
    same((state.ema.center, state.ema.scale), (before.center, before.scale))


def test_far_beyond_the_horizon_the_network_stands_still():
    net = jax.tree.map(lambda leaf: leaf + 0.1, network())
    chex.assert_trees_all_close(net(1e4, XS_P[7]), net(1e6, XS_P[7]), rtol=1e-3)
