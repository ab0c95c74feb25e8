"""What users read: refusals of one line, networks that are no function of one sample, data frames.

The refusals of all arguments are in test_bad_input.py; here is what some of them say, to the word.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pandas as pd
import polars as pl
import pytest
from jax.tree_util import Partial
from jaxtyping import TypeCheckError

import divergence_flows as df

KEY, GAN = jr.key(0), df.gans.logit()
XS, YS = jr.normal(KEY, (40, 2)), jr.normal(jr.key(1), (30, 2)) + 1
CRITIC = df.networks.Discriminator(2, 4, 1, key=KEY)
ratio = functools.partial(df.rff_log_ratio, features=2, degree=0, key=KEY)


def refused(error, call, *args, **kwargs):
    """The words of a refusal, as a user sees them."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# --- one line ---

SAYS = {
    "a dtype": (
        ratio,
        (XS, YS + 0j),
        "rff_log_ratio: `xs_p` is complex64[30,2]; pass a real or "
        "boolean array of shape (_, _) or a DataFrame.",
    ),
    "a list": (
        ratio,
        (XS, [[1.0, 2.0]]),
        "rff_log_ratio: `xs_p` is [[1.0, 2.0]]; pass a real or "
        "boolean array of shape (_, _) or a DataFrame.",
    ),
    "words": (
        ratio,
        (XS, np.array([["a", "b"]])),
        "rff_log_ratio: `xs_p` is <U1[1,2]; pass a real "
        "or boolean array of shape (_, _) or a DataFrame.",
    ),
    "an option": (
        functools.partial(ratio, newton_steps=2.5),
        (XS, YS),
        "rff_log_ratio: `newton_steps` is 2.5; pass an integer.",
    ),
    "a key": (
        functools.partial(ratio, key=3),
        (XS, YS),
        "rff_log_ratio: `key` is 3; pass a key of `jax.random`.",
    ),
    "what is long": (
        functools.partial(ratio, key=CRITIC),
        (XS, YS),
        "rff_log_ratio: `key` is of type Discriminator; pass a key of `jax.random`.",
    ),
    "a function": (df.velocity, (3, None), "velocity: `h` is 3; pass a function."),
    "a network's sample": (
        CRITIC,
        (XS,),
        "Discriminator: `x` is float32[40,2]; pass a real or boolean array of shape (dim,).",
    ),
}


@pytest.mark.parametrize("what", SAYS)
def test_a_refusal_by_type_is_one_line_that_says_what_it_is_and_what_it_may_be(what):
    call, args, words = SAYS[what]
    assert refused(TypeCheckError, call, *args) == words


def test_a_refusal_by_type_has_the_sizes_that_other_arguments_have_settled():
    words = refused(TypeCheckError, df.bures.exp, jnp.eye(2), jnp.eye(3))
    assert words.startswith("exp: `u` is float32[3,3]; pass ") and "of shape (2, 2)" in words


def test_a_function_of_the_users_that_is_not_elementwise_is_refused_in_one_line():
    words = refused(TypeCheckError, df.f_to_h(jnp.sum), jnp.ones(2))
    assert words.endswith(" returns float32[]; it must return a float array of shape (2,).")


@pytest.mark.parametrize("call", [ratio, functools.partial(df.mmd_witness, bandwidth=1.0)])
def test_samples_of_different_events_are_refused_with_both_shapes(call):
    words = refused(ValueError, call, XS, jnp.ones((3, 5)))
    assert words.endswith(": `xs_q` has events (2,), `xs_p` (5,); pass samples of one shape.")


def test_samples_and_velocities_that_do_not_line_up_are_refused_with_both_shapes():
    assert refused(ValueError, df.distillation_loss, XS, YS, 0.1) == (
        "distillation_loss: `xs` has shape (40, 2), `vs` (30, 2); pass arrays of one shape."
    )


# --- networks that are no function of one sample ---


def layers(*middle, size="scalar", dim=2):
    ends = eqx.nn.Linear(dim, 3, key=KEY), eqx.nn.Linear(3, size, key=KEY)
    return eqx.nn.Sequential([ends[0], *middle, ends[1]])


class Holding(eqx.Module):
    """A network with a state of its own, which it throws away after each call."""

    net: eqx.nn.Sequential
    state: eqx.nn.State

    def __call__(self, x):
        return self.net(x, self.state)[0]


class Clock(eqx.Module):
    """d(t, x) of a d(x)."""

    net: Holding

    def __call__(self, t, x):
        return t * self.net(x)


def normed(mode):
    return Holding(
        *eqx.nn.make_with_state(lambda: layers(eqx.nn.BatchNorm(3, "batch", mode=mode)))()
    )


DROPOUT, NORMED = layers(eqx.nn.Dropout(0.5)), normed("ema")
RANDOM = "draws at random, as dropout in training does; training and flows need a function of one "
STATE = "has a state that its calls change; training and flows need a function of one sample alone"
IMPURE = {
    "dropout": (DROPOUT, RANDOM, "Leave it out, or pass `eqx.nn.inference_mode(network)`."),
    "a hidden dropout": (lambda x: DROPOUT(x), RANDOM, "eqx.nn.inference_mode"),
    "a key": (lambda x, *, key: jr.normal(key), RANDOM, "Leave it out"),
    "batch norm": (NORMED, STATE, "Use `eqx.nn.LayerNorm`, `eqx.nn.GroupNorm` or `networks.spectr"),
    "batch norm of means": (normed("batch"), STATE, "in place of a batch norm"),
    "a state asked for": (NORMED.net, STATE, "LayerNorm"),
    "a state returned": (Partial(NORMED.net, state=NORMED.state), STATE, "return the value alone"),
}
PURE = {
    "dropout in inference": eqx.nn.inference_mode(DROPOUT),
    "batch norm in inference": eqx.nn.inference_mode(NORMED),
    "layer norm": layers(eqx.nn.LayerNorm(3)),
    "spectral": df.networks.spectral(CRITIC, key=KEY),
}
STATE_OF = df.RatioState.start(CRITIC, optax.sgd(0.1))


@pytest.mark.parametrize("what", IMPURE)
def test_a_critic_that_is_no_function_of_one_sample_is_refused_with_the_reason(what):
    network, *words = IMPURE[what]
    said = refused(ValueError, df.particle_step, GAN, network, XS, 0.1)
    assert said.startswith("particle_step: `discriminator` ") and "\n" not in said
    assert all(word in said for word in words), said


def test_so_are_a_generator_and_a_clock():
    generator = layers(eqx.nn.Dropout(0.5), size=2, dim=3)
    options = {"latent": 3, "steps": 1, "key": KEY}
    said = refused(ValueError, df.train_gan, GAN, CRITIC, generator, XS, **options)
    assert said.startswith(f"train_gan: `generator` {RANDOM}")
    options = {"ts": [0.0, 1.0], "steps": 1, "key": KEY}
    said = refused(ValueError, df.train_flow_ratio, GAN, Clock(NORMED), XS, YS, **options)
    assert said.startswith(f"train_flow_ratio: `discriminator` {STATE}")


@pytest.mark.parametrize("network", PURE.values(), ids=PURE)
def test_what_is_a_function_of_one_sample_moves_particles(network):
    moved, _ = df.particle_step(GAN, network, XS, 0.1)
    np.testing.assert_allclose(moved[0], XS[0] + 0.1 * jax.grad(network)(XS[0]), rtol=1e-5)


# --- data ---

TABLE = {"height": [1.5, 1.25, 2.0], "count": [3, 4, 2**31], "old": [True, False, True]}
ARRAY = np.array([[1.5, 3, 1], [1.25, 4, 0], [2.0, 2**31, 1]], np.float32)
FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
each_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


class Foreign:
    """An array of another library, which has torch's words for its dtype."""

    class float32:
        def __repr__(self):
            return "torch.float32"

    dtype = float32()

    def __init__(self, values):
        self.values, self.shape = np.asarray(values), np.shape(values)

    def __array__(self, *args, **kwargs):
        return self.values


@each_frame
def test_a_data_frame_is_an_array_of_its_columns_and_booleans_are_numbers(frame):
    witness = functools.partial(df.mmd_witness, bandwidth=1.0)
    found, wanted = (witness(data, data[:2]) for data in (frame(TABLE), ARRAY))
    x = jnp.asarray(ARRAY[0])
    assert float(found(0.0, x, None)) == float(wanted(0.0, x, None)) != 0


@each_frame
def test_a_column_of_no_numbers_is_refused_by_its_name(frame):
    said = refused(ValueError, ratio, XS, frame({"a": [1.0, 2.0], "city": ["Oslo", "Rome"]}))
    assert said.startswith("rff_log_ratio: `xs_p` has columns of no numbers: 'city' (")
    assert said.endswith("; drop, fill or encode them.") and "\n" not in said


@each_frame
def test_missing_values_and_stamps_of_a_frame_are_refused_as_those_of_an_array(frame):
    with pytest.raises(eqx.EquinoxRuntimeError, match="`xs_p` has NaN or inf; drop those samples"):
        ratio(XS, frame({"a": [1.0, None], "b": [2.0, 3.0]}))
    stamps = frame({"a": 1.7e9 + np.arange(30.0), "b": np.arange(30.0)})
    with pytest.raises(eqx.EquinoxRuntimeError, match="Subtract the mean first"):
        ratio(XS, stamps)


def test_arrays_of_other_libraries_and_booleans_are_numbers():
    near = lambda xs_p: df.mmd_witness(XS, xs_p, bandwidth=1.0)(0.0, XS[0], None)
    assert float(near(Foreign(YS))) == float(near(np.asarray(YS))) == float(near(YS))
    flags = np.asarray(YS > 1)
    assert float(near(flags)) == float(near(flags.astype(float)))
    assert float(df.gans.vanilla().h_t(True)) == float(df.gans.vanilla().h_t(1.0))
    said = refused(TypeCheckError, ratio, XS, Foreign(YS[None]))
    assert said.startswith("rff_log_ratio: `xs_p` is torch.float32[1,30,2]; pass a real or boolean")
