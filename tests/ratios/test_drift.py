"""The drift of drifting models against its formula, pair by pair, and what it does not change."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
XS_Q, XS_P = RNG.normal(size=(6, 3)), RNG.normal(size=(9, 3)) + 0.7
RADII = (0.02, 0.05, 0.2)


def softmax(values):
    powers = np.exp(values - np.max(values))
    return powers / np.sum(powers)


def by_hand(xs_q, xs_p, radii):
    """Released drift, written from its description: for one sample of q after the other."""
    ys, n, dim = [*xs_q, *xs_p], len(xs_q), xs_q.shape[1]
    far = np.array([[np.linalg.norm(x - y) for y in ys] for x in xs_q])
    unit = np.mean(far) / np.sqrt(dim)
    logits = -far / np.mean(far)
    for i in range(n):
        logits[i, i] -= 100.0
    total = np.zeros_like(xs_q)
    for radius in radii:
        by_row = [softmax(row / radius) for row in logits]
        by_column = [softmax(column / radius) for column in logits.T]
        force = np.zeros_like(xs_q)
        for i in range(n):
            w = [np.sqrt(max(by_row[i][j] * by_column[j][i], 1e-6)) for j in range(len(ys))]
            towards = sum(w[j] * (ys[j] - xs_q[i]) for j in range(n, len(ys)))
            own = sum(w[j] * (ys[j] - xs_q[i]) for j in range(n))
            force[i] = (sum(w[:n]) * towards - sum(w[n:]) * own) / unit
        total += force / max(np.sqrt(np.mean(force**2)), 1e-4)
    return unit * total


@pytest.mark.parametrize("radii", [RADII, (0.2,), (3.0, 0.5)], ids=str)
def test_the_drift_is_its_formula_pair_by_pair(radii):
    found = df.drift_field(XS_Q, XS_P, radii=radii)
    np.testing.assert_allclose(found, by_hand(XS_Q, XS_P, radii), rtol=1e-10, atol=1e-13)
    narrow = df.drift_field(*(jnp.asarray(xs, jnp.float32) for xs in (XS_Q, XS_P)), radii=radii)
    np.testing.assert_allclose(narrow, by_hand(XS_Q, XS_P, radii), rtol=1e-5, atol=1e-5)


def test_one_of_each_cloud_moves_to_the_other_by_its_unit():
    """Two distances, 0 and 5, of mean 2.5: a step of that over sqrt(2) times sqrt(2)."""
    found = df.drift_field(np.zeros((1, 2)), np.array([[3.0, 4.0]]), radii=[1.0])
    np.testing.assert_allclose(found, [[1.5, 2.0]], rtol=1e-12)


def test_it_moves_turns_and_grows_with_the_samples_of_any_shape():
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    found = df.drift_field(XS_Q, XS_P)
    moved = df.drift_field(4.0 * XS_Q @ turn + 100.0, 4.0 * XS_P @ turn + 100.0)
    np.testing.assert_allclose(moved, 4.0 * found @ turn, rtol=1e-9)
    images = df.drift_field(XS_Q.reshape(6, 1, 3, 1), XS_P.reshape(9, 1, 3, 1))
    np.testing.assert_allclose(images, found.reshape(6, 1, 3, 1), rtol=1e-12)


def test_its_size_and_so_the_loss_is_the_same_number_for_all_samples():
    sizes = []
    for shift in (0.1, 3.0):
        xs_q, xs_p = XS_Q + shift, XS_P
        both = np.concatenate([xs_q, xs_p])
        mean = np.mean([[np.linalg.norm(x - y) for y in both] for x in xs_q])
        drift = df.drift_field(xs_q, xs_p, radii=[0.2])
        loss = df.distillation_loss(xs_q, drift, 1.0)
        sizes.append(2 * loss / mean**2)  # of sum over coordinates / dim
    np.testing.assert_allclose(sizes, [1.0, 1.0], rtol=1e-12)


def test_samples_that_are_all_equal_stay_where_they_are():
    np.testing.assert_array_equal(
        df.drift_field(np.ones((3, 2)), np.ones((4, 2))), np.zeros((3, 2))
    )


def test_a_cloud_that_follows_it_comes_to_p():
    xs_p, xs_q = jr.normal(jr.key(0), (200, 2)) + 4.0, jr.normal(jr.key(1), (150, 2))
    step = lambda xs, eps: (xs + eps * df.drift_field(xs, xs_p, radii=[0.1, 0.3]), None)
    moved, _ = jax.lax.scan(step, xs_q, jnp.geomspace(0.2, 0.01, 60))
    floor = df.wasserstein2(jr.normal(jr.key(2), (150, 2)) + 4.0, xs_p)
    assert df.wasserstein2(moved, xs_p) < floor < 1 < df.wasserstein2(xs_q, xs_p)
