"""Two scores: the MonoFlow they give, and divergences as integrals along the heat flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
TABLE = df.divergences
NAMES = ("kl_qp", "kl_pq", "jensen_shannon", "softened_reverse_kl", "squared_hellinger")
NAMES += ("jeffreys", "le_cam", "neyman", "pearson", "least_squares", "arcsinh")
ROWS = {name: getattr(TABLE, name) for name in NAMES}
# The weights of f-distill by name, as functions of r (Xu, Nie & Vahdat, 2025, table 1).
WEIGHTS = {
    "kl_qp": lambda r: np.ones_like(r),
    "kl_pq": lambda r: r,
    "jensen_shannon": lambda r: r / (1 + r),
    "softened_reverse_kl": lambda r: 1 / (1 + r),
    "neyman": lambda r: 1 / r,
    "squared_hellinger": lambda r: np.sqrt(r),
    "jeffreys": lambda r: 1 + r,
}
Q, P = (0.0, 1.0), (0.5, 1.5)  # mean, variance


def log_normal(law, s, x):
    mean, variance = law
    return -0.5 * (x - mean) ** 2 / (variance + s) - 0.5 * jnp.log(variance + s)


def score(law, s, x, args):
    return jax.tree.map(lambda leaf: (law[0] - leaf) / (law[1] + s), x)


def log_ratio(p, q, s, x, args):
    whole = jax.tree.map(lambda leaf: jnp.sum(log_normal(p, s, leaf) - log_normal(q, s, leaf)), x)
    return sum(jax.tree.leaves(whole))


def rule(law, s):
    """Gauss and Hermite's for a noised normal law."""
    z, weights = np.polynomial.hermite_e.hermegauss(120)
    points = law[0] + jnp.sqrt(law[1] + s) * z[:, None]
    return points, jnp.asarray(weights / weights.sum())


def along_the_heat_flow(h, p, q, log_r, **options):
    scores = Partial(score, p), Partial(score, q)
    return df.heat_flow_divergence(h, *scores, log_r, Partial(rule, q), levels=80, **options)


@pytest.mark.parametrize("name", ROWS)
def test_the_field_is_that_of_the_ratio_whose_gradient_the_scores_are(name):
    xs = {"a": jnp.linspace(-2.0, 2.0, 10).reshape(5, 2), "b": jnp.linspace(0.0, 1.0, 5)}
    ratio = Partial(log_ratio, P, Q)
    field = df.score_velocity(ROWS[name].h, Partial(score, P), Partial(score, Q), ratio)
    exact = df.velocity(ROWS[name].h, ratio)(0.3, xs, None)
    for one, other in zip(*map(jax.tree.leaves, (field(0.3, xs, None), exact)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_published_weights_of_distillation_are_slopes_of_h(name):
    u = np.linspace(-4.0, 4.0, 17)
    ratio = Partial(lambda u, t, x, args: u[x[0].astype(int)], jnp.asarray(u))
    ones, none = (Partial(lambda c, t, x, args: jnp.full_like(x, c), c) for c in (1.0, 0.0))
    field = df.score_velocity(ROWS[name].h, ones, none, ratio)
    weight = field(0.0, jnp.arange(17.0)[:, None], None)[:, 0] / WEIGHTS[name](np.exp(u))
    np.testing.assert_allclose(weight, weight[0], rtol=1e-14)


def test_a_constant_slope_needs_no_ratio_and_any_other_does():
    scores = Partial(score, P), Partial(score, Q)
    xs = jnp.linspace(-2.0, 2.0, 5)[:, None]
    doubled = df.score_velocity(Partial(jnp.multiply, 2.0), *scores)(0.0, xs, None)
    np.testing.assert_allclose(doubled, 2 * (score(P, 0, xs, 0) - score(Q, 0, xs, 0)), rtol=1e-14)
    from_f = df.f_to_h(lambda r: -jnp.log(r))  # by autodiff, its slope is 1 up to round-off
    np.testing.assert_allclose(df.score_velocity(from_f, *scores)(0.0, xs, None), doubled / 2)
    with pytest.raises(ValueError, match=r"score_velocity: h' depends on u .* pass log_r"):
        df.score_velocity(jnp.tanh, *scores)
    with pytest.raises(ValueError, match=r"`score_q` returns float64\[\] at a point float64\[1\]"):
        df.score_velocity(TABLE.kl_qp.h, scores[0], lambda t, x, args: x[0])(0.0, xs, None)


def test_kl_and_jensen_shannon_are_the_published_numbers():
    kl = along_the_heat_flow(TABLE.kl_qp.h, (1.0, 4.0), (0.0, 1.0), None, scale=2.0)
    np.testing.assert_allclose(kl, np.log(2.0) + (1 + 1) / 8 - 0.5, rtol=1e-12)
    np.testing.assert_allclose(kl, 0.443147180559945, rtol=1e-12)


@pytest.mark.parametrize("name", ROWS)
def test_every_divergence_is_half_the_integral_of_its_dissipation(name):
    found = along_the_heat_flow(ROWS[name].h, P, Q, Partial(log_ratio, P, Q))
    x = np.linspace(-12.0, 12.0, 20001)  # the trapezium rule is exact to round-off here
    log_q = log_normal(Q, 0.0, x) - 0.5 * np.log(2 * np.pi)
    r = jnp.exp(log_normal(P, 0.0, x) - log_normal(Q, 0.0, x))
    # f + a (r - 1) is the same divergence; E_q[r - 1] = 0.
    wanted = np.trapezoid(np.exp(log_q) * ROWS[name].f(r), x)
    np.testing.assert_allclose(found, wanted, rtol=1e-7)
    if name == "jensen_shannon":
        np.testing.assert_allclose(found, 0.0331891045454, rtol=1e-11)
