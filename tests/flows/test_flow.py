"""Solves: against the Ornstein-Uhlenbeck closed form, other schemes, and diffrax's own results."""

import chex
import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg
from oracles import CASES

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
ORACLE = {case["id"]: case for case in CASES}
# theory.md section 8, and the oracles' case whose covariances do not commute.
OU = {
    "P": np.array([[0.8, 0.64], [0.64, 0.8]]),
    "m": np.zeros(2),
    "Sigma0": 0.64 * np.eye(2),
    "mu0": np.array([4.0, 2.0]),
}
SKEW = {name: np.array(ORACLE["E001"]["inputs"][name]) for name in ("P", "m", "Sigma0", "mu0")}
TRACES = []


def identity(u):
    return u


def gaussian_at(t, ou):
    """Mean and covariance of q_t, in JAX."""
    scales, axes = jnp.linalg.eigh(ou["P"])
    decay = (axes * jnp.exp(-t / scales)) @ axes.T
    return ou["m"] + decay @ (ou["mu0"] - ou["m"]), ou["P"] + decay @ (
        ou["Sigma0"] - ou["P"]
    ) @ decay


def log_q(t, x, ou):
    return jax.scipy.stats.multivariate_normal.logpdf(x, *gaussian_at(t, ou))


def log_p(x, ou):
    return jax.scipy.stats.multivariate_normal.logpdf(x, ou["m"], ou["P"])


def log_r(t, x, ou):
    return log_p(x, ou) - log_q(t, x, ou)


def exact(t, ou):
    """The same, from SciPy."""
    decay = scipy.linalg.expm(-t * np.linalg.inv(ou["P"]))
    return ou["m"] + decay @ (ou["mu0"] - ou["m"]), ou["P"] + decay @ (
        ou["Sigma0"] - ou["P"]
    ) @ decay


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


@pytest.mark.parametrize("ou", [OU, SKEW], ids=["commuting", "not"])
def test_mean_and_covariance_follow_the_closed_form(ou):
    ts = np.array([0.0, 0.5, 1.0, 2.0, 5.0])
    for t, xs in zip(ts, df.integrate(FLOW, cubature(ou), ts, ou).ys, strict=True):
        chex.assert_trees_all_close(moments(xs), exact(t, ou), atol=1e-6)


def test_published_numbers_of_both_problems():
    xs = df.integrate(FLOW, cubature(OU), [0, 1, 5], OU).ys
    mean, cov = moments(xs[1])
    np.testing.assert_allclose(mean, [1.49998582, 1.49612491], atol=1e-6)
    np.testing.assert_allclose(cov, [[0.70026001, 0.54025822], [0.54025822, 0.70026001]], atol=1e-6)
    kls = [kl(*moments(x), OU) for x in xs]
    np.testing.assert_allclose(kls, [13.43454015, 1.56376704, 0.00602492], atol=1e-6)
    skew = df.integrate(FLOW, cubature(SKEW), [0, 0.5, 2], SKEW).ys
    np.testing.assert_allclose(moments(skew[1])[0], ORACLE["E001"]["expected"], atol=1e-6)
    np.testing.assert_allclose(kl(*moments(skew[1]), SKEW), ORACLE["E003"]["expected"], atol=1e-6)
    np.testing.assert_allclose(moments(skew[2])[1], ORACLE["E005"]["expected"], atol=1e-6)


def narrow(t, x, args):
    """From N(2, 1/4) to N(0, 1): each particle has a closed form."""
    return -0.5 * x**2 + 0.5 * (x - 2 * jnp.exp(-t)) ** 2 / (1 - 0.75 * jnp.exp(-2 * t))


def test_particles_follow_the_exact_affine_map():
    ys = df.integrate(df.velocity(identity, narrow), np.array([1.5]), [0.0, 0.5, 1.0, 2.0]).ys
    expected = [1.5] + [ORACLE[case]["expected"] for case in ("E009", "E013", "E017")]
    np.testing.assert_allclose(ys[:, 0], expected, atol=1e-6)
    xs = df.integrate(FLOW, cubature(OU), [0.0, 1.0], OU).ys
    mean, cov = exact(1.0, OU)
    np.testing.assert_allclose(
        xs[1], mean + (xs[0] - OU["mu0"]) @ scipy.linalg.sqrtm(cov / 0.64), atol=1e-6
    )


@pytest.mark.parametrize("ou", [OU, SKEW], ids=["commuting", "not"])
def test_log_density_along_a_path_is_the_closed_form(ou):
    x0, ts = cubature(ou) + 0.3, np.array([0.0, 1.0, 3.0])
    density = jax.vmap(jax.vmap(log_q, (None, 0, None)), (0, 0, None))
    start = jax.vmap(log_q, (None, 0, None))(0.0, x0, ou)
    xs, along = df.integrate(df.with_log_prob(FLOW), (x0, start), ts, ou).ys
    np.testing.assert_allclose(along, density(ts, xs, ou), atol=1e-5)


def test_kl_falls_by_the_integral_of_its_rate():
    nodes, weights = np.polynomial.legendre.leggauss(20)
    ts = np.concatenate([[0.0], 1 + nodes, [2.0]])
    xs = df.integrate(FLOW, cubature(SKEW), ts, SKEW).ys
    slope = jax.vmap(jax.vmap(jax.value_and_grad(log_r, 1), (None, 0, None)), (0, 0, None))
    us, grads = slope(ts, xs, SKEW)
    rates = [df.dissipation(identity, u, g) for u, g in zip(us, grads, strict=True)]
    fall = kl(*moments(xs[-1]), SKEW) - kl(*moments(xs[0]), SKEW)
    np.testing.assert_allclose(weights @ np.array(rates[1:-1]), fall, atol=1e-6)


TURN = np.array([[0.2, -1.5], [1.1, -0.4]])


def turning(t, xs, args):
    return xs @ jnp.asarray(TURN).T + jnp.array([1.0, -0.5])


def ratio_of_moments(t, x, moments_of_q):
    mean, cov = moments_of_q
    normal = jax.scipy.stats.multivariate_normal.logpdf
    return normal(x, OU["m"], OU["P"]) - normal(x, mean, cov)


def test_chain_rule_holds_for_a_field_that_is_no_gradient_flow():
    nodes, weights = np.polynomial.legendre.leggauss(20)
    ts = np.concatenate([[0.0], 0.5 + nodes / 2, [1.0]])
    path = df.integrate(turning, cubature(OU), ts).ys
    variation = df.velocity(identity, ratio_of_moments)  # -grad dF/dq, F = KL(q||p)
    rates = [
        -np.mean(np.sum(variation(t, x, moments(x)) * turning(t, x, None), axis=1))
        for t, x in zip(ts, path, strict=True)
    ]
    change = kl(*moments(path[-1]), OU) - kl(*moments(path[0]), OU)
    np.testing.assert_allclose(0.5 * weights @ np.array(rates[1:-1]), change, atol=1e-6)


def score(t, x, ou):
    return jax.grad(log_p)(x, ou)


@pytest.mark.parametrize("solver", [None, diffrax.Euler()], ids=["default", "Euler"])
def test_langevin_has_the_flows_marginals(solver):
    n = 2_000
    x0 = OU["mu0"] + 0.8 * np.random.default_rng(0).normal(size=(n, 2))
    dt0 = 0.05 if solver is None else 0.01
    xs = df.langevin(score, x0, [0, 0.5, 1], OU, dt0=dt0, solver=solver, key=jr.key(0)).ys
    for t, cloud in zip((0.5, 1.0), xs[1:], strict=True):
        mean, cov = exact(t, OU)
        variance = np.diag(cov)
        error = np.sqrt((np.outer(variance, variance) + cov**2) / n)
        found = moments(cloud)
        assert np.all(np.abs(found[0] - mean) < 5 * np.sqrt(variance / n))  # five sigma
        assert np.all(np.abs(found[1] - cov) < 5 * error)


def test_langevin_repeats_itself_with_the_same_key():
    first, again, other = (
        df.langevin(score, cubature(OU), [0.0, 0.2], OU, key=jr.key(k)).ys for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.all(first[1] != other[1])


def decay(t, y, rate):
    TRACES.append("decay")
    return jax.tree.map(lambda leaf: -rate * leaf, y)


def test_fixed_euler_is_the_loop_by_hand():
    ys = df.integrate(FLOW, cubature(OU), [0, 1], OU, solver=diffrax.Euler(), dt0=0.02).ys[1]
    x = jnp.asarray(cubature(OU))
    for k in range(50):
        x = x + 0.02 * FLOW(0.02 * k, x, OU)
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
    df.integrate(decay, np.ones(3), [0, 1, 2], 1.0)
    before = len(TRACES)
    for k in range(3):
        df.integrate(decay, np.full(3, 1.0 + k), np.array([0.0, 1.0 + k, 5.0]), 2.0 + k)
    assert len(TRACES) == before


def pull(t, xs, args):
    mean, spread = args
    return -(xs - mean) / spread


def end_of_pull(mean, spread):
    return df.integrate(pull, np.array([3.0]), [0.0, 1.5], (mean, spread)).ys[-1, 0]


def test_a_solve_differentiates_in_the_targets_parameters():
    slopes = jax.grad(end_of_pull, argnums=(0, 1))(1.0, 2.0)
    shrink = np.exp(-1.5 / 2)
    chex.assert_trees_all_close(slopes, (1 - shrink, 2 * shrink * 1.5 / 4), atol=1e-6)
    ahead, behind = end_of_pull(1.0, 2.0 + 1e-4), end_of_pull(1.0, 2.0 - 1e-4)
    np.testing.assert_allclose((ahead - behind) / 2e-4, slopes[1], atol=1e-5)


def test_solves_run_under_jit_and_vmap():
    means = jnp.array([-1.0, 0.0, 2.0])
    ends = jax.jit(jax.vmap(end_of_pull, in_axes=(0, None)))(means, 2.0)
    np.testing.assert_allclose(ends, means + (3 - means) * np.exp(-0.75), atol=1e-7)
    noisy = jax.jit(jax.vmap(noisy_end))(jr.split(jr.key(0), 3))
    np.testing.assert_allclose(noisy[1], noisy_end(jr.split(jr.key(0), 3)[1]), rtol=1e-9)


def noisy_end(key):
    return df.langevin(pull, np.ones((4, 1)), [0.0, 0.1], (0.0, 1.0), key=key).ys[-1]


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
    np.testing.assert_allclose(sol.ys, [1.0, np.exp(-0.3), np.inf], atol=1e-7)
    np.testing.assert_allclose(sol.evaluate(0.2), np.exp(-0.2), atol=1e-6)


def test_wrong_times_and_steps_are_refused():
    with pytest.raises(ValueError, match=r"integrate: `ts` holds 1 time"):
        df.integrate(decay, 1.0, [0.0])
    with pytest.raises(ValueError, match=r"langevin: `ts` holds 1 time"):
        df.langevin(score, np.ones((2, 2)), [0.0], OU, key=jr.key(0))
    with pytest.raises(ValueError, match="Euler takes fixed steps"):
        df.integrate(decay, 1.0, [0.0, 1.0], solver=diffrax.Euler())
    with pytest.raises(Exception, match="must increase"):
        df.integrate(decay, 1.0, [1.0, 0.0], 1.0)
    with pytest.raises(Exception, match=r"`dt0` is -0\.1; pass a positive"):
        df.integrate(decay, 1.0, [0.0, 1.0], 1.0, dt0=-0.1)
