"""Solves against the Ornstein-Uhlenbeck closed form, other schemes, and diffrax's own results."""

import functools

import chex
import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from jax.tree_util import Partial
from oracles import CASES
from targets import h_of

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
ORACLE = {case["id"]: case for case in CASES}
# theory.md section 8, with a third coordinate at rest, and the oracles' case whose covariances do
# not commute: of one shape, so that one program serves both.
OU = {
    "P": scipy.linalg.block_diag([[0.8, 0.64], [0.64, 0.8]], 0.64),
    "m": np.zeros(3),
    "Sigma0": 0.64 * np.eye(3),
    "mu0": np.array([4.0, 2.0, 0.0]),
}
SKEW = {name: np.array(ORACLE["E001"]["inputs"][name]) for name in ("P", "m", "Sigma0", "mu0")}
PROBLEMS = {"commuting": OU, "not": SKEW}
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)
TS = np.unique([0.0, 0.5, 1.0, 2.0, 5.0, *(1 + NODES)])  # with the nodes of [0, 2]
TRACES = []


def identity(u):
    return u


def gaussian_at(t, ou):
    """Mean and covariance of q_t, in JAX."""
    scales, axes = jnp.linalg.eigh(ou["P"])
    decay = (axes * jnp.exp(-t / scales)) @ axes.T
    cov = ou["P"] + decay @ (ou["Sigma0"] - ou["P"]) @ decay
    return ou["m"] + decay @ (ou["mu0"] - ou["m"]), cov


def log_q(t, x, ou):
    return jax.scipy.stats.multivariate_normal.logpdf(x, *gaussian_at(t, ou))


def log_p(x, ou):
    return jax.scipy.stats.multivariate_normal.logpdf(x, ou["m"], ou["P"])


def log_r(t, x, ou):
    return log_p(x, ou) - log_q(t, x, ou)


def exact(t, ou):
    """Mean and covariance of q_t, from SciPy."""
    decay = scipy.linalg.expm(-t * np.linalg.inv(ou["P"]))
    cov = ou["P"] + decay @ (ou["Sigma0"] - ou["P"]) @ decay
    return ou["m"] + decay @ (ou["mu0"] - ou["m"]), cov


def kl(mean, cov, ou):
    """KL of a Gaussian to the target."""
    ratio = np.linalg.solve(ou["P"], cov)
    gap = mean - ou["m"]
    mahalanobis = gap @ np.linalg.solve(ou["P"], gap)
    return 0.5 * (np.trace(ratio) + mahalanobis - len(gap) - np.linalg.slogdet(ratio)[1])


def cubature(ou):
    """Points with the mean and covariance of q_0 exactly: quadratics average without error."""
    columns = np.sqrt(len(ou["m"])) * np.linalg.cholesky(ou["Sigma0"]).T
    return ou["mu0"] + np.concatenate([columns, -columns])


def moments(xs):
    return np.mean(xs, 0), np.cov(xs.T, bias=True)


FLOW = df.velocity(identity, log_r)


@functools.cache
def solved(name):
    """Particles and their log densities at TS; one program for both problems."""
    ou = PROBLEMS[name]
    start = jax.vmap(log_q, (None, 0, None))(0.0, cubature(ou), ou)
    return df.integrate(df.with_log_prob(FLOW), (cubature(ou), start), TS, ou).ys


def at(t, name):
    return solved(name)[0][np.searchsorted(TS, t)]


@pytest.mark.parametrize("name", PROBLEMS)
def test_mean_covariance_and_log_density_follow_the_closed_form(name):
    ou = PROBLEMS[name]
    for t, xs, along in zip(TS, *solved(name), strict=True):
        chex.assert_trees_all_close(moments(xs), exact(t, ou), atol=1e-6)
        density = scipy.stats.multivariate_normal(*exact(t, ou)).logpdf(xs)
        np.testing.assert_allclose(along, density, atol=1e-5)


def test_particles_follow_the_exact_affine_map():
    mean, cov = exact(1.0, OU)
    mapped = mean + (cubature(OU) - OU["mu0"]) @ scipy.linalg.sqrtm(cov / 0.64)
    np.testing.assert_allclose(at(1.0, "commuting"), mapped, atol=1e-6)


def test_kl_falls_by_the_integral_of_its_rate():
    path = jnp.stack([at(t, "not") for t in 1 + NODES])
    slope = jax.vmap(jax.vmap(jax.value_and_grad(log_r, 1), (None, 0, None)), (0, 0, None))
    rates = jax.vmap(functools.partial(df.dissipation, identity))(*slope(1 + NODES, path, SKEW))
    fall = kl(*moments(at(2.0, "not")), SKEW) - kl(*moments(at(0.0, "not")), SKEW)
    np.testing.assert_allclose(WEIGHTS @ rates, fall, atol=1e-6)


def score(t, x, ou):
    return jnp.linalg.inv(ou["P"]) @ (ou["m"] - x)  # one inverse for all particles


@pytest.mark.parametrize(
    "options", [{"dt0": 0.05}, {"solver": diffrax.Euler()}], ids=["default", "Euler"]
)
def test_langevin_has_the_flows_marginals(options):
    x0 = OU["mu0"] + 0.8 * np.random.default_rng(0).normal(size=(1_000, 3))
    clouds = df.langevin(score, x0, [0, 0.5, 1], OU, key=jr.key(0), **options).ys
    for t, cloud in zip((0.5, 1.0), clouds[1:], strict=True):
        mean, cov = exact(t, OU)
        variance = np.diag(cov)
        error = np.sqrt((np.outer(variance, variance) + cov**2) / len(cloud))
        found = moments(cloud)
        assert np.all(np.abs(found[0] - mean) < 5 * np.sqrt(variance / len(cloud)))  # five sigma
        assert np.all(np.abs(found[1] - cov) < 5 * error)


def decay(t, y, rate):
    TRACES.append("decay")
    return jax.tree.map(lambda leaf: -rate * leaf, y)


def test_fixed_euler_is_the_loop_by_hand():
    ys = df.integrate(FLOW, cubature(OU), [0, 1], OU, solver=diffrax.Euler(), dt0=0.02).ys[1]
    step = jax.jit(lambda t, x: x + 0.02 * FLOW(t, x, OU))
    x = functools.reduce(lambda x, k: step(0.02 * k, x), range(50), jnp.asarray(cubature(OU)))
    np.testing.assert_allclose(ys, x, rtol=1e-12)


def test_ten_thousand_fixed_steps_need_no_max_steps():
    y = df.integrate(decay, 1.0, [0, 10], 1.0, solver=diffrax.Euler(), dt0=1e-3).ys[-1]
    np.testing.assert_allclose(y, 0.999**10_000, rtol=1e-9)


def test_an_implicit_solver_follows_a_stiff_decay():
    rates, ts = np.array([1.0, 1e4]), [0.0, 1.0]
    sol = df.integrate(decay, np.ones(2), ts, rates, solver=diffrax.Kvaerno3())
    np.testing.assert_allclose(sol.ys[-1], np.exp(-rates), atol=1e-5)
    assert sol.stats["num_steps"] < 500


def test_any_pytree_keeps_its_structure_and_dtype():
    y0 = {"a": (np.float32([1.0]), np.ones((2, 3), np.float32)), "b": 2}
    sol = df.integrate(decay, y0, np.array([0.0, 1.0]), 1)
    assert sol.ys["a"][0].shape == (2, 1)
    assert sol.ys["a"][1].shape == (2, 2, 3)
    np.testing.assert_allclose(sol.ys["b"], [2, 2 / np.e], atol=1e-4)
    only = df.integrate(decay, np.float32([1.0]), np.array([0.0, 1.0]), 1)
    assert only.ys.dtype == only.ts.dtype == jnp.float32
    np.testing.assert_allclose(only.ys[-1], 1 / np.e, atol=1e-4)


def test_new_numbers_and_times_trace_nothing():
    counts = []
    for k in range(3):
        df.integrate(decay, np.full(3, 1.0 + k), [0.0, 1.0 + k, 5.0], 2.0 + k)
        counts.append(len(TRACES))
    assert counts[0] == counts[2]


def pull(t, xs, args):
    mean, spread = args
    return -(xs - mean) / spread


def test_settle_stops_at_rest_and_says_so():
    sol = df.settle(pull, np.array([3.0, -1.0]), (0.5, 1.0))
    assert sol.result == diffrax.RESULTS.event_occurred
    np.testing.assert_allclose(sol.ys[-1], 0.5, atol=3e-6)
    loose = df.settle(pull, np.array([3.0, -1.0]), (0.5, 1.0), rtol=0.0, atol=1e-2)
    assert loose.ts[-1] < sol.ts[-1]
    assert abs(loose.ys[-1] - 0.5).max() < 2e-2


def test_a_failed_solve_raises_or_reports():
    with pytest.raises(Exception, match="maximum number of solver steps"):
        df.integrate(decay, 1.0, [0.0, 100.0], 1.0, max_steps=3)
    sol = df.integrate(decay, 1.0, [0.0, 100.0], 1.0, max_steps=3, throw=False)
    assert sol.result == diffrax.RESULTS.max_steps_reached
    np.testing.assert_array_equal(sol.ys, [1.0, np.inf])
    with pytest.raises(Exception, match="maximum number of solver steps"):
        df.settle(decay, 1.0, 1.0, max_steps=3)


def below(t, y, args, **kwargs):
    return y - 0.5


def test_an_event_ends_a_solve_and_dense_output_lies_between():
    event = diffrax.Event(below)
    sol = df.integrate(decay, 1.0, [0.0, 0.3, 3.0], 1.0, event=event, dense=True)
    np.testing.assert_allclose(sol.ts[:2], [0.0, 0.3], atol=1e-15)
    assert np.log(2) < sol.ts[2] < 1.0  # the end of the step in which it occurs
    np.testing.assert_allclose(sol.ys, np.exp(-sol.ts), atol=1e-7)
    np.testing.assert_allclose(sol.evaluate(0.2), np.exp(-0.2), atol=1e-6)


# Flows that leave the Gaussian family, against two PDE solvers' numbers (oracles, section E).
# One-dimensional particles carry fixed quantiles z, so their own spacing gives log q; what is under
# test is the table's h and `integrate`. Second differences on 161 quantiles leave errors of 1e-3.
PDES = {
    "kl": ("kl_qp", 1.0),
    "js": ("jensen_shannon", 1.0),
    "gan": ("jensen_shannon", 2.0),
    "ns": ("softened_reverse_kl", 1.0),
    "arcsinh": ("arcsinh", 1.0),
    "hellinger2": ("squared_hellinger", 0.5),
    "shifted_3": ("shifted_3", 1.0),
}


def quantile_field(h, factor, z, t, x, args):
    """h'(u) du/dx of a cloud whose particles keep their normal quantiles z."""
    step = z[1] - z[0]
    stretch = jnp.gradient(x, step)
    u = -0.5 * x**2 + 0.5 * z**2 + jnp.log(stretch)
    return factor * jnp.gradient(h(u), step) / stretch


@pytest.mark.parametrize("flow", PDES)
def test_integrate_with_a_tabled_h_meets_the_pde_solvers(flow):
    times = [0.0, 0.5, 1.0, 2.0]
    cases = [
        case
        for case in CASES
        if case["section"] == "E"
        and case["inputs"].get("flow") == flow
        and case["inputs"].get("t") in times[1:]
        and case["name"].endswith(("var", "mean", "1.5"))
    ]
    z, (row, factor) = jnp.linspace(-5.0, 5.0, 161), PDES[flow]
    field = Partial(quantile_field, h_of(row), factor, z)
    xs = df.integrate(field, 2 + 0.5 * z, times).ys
    weights = jnp.exp(-0.5 * z**2) / jnp.sum(jnp.exp(-0.5 * z**2))
    assert cases or flow == "kl"
    for case in cases:
        x = xs[times.index(case["inputs"]["t"])]
        mean = weights @ x
        moments = {"mean": mean, "var": weights @ (x - mean) ** 2}
        got = moments.get(case["name"].rsplit(" ", 1)[1], jnp.interp(-1.0, z, x))
        assert abs(got - case["expected"]) < 5e-3, (case["id"], got, case["expected"])
    assert abs(weights @ xs[1] - 2 * jnp.exp(-0.5)) < 5e-3 or flow != "kl"
