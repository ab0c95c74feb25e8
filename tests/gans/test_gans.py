"""Laws of Table 1: closed forms against the calculus, and what each row measures and descends."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from oracles import CASES

import divergence_flows as df

D, G = df.divergences, df.gans
U = np.array([-4.0, -1.0, -0.1, 0.3, 1.0, 4.0])
FAR = np.array([-1e4, -300.0, -80.0, 80.0, 300.0, 1e4])
# name: (GAN, the divergence that the generator descends, up to a factor, measured by zero-sum).
TABLE = {
    "vanilla": (G.vanilla(), D.jensen_shannon, 2.0),
    "vanilla_3": (G.vanilla(3.0), D.shifted_vanilla(3.0), float(np.exp(-3.0))),
    "non_saturating": (G.non_saturating(), D.softened_reverse_kl, 1.0),
    "logit": (G.logit(), D.kl_qp, 1.0),
    "arcsinh": (G.arcsinh(), D.arcsinh, 1.0),
    "mle": (G.mle(), D.kl_pq, 1.0),
    "f_gan_hellinger": (G.f_gan(D.squared_hellinger), D.squared_hellinger, 1.0),
    "f_gan_table_js": (G.f_gan(D.jensen_shannon, raw=False), D.jensen_shannon, 1.0),
    "f_gan_table_kl": (G.f_gan(D.kl_qp, raw=False), D.kl_qp, 1.0),
    "f_gan_heuristic": (G.f_gan(D.kl_pq, saturating=False), D.kl_qp, 1.0),
    "f_gan_table_heuristic": (G.f_gan(D.kl_pq, saturating=False, raw=False), D.kl_qp, 1.0),
    "f_gan_js_heuristic": (G.f_gan(D.jensen_shannon, False), D.softened_reverse_kl, 0.5),
    "b_gan": (G.b_gan(D.kl_pq), D.kl_pq, 1.0),
    "b_gan_pearson": (G.b_gan(D.pearson), D.pearson, 1.0),
    "least_squares": (G.least_squares(), D.least_squares, 1.0),
    "ebm": (G.ebm(0.3), D.kl_pq, 1.0),
    "nwj": (G.nwj(), D.kl_qp, 1.0),
    "ulsif": (G.ulsif(D.jensen_shannon), D.jensen_shannon, 1.0),
    "exponential": (G.exponential(), D.kl_qp, 1.0),
    "mirror": (G.mirror(D.kl_pq), D.kl_pq, 1.0),
}
each_gan = pytest.mark.parametrize("name", TABLE)


def slope(function):
    return jax.jit(jax.vmap(jax.grad(function)))


@each_gan
def test_generator_descends_what_theory_says(name):
    with jax.enable_x64(True):
        gan, div, factor = TABLE[name]
        factor = 1.0 if name == "vanilla_3" else factor
        r = jnp.exp(jnp.asarray(U))
        got = jax.jit(gan.descends)(r)
        chex.assert_trees_all_close(got, factor * div.standard(jnp.log(r)), rtol=2e-6, atol=1e-9)


@each_gan
def test_inverse_undoes_log_t(name):
    with jax.enable_x64(True):
        gan, u = TABLE[name][0], jnp.asarray(U)
        chex.assert_trees_all_close(jax.jit(gan.log_t)(gan.inverse(u)), u, rtol=1e-6, atol=1e-7)


@each_gan
def test_log_t_is_minus_psi_slope_over_phi_slope(name):
    with jax.enable_x64(True):
        gan, u = TABLE[name][0], jnp.asarray(U)
        d = gan.inverse(u)
        calculus = jax.jit(df.log_ratio(gan.phi, gan.psi))(d)
        chex.assert_trees_all_close(calculus, u, rtol=1e-6, atol=1e-6)
        chex.assert_trees_all_close(jax.jit(df.ratio(gan.phi, gan.psi))(d), jnp.exp(u), rtol=2e-6)


@each_gan
def test_optimum_beats_every_other_value_of_d(name):
    with jax.enable_x64(True):
        gan, u = TABLE[name][0], jnp.asarray(U)
        d = gan.inverse(u)
        phi, psi = jax.jit(gan.phi)(d), jax.jit(gan.psi)(d)
        gain = jnp.exp(u)[:, None] * phi[None, :] + psi[None, :]
        regret = jnp.diag(gain)[:, None] - gain
        assert jnp.all(regret[~np.eye(u.size, dtype=bool)] > 0)


ZERO_SUM = ("vanilla", "f_gan_hellinger", "f_gan_table_js", "f_gan_table_kl", "b_gan", "ebm")


@each_gan
def test_zero_sum_theorem(name):
    """The generator that plays h_T = -psi descends exactly what the discriminator measures."""
    with jax.enable_x64(True):
        gan, r = TABLE[name][0], jnp.exp(jnp.asarray(U[1:-1]))
        descends = df.h_to_f(df.lower(lambda d: -gan.psi(d), gan.log_t, inverse=gan.inverse))
        measured = slope(jax.grad(gan.measures))(r)
        chex.assert_trees_all_close(slope(jax.grad(descends))(r), measured, rtol=1e-5)
        own = slope(jax.grad(gan.descends))(r)
        if name in ZERO_SUM:
            chex.assert_trees_all_close(own, measured, rtol=1e-5)


@each_gan
def test_measured_f_is_0_at_1_and_convex(name):
    with jax.enable_x64(True):
        gan, r = TABLE[name][0], jnp.exp(jnp.asarray(U[1:-1]))
        assert abs(gan.measures(1.0)) < 1e-12
        assert jnp.all(slope(jax.grad(gan.measures))(r) > 0)


MEASURED = {
    "vanilla": lambda r: r * jnp.log(r) - (1 + r) * jnp.log(1 + r) + 2 * np.log(2),
    "f_gan_hellinger": lambda r: (jnp.sqrt(r) - 1) ** 2,
    "b_gan_pearson": lambda r: (r - 1) ** 2,
    "least_squares": lambda r: -r / (1 + r) + 0.5,
    "ebm": lambda r: r * jnp.log(r) - r + 1,  # whatever lam is
    "nwj": lambda r: r * jnp.log(r),
    "ulsif": lambda r: (r**2 - 1) / 2,
    "exponential": lambda r: 2 - 2 * jnp.sqrt(r),
}


@pytest.mark.parametrize("name", MEASURED)
def test_discriminator_measures_what_the_reference_lists(name):
    with jax.enable_x64(True):
        r = jnp.exp(jnp.asarray(U))
        got = TABLE[name][0].measures(r)
        chex.assert_trees_all_close(got, MEASURED[name](r), rtol=1e-9, atol=1e-12)


LOGISTIC = ("vanilla", "vanilla_3", "non_saturating", "logit", "arcsinh")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOGISTIC)
def test_logistic_rows_are_finite_and_right_far_out(name, dtype):
    """Each is linear or constant beyond |d| = 80, up to e^-77."""
    with jax.enable_x64(dtype == "float64"):
        gan, d = TABLE[name][0], jnp.asarray(FAR, dtype)
        chex.assert_trees_all_close(gan.phi(d), jnp.minimum(d, 0.0), atol=1e-30)
        chex.assert_trees_all_close(gan.psi(d), -jnp.maximum(d, 0.0), atol=1e-30)
        chex.assert_trees_all_close(slope(gan.phi)(d), (d < 0) * 1.0, atol=1e-30)
        limits = {
            "vanilla": jnp.maximum(d, 0.0),
            "vanilla_3": jnp.maximum(d + 3, 0.0),
            "non_saturating": jnp.minimum(d, 0.0),
            "logit": d,
            "arcsinh": jnp.sign(d) * jnp.log(2 * jnp.abs(d)),
        }
        chex.assert_trees_all_close(gan.h_t(d), limits[name], rtol=1e-4, atol=1e-30)
        assert jnp.all(jnp.isfinite(slope(gan.h_t)(d)))


CRITICS = {
    "vanilla": G.vanilla(),
    "lsgan": G.least_squares(),
    "exponential": G.exponential(),
    "ulsif": G.ulsif(),
    "bgan(fkl)": G.b_gan(D.kl_pq),
    # The oracle's Hellinger is half of the library's, its gan twice the Jensen-Shannon row.
    "fgan(hellinger2)": G.f_gan(df.Divergence(lambda r: (jnp.sqrt(r) - 1) ** 2 / 2), raw=False),
    "fgan(gan)": G.f_gan(D.shifted_vanilla(0.0), raw=False),
}


@pytest.mark.parametrize(
    "case", [c for c in CASES if "critic" in c["inputs"]], ids=lambda c: c["id"]
)
def test_critics_meet_the_oracles(case):
    with jax.enable_x64(True):
        critic = case["inputs"]["critic"]
        # A lam made in float32 is .3 to seven digits only.
        gan = G.ebm(0.3) if critic.startswith("gebm") else CRITICS[critic]
        r = jnp.asarray(case["inputs"]["r"])
        d = gan.inverse(jnp.log(r))
        if "T^-1(r))" in case["name"]:
            got = gan.log_t(d)
        elif "T^-1" in case["name"]:
            got = d
        else:
            got = r * gan.phi(d) + gan.psi(d)
        assert abs(got - case["expected"]) < 1e-9 * max(1, abs(case["expected"]))


def integral(values, x):
    return jnp.sum(values) * (x[1] - x[0])


@pytest.mark.parametrize("name, case_id", [("vanilla", "C025"), ("ulsif", "C027")])
def test_attained_values_between_gaussians_meet_the_oracles(name, case_id):
    case = next(c for c in CASES if c["id"] == case_id)
    with jax.enable_x64(True):
        x = jnp.linspace(-14.0, 16.0, 3001)
        log_q = -0.5 * (x - 1) ** 2 / 1.44 - 0.5 * jnp.log(2 * jnp.pi * 1.44)
        log_p = -0.5 * x**2 - 0.5 * jnp.log(2 * jnp.pi)
        gan = TABLE[name][0]
        d = gan.inverse(log_p - log_q)
        value = integral(jnp.exp(log_p) * gan.phi(d) + jnp.exp(log_q) * gan.psi(d), x)
        assert abs(value - case["expected"]) < 1e-9


def test_implied_divergence_of_least_squares_meets_the_oracle():
    case = next(c for c in CASES if c["id"] == "D007")
    with jax.enable_x64(True):
        x = jnp.linspace(-14.0, 16.0, 601)
        log_q = -0.5 * (x - 1) ** 2 / 1.44 - 0.5 * jnp.log(2 * jnp.pi * 1.44)
        log_p = -0.5 * x**2 - 0.5 * jnp.log(2 * jnp.pi)
        f = G.least_squares().descends(jnp.exp(log_p - log_q))
        assert abs(integral(jnp.exp(log_q) * f, x) - case["expected"]) < 1e-9


def test_least_squares_with_labels_minus_1_1_0_is_no_monoflow():
    case = next(c for c in CASES if c["id"] == "C029")
    with jax.enable_x64(True):
        gan = df.GAN(
            lambda d: -((d - 1) ** 2),
            lambda d: -((d + 1) ** 2),
            lambda d: -(d**2),
            log_t=lambda d: jnp.log1p(d) - jnp.log1p(-d),
            inverse=lambda u: jnp.tanh(u / 2),
        )
        assert abs(jax.grad(gan.h)(case["inputs"]["u"]) - case["expected"]) < 1e-10
        with pytest.raises(Exception, match="no MonoFlow"):
            gan.descends(2.0)


def test_parameters_are_an_axis_and_trace_once():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def slopes(shifts):
        return jax.vmap(lambda c: jax.grad(G.vanilla(c).h_t)(-5.0))(shifts)

    got = slopes(jnp.array([0.0, 3.0, 5.0]))
    # theory.md section 8: Figure 2's argument in numbers.
    chex.assert_trees_all_close(got, jnp.array([6.693e-3, 0.1192, 0.5]), rtol=1e-3)
    slopes(jnp.array([1.0, 2.0, -1.0]))


@each_gan
def test_leaves_are_arrays_only_and_plain_jit_takes_a_gan(name):
    gan = TABLE[name][0]
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(gan))
    assert jnp.isfinite(
        jax.jit(lambda g, d: g.h_t(d))(gan, -0.5 if name.startswith("f_gan") else 0.5)
    )


def test_a_gan_of_ones_own_is_as_good_as_a_named_one():
    with jax.enable_x64(True):
        softplus = jax.nn.softplus
        mine = df.GAN(lambda d: -softplus(-d), lambda d: -softplus(d), lambda d: softplus(d))
        u = jnp.asarray(U)
        log_t, inverse = jax.jit(lambda u: (mine.log_t(u), mine.inverse(u)))(u)
        chex.assert_trees_all_close(log_t, u, rtol=1e-9)
        chex.assert_trees_all_close(inverse, u, rtol=1e-9)
        got = jax.jit(mine.descends)(jnp.exp(u))
        chex.assert_trees_all_close(got, 2 * D.jensen_shannon.standard(u), rtol=1e-8)
        want = G.vanilla().measures(jnp.exp(u))
        chex.assert_trees_all_close(jax.jit(mine.measures)(jnp.exp(u)), want, rtol=1e-8)


def _pick(functions, which, d):
    return jax.lax.switch(which, functions, d)


def test_one_program_holds_many_gans_and_an_integer_chooses():
    rows = (G.vanilla(), G.logit(), G.mle())
    columns = zip(*((row.phi, row.psi, row.h_t) for row in rows), strict=True)

    @jax.jit
    def slope(which, d):
        gan = df.GAN(*(Partial(_pick, column, which) for column in columns))
        return jax.grad(gan.h_t)(d)

    chex.assert_trees_all_close(slope(0, 0.7), jax.nn.sigmoid(0.7), rtol=1e-6)
    chex.assert_trees_all_close(slope(1, 0.7), 1.0, rtol=1e-6)
    chex.assert_trees_all_close(slope(2, 0.7), jnp.exp(0.7), rtol=1e-6)


def test_the_h_of_a_least_squares_gan_is_found_without_naming_its_domain():
    with jax.enable_x64(True):
        pair = (lambda d: -((d - 1) ** 2), lambda d: -(d**2))
        u = jnp.asarray(U)
        found = jax.jit(df.lower(lambda d: -((d - 1) ** 2), df.log_ratio(*pair)))(u)
        chex.assert_trees_all_close(found, -(jax.nn.sigmoid(-u) ** 2), rtol=1e-8)
        whole = jax.jit(df.inverse_log_ratio(df.log_ratio(*pair), lower=0, upper=1))(u)
        chex.assert_trees_all_close(whole, jax.nn.sigmoid(u), rtol=1e-9)


def test_hinge_and_wasserstein_are_refused_with_the_reason():
    hinge = df.GAN(lambda d: jnp.minimum(0, d - 1), lambda d: jnp.minimum(0, -d - 1), jnp.tanh)
    critic = df.GAN(lambda d: d, lambda d: -d, lambda d: d)
    for gan in (hinge, critic):
        with pytest.raises(Exception, match="no ratio estimator"):
            gan.log_t(0.5)


def test_mirror_discriminator_is_h_itself():
    with jax.enable_x64(True):
        u = jnp.asarray(U)
        for div in (D.kl_qp, D.jensen_shannon, D.neyman):
            gan = G.mirror(div)
            d = div.h(u)
            chex.assert_trees_all_close(gan.inverse(u), d, rtol=1e-12)
            calculus = jax.jit(df.log_ratio(gan.phi, gan.psi))(d)
            chex.assert_trees_all_close(calculus, u, rtol=1e-6, atol=1e-6)
