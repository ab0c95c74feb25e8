"""Pareto k-hat against draws whose tail is known, and against fits of the same tail by others."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import mpmath as mp
import numpy as np
import pytest
from jax.tree_util import Partial

import divergence_flows as df
from divergence_flows.fits._pareto import pareto_k

N = 40_000


@pytest.mark.parametrize("k", [0.2, 0.5, 0.7, 1.2])
def test_k_hat_finds_the_tail_of_pareto_weights(k, x64):
    log_weights = -k * jnp.log(jr.uniform(jr.key(0), (N,)))
    tail = 3 * math.sqrt(N)
    error = 4 * (1 + k) / math.sqrt(tail)  # asymptotic deviation of a shape estimate
    assert abs(pareto_k(log_weights) - k) < error


def zhang_stephens(log_weights):
    """The fit as R's loo and arviz write it, in 60 digits and without their floor for weights."""
    ordered = sorted(map(float, log_weights))
    cutoff = ordered[-math.ceil(min(len(ordered) / 5, 3 * math.sqrt(len(ordered)))) - 1]
    tail = [x for x in ordered if x > cutoff]
    if len(tail) <= 4 or tail[0] == tail[-1]:
        return math.inf
    with mp.workdps(60):
        weight = lambda x: mp.exp(mp.mpf(x) - ordered[-1]) if x > -math.inf else mp.mpf(0)
        x = [weight(each) - weight(cutoff) for each in tail]
        n, points, quartile = len(x), 30 + math.isqrt(len(x)), x[int(len(x) / 4 + 0.5) - 1]
        shape = lambda b: sum(mp.log(1 - b * each) for each in x) / n
        scales = [
            1 / x[-1] + (1 - mp.sqrt(mp.mpf(2 * points) / (2 * j - 1))) / (3 * quartile)
            for j in range(1, points + 1)
        ]
        likelihoods = [n * (mp.log(-b / shape(b)) - shape(b) - 1) for b in scales]
        weights = [mp.exp(each - max(likelihoods)) for each in likelihoods]
        mean = sum(w * b for w, b in zip(weights, scales, strict=True)) / sum(weights)
        return float((n * shape(mean) + 10 * 0.5) / (n + 10))


TAILS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "cauchy": lambda rng, n: rng.standard_cauchy(n),
    "bounded": lambda rng, n: -(rng.normal(size=n) ** 2),
    "tied": lambda rng, n: np.round(4 * rng.normal(size=n)),
    "some without weight": lambda rng, n: np.where(np.arange(n) % 10, -np.inf, rng.normal(size=n)),
}
K_AND_SLOPE = jax.jit(jax.vmap(jax.value_and_grad(pareto_k)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TAILS)
def test_k_hat_is_zhang_and_stephens_in_many_digits(name, dtype, x64):
    rng = np.random.default_rng(0)
    log_weights = np.stack([
        (sd * TAILS[name](rng, 100) + offset).astype(dtype)
        for sd in (1e-3, 1.0, 30.0, 1e3) for offset in (0.0, -1e4, 1e8)
    ])  # fmt: skip
    found, slopes = K_AND_SLOPE(log_weights)
    right = np.array([zhang_stephens(each) for each in log_weights])
    assert found.dtype == dtype
    np.testing.assert_allclose(found, right, rtol=1e3 * np.finfo(dtype).eps)
    assert np.all(np.isfinite(slopes[np.isfinite(right)]))


NO_TAIL = {
    "equal": np.zeros(50),
    "four weights": np.r_[np.full(46, -np.inf), 0.0, 1.0, 2.0, 3.0],
    "equal above the cutoff": np.r_[np.zeros(40), np.ones(10)],
    "no weight": np.full(50, -np.inf),
    "NaN": np.r_[np.zeros(49), np.nan],
    "infinite": np.r_[np.arange(49.0), np.inf],
}


@pytest.mark.parametrize("name", NO_TAIL)
def test_where_no_k_can_be_had_it_is_infinite_which_warns(name):
    for rounding in (None, jnp.full(50, 0.1)):
        assert jax.jit(pareto_k)(jnp.asarray(NO_TAIL[name]), rounding) == jnp.inf


def test_weights_equal_up_to_a_small_rounding_have_a_k_of_zero():
    steps = jr.randint(jr.key(0), (1000,), -1, 2).astype(jnp.float32)
    for ulp, k in ((2.0**-9, 0.0), (2.0**-4, jnp.inf), (8.0, jnp.inf)):
        assert pareto_k(ulp * steps, jnp.full(1000, ulp)) == k


# Shapes of the log weights of a normal's draws, some heavier than what rounding may hide.
SHAPES = {
    "cauchy": lambda z: z**2 / 2 - jnp.log1p((1.5 * z) ** 2),
    "student": lambda z: z**2 / 2 - 3 * jnp.log1p(z**2 / 4),
    "fourth power": lambda z: 1e-3 * (z**4 - 6 * z**2),
    "eighth power": lambda z: 1e-5 * z**8,
    "narrow": lambda z: 0.3 * z**2,
}
SEEN = jax.jit(jax.vmap(pareto_k))


@pytest.mark.parametrize("name", SHAPES)
def test_rounding_never_makes_a_bad_verdict_good(name, x64):
    exact = SHAPES[name](jr.normal(jr.key(0), (8, 1000)))
    truth = SEEN(exact)
    for bits in range(0, 24):
        ulp = 2.0**-bits
        if np.all(np.ptp(np.sort(exact)[:, -96:], axis=1) > 16 * ulp):  # else: as good as equal
            found = SEEN(jnp.round(exact / ulp) * ulp, jnp.full(exact.shape, ulp))
            assert not np.any((truth > 0.75) & (found <= 0.7))
    np.testing.assert_allclose(found, truth, atol=0.05)


def exact(c, x):
    return -0.5 * jnp.sum(x**2) + c


def cauchy(c, x):
    return -jnp.sum(jnp.log1p(x**2)) + c


@pytest.mark.parametrize(("log_p", "dim"), [(exact, 3), (cauchy, 1)])
def test_a_constant_in_log_p_never_makes_the_verdict_of_a_fit_better(log_p, dim):
    """Equal weights have k = 0 until rounding hides them; Cauchy's (k = 1) are never believed."""

    nodes = df.cubature(3) if dim == 3 else df.sobol_nodes(256, 1, key=jr.key(1))
    start, options = jnp.zeros(dim), {"nodes": nodes, "throw": False, "key": jr.key(0)}
    constants = map(jnp.float32, (0.0, -3e4, -1e6, 1e8))
    found = [df.fit_gaussian(Partial(log_p, c), start, **options)[1].k_hat for c in constants]
    if dim == 3:
        np.testing.assert_array_equal(found, [0.0, 0.0, np.inf, np.inf])
    else:
        assert min(found) > 0.7


def test_too_few_draws_are_refused():
    with pytest.raises(ValueError, match="20 draws"):
        pareto_k(jnp.zeros(20))
