"""What a fit reports of itself: the gap against exact ones, rest at kinks, causes in words."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.optimize import minimize
from scipy.stats import norm

import divergence_flows as df

KEY = jr.key(0)


def standard(dim):
    return df.Gaussian(jnp.zeros(dim), jnp.eye(dim))


def one_coordinate(x):
    """Skewed, and with heavier tails than a Gaussian."""
    return 2 * x - 3 * jax.nn.softplus(x)


def log_skewed(x):
    return jnp.sum(one_coordinate(x))


def gap_of(q, slope, bend):
    """Half the squared gradient in Fisher's metric, from E[grad log p] and a diagonal E[hess]."""
    own = q.scale.T @ slope
    half = q.scale.T @ (bend[:, None] * q.scale) + jnp.eye(slope.size)
    return 0.5 * own @ own + 0.25 * jnp.sum(half**2)


def expected(function, q):
    """E_q[function] of each coordinate, by the trapezoid rule under its own marginal of q."""
    line = df.trapezoid(1)
    xs = q.mean + line.points * jnp.sqrt(jnp.sum(q.scale**2, axis=1))
    return line.weights @ jax.vmap(jax.vmap(function))(xs)


def exact_gap(q):
    slope = jax.grad(one_coordinate)
    return gap_of(q, expected(slope, q), expected(jax.grad(slope), q))


def exact_elbo(q):
    """Up to a constant."""
    return jnp.sum(expected(one_coordinate, q)) + jnp.linalg.slogdet(q.scale)[1]


def best_elbo(dim):
    """Of a product of the best Gaussians of one coordinate, by scipy."""
    minus = jax.jit(lambda at: -exact_elbo(df.Gaussian(at[:1], jnp.exp(at[1:])[None])))
    return -dim * minimize(minus, np.zeros(2), method="Nelder-Mead", options={"fatol": 1e-14}).fun


@pytest.mark.parametrize("dim", [1, 5])
def test_the_exact_gap_is_what_is_lost_and_at_most_three_times_the_reported_one(dim, x64):
    """For any of fifty keys, on a target that is no Gaussian."""

    def fitted(key):
        # In one dimension the fit's own nodes, else given ones: one round is compiled sooner.
        nodes = None if dim == 1 else df.sobol_nodes(256, dim, key=jr.fold_in(key, 1))
        return df.fit_gaussian(log_skewed, standard(dim), nodes=nodes, n=256, key=key, throw=False)

    q, info = jax.jit(jax.vmap(fitted))(jr.split(jr.key(1), 50))
    gaps = jax.jit(jax.vmap(exact_gap))(q)
    lost = best_elbo(dim) - jax.jit(jax.vmap(exact_elbo))(q)
    np.testing.assert_allclose(lost, gaps, rtol=0.5)  # up to third order
    assert jnp.all(info.rested)
    assert jnp.max(gaps / info.gap) < 3
    assert jnp.median(gaps / info.gap) > 1 / 30  # nor is it made large to be safe


@pytest.mark.parametrize("double", [True, False])
def test_a_target_with_a_kink_comes_to_rest_at_its_optimum(double):
    with jax.enable_x64(double):
        nodes = None if double else df.sobol_nodes(512, 3, key=KEY)  # one round compiles sooner
        log_p = lambda x: -jnp.sum(jnp.abs(x))
        q, info = df.fit_gaussian(log_p, standard(3), nodes=nodes, n=512, key=KEY)
        assert info.rested
        assert jnp.sum(info.steps) < 500
        # E|x| = s sqrt(2 / pi), so that the best s is sqrt(pi / 2)
        np.testing.assert_allclose(q.mean, 0, atol=0.05)
        np.testing.assert_allclose(q.covariance, np.pi / 2 * np.eye(3), atol=0.1)


def below_zero(value, x):
    return jnp.sum(jnp.where(x > 0, -x, value))


def never(*_):
    raise AssertionError("the long program was compiled")


STARTS = {
    "NaN everywhere": (lambda x: jnp.nan * x.sum(), "is NaN at every node"),
    "NaN somewhere": (
        lambda x: jnp.sum(jnp.log(x) - x),
        "is NaN, .* at some nodes.* transform bounded",
    ),
    "outside": (lambda x: below_zero(-jnp.inf, x - 99), "is -inf at every node.* outside the supp"),
    "half outside": (Partial(below_zero, -jnp.inf), "is -inf at some nodes.* transform bounded"),
    "no bound": (Partial(below_zero, jnp.inf), r"is \+inf at nodes"),
    "gradient": (lambda x: -jnp.sum(jnp.sqrt(jnp.maximum(x, 0))), "gradient of `log_p` is not fin"),
    "a factor": (lambda x: -1e20 * jnp.sum(x**2), "so large that their squares overflow"),
    "flat": (lambda x: 0.0 * x.sum(), "is flat.* no normaliser"),
    "rounded": (lambda x: -jnp.sum(jnp.round(x) ** 2), "is flat"),
    "unused": (lambda x: -(x[0] ** 2), "does not depend on some parameter"),
}


def a_start(number, x):
    """One of the targets above, chosen by number: all share a program."""
    return jax.lax.switch(number, [log_p for log_p, _ in STARTS.values()], x)


@pytest.mark.parametrize("name", STARTS)
def test_a_bad_start_says_at_once_what_was_found(name, monkeypatch):
    monkeypatch.setattr(f"{df.__name__}.fits._fit._fit", never)
    log_p = Partial(a_start, jnp.asarray(list(STARTS).index(name)))
    with pytest.raises(eqx.EquinoxRuntimeError, match=STARTS[name][1]):
        jax.block_until_ready(df.fit_gaussian(log_p, standard(2), n=64, key=KEY))


def test_a_target_that_is_flat_only_where_it_starts_is_fitted(x64):
    # A well with walls at 30: at the start no node feels them.
    def log_p(x):
        return -jnp.sum(jnp.maximum(jnp.abs(x) - 30, 0) ** 2)

    nodes = df.sobol_nodes(1024, 1, key=jr.key(1))
    q, info = df.fit_gaussian(log_p, standard(1), nodes=nodes, key=KEY)
    assert info.rested
    # Three nodes of a thousand lie beyond the walls: the fit is as good as that, and says so.
    tails = norm.sf((30 - q.mean) / q.scale[0]) + norm.sf((30 + q.mean) / q.scale[0])
    np.testing.assert_allclose(2 * tails * q.scale[0] ** 2, 1, atol=0.3)
    assert (1 - 2 * tails[0] * q.scale[0, 0] ** 2) ** 2 / 4 < 3 * info.gap


def nowhere(grows, x):
    """Two targets without a normaliser."""
    return jax.lax.cond(grows, lambda x: -1e-3 * jnp.log1p(jnp.sum(x**2)), jnp.sum, x)


ENDS = {
    "grows": (nowhere, True, 4096, "scale grew without bound"),
    "runs": (nowhere, False, 4096, "normaliser"),
    "too few steps": (lambda _, x: log_skewed(x), True, 2, "after `max_steps` steps"),
}


@pytest.mark.parametrize(("log_p", "grows", "max_steps", "words"), ENDS.values(), ids=ENDS)
def test_an_end_without_rest_says_what_was_found(log_p, grows, max_steps, words, x64):
    options = {"nodes": df.sobol_nodes(64, 1, key=KEY), "n": 64, "max_steps": max_steps}
    with pytest.raises(eqx.EquinoxRuntimeError, match="not at rest.*" + words):
        q, _ = df.fit_gaussian(Partial(log_p, jnp.asarray(grows)), standard(1), key=KEY, **options)
        jax.block_until_ready(q)


def log_smooth_kinks(matrix, x):
    return -jnp.sum(jnp.sqrt(1 + (matrix @ x) ** 2))


def test_a_fit_to_its_nodes_alone_is_not_at_rest(x64):
    # 820 numbers of a covariance and 80 nodes: on these nothing is left to gain, on others much.
    dim = 40
    matrix = jnp.eye(dim) + 0.3 * jr.normal(KEY, (dim, dim)) / dim**0.5
    ask = partial(df.fit_gaussian, Partial(log_smooth_kinks, matrix), jnp.zeros(dim), key=KEY)
    _, info = ask(n=80, throw=False)
    _, better = ask(n=2048)
    assert better.rested
    assert info.elbo < better.elbo - 0.5
    assert info.gap > 1
    assert not info.rested
    with pytest.raises(
        eqx.EquinoxRuntimeError, match=r"(?s)on fresh nodes exceeds.*more nodes `n`"
    ):
        ask(n=80)


def test_a_fit_that_leads_nowhere_ends_before_all_steps_are_gone():
    log_p, nodes = Partial(nowhere, jnp.asarray(True)), df.sobol_nodes(64, 1, key=KEY)
    _, info = df.fit_gaussian(log_p, standard(1), nodes=nodes, n=64, throw=False, key=KEY)
    assert not info.rested
    assert jnp.max(info.steps) < 1000  # of 4096


def test_no_round_has_more_nodes_than_n():
    evaluated = []

    def log_p(x):
        jax.debug.callback(lambda _: evaluated.append(1), x[0])
        return -0.5 * jnp.sum((x - 1) ** 2)

    q, info = df.fit_gaussian(log_p, df.Gaussian(jnp.zeros(40), jnp.ones(40)), n=64, key=KEY)
    jax.effects_barrier()
    assert info.steps.shape == (1,)  # the 80 cubature points are left out
    # At rest to the default tolerance, 1e-5 nat.
    assert df.gaussian_kl(q, df.Gaussian(jnp.ones(40), jnp.ones(40))) < 3e-5
    at_start, at_end, each_step = 8 * 64 + 2 * 64, 2 * 8 * 64, 2 * 64
    assert len(evaluated) <= at_start + at_end + each_step * info.steps[0]
