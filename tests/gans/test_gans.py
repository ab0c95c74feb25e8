"""Laws of Table 1: closed forms against the calculus, and what each row measures and descends."""

import functools

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


close = chex.assert_trees_all_close


# One program for a row: op by op, compilation takes several times as long.
@jax.jit
def everything(gan, u):
    """A row in closed form, by autodiff, and by the calculus from (phi, psi) and h_T."""
    bend = lambda f, r: jax.vmap(jax.grad(jax.grad(f)))(r)
    d, r, inner = gan.inverse(u), jnp.exp(u), jnp.exp(u[1:-1])
    zero_sum = df.lower(lambda d: -gan.psi(d), gan.log_t, inverse=gan.inverse)
    return {
        "descends": gan.descends(r),
        "log_t": gan.log_t(d),
        "calculus log_t": df.log_ratio(gan.phi, gan.psi)(d),
        "calculus r": df.ratio(gan.phi, gan.psi)(d),
        "gain": r[:, None] * gan.phi(d) + gan.psi(d),
        "measures": gan.measures(r),
        "measures 1": gan.measures(1.0),
        "bend of measures": bend(gan.measures, inner),
        "bend of descends": bend(gan.descends, inner),
        "bend of zero-sum": bend(df.h_to_f(zero_sum), inner),
        "h_t": gan.h_t(d),
    }


@functools.cache
def row(name):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, everything(TABLE[name][0], jnp.asarray(U)))


@each_gan
def test_generator_descends_what_theory_says(name):
    _, div, factor = TABLE[name]
    with jax.enable_x64(True):
        wanted = (1.0 if name == "vanilla_3" else factor) * div.standard(jnp.asarray(U))
    close(row(name)["descends"], np.asarray(wanted), rtol=2e-6, atol=1e-9)


@each_gan
def test_log_t_is_minus_psi_slope_over_phi_slope_and_inverse_undoes_it(name):
    close(row(name)["log_t"], U, rtol=1e-6, atol=1e-7)
    close(row(name)["calculus log_t"], U, rtol=1e-6, atol=1e-6)
    close(row(name)["calculus r"], np.exp(U), rtol=2e-6)


@each_gan
def test_optimum_beats_every_other_value_of_d(name):
    gain = row(name)["gain"]
    regret = np.diag(gain)[:, None] - gain
    assert np.all(regret[~np.eye(U.size, dtype=bool)] > 0)


ZERO_SUM = ("vanilla", "f_gan_hellinger", "f_gan_table_js", "f_gan_table_kl", "b_gan", "ebm")


@each_gan
def test_zero_sum_theorem(name):
    """The generator that plays h_T = -psi descends exactly what the discriminator measures."""
    at = row(name)
    close(at["bend of zero-sum"], at["bend of measures"], rtol=1e-5)
    if name in ZERO_SUM:
        close(at["bend of descends"], at["bend of measures"], rtol=1e-5)


@each_gan
def test_measured_f_is_0_at_1_and_convex(name):
    assert abs(row(name)["measures 1"]) < 1e-12
    assert np.all(row(name)["bend of measures"] > 0)


MEASURED = {
    "vanilla": lambda r: r * np.log(r) - (1 + r) * np.log(1 + r) + 2 * np.log(2),
    "f_gan_hellinger": lambda r: (np.sqrt(r) - 1) ** 2,
    "b_gan_pearson": lambda r: (r - 1) ** 2,
    "least_squares": lambda r: -r / (1 + r) + 0.5,
    "ebm": lambda r: r * np.log(r) - r + 1,  # whatever lam is
    "nwj": lambda r: r * np.log(r),
    "ulsif": lambda r: (r**2 - 1) / 2,
    "exponential": lambda r: 2 - 2 * np.sqrt(r),
}


@pytest.mark.parametrize("name", MEASURED)
def test_discriminator_measures_what_the_reference_lists(name):
    close(row(name)["measures"], MEASURED[name](np.exp(U)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logistic_rows_are_finite_and_right_far_out(dtype):
    """Each is linear or constant beyond |d| = 80, up to e^-77."""
    slope = jax.jit(lambda function, d: jax.vmap(jax.grad(function))(d))
    with jax.enable_x64(dtype == "float64"):
        d = jnp.asarray(FAR, dtype)
        limits = {
            "vanilla": jnp.maximum(d, 0.0),
            "vanilla_3": jnp.maximum(d + 3, 0.0),
            "non_saturating": jnp.minimum(d, 0.0),
            "logit": d,
            "arcsinh": jnp.sign(d) * jnp.log(2 * jnp.abs(d)),
        }
        for name, limit in limits.items():
            gan = TABLE[name][0]
            close(gan.phi(d), jnp.minimum(d, 0.0), atol=1e-30)
            close(gan.psi(d), -jnp.maximum(d, 0.0), atol=1e-30)
            close(slope(gan.phi, d), (d < 0) * 1.0, atol=1e-30)
            close(gan.h_t(d), limit, rtol=1e-4, atol=1e-30)
            assert jnp.all(jnp.isfinite(slope(gan.h_t, d)))


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
        critic, r = case["inputs"]["critic"], jnp.asarray(case["inputs"]["r"])
        # A lam made in float32 is .3 to seven digits only.
        gan = G.ebm(0.3) if critic.startswith("gebm") else CRITICS[critic]
        d = gan.inverse(jnp.log(r))
        got = {"log": gan.log_t(d), "T^-": d, "poi": r * gan.phi(d) + gan.psi(d)}
        error = got[case["name"].split(" ", 1)[1][:3]] - case["expected"]
        assert abs(error) < 1e-9 * max(1, abs(case["expected"]))


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


@each_gan
def test_leaves_are_arrays_only_and_plain_jit_takes_a_gan(name):
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(TABLE[name][0]))
    assert np.all(np.isfinite(row(name)["h_t"]))


def test_a_gan_of_ones_own_is_as_good_as_a_named_one():
    softplus, u = jax.nn.softplus, np.asarray(U)
    mine = df.GAN(lambda d: -softplus(-d), lambda d: -softplus(d), lambda d: softplus(d))
    all_of = jax.jit(
        lambda gan, u, r: (gan.log_t(u), gan.inverse(u), gan.descends(r), gan.measures(r))
    )
    with jax.enable_x64(True):
        js = 2 * D.jensen_shannon.standard(u)
        wanted = (u, u, js, MEASURED["vanilla"](np.exp(u)))
        for got, right in zip(all_of(mine, u, np.exp(u)), wanted, strict=True):
            close(got, jnp.asarray(right), rtol=1e-8)


def _pick(functions, which, d):
    return jax.lax.switch(which, functions, d)


def test_one_program_holds_many_gans_and_an_integer_chooses():
    rows = (G.vanilla(), G.logit(), G.mle())
    columns = zip(*((row.phi, row.psi, row.h_t) for row in rows), strict=True)

    @jax.jit
    def slope(which, d):
        gan = df.GAN(*(Partial(_pick, column, which) for column in columns))
        return jax.grad(gan.h_t)(d)

    close(slope(0, 0.7), jax.nn.sigmoid(0.7), rtol=1e-6)
    close(slope(1, 0.7), 1.0, rtol=1e-6)
    close(slope(2, 0.7), jnp.exp(0.7), rtol=1e-6)


def test_the_h_of_a_least_squares_gan_is_found_without_naming_its_domain():
    with jax.enable_x64(True):
        pair = (lambda d: -((d - 1) ** 2), lambda d: -(d**2))
        u = jnp.asarray(U)
        found = jax.jit(df.lower(lambda d: -((d - 1) ** 2), df.log_ratio(*pair)))(u)
        close(found, -(jax.nn.sigmoid(-u) ** 2), rtol=1e-8)
        whole = jax.jit(df.inverse_log_ratio(df.log_ratio(*pair), lower=0, upper=1))(u)
        close(whole, jax.nn.sigmoid(u), rtol=1e-9)


def test_hinge_and_wasserstein_are_refused_with_the_reason():
    hinge = df.GAN(lambda d: jnp.minimum(0, d - 1), lambda d: jnp.minimum(0, -d - 1), jnp.tanh)
    critic = df.GAN(lambda d: d, lambda d: -d, lambda d: d)
    for gan in (hinge, critic):
        with pytest.raises(Exception, match="no ratio estimator"):
            gan.log_t(0.5)
