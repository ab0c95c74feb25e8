"""Fits on mini-batches: against fits on all rows, closed forms, and what they say of themselves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.tree_util import Partial

import divergence_flows as df

KEY = jr.key(0)
# The mean of 400 rows of unit noise, under a standard normal prior.
ROWS = jr.normal(jr.key(3), (400, 2)) * jnp.array([1.0, 3.0]) + 1.0
CENTRE, PRECISION = ROWS.sum(0) / 401, 401.0


def ten_rows(key):
    return ROWS[jr.randint(key, (10,), 0, len(ROWS))]


def log_p(x, rows):
    distances = jnp.sum((rows - x) ** 2, axis=1)
    return -0.5 * jnp.sum(x**2) - 0.5 * len(ROWS) * jnp.mean(distances)


def test_verdicts_are_no_better_than_the_truth():
    def fitted(key):
        start = df.Gaussian(CENTRE + 0.3, 0.1 * jnp.eye(2))
        options = {"batch": ten_rows, "n": 32, "tol": 0.5, "throw": False}
        return df.fit_gaussian(log_p, start, **options, key=key)

    q, info = jax.jit(jax.vmap(fitted))(jr.split(KEY, 50))
    exact = jax.vmap(lambda q: df.gaussian_kl(q, df.Gaussian(CENTRE, jnp.eye(2) / PRECISION**0.5)))
    # Of a Gaussian target the gap is the KL to second order.
    assert jnp.max(exact(q) / info.gap) < 2
    assert jnp.all(info.rested == (info.gap <= 0.5))
    assert jnp.mean(info.rested) > 0.9
    assert jnp.all(info.k_hat == jnp.inf)
    # E_q[log p] - E_q[log q], of all rows
    squares = jnp.sum((ROWS - CENTRE) ** 2) + jnp.sum(CENTRE**2)
    spread = jax.vmap(lambda q: jnp.sum(q.covariance.diagonal() + (q.mean - CENTRE) ** 2))(q)
    entropy = jax.vmap(lambda q: 1 + jnp.log(2 * jnp.pi) + q.log_det())(q)
    errors = (info.elbo - entropy + 0.5 * squares + 0.5 * PRECISION * spread) / info.elbo_error
    assert jnp.all(jnp.abs(errors) < 4.5)
    assert 0.6 < jnp.std(errors) < 1.6


N, D = 50_000, 8


def regression_rows():
    """Rows and labels of a logistic regression with correlated columns."""
    keys = jr.split(jr.key(5), 4)
    mixing = jnp.eye(D) + 0.3 * jr.normal(keys[0], (D, D))
    rows = jr.normal(keys[1], (N, D)) @ mixing
    chance = jax.nn.sigmoid(rows @ (0.5 * jr.normal(keys[2], (D,))))
    return rows, jnp.where(jr.bernoulli(keys[3], chance), 1.0, -1.0)


def of_row(x, row, label):
    return jax.nn.log_sigmoid(label * row @ x)


def of_all(rows, labels, x):
    return -0.5 * x @ x + jnp.sum(jax.vmap(of_row, (None, 0, 0))(x, rows, labels))


def of_some(x, batch):
    return -0.5 * x @ x + N * jnp.mean(jax.vmap(of_row, (None, 0, 0))(x, *batch))


def drawn(size, rows, labels, key):
    picked = jr.randint(key, (size,), 0, N)
    return rows[picked], labels[picked]


def expanded(anchor, x, row, label):
    """A row's log likelihood to second order around the anchor."""
    along = lambda x: jax.jvp(lambda x: of_row(x, row, label), (x,), (shift,))[1]
    shift = x - anchor
    slope, bend = jax.jvp(along, (anchor,), (shift,))
    return of_row(anchor, row, label) + slope + 0.5 * bend


def with_control(anchor, value, slope, bend, x, batch):
    """Replaces the expansion of a batch by that of all rows."""
    rest = lambda row, label: of_row(x, row, label) - expanded(anchor, x, row, label)
    shift = x - anchor
    whole = value + slope @ shift + 0.5 * shift @ bend @ shift
    return -0.5 * x @ x + whole + N * jnp.mean(jax.vmap(rest)(*batch))


def test_fifty_thousand_rows_as_by_all_of_them(x64):
    rows, labels = regression_rows()
    target = Partial(of_all, rows, labels)
    best, known = df.fit_gaussian(target, jnp.zeros(D), n=64, key=KEY)
    q, info = df.fit_gaussian(
        of_some, jnp.zeros(D), batch=Partial(drawn, 200, rows, labels), tol=0.2, key=jr.key(1)
    )
    assert info.rested
    assert df.gaussian_kl(q, best) < 0.05
    assert abs(info.elbo - known.elbo) < 4 * info.elbo_error

    # Control variates around the mode: 100 rows in place of 50,000 for each gradient.
    anchor = best.mean + 0.01
    likelihood = lambda x: target(x) + 0.5 * x @ x
    all_rows = [f(anchor) for f in (likelihood, jax.grad(likelihood), jax.hessian(likelihood))]
    q, info = df.fit_gaussian(
        Partial(with_control, anchor, *all_rows),
        jnp.zeros(D),
        batch=Partial(drawn, 100, rows, labels),
        tol=1e-3,
        key=jr.key(2),
    )
    assert info.rested
    assert info.steps[-1] < 200
    assert df.gaussian_kl(q, best) < 1e-3
    assert info.elbo_error < 0.02
    assert abs(info.elbo - known.elbo) < 4 * info.elbo_error + 1e-3


W = jnp.array([2.0, -1.0, 1.5, 1.0])


def with_four_more(x, rows):
    """Parameters of covariance (I + W W^T) / 401 beside the mean of rows."""
    square = x["b"] @ x["b"] - (W @ x["b"]) ** 2 / (1 + W @ W)
    return log_p(x["a"], rows) - 0.5 * PRECISION * square


def test_a_vector_of_deviations_and_a_low_rank():
    start = {"a": jnp.zeros(2), "b": jnp.zeros(4)}
    low, info = df.fit_gaussian(with_four_more, start, rank=1, batch=ten_rows, key=KEY)
    flat = df.Gaussian(jnp.zeros(2), jnp.ones(2))
    flat, other = df.fit_gaussian(log_p, flat, batch=ten_rows, key=KEY)
    assert info.rested & other.rested
    deviation = PRECISION**-0.5
    exact = jnp.eye(6).at[2:, 2:].add(jnp.outer(W, W))
    mean = jnp.append(CENTRE, jnp.zeros(4))
    np.testing.assert_allclose(low.mean / deviation, mean / deviation, atol=0.4)
    np.testing.assert_allclose(flat.mean / deviation, CENTRE / deviation, atol=0.4)
    np.testing.assert_allclose(low.covariance * PRECISION, exact, atol=0.2)
    np.testing.assert_allclose(flat.scale**2 * PRECISION, 1.0, atol=0.2)


def test_too_few_draws_are_said():
    start = df.Gaussian(CENTRE, jnp.eye(2) / 20)
    with pytest.raises(eqx.EquinoxRuntimeError, match=r"after `max_steps` steps.*control variates"):
        jax.block_until_ready(
            df.fit_gaussian(log_p, start, batch=ten_rows, tol=1e-3, max_steps=64, key=KEY)
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nodes": df.cubature(2)}, "`batch` draws nodes .* does not go with `nodes`"),
        ({"geometry": "bures"}, 'does not go with geometry="bures"'),
        (
            {"nodes": df.Nodes(jnp.eye(2), jnp.ones(2) / 2, ROWS[:2]), "batch": None},
            "`nodes` have mini-batches, to which a fit would adapt; pass `batch`",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        df.fit_gaussian(log_p, jnp.zeros(2), **{"batch": ten_rows} | options, key=KEY)
