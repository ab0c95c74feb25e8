"""Samples that lie in a plane are refused in words, or what comes back is right; no others are."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import gaussian_kde

import divergence_flows as df

DIM, N, M, KEY = 4, 40, 60, jr.key(0)
FLOATS = (np.float32, np.float64)
on_both = pytest.mark.parametrize("dtype", FLOATS)


def columns(rng, n):
    """Some laws, scales and origins, none beyond what a float32 can tell apart."""
    xs = rng.normal(size=(n, DIM)) if rng.random() < 0.7 else rng.standard_t(3, size=(n, DIM))
    scale = 10 ** rng.uniform(-3, 3, size=DIM)
    return scale * (xs + 10 ** rng.uniform(-2, 3) * rng.normal(size=DIM))


def put(xs, value, column=3):
    xs[:, column] = value
    return xs


KINDS = {
    "still": lambda rng, xs: put(
        xs, rng.choice([0.0, 0.1, 1 / 3, -0.83, 100.0, 1.7e9]), rng.integers(DIM)
    ),
    "equal": lambda rng, xs: np.repeat(xs[:1], len(xs), axis=0),
    "twin": lambda rng, xs: put(xs, xs[:, rng.integers(3)]),
    "added": lambda rng, xs: put(xs, xs[:, 0] + xs[:, 1]),
    "other units": lambda rng, xs: put(xs, 1.8 * xs[:, 0] + 32 * np.std(xs[:, 0])),
    "one of four": lambda rng, xs: np.eye(DIM)[rng.permutation(np.arange(len(xs)) % DIM)],
    "plane": lambda rng, xs: xs[:, :2] @ rng.normal(size=(2, DIM)),
    "few": lambda rng, xs: xs[:2],
}


def cases(dtype, per_kind=10):
    """Both samples of q and of p, made as one and dealt out."""
    for kind, degenerate in KINDS.items():
        for seed in range(per_kind):
            rng = np.random.default_rng(seed)
            xs = degenerate(rng, columns(rng, N + M)).astype(dtype)
            xs_q, xs_p = (xs[:N], xs[N:]) if len(xs) > 2 else (xs[:1], xs[1:])
            yield kind, xs_q, xs_p


def refused(call, *arguments):
    """The words, or None."""
    try:
        jax.block_until_ready(call(*arguments))
    except eqx.EquinoxRuntimeError as error:
        return str(error)
    except ValueError as error:  # of a size, known from the shape
        return str(error)
    return None


@eqx.filter_jit
def kde(xs):
    return df.kde_log_prob(xs)(xs[0])


@eqx.filter_jit
def logistic(xs_q, xs_p):
    options = {"features": 8, "degree": 1, "newton_steps": 2, "key": KEY}
    return df.rff_log_ratio(xs_q, xs_p, **options)(0.0, xs_q[0], None)


@eqx.filter_jit
def chosen(xs_q, xs_p):
    options = {"features": 4, "degree": 1, "newton_steps": 1, "folds": 2, "multiples": (1.0,)}
    return df.ratio_bandwidth(xs_q, xs_p, **options, key=KEY)


WORDS = ("the same for all", "lie in a plane", "most of them are equal", "too large", "`folds` is")


@on_both
def test_what_needs_a_covariance_refuses_samples_in_a_plane(dtype):
    with jax.enable_x64(dtype is np.float64):
        for kind, xs_q, xs_p in cases(dtype):
            both = np.concatenate([xs_q, xs_p])
            for call, samples in ((kde, (both,)), (logistic, (xs_q, xs_p)), (chosen, (xs_q, xs_p))):
                words = refused(call, *samples)
                assert words is not None, kind
                assert any(word in words for word in WORDS), words


def slope(potential, x):
    return jax.value_and_grad(potential, argnums=1)(0.0, x, None)


@eqx.filter_jit
def witness(xs_q, xs_p, width):
    return slope(df.mmd_witness(xs_q, xs_p, bandwidth=width), xs_q[0])


@eqx.filter_jit
def bumps(xs_q, xs_p, width):
    ratio = df.ulsif_ratio(xs_q, xs_p, bandwidth=width, centres=8, ridge=0.1, key=KEY)
    return slope(ratio, xs_q[0]), ratio.args[0].points


def dense_witness(xs_q, xs_p, width):
    """Value and slope at the first sample of q, by sums in float64."""
    both = [np.exp(-0.5 * cdist(xs_q[:1], xs) ** 2 / width**2)[0] for xs in (xs_p, xs_q)]
    pulls = [k @ (xs - xs_q[0]) / len(xs) / width**2
             for k, xs in zip(both, (xs_p, xs_q), strict=True)]  # fmt: skip
    return np.mean(both[0]) - np.mean(both[1]), pulls[0] - pulls[1]


def dense_bumps(xs_q, xs_p, width, points):
    """The normal equations, in float64."""
    design = lambda xs: np.c_[np.ones(len(xs)), np.exp(-0.5 * cdist(xs, points) ** 2 / width**2)]
    normal = design(xs_q).T @ design(xs_q) / len(xs_q) + 0.1 * np.diag([0.0] + [1.0] * len(points))
    c = np.linalg.solve(normal, np.mean(design(xs_p), axis=0))
    k = design(xs_q[:1])[0]
    return k @ c, (c[1:] * k[1:]) @ (points - xs_q[0]) / width**2


def assert_right(found, expected, width, tolerance):
    for one, other, unit in zip(found, expected, (1, width), strict=True):
        np.testing.assert_allclose(one * unit, other * unit, atol=tolerance)


@on_both
def test_what_needs_none_is_right_on_samples_in_a_plane(dtype):
    tolerance = 2e-3 if dtype is np.float32 else 1e-7
    right = 0  # of 80
    with jax.enable_x64(dtype is np.float64):
        for _kind, xs_q, xs_p in cases(dtype):
            exact = np.float64(xs_q), np.float64(xs_p)
            width = dtype(max(np.median(cdist(*exact)), 1e-3))
            words = refused(witness, xs_q, xs_p, width)
            if words is not None:
                assert "too large" in words
                continue
            right += 1
            found = witness(xs_q, xs_p, width)
            assert_right(found, dense_witness(*exact, np.float64(width)), width, tolerance)
            same = np.all(xs_q == xs_q[0], axis=0) & np.all(xs_p == xs_q[0], axis=0)
            assert np.all(np.asarray(found[1])[same] == 0)
            words = refused(bumps, xs_q, xs_p, width)
            if words is not None:
                assert "there is no ratio" in words
                continue
            found, points = bumps(xs_q, xs_p, width)
            expected = dense_bumps(*exact, np.float64(width), np.float64(points))
            assert_right(found, expected, width, tolerance)
    assert right >= 60


@on_both
def test_the_median_rule_is_that_of_all_distances_or_says_that_it_is_none(dtype):
    median = eqx.filter_jit(df.median_bandwidth)
    with jax.enable_x64(dtype is np.float64):
        for kind, xs_q, xs_p in cases(dtype):
            words = refused(median, xs_q, xs_p)
            if words is not None:
                assert "too large" in words or kind == "equal", words
                continue
            distances = pdist(np.float64(np.concatenate([xs_q, xs_p])))
            expected = np.sqrt(np.median(distances**2))
            np.testing.assert_allclose(median(xs_q, xs_p), expected, rtol=1e-3)


# A column that stands still, where no units are asked of it


@pytest.mark.parametrize("value", [0.0, 0.1, 0.83, 100.0])
def test_waves_have_no_slope_along_what_is_the_same_for_all(value):
    rng = np.random.default_rng(0)
    xs_q, xs_p = rng.normal(size=(N, 3)), 1 + rng.normal(size=(M, 3))
    xs_q[:, 1] = xs_p[:, 1] = value
    options = {"features": 16, "key": KEY}
    for potential in (
        df.rff_log_ratio(xs_q, xs_p, degree=0, **options),
        df.mmd_witness(xs_q, xs_p, **options),
    ):
        pull = slope(potential, jnp.asarray([0.5, value, 1.0]))[1]
        assert pull[1] == 0
        assert pull[0] != 0


def test_a_time_discriminator_takes_a_column_that_stands_still_as_it_is():
    xs = np.random.default_rng(0).normal(size=(1000, 2))
    xs[:, 1] = 0.1  # whose mean in float32 is not 0.1, and whose deviation is not 0
    network = df.networks.TimeDiscriminator(2, horizon=1.0, like=xs, key=KEY)
    assert network.scale[1] == 1
    np.testing.assert_allclose(network.scale[0], np.std(xs[:, 0]), rtol=1e-5)


@pytest.mark.parametrize("side", ["xs_q", "xs_p"])
@pytest.mark.parametrize("fit", [df.rff_log_ratio, df.ulsif_ratio, df.ratio_bandwidth])
def test_there_is_no_ratio_where_one_of_two_stands_still(fit, side):
    rng = np.random.default_rng(0)
    clouds = {"xs_q": rng.normal(size=(N, 2)), "xs_p": rng.normal(size=(M, 2))}
    clouds[side][:, 1] = 0.5
    with pytest.raises(eqx.EquinoxRuntimeError, match=f"`{side}` and not for the other, so p has"):
        fit(**clouds, key=KEY)
    assert df.mmd_witness(**clouds)(0.0, clouds["xs_q"][0], None).shape == ()


def test_there_is_a_ratio_where_p_keeps_to_a_count_that_q_has_too():
    rng = np.random.default_rng(0)
    xs_q, xs_p = rng.normal(size=(400, 2)), rng.normal(size=(400, 2))
    xs_q[:, 1], xs_p[:, 1] = rng.integers(0, 2, 400), 0
    ratio = df.ulsif_ratio(xs_q, xs_p, bandwidth=0.3, key=KEY)
    found = jax.vmap(ratio, (None, 0, None))(0.0, jnp.array([[0.0, 0.0], [0.0, 1.0]]), None)
    np.testing.assert_allclose(found, [2.0, 0.0], atol=0.5)  # half of q is there


def test_a_flow_with_a_column_that_stands_still_says_so_at_its_first_step():
    rng = np.random.default_rng(0)
    xs_q, xs_p = rng.normal(size=(N, 2)), 1 + rng.normal(size=(M, 2))
    xs_q[:, 1] = xs_p[:, 1] = 0.83
    options = {"features": 4, "degree": 1, "newton_steps": 2, "key": KEY}
    logistic = lambda xs: df.rff_log_ratio(xs, xs_p, **options)
    estimate = lambda xs: lambda t, x, args: -df.kde_log_prob(xs)(x)
    euler = {"solver": diffrax.Euler(), "dt0": 0.5}  # every stage of a solver is compiled
    for fit in (logistic, estimate):
        with pytest.raises(eqx.EquinoxRuntimeError, match="the same for all samples"):
            df.integrate(df.cloud_velocity(jnp.asarray, fit), xs_q, [0.0, 1.0], **euler)


# No false alarms


SOUND = {
    "independent": lambda rng, n: rng.normal(size=(n, DIM)),
    "correlated by .9999": lambda rng, n: (
        np.sqrt(0.9999) * rng.normal(size=(n, 1)) + 0.01 * rng.normal(size=(n, DIM))
    ),
    "of heavy tails": lambda rng, n: rng.standard_t(1.5, size=(n, DIM)),
    "of bits": lambda rng, n: rng.integers(0, 2, (n, DIM)),
    "of counts": lambda rng, n: rng.poisson(3, (n, DIM)),
    "of all scales": lambda rng, n: rng.normal(size=(n, DIM)) * np.array([1e-6, 1e-2, 1e2, 1e6]),
    "far from zero": lambda rng, n: rng.normal(size=(n, DIM)) + 3000,
    "hardly more than coordinates": lambda rng, n: rng.normal(size=(DIM + 2, DIM)),
}


@on_both
@pytest.mark.parametrize("law", SOUND.values(), ids=SOUND)
def test_sound_samples_pass_and_scotts_rule_has_scipys_numbers(law, dtype):
    tolerance = 0.02 if dtype is np.float32 else 1e-8
    with jax.enable_x64(dtype is np.float64):
        for seed in range(10):
            xs = law(np.random.default_rng(seed), N).astype(dtype)
            expected = gaussian_kde(np.float64(xs).T).logpdf(np.float64(xs[0]))
            np.testing.assert_allclose(kde(xs), expected, rtol=tolerance, atol=tolerance)
        xs = law(np.random.default_rng(99), 2 * N).astype(dtype)
        assert refused(logistic, xs[::2], xs[1::2]) is None


def test_a_kernel_density_of_close_coordinates_keeps_its_digits_in_float32():
    rng = np.random.default_rng(0)
    xs = np.float32(rng.normal(size=(200, 1)) + 1e-4 * rng.normal(size=(200, 2)))
    expected = gaussian_kde(np.float64(xs).T).logpdf(np.float64(xs[:5]).T)
    np.testing.assert_allclose(jax.vmap(df.kde_log_prob(xs))(xs[:5]), expected, rtol=1e-3)
