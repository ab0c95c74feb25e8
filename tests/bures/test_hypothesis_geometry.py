"""Laws of Bures geometry and of losses for matrices, clouds and parameters that are drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from hypothesis import given, strategies as st
from jax.tree_util import Partial
from strategies import few, in_float64, law, numbers, seeds

import divergence_flows as df
from divergence_flows import bures

D, G = df.divergences, df.gans


def close(found, wanted, rtol=1e-9, atol=1e-11):
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=rtol, atol=atol)


# --- Bures: dimensions 1 to 5, conditions up to 1e4 ---


def orthogonal(rng, dim):
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


def covariance(rng, dim, decades):
    """Eigenvalues spread evenly over some decades, in a random basis."""
    basis = orthogonal(rng, dim)
    values = 10.0 ** rng.permutation(np.linspace(-decades, 0, dim))
    return (basis * values) @ basis.T


@st.composite
def triples(draw, dims=st.integers(1, 5), most=4.0):
    """Three covariances and a rotation; and the condition of each."""
    dim, decades = draw(dims), draw(st.floats(0.0, most))
    rng = np.random.default_rng(draw(seeds))
    abc = [covariance(rng, dim, decades) for _ in range(3)]
    return *abc, orthogonal(rng, dim), 10.0**decades


@jax.jit
def measured(a, b, c, turn, t):
    """All that the laws speak of, in one program for each dimension."""
    to_b, middle = bures.log(a, b), bures.geodesic(t, a, b)
    there = bures.brenier_map(a, b)
    turned = [turn @ x @ turn.T for x in (a, b)]
    pairs = [(a, b), (b, a), (a, c), (c, b), (a, a), turned, (a, middle), (middle, b)]
    names = ("ab", "ba", "ac", "cb", "aa", "turned", "start", "end")
    one, other = (jnp.stack(side) for side in zip(*pairs, strict=True))
    distances = dict(zip(names, jax.vmap(bures.distance)(one, other), strict=True))
    return distances | {
        "square": bures.squared_distance(a, b),
        "log": to_b,
        "exp": bures.exp(a, to_b),
        "length": bures.inner(a, to_b, to_b),
        "map": there,
        "middle": middle,
        "turned_map": bures.brenier_map(*turned),
        "turn": turn,
    }


def scipys(a, b):
    root = scipy.linalg.sqrtm(a).real
    return np.trace(a + b - 2 * scipy.linalg.sqrtm(root @ b @ root).real)


parts_of_the_way = st.floats(0.05, 0.95)


@given(triples(), parts_of_the_way)
@law
@in_float64
def test_the_distance_is_a_metric_that_rotations_keep(drawn, t):
    a, b, c, turn, _ = drawn
    d = measured(a, b, c, turn, t)
    close(d["ab"], d["ba"], 1e-9, 1e-12)
    assert d["aa"] == 0.0
    assert d["ab"] <= d["ac"] + d["cb"] + 1e-12
    # Rotating rounds the matrices, by eps: its root is what two nearly equal ones differ by.
    close(d["turned"], d["ab"], 1e-9, 1e-8)
    close(d["square"], d["ab"] ** 2, 1e-12, 1e-15)


@given(triples(), parts_of_the_way)
@law
@in_float64
def test_the_squared_distance_is_scipys(drawn, t):
    a, b, c, turn, condition = drawn
    # scipy subtracts traces of size dim, and its roots of roots lose sqrt(condition).
    close(measured(a, b, c, turn, t)["square"], scipys(a, b), 0, 1e-13 * condition)


@given(triples(), parts_of_the_way)
@law
@in_float64
def test_the_map_carries_a_to_b_and_turns_along(drawn, t):
    a, b, c, turn, condition = drawn
    found = measured(a, b, c, turn, t)
    there = np.asarray(found["map"])
    assert np.all(np.linalg.eigvalsh(there) > 0)
    close(there, there.T, 0, 0)
    # Its relative error is about eps times the condition of A, as its docstring says.
    size = np.linalg.norm(there)
    close(there @ a @ there, b, 0, 1e-14 * condition * (1 + size))
    close(found["turned_map"], turn @ there @ turn.T, 0, 1e-13 * condition * size)


@given(triples(), parts_of_the_way)
@law
@in_float64
def test_exp_undoes_log_whose_length_is_the_distance(drawn, t):
    a, b, c, turn, condition = drawn
    found = measured(a, b, c, turn, t)
    close(found["exp"], b, 0, 1e-13 * condition)
    close(found["length"], found["square"], 1e-13 * condition, 1e-15 * condition)
    half = (np.asarray(found["map"]) - np.eye(len(a))) @ a
    close(found["log"], half + half.T, 0, 1e-13 * condition)


@given(triples(), parts_of_the_way)
@law
@in_float64
def test_the_geodesic_has_constant_speed(drawn, t):
    a, b, c, turn, condition = drawn
    d = measured(a, b, c, turn, t)
    close(d["start"], t * d["ab"], 1e-12 * condition, 1e-13 * condition)
    close(d["end"], (1 - t) * d["ab"], 1e-12 * condition, 1e-13 * condition)


@given(triples(st.just(3), 2.0), parts_of_the_way)
@few
@in_float64
def test_float32_has_its_own_digits(drawn, t):
    a, b, c, turn, condition = (np.asarray(x, np.float32) for x in drawn)
    found = measured(a, b, c, turn, np.float32(t))
    exact = measured(*(x.astype(float) for x in (a, b, c, turn)), float(np.float32(t)))
    for name in ("ab", "ac", "square", "map", "middle"):
        assert found[name].dtype == np.float32
        size = float(np.max(np.abs(exact[name])))
        close(found[name], exact[name], 0, 1e-6 * float(condition) * (size + 1))


@functools.lru_cache
def submersion_parts(dim):
    return jax.jit(lambda s, x: (bures.horizontal(s, x), bures.vertical(s, x), bures.submersion(s)))


@given(st.integers(1, 5), st.floats(0.0, 2.0), seeds)
@law
@in_float64
def test_tangents_split_into_a_symmetric_and_a_skew_part(dim, decades, seed):
    rng = np.random.default_rng(seed)
    s = covariance(rng, dim, decades) @ orthogonal(rng, dim)
    x = rng.normal(size=(dim, dim))
    level, upright, sigma = (np.asarray(part) for part in submersion_parts(dim)(s, x))
    close(sigma, s @ s.T, 1e-12, 1e-13)
    close(level + upright, x, 1e-12, 1e-12)
    close(np.sum(level * upright), 0.0, 0, 1e-11 * np.sum(x**2))
    k, skew = level @ np.linalg.inv(s), upright @ s.T
    close(k, k.T, 0, 1e-11 * 10**decades * np.max(np.abs(k)))
    close(skew, -skew.T, 0, 1e-11)


# --- losses ---

BATCH = 6
values = numbers(-5.0, 5.0, BATCH)
games = st.sampled_from(["vanilla", "non_saturating", "logit", "mle", "arcsinh", "nwj"])


@given(games, values, numbers(-5.0, 5.0, BATCH), seeds)
@law
@in_float64
def test_losses_do_not_see_the_order_of_a_batch_nor_its_shape(name, d_p, d_q, seed):
    gan, order = getattr(G, name)(), np.random.default_rng(seed).permutation(BATCH)
    loss = df.discriminator_loss(gan, d_p, d_q)
    close(df.discriminator_loss(gan, d_p[order], d_q[order[::-1]]), loss, 1e-12, 1e-12)
    close(df.discriminator_loss(gan, d_p.reshape(2, 3), d_q.reshape(3, 1, 2)), loss, 1e-12, 1e-12)
    close(df.generator_loss(gan, d_q[order]), df.generator_loss(gan, d_q), 1e-12, 1e-12)


@given(games, values, numbers(-5.0, 5.0, BATCH // 2))
@law
@in_float64
def test_the_loss_of_two_batches_is_their_weighted_mean(name, first, second):
    gan, both = getattr(G, name)(), np.concatenate([first, second])
    for loss in (functools.partial(df.generator_loss, gan), lambda d: _loss_of_p(gan, d)):
        close(loss(both), (2 * loss(first) + loss(second)) / 3, 1e-12, 1e-12)


def _loss_of_p(gan, d):
    return df.discriminator_loss(gan, d, np.zeros(1))


@given(st.sampled_from([(6,), (6, 2), (6, 1, 2)]), st.floats(0.01, 3.0), seeds)
@law
@in_float64
def test_distillation_of_two_batches_is_their_weighted_mean_and_pushes_by_v(shape, eps, seed):
    rng = np.random.default_rng(seed)
    xs, vs = rng.normal(size=shape), rng.normal(size=shape)
    loss, push = jax.value_and_grad(df.distillation_loss)(jnp.asarray(xs), vs, eps)
    close(loss, 0.5 * eps**2 * np.sum(vs**2) / 6, 1e-10)
    close(push, -eps * vs / 6, 1e-10, 1e-13)
    parts = [df.distillation_loss(xs[some], vs[some], eps) for some in (np.s_[:2], np.s_[2:])]
    close(loss, (2 * parts[0] + 4 * parts[1]) / 6, 1e-10)


def counts(seed):
    """Two distributions on four points, as how often each comes among twelve samples."""
    return [1 + np.random.default_rng((seed, which)).multinomial(8, [0.25] * 4) for which in (0, 1)]


def alpha_f(a, r):
    return (r**a - a * r + a - 1) / (a * (a - 1))


fractions = st.floats(0.1, 0.9).flatmap(lambda x: st.sampled_from([x, x + 1, x - 1]))


@given(fractions, seeds, numbers(-3.0, 3.0, 4))
@law
@in_float64
def test_no_critic_finds_more_than_the_divergence_and_the_log_ratio_finds_it(a, seed, d):
    """The variational bound on four points, with f in closed form."""
    of_p, of_q = counts(seed)
    gan, log_r = G.f_gan(D.alpha(a)), np.log(of_p / of_q)
    divergence = np.sum(of_q * alpha_f(a, of_p / of_q)) / 12
    found, best = (
        -df.discriminator_loss(gan, np.repeat(critic, of_p), np.repeat(critic, of_q))
        for critic in (d, log_r)
    )
    assert found <= divergence + 1e-12
    close(best, divergence, 1e-9, 1e-12)


@given(seeds, numbers(-3.0, 3.0, 4))
@law
@in_float64
def test_no_critic_finds_more_than_twice_jensen_shannon_or_kl(seed, d):
    of_p, of_q = counts(seed)
    p, q = of_p / 12, of_q / 12
    kl = lambda one, other: np.sum(one * np.log(one / other))
    twice_js = kl(p, (p + q) / 2) + kl(q, (p + q) / 2)
    on_p, on_q = np.repeat(d, of_p), np.repeat(d, of_q)
    assert 2 * np.log(2) - df.discriminator_loss(G.logit(), on_p, on_q) <= twice_js + 1e-12
    assert -df.discriminator_loss(G.nwj(), on_p, on_q) <= kl(p, q) + 1e-12
    best = [np.repeat(np.log(p / q), times) for times in (of_p, of_q)]
    close(2 * np.log(2) - df.discriminator_loss(G.logit(), *best), twice_js, 1e-10, 1e-12)
    best = [each + 1 for each in best]
    close(-df.discriminator_loss(G.nwj(), *best), kl(p, q), 1e-10, 1e-12)


def of_powers(w, u):
    """An increasing h: alpha's of several orders, with positive weights."""
    orders = (-1.0, 0.0, 0.5, 2.0)
    each = (D.alpha(order).h(u) for order in orders)
    return sum(weight * value for weight, value in zip(w, each, strict=True))


def path_loss(w, z, q, p):
    return df.stl_loss(p.log_prob, q, z, h=Partial(of_powers, w))


PATH_SLOPE = jax.jit(jax.grad(path_loss, argnums=2))


@given(st.integers(1, 3), st.booleans(), numbers(0.1, 2.0, 4), seeds)
@law
@in_float64
def test_the_path_gradient_vanishes_at_q_equal_to_p_whatever_h_and_the_draws(dim, flat, w, seed):
    rng = np.random.default_rng(seed)
    factor = covariance(rng, dim, 1.0) @ orthogonal(rng, dim)
    q = df.Gaussian(3 * rng.normal(size=dim), np.diag(factor) + 2 if flat else factor)
    slope = PATH_SLOPE(w, rng.normal(size=(3, dim)), q, q)
    # log p - log q is rounded at terms of size |S^-1| (|x| + |mu|).
    for leaf in jax.tree.leaves(slope):
        close(leaf, 0.0, 0, 1e-11)
