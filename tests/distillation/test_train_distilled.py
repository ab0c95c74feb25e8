"""Distillation to the end: where it goes, how it resumes, what it refuses."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from small_networks import affine
from small_runs import same

import divergence_flows as df

D, KL = df.divergences, df.divergences.kl_qp.h
XS_P = 2 + 0.5 * jr.normal(jr.key(1), (512, 1))
RUN = {"latent": 1, "batch_size": 16, "steps": 6, "chunk": 2, "critic_steps": 2, "key": jr.key(4)}
OPTIMIZERS = dict.fromkeys(("g_optimizer", "s_optimizer", "d_optimizer"), optax.adam(0.01))


def teacher(lam, y):
    """The noised score of N(2, .5^2)."""
    alpha, sigma = jax.nn.sigmoid(-2 * lam) ** 0.5, jax.nn.sigmoid(2 * lam) ** 0.5
    return (2 * alpha - y) / ((0.5 * alpha) ** 2 + sigma**2)


class Linear(eqx.Module):
    """A small s(lambda, y), or the first of d(lambda, y)."""

    weights: jax.Array
    scalar: bool = eqx.field(static=True, default=False)

    def __call__(self, lam, y, *conditions):
        made = self.weights[0] + self.weights[1] * y + self.weights[2] * jnp.tanh(lam) * y
        return jnp.sum(made) if self.scalar else made


def run(h=D.jensen_shannon.h, d=True, xs_p=XS_P, **options):
    d = Linear(jnp.zeros(3), True) if d is True else d
    networks = affine([[1.0]], [0.0]), Linear(jnp.array([0.0, -1.0, 0.0]))
    return df.train_distilled(h, teacher, *networks, d, xs_p, **{**RUN, **OPTIMIZERS, **options})


def test_an_affine_generator_reaches_the_teachers_mean_and_spread_by_reverse_kl():
    state, info = df.train_distilled(
        *(KL, teacher, affine([[1.0]], [0.0])),
        df.networks.Denoiser(1, 16, 1, key=jr.key(1)),
        predicts_q="data",
        score_weight=lambda alpha, sigma: 1 + (sigma / alpha) ** 2,
        g_optimizer=optax.adam(optax.cosine_decay_schedule(2e-2, 800)),
        s_optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, 4000, 0.1)),
        **{"ema_decay": 0.98, "steps": 800, "latent": 1, "key": jr.key(0)},
    )
    layer = state.ema.layers[0]
    np.testing.assert_allclose(layer.bias[0], 2.0, atol=0.03)
    np.testing.assert_allclose(jnp.abs(layer.weight[0, 0]), 0.5, atol=0.03)
    assert jnp.mean(info.g_losses[-50:]) < 0.02 * info.g_losses[0]


def test_a_loop_is_its_steps_by_hand_and_seeds_are_an_axis():
    options = {"ratio_clip": (0.1, 20.0), "normalise": True, "penalty": "zero"}
    whole, info = run(ratio_bins=4, **options)
    networks = affine([[1.0]], [0.0]), Linear(jnp.array([0.0, -1.0, 0.0]))
    optimizers = OPTIMIZERS["g_optimizer"], OPTIMIZERS["s_optimizer"]
    critic = {"discriminator": Linear(jnp.zeros(3), True), "ratio_bins": 4}
    critic |= {"d_optimizer": OPTIMIZERS["d_optimizer"]}
    state = df.DistilledState.start(*networks, *optimizers, **critic)
    options |= {name: RUN[name] for name in ("latent", "batch_size", "critic_steps")}
    step = functools.partial(df.distilled_step, D.jensen_shannon.h, teacher, *optimizers, **options)
    step = eqx.filter_jit(functools.partial(step, d_optimizer=OPTIMIZERS["d_optimizer"]))
    for i in range(6):
        state, last = step(state, XS_P, key=jr.fold_in(RUN["key"], i))
    for one, other in zip(*map(jax.tree.leaves, (state, whole)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(last.penalty, info.penalties[-1], rtol=1e-4)
    seeds, infos = jax.vmap(lambda key: run(ratio_bins=4, **options, key=key))(
        jnp.stack([jr.key(9), RUN["key"]])
    )
    for one, other in zip(*map(jax.tree.leaves, (seeds, whole)), strict=True):
        np.testing.assert_allclose(one[1], other, rtol=1e-4, atol=1e-6)
    assert infos.diverged.tolist() == [-1, -1]


def test_a_stopped_run_resumes_bit_for_bit(tmp_path):
    whole = run(ratio_bins=2)
    stopped = run(ratio_bins=2, checkpoint=tmp_path / "run", on_chunk=lambda state, _: True)
    assert stopped[0].step == 2
    same(run(ratio_bins=2, checkpoint=tmp_path / "run"), whole)
    with pytest.raises(ValueError, match="written with another program"):
        run(ratio_bins=2, checkpoint=tmp_path / "run", normalise=True)


def test_samples_and_conditions_may_come_as_batches():
    batch = lambda step: (XS_P[step : step + 32], np.full(32, step % 2))
    maker = affine([[1.0]], [0.0])
    g = lambda z, c: maker(z) + c
    score = lambda lam, y, c: teacher(lam, y) + 0.0 * c
    nets = g, Linear(jnp.array([0.0, -1.0, 0.0])), Linear(jnp.zeros(3), True)
    state, info = df.train_distilled(KL, score, *nets, batch, **RUN, **OPTIMIZERS)
    assert state.step == 6
    assert np.isfinite(info.d_losses).all()
    # Where no ratio is learned, samples give the conditions alone.
    df.train_distilled(KL, score, *nets[:2], None, batch, **RUN, **OPTIMIZERS)


def test_a_slope_that_saturates_moves_samples_where_the_ratio_is_beyond_all_floats():
    far = Linear(jnp.array([1e4, 0.0, 0.0]), True)
    frozen = {"d_optimizer": optax.sgd(0.0), "steps": 1}
    _, towards = run(d=far, **frozen)
    _, plain = run(KL, d=far, **frozen)
    # h' of JS is r / (1 + r) up to its factor: one, where h' of KL is one everywhere.
    factor = jax.grad(D.jensen_shannon.h)(50.0)
    np.testing.assert_allclose(towards.g_losses, factor**2 * plain.g_losses, rtol=1e-5)


def test_a_run_that_diverges_says_where_and_what_to_change():
    with pytest.raises(df.RunDiverged, match=r"`samples` lie 1000 times .* lower its learning"):
        run(g_optimizer=optax.sgd(1e6), steps=2)
    with pytest.raises(df.RunDiverged, match=r"`motion` is none: in the steps .* h' is zero"):
        far = Linear(jnp.array([-1e4, 0.0, 0.0]), True)
        frozen = {"d_optimizer": optax.sgd(0.0), "steps": 100, "chunk": 100, "batch_size": 2}
        run(D.kl_pq.h, d=far, **frozen)


REFUSED = {
    "h' depends on u = log p/q, and `discriminator` is None; pass a d": {"d": None},
    "`discriminator` learns p/q from samples of p; pass `xs_p` too": {"xs_p": None},
    "`ratio_clip` changes a learned ratio": {"h": KL, "d": None, "ratio_clip": (0.1, 20.0)},
    "`ratio_bins` changes a learned ratio": {"h": KL, "d": None, "ratio_bins": 2},
    "`ratio_clip` is (2.0, 1.0); pass an interval": {"ratio_clip": (2.0, 1.0)},
    "`ratio_decay` is 1.0; pass a number": {"ratio_decay": 1.0},
    "`predicts_q` is 'x'; pass 'score'": {"predicts_q": "x"},
    "`span` is (0.5, 0.5); pass two times": {"span": (0.5, 0.5)},
    "`schedule` returns float32[] at one time; pass one": {"schedule": jnp.sin},
    "`weight` returns float32[2] for alpha and sigma": {"weight": lambda a, s: jnp.stack([a, s])},
    "`generator` does not take": {"latent": 2},
    "`generator` does not take noise of shape (2,)": {
        **{"h": KL, "d": None, "xs_p": None, "latent": 2}
    },
    "`discriminator` makes float32[1]": {"d": Linear(jnp.zeros(3))},
    "has no `log_t`": {"gan": df.gans.wasserstein()},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_makes_no_step_is_refused_in_words(words):
    with pytest.raises(ValueError) as caught:
        run(**REFUSED[words])
    assert str(caught.value).startswith("train_distilled: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
