"""Numbers too large for their floats are refused by all that take data; others are not."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import divergence_flows as df

KEY = jr.key(0)
RNG = np.random.default_rng(0)
XS, YS = RNG.normal(size=(30, 2)), RNG.normal(size=(30, 2))
CRITIC = df.networks.Discriminator(2, 4, 1, key=KEY)
MADE = df.networks.Generator(2, 2, 4, 1, key=KEY)
TIMED = df.networks.TimeDiscriminator(2, 4, 1, horizon=1.0, key=KEY)
GAN = df.gans.logit()


# By name: a call of two samples, and of one.
OF_TWO = {
    "coupling": df.coupling,
    "wasserstein2": df.wasserstein2,
    "mmd_witness": df.mmd_witness,
    "rff_log_ratio": functools.partial(df.rff_log_ratio, features=2, degree=1, key=KEY),
    "ulsif_ratio": functools.partial(df.ulsif_ratio, centres=2, key=KEY),
    "ratio_bandwidth": functools.partial(
        df.ratio_bandwidth, loss="ulsif", features=2, folds=2, key=KEY
    ),
    "median_bandwidth": df.median_bandwidth,
    "ratio_check": functools.partial(df.ratio_check, lambda t, x, args: 0.0 * jnp.sum(x)),
    "transport": functools.partial(df.transport, GAN, CRITIC, steps=1, key=KEY),
    "train_flow_ratio": functools.partial(
        df.train_flow_ratio, GAN, TIMED, horizon=1.0, steps=1, batch_size=2, key=KEY
    ),
}
OF_ONE = {
    "kde_log_prob": df.kde_log_prob,
    "displacement": functools.partial(df.displacement, jnp.negative, 0.5),
    "train_gan": functools.partial(
        df.train_gan, GAN, CRITIC, MADE, latent=2, steps=1, batch_size=2, key=KEY
    ),
    "FlowRatioState": lambda xs: df.FlowRatioState.start(
        TIMED, optax.sgd(0.1), xs_q=xs, ts=np.array([0.0, 1.0])
    ),
    "TimeDiscriminator": lambda xs: df.networks.TimeDiscriminator(
        2, 4, 1, horizon=1.0, like=xs, key=KEY
    ),
}

stamps = lambda xs: 1.7e9 + 1e3 * xs  # seconds since 1970, some 1,000 apart
LARGE = {
    "float64 of numpy": stamps,
    "integers of numpy": lambda xs: stamps(xs).astype(np.int64),
    "milliseconds": lambda xs: (1e3 * stamps(xs)).astype(np.int64),
    "float32": lambda xs: jnp.asarray(stamps(xs)),
    "so large that all are one": lambda xs: 1.7e9 + xs,
    "one column of two": lambda xs: np.c_[xs[:, 0], stamps(xs[:, 1])],
}


def refused(call, *arguments):
    try:
        jax.block_until_ready(eqx.filter(call(*arguments), eqx.is_array))
    except eqx.EquinoxRuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", OF_ONE | OF_TWO)
def test_stamps_are_refused_by_all_that_take_data(name):
    """Of both samples if it takes two. Under `jit` it is one refusal with that of NaN: bad_*.py."""
    other = (YS,) if name in OF_TWO else ()
    given = [(large(XS), *other) for large in LARGE.values()]
    given += [(XS, stamps(YS))] if other else []
    for samples in given:
        words = refused((OF_ONE | OF_TWO)[name], *samples)
        assert f"{name}: `" in words, words
        assert "too large for float32" in words


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [1.0, 1e3, 1e6])
def test_the_limit_is_a_thousand_spacings_to_a_deviation(dtype, mean):
    spacing = float(np.spacing(dtype(mean * 1.01)))
    with jax.enable_x64(dtype is np.float64):
        check = eqx.filter_jit(functools.partial(df.displacement, jnp.negative, 0.5))
        for factor, bad in ((500.0, True), (950.0, True), (1050.0, False), (1e4, False)):
            xs = RNG.normal(size=(400, 3, 2))
            xs = factor * spacing * (xs - xs.mean(0)) / xs.std(0)
            # One coordinate of an event; a spacing doubles at powers of two.
            cloud = np.array(np.where(np.arange(2) == 1, xs, 0.0), np.float64)
            cloud[..., 1] += mean * 1.01
            top = np.spacing(np.max(np.abs(cloud)).astype(dtype))
            assert top == spacing
            assert bool(refused(check, cloud.astype(dtype))) == bad


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8])
def test_short_numbers_pass(dtype):
    assert not refused(df.displacement, jnp.negative, 0.5, (20 * XS + 100).astype(dtype))


def test_what_stands_still_passes_however_large():
    xs = np.c_[XS[:, 0], np.full(30, 1.7e9)]
    assert not refused(df.mmd_witness, xs, xs)
    assert not refused(df.wasserstein2, xs, jnp.asarray(xs))


def test_large_integers_are_not_wrapped():
    xs = np.array([[0], [2**40]])
    np.testing.assert_allclose(df.displacement(jnp.negative, 0.0, xs), xs, rtol=1e-6)


def test_subtracting_the_mean_first_gives_the_digits_back():
    here, there = stamps(XS), stamps(YS)
    found = df.wasserstein2(here - here.mean(0), there - here.mean(0))
    with jax.enable_x64(True):
        np.testing.assert_allclose(found, df.wasserstein2(here, there), rtol=1e-5)
