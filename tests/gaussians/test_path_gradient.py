"""The path gradient against the gradient of F_f itself, by a trapezoid rule in x, in float64."""

import functools

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import ROWS
from jax.tree_util import Partial
from targets import rates

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")

X = np.arange(-12.0, 12.0, 0.05)[:, None]


def tilted(x):
    return jnp.sum(-0.5 * x**2 + 0.3 * jnp.sin(2 * x))


LOG_Z = np.log(0.05 * np.sum(np.exp(-0.5 * X**2 + 0.3 * np.sin(2 * X))))


def log_p(x):
    return tilted(x) - LOG_Z


def gaussian():
    return df.Gaussian(np.array([0.3]), np.array([1.05]))


def mixture():
    means, scales = np.array([[-1.0], [0.2], [0.9]]), np.array([[0.9], [1.05], [0.8]])
    return df.Mixture(np.array([0.3, -0.2, 0.1]), means, scales)


MODELS = {"gaussian": gaussian, "mixture": mixture}
# All rows for a Gaussian; for a mixture those whose h is most unlike another's.
CASES = [("gaussian", name) for name in ROWS]
CASES += [("mixture", name) for name in ("kl_qp", "kl_pq", "jensen_shannon", "alpha_-2", "arcsinh")]
every_case = pytest.mark.parametrize(("model", "name"), CASES, ids=["-".join(c) for c in CASES])
DRAWS = 20_000


def rule():
    """Made inside the tests, in float64."""
    return df.trapezoid(1)


@jax.jit
@jax.grad
def exact_gradient(q, log_f):
    log_q = jax.vmap(q.log_prob)(X)
    return 0.05 * jnp.sum(jnp.exp(log_q) * log_f(jax.vmap(log_p)(X) - log_q))


@eqx.filter_jit
def path_gradient(q, z, h=None, target=log_p):
    return jax.grad(lambda q: df.stl_loss(target, q, z, h=h))(q)


@jax.jit
def each_sample(q, zs, h, at_p):
    """The gradient of each draw alone, towards p or, if `at_p` is 1, towards q."""
    target = lambda x: (1 - at_p) * log_p(x) + at_p * q.log_prob(x)
    return jax.vmap(lambda z: jax.grad(df.stl_loss, 1)(target, q, z[None], h=h))(zs)


@functools.cache
def gradients(model, name):
    """For each point of the rule and each draw: towards p, and at q = p. Then the exact one."""
    q, h = MODELS[model](), ROWS[name].h
    zs = jnp.concatenate([rule().points, jr.normal(jr.key(0), (DRAWS, 1))])
    exact = exact_gradient(q, ROWS[name].log_f)
    return each_sample(q, zs, h, 0.0), each_sample(q, zs, h, 1.0), exact


@every_case
def test_on_a_quadrature_rule_it_is_the_gradient_of_the_divergence(model, name):
    each, _, exact = gradients(model, name)
    weights = np.asarray(rule().weights)
    ours = jax.tree.map(lambda leaf: np.tensordot(weights, leaf[: weights.size], 1), each)
    chex.assert_trees_all_close(ours, exact, rtol=1e-8, atol=1e-10)


@every_case
def test_on_draws_it_is_unbiased(model, name):
    each, _, exact = gradients(model, name)
    for sample, mean in zip(jax.tree.leaves(each), jax.tree.leaves(exact), strict=True):
        draws = np.asarray(sample[-DRAWS:])
        score = (draws.mean(0) - mean) / (draws.std(0) / np.sqrt(DRAWS))
        assert np.all(np.abs(score) < 4)


@every_case
def test_at_q_equal_to_p_the_gradient_of_each_sample_is_zero(model, name):
    for leaf in jax.tree.leaves(gradients(model, name)[1]):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-12)


@pytest.mark.parametrize("name", ["kl_qp", "jensen_shannon", "neyman"])
def test_a_gaussians_path_gradient_is_minus_its_bures_wasserstein_field(name):
    q, nodes, h = gaussian(), df.gauss_hermite(1, 12), ROWS[name].h
    minus = jax.tree.map(jnp.negative, rates(df.gaussian_field(log_p, nodes, h=h), q))
    chex.assert_trees_all_close(path_gradient(q, nodes, h), minus, rtol=1e-10)


def shifted_exp(c, u):
    return jnp.exp(u) + c


def test_the_constant_of_h_drops_out_of_a_mixtures_gradient_sample_by_sample():
    q, zs = mixture(), jr.normal(jr.key(3), (4, 1))
    one, other = (each_sample(q, zs, Partial(shifted_exp, c), 0.0) for c in (0.0, 7.0))
    chex.assert_trees_all_close(one, other, atol=1e-12)


class Raw(eqx.Module):
    """A mixture whose `log_weights` are not normalised."""

    inner: df.Mixture

    @property
    def log_weights(self):
        return self.inner.logits + 2.0

    def push(self, z):
        return self.inner.push(z)

    def log_prob(self, x):
        return self.inner.log_prob(x)


def test_weights_need_not_be_normalised():
    nodes = df.gauss_hermite(1, 20)
    ours, raw = path_gradient(mixture(), nodes), path_gradient(Raw(mixture()), nodes)
    chex.assert_trees_all_close(raw.inner, ours, atol=1e-14)


class Hidden:
    """A Gaussian whose parameters no pytree can see."""

    def __init__(self, mean, scale):
        self.push = lambda z: mean + scale * z
        self.log_prob = lambda x: jnp.sum(-0.5 * ((x - mean) / scale) ** 2 - jnp.log(scale))


def test_parameters_in_closures_are_held_fixed_too():
    nodes, mean, scale = df.gauss_hermite(1, 20), jnp.array([0.3]), jnp.array([1.05])
    loss = lambda mean, scale: df.stl_loss(log_p, Hidden(mean, scale), nodes, h=jnp.exp)
    ours = jax.jit(jax.grad(loss, argnums=(0, 1)))(mean, scale)
    seen = path_gradient(df.Gaussian(mean, scale), nodes, jnp.exp)
    # exp of a log ratio without its constant: q's missing log(2 pi)/2 rescales the gradient.
    factor = 1 / np.sqrt(2 * np.pi)
    chex.assert_trees_all_close(ours, (factor * seen.mean, factor * seen.scale), rtol=1e-10)


def raised(x):
    return log_p(x) + 3.0


def test_for_a_power_of_r_a_constant_of_log_p_rescales_the_gradient():
    unnormalised = path_gradient(gaussian(), rule(), ROWS["alpha_half"].h, raised)
    exact = exact_gradient(gaussian(), ROWS["alpha_half"].log_f)
    scaled = jax.tree.map(lambda leaf: np.exp(1.5) * leaf, exact)
    chex.assert_trees_all_close(unnormalised, scaled, rtol=1e-9)


def test_for_another_h_a_constant_of_log_p_changes_the_divergence():
    unnormalised = path_gradient(gaussian(), rule(), ROWS["shifted_0"].h, raised)
    exact = exact_gradient(gaussian(), ROWS["shifted_3"].log_f)
    chex.assert_trees_all_close(unnormalised, exact, rtol=1e-9)


def shifted_target(x, shift):
    return -0.5 * jnp.sum((x - shift) ** 2)


def test_mini_batches_of_the_nodes_reach_the_target():
    shifts = np.array([1.0, -2.0, 4.0])
    nodes = df.Nodes(np.array([[-1.0], [0.0], [1.0]]), np.array([0.25, 0.5, 0.25]), shifts)
    q = df.Gaussian(np.array([0.5]), np.array([1.0]))
    gradient = path_gradient(q, nodes, target=shifted_target)
    # u = -(x - shift)^2/2 + (x - 1/2)^2/2 has the slope shift - 1/2, whose mean is 1/4 - 1/2.
    chex.assert_trees_all_close(gradient.mean, np.array([0.25]), atol=1e-12)


def test_events_may_have_any_shape():
    class Shift(eqx.Module):
        by: jax.Array

        def push(self, z):
            return z + self.by

        def log_prob(self, x):
            return -0.5 * jnp.sum((x - self.by) ** 2)

    by, zs = jr.normal(jr.key(4), (2, 3)), jr.normal(jr.key(5), (6, 2, 3))
    gradient = path_gradient(Shift(by), zs, target=lambda x: -0.5 * jnp.sum(x**2))
    chex.assert_trees_all_close(gradient.by, by, rtol=1e-12)


@pytest.mark.parametrize("name", ["kl_qp", "kl_pq", "jensen_shannon", "pearson"])
def test_f_of_the_log_ratio_is_refused_with_the_reason(name):
    loss = eqx.filter_jit(lambda q: df.stl_loss(log_p, q, rule(), h=ROWS[name].log_f))
    with pytest.raises(Exception, match=r"h_eff' = -r f'\(r\)"):
        loss(gaussian())


def test_a_mixture_that_pushes_to_one_sample_is_refused():
    class One(Raw):
        def push(self, z):
            return self.inner.push(z)[0]

    with pytest.raises(ValueError, match="one sample for each component"):
        df.stl_loss(log_p, One(mixture()), jnp.ones((2, 1)))


class FlowJax(eqx.Module):
    """The adapter of the docstring."""

    law: eqx.Module

    def push(self, z):
        return self.law.bijection.transform(z)

    def log_prob(self, x):
        return self.law.log_prob(x)


class Distrax(FlowJax):
    """The other adapter of the docstring."""

    law: object

    def push(self, z):
        return self.law.bijector.forward(z)


def log_p_of_exp(x):
    return log_p(jnp.log(x)) - jnp.sum(jnp.log(x))


LIBRARIES = {
    "flowjax": lambda law: (lambda *a: FlowJax(law.LogNormal(*a).merge_transforms()), log_p_of_exp),
    "distrax": lambda law: (lambda *a: Distrax(law.MultivariateNormalDiag(*a)), log_p),
}


@pytest.mark.filterwarnings("ignore:jax.core:DeprecationWarning")  # tfp-nightly at import
@pytest.mark.parametrize("name", ["kl_qp", "jensen_shannon"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_laws_of_other_libraries_have_the_gradient_of_a_gaussian(library, name):
    module = pytest.importorskip({"flowjax": "flowjax.distributions"}.get(library, library))
    made, target = LIBRARIES[library](module)
    loss = lambda *theta: df.stl_loss(target, made(*theta), rule(), h=ROWS[name].h)
    exact = exact_gradient(gaussian(), ROWS[name].log_f)
    gradient = jax.jit(jax.grad(loss, (0, 1)))(jnp.array([0.3]), jnp.array([1.05]))
    chex.assert_trees_all_close(gradient, (exact.mean, exact.scale), rtol=1e-9)
