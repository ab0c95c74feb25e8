"""Laws of Bures geometry and of losses for matrices, clouds and parameters that are drawn."""

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


# --- Bures: conditions up to 1e4 ---


def orthogonal(rng, dim):
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


def covariance(rng, dim, decades):
    """Eigenvalues spread evenly over some decades, in a random basis."""
    basis = orthogonal(rng, dim)
    values = 10.0 ** rng.permutation(np.linspace(-decades, 0, dim))
    return (basis * values) @ basis.T


@st.composite
def problems(draw, dims=st.sampled_from([1, 4])):
    """Arguments of `measured`, and the condition of each covariance."""
    dim, decades, t = draw(dims), draw(st.floats(0.0, 4.0)), draw(st.floats(0.05, 0.95))
    rng = np.random.default_rng(draw(seeds))
    abc = [covariance(rng, dim, decades) for _ in range(3)]
    return (*abc, orthogonal(rng, dim), np.asarray(t)), 10.0**decades


@jax.jit
def measured(a, b, c, turn, t):
    """All that the laws speak of, in one program for each dimension."""
    to_b, middle = bures.log(a, b), bures.geodesic(t, a, b)
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
        "map": bures.brenier_map(a, b),
        "middle": middle,
        "turned_map": bures.brenier_map(*turned),
    }


def scipys(a, b):
    root = scipy.linalg.sqrtm(a).real
    return np.trace(a + b - 2 * scipy.linalg.sqrtm(root @ b @ root).real)


@given(problems())
@law
@in_float64
def test_distances_maps_logs_and_geodesics_obey_the_laws_of_the_metric(drawn):
    (a, b, c, turn, t), condition = drawn
    found = {name: np.asarray(value) for name, value in measured(a, b, c, turn, t).items()}
    # A metric, which rotations keep, and its square is scipy's. Rotating rounds the matrices, by
    # eps: its root is what two nearly equal ones differ by. scipy subtracts traces of size dim, and
    # its roots of roots lose sqrt(condition).
    close(found["ab"], found["ba"], 1e-9, 1e-12)
    assert found["aa"] == 0.0
    assert found["ab"] <= found["ac"] + found["cb"] + 1e-12
    close(found["turned"], found["ab"], 1e-9, 1e-8)
    close(found["square"], found["ab"] ** 2, 1e-12, 1e-15)
    close(found["square"], scipys(a, b), 0, 1e-13 * condition)
    # The map is positive definite, carries a to b and turns along; log is its excess. Its relative
    # error is about eps times the condition of A, as its docstring says.
    there, size = found["map"], np.linalg.norm(found["map"])
    assert np.all(np.linalg.eigvalsh(there) > 0)
    close(there, there.T, 0, 0)
    close(there @ a @ there, b, 0, 1e-14 * condition * (1 + size))
    close(found["turned_map"], turn @ there @ turn.T, 0, 1e-13 * condition * size)
    half = (there - np.eye(len(a))) @ a
    close(found["log"], half + half.T, 0, 1e-13 * condition)
    # exp undoes log, whose length is the distance, and a geodesic has constant speed.
    close(found["exp"], b, 0, 1e-13 * condition)
    close(found["length"], found["square"], 1e-13 * condition, 1e-15 * condition)
    close(found["start"], t * found["ab"], 1e-12 * condition, 1e-13 * condition)
    close(found["end"], (1 - t) * found["ab"], 1e-12 * condition, 1e-13 * condition)


@jax.jit
def split(s, x):
    level = bures.horizontal(s, x)
    sigma, push = jax.jvp(bures.submersion, (s,), (level,))
    return level, bures.vertical(s, x), sigma, bures.inner(sigma, push, push)


@given(st.sampled_from([1, 4]), st.floats(0.0, 2.0), seeds)
@law
@in_float64
def test_tangents_split_into_a_symmetric_and_a_skew_part(dim, decades, seed):
    rng = np.random.default_rng(seed)
    s = covariance(rng, dim, decades) @ orthogonal(rng, dim)
    x = rng.normal(size=(dim, dim))
    level, upright, sigma, square = (np.asarray(part) for part in split(s, x))
    close(sigma, s @ s.T, 1e-12, 1e-13)
    close(level + upright, x, 1e-12, 1e-12)
    close(np.sum(level * upright), 0.0, 0, 1e-11 * np.sum(x**2))
    close(square, np.sum(level**2), 1e-9)  # the submersion keeps the length of the first
    k, skew = level @ np.linalg.inv(s), upright @ s.T
    close(k, k.T, 0, 1e-11 * 10**decades * np.max(np.abs(k)))
    close(skew, -skew.T, 0, 1e-11)


# --- losses ---

BATCH = 6
values = numbers(-5.0, 5.0, BATCH)
games = st.sampled_from(["vanilla", "non_saturating", "logit", "mle", "arcsinh", "nwj"])


@given(games, values, values, numbers(-5.0, 5.0, BATCH // 2), seeds)
@law
@in_float64
def test_losses_are_means_over_a_batch_of_any_order_and_shape(name, d_p, d_q, more, seed):
    gan, order = getattr(G, name)(), np.random.default_rng(seed).permutation(BATCH)
    loss = df.discriminator_loss(gan, d_p, d_q)
    close(df.discriminator_loss(gan, d_p[order], d_q[order[::-1]]), loss, 1e-12, 1e-12)
    close(df.discriminator_loss(gan, d_p.reshape(2, 3), d_q.reshape(3, 1, 2)), loss, 1e-12, 1e-12)
    close(df.generator_loss(gan, d_q[order]), df.generator_loss(gan, d_q), 1e-12, 1e-12)
    # The loss of two batches is their weighted mean.
    both, of_p = np.concatenate([d_p, more]), lambda gan, d: df.discriminator_loss(gan, d, d_q)
    for loss in (df.generator_loss, of_p):
        close(loss(gan, both), (2 * loss(gan, d_p) + loss(gan, more)) / 3, 1e-12, 1e-12)


def of_powers(w, u):
    """An increasing h: alpha's of several orders, with positive weights."""
    orders = (-1.0, 0.0, 0.5, 2.0)
    each = (D.alpha(order).h(u) for order in orders)
    return sum(weight * value for weight, value in zip(w, each, strict=True))


def path_loss(w, z, q, p):
    return df.stl_loss(p.log_prob, q, z, h=Partial(of_powers, w))


PATH_SLOPE = jax.jit(jax.grad(path_loss, argnums=2))


@given(st.booleans(), numbers(0.1, 2.0, 4), seeds)
@few
@in_float64
def test_the_path_gradient_vanishes_at_q_equal_to_p_whatever_h_and_the_draws(flat, w, seed):
    dim, rng = 2, np.random.default_rng(seed)
    factor = covariance(rng, dim, 1.0) @ orthogonal(rng, dim)
    q = df.Gaussian(3 * rng.normal(size=dim), np.diag(factor) + 2 if flat else factor)
    slope = PATH_SLOPE(w, rng.normal(size=(3, dim)), q, q)
    # log p - log q is rounded at terms of size |S^-1| (|x| + |mu|).
    for leaf in jax.tree.leaves(slope):
        close(leaf, 0.0, 0, 1e-11)
