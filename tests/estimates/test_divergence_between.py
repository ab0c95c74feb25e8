"""Divergences of samples against quadrature and closed forms, and verdicts that are no better."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import river.datasets
from scipy.stats import norm

import divergence_flows as df

SHIFT, WIDTH = 0.5, 1.1
CATALOGUE = [
    *("kl_qp", "kl_pq", "jensen_shannon", "softened_reverse_kl", "squared_hellinger", "pearson"),
    *("neyman", "le_cam", "jeffreys", "least_squares", "arcsinh"),
]


def true_value(div):
    """E_q[f(p/q)] - f(1) by quadrature, p = N(0, 1) and q = N(SHIFT, WIDTH^2)."""
    p, q = norm(), norm(SHIFT, WIDTH)
    # The trapezoid is exact to round-off for what is smooth and vanishes at both ends.
    xs = np.linspace(-9, 9, 4001)
    return np.trapezoid(q.pdf(xs) * div.standard(jnp.asarray(p.logpdf(xs) - q.logpdf(xs))), xs)


@functools.cache
def found_in_many(name, count=100, n=1000):
    """Estimates of so many pairs of samples, by critics of which one has the true ratio."""
    critic = df.networks.Discriminator(1, depth=0, quadratic=True, key=jr.key(0))
    options = {"critic": critic, "steps": 200}
    options["optimizer"] = optax.adam(optax.cosine_decay_schedule(0.05, 200))

    def found(key):
        of_p, of_q, key = jr.split(key, 3)
        xs_p, xs_q = jr.normal(of_p, (n, 1)), SHIFT + WIDTH * jr.normal(of_q, (n, 1))
        div = getattr(df.divergences, name)
        return df.divergence_between(xs_p, xs_q, div, **options, key=key)

    return jax.jit(jax.vmap(found))(jr.split(jr.key(1), count))


def of_log_ratios(div, found):
    """E_p[f'(r)] - E_q[h(u)], which is the bound, and its standard error."""
    zero = jnp.zeros(())
    slopes = div.activation(found.log_r_p) - div.activation(zero)
    heights = div.h(found.log_r_q) - div.h(zero)
    error = jnp.sqrt((slopes.var(1) + heights.var(1)) / slopes.shape[1])
    return slopes.mean(1) - heights.mean(1), error


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_true_value_is_within_two_standard_errors(name, x64):
    div = getattr(df.divergences, name)
    # The log ratios are those of any divergence, so that one training serves for all.
    found = found_in_many("kl_qp")
    value, error = of_log_ratios(div, found)
    if name == "kl_qp":
        np.testing.assert_allclose(found.value, value, rtol=1e-10)
        np.testing.assert_allclose(found.error, error, rtol=1e-10)
    covered = jnp.abs(value - true_value(div)) <= 2 * error
    assert jnp.sum(covered) >= 90


def test_each_divergence_asks_the_same_log_ratios(x64):
    one, other = (found_in_many(name, count=2, n=100) for name in ("kl_qp", "pearson"))
    np.testing.assert_array_equal(one.log_r_p, other.log_r_p)
    value, error = of_log_ratios(df.divergences.pearson, one)
    np.testing.assert_allclose(other.value, value, rtol=1e-10)
    np.testing.assert_allclose(other.error, error, rtol=1e-10)
    # The plug-in of Pearson's divergence is the variance of r where its mean is 1.
    r = jnp.exp(other.log_r_q)
    np.testing.assert_allclose(other.plug_in, jnp.mean((r - 1) ** 2, axis=1), rtol=1e-8)


def test_most_are_believed_and_the_bound_is_below(x64):
    found = found_in_many("kl_qp")
    assert jnp.mean(found.believe) > 0.85
    truth = true_value(df.divergences.kl_qp)
    standard_error = jnp.std(found.value) / 10
    assert jnp.mean(found.value) < truth + 3 * standard_error
    np.testing.assert_allclose(jnp.mean(found.error), jnp.std(found.value), rtol=0.25)


def test_increasing_maps_of_coordinates_change_nothing():
    xs_p, xs_q = jr.normal(jr.key(0), (300, 2)), jr.normal(jr.key(1), (300, 2)) + 0.5
    ask = functools.partial(
        df.divergence_between,
        div=df.divergences.jensen_shannon,
        critic=df.networks.Discriminator(2, 8, 1, key=jr.key(0)),
        **{"gaussianise": True, "steps": 40, "folds": 2, "key": jr.key(2)},
    )
    plain = ask(xs_p, xs_q)
    heavy = ask(jnp.exp(3 * xs_p), jnp.exp(3 * xs_q))
    np.testing.assert_array_equal(plain.value, heavy.value)
    # Equal values share a rank, so that what is constant in both is no coordinate at all.
    wide = ask(*(jnp.round(xs) for xs in (xs_p, xs_q)))
    assert jnp.all(jnp.isfinite(wide.log_r_p))


def test_mutual_information_of_gaussians(x64):
    n, rho = 1000, jnp.array([0.8, 0.5])
    critic = df.networks.Discriminator(4, depth=0, quadratic=True, key=jr.key(0))
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 200))
    options = {"critic": critic, "steps": 200, "optimizer": optimizer}

    def found(key):
        of_x, of_e, key = jr.split(key, 3)
        xs = jr.normal(of_x, (n, 2))
        ys = rho * xs + jnp.sqrt(1 - rho**2) * jr.normal(of_e, (n, 2))
        return df.mutual_information(xs, ys, **options, key=key)

    many = jax.jit(jax.vmap(found))(jr.split(jr.key(3), 40))
    truth = -0.5 * jnp.sum(jnp.log(1 - rho**2))
    assert jnp.sum(jnp.abs(many.value - truth) <= 2 * many.error) >= 35
    np.testing.assert_allclose(jnp.mean(many.value), truth, atol=0.04)
    np.testing.assert_allclose(jnp.mean(many.error), jnp.std(many.value), rtol=0.35)
    assert jnp.mean(many.believe) > 0.5


def two_moons(key):
    """Half circles that interlock and hardly overlap."""
    of_angles, of_noise = jr.split(key)
    angles = jnp.pi * jr.uniform(of_angles, (2, 500))
    upper, lower = (jnp.stack([jnp.cos(a), jnp.sin(a)], axis=1) for a in angles)
    noise = 0.05 * jr.normal(of_noise, (2, 500, 2))
    return upper + noise[0], jnp.array([1.0, 0.5]) - lower + noise[1]


def test_classes_that_hardly_overlap_and_a_blind_critic_are_not_believed():
    xs_p, xs_q = two_moons(jr.key(0))
    ask = functools.partial(df.divergence_between, div=df.divergences.kl_qp, folds=2, steps=200)
    assert not ask(xs_p, xs_q, key=jr.key(1)).believe
    # It sees no difference, and is calibrated: the moments that it missed give it away.
    blind = df.networks.Discriminator(1, 1, 0, key=jr.key(0))
    blind = jax.tree.map(jnp.zeros_like, blind)
    still = {"critic": blind, "optimizer": optax.sgd(0.0)}
    wide = 2 * jr.normal(jr.key(2), (400, 1))
    found = ask(jr.normal(jr.key(3), (400, 1)), wide, **still, key=jr.key(4))
    assert found.value == 0
    assert not found.believe
    same = ask(wide, 2 * jr.normal(jr.key(5), (400, 1)), **still, key=jr.key(4))
    assert same.believe


def test_critics_that_learned_too_little_or_too_much_are_not_believed():
    # The truth by quadrature: what each misses, means of coordinates and their squares do not show.
    parts = jnp.array([[-1.0, 1.0], [0.5, 0.7], [-0.7, 1.4], [0.8, 0.9]])[..., None]
    p = df.Mixture(jnp.log(jnp.array([0.3, 0.7])), parts[0], parts[1])
    q = df.Mixture(jnp.zeros(2), parts[2], parts[3])
    grid = jnp.linspace(-9.0, 9.0, 4001)
    log_p, log_q = (jax.vmap(law.log_prob)(grid[:, None]) for law in (p, q))
    truth = np.trapezoid(jnp.exp(log_q) * (log_q - log_p), grid)
    few = found_by_default(p, q, 4000)
    assert jnp.all(few.value + 2 * few.error < truth)
    assert not jnp.any(few.believe)
    wide = df.Gaussian(0.2 * jnp.ones(10), 1.15 * jnp.ones(10))
    narrow = df.Gaussian(jnp.zeros(10), jnp.ones(10))
    many = found_by_default(wide, narrow, 1000)
    assert jnp.all(many.value + 2 * many.error < df.gaussian_kl(narrow, wide))
    assert jnp.sum(many.believe) <= 1


def found_by_default(p, q, n):
    """KL(q || p) from n samples of each, by eight keys and few steps."""

    def found(key):
        of_p, of_q, key = jr.split(key, 3)
        xs_p, xs_q = p.sample(of_p, (n,)), q.sample(of_q, (n,))
        return df.divergence_between(xs_p, xs_q, df.divergences.kl_qp, folds=2, steps=100, key=key)

    return jax.jit(jax.vmap(found))(jr.split(jr.key(0), 8))


def test_the_bananas_of_the_demo_are_not_believed():
    rows = [(list(point.values()), bool(label)) for point, label in river.datasets.Bananas()]
    xs, labels = (jnp.asarray(np.array(column)) for column in zip(*rows, strict=True))
    xs_p, xs_q = xs[labels].astype(jnp.float32), xs[~labels].astype(jnp.float32)
    found = df.divergence_between(
        xs_p, xs_q, df.divergences.kl_qp, folds=2, steps=300, key=jr.key(0)
    )
    assert not found.believe


def test_a_module_of_equinox_is_a_critic_too():
    network = eqx.nn.MLP(2, "scalar", 8, 1, key=jr.key(0))
    keys, shift = jr.split(jr.key(7)), jnp.array([1.0, 0.0])
    xs_p, xs_q = (jr.normal(key, (500, 2)) for key in keys)
    options = {"critic": network, "optimizer": optax.adam(1e-2), "steps": 300}
    found = df.divergence_between(
        xs_p + shift, xs_q, df.divergences.kl_qp, **options, seeds=2, key=jr.key(2)
    )
    assert abs(found.value - 0.5) < 3 * found.error
    assert found.error < 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"folds": 1}, "`folds` is 1 and the smaller sample has 20; pass 2 folds or more"),
        ({"folds": 6}, "`folds` is 6 and the smaller sample has 20"),
        ({"steps": 0}, "`steps`"),
        ({"gan": df.divergences.kl_qp}, "`gan` is a Divergence"),
        ({"critic": df.networks.Discriminator(3, key=jr.key(0))}, "`x` has shape"),
    ],
)
def test_what_gives_no_estimate_is_refused(options, words):
    xs = jr.normal(jr.key(0), (20, 2))
    with pytest.raises(ValueError, match=words):
        df.divergence_between(xs, xs + 1, df.divergences.kl_qp, **options, key=jr.key(1))
    with pytest.raises(ValueError, match="`xs` has 20 samples and `ys` 19; pass one y"):
        df.mutual_information(xs, xs[:19], key=jr.key(1))


def test_dependence_that_a_blind_critic_misses_is_not_believed(x64):
    """Joint law and product have the same marginals: linear dependence, and dependence of sizes."""
    xs, noise, sizes = jr.normal(jr.key(0), (3, 500, 1))
    blind = jax.tree.map(jnp.zeros_like, df.networks.Discriminator(2, 1, 0, key=jr.key(0)))
    still = {"critic": blind, "optimizer": optax.sgd(0.0), "folds": 2, "steps": 1, "key": jr.key(4)}
    for ys, right in ((xs + noise, False), (jnp.abs(xs) * noise, False), (noise * sizes, True)):
        found = df.mutual_information(xs, ys, **still)
        assert found.value == 0
        assert found.believe == right


def test_a_critic_that_has_nothing_to_train_is_refused():
    kl, key = df.divergences.kl_qp, jr.key(0)
    with pytest.raises(ValueError, match="without arrays"):
        df.divergence_between(
            jnp.ones((9, 1)), jnp.ones((9, 1)), kl, critic=jnp.sum, folds=2, key=key
        )
