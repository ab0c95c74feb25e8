"""Several GANs in one program: each is what it is alone; and how GANs and divergences print."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from small_networks import critic, maker

import divergence_flows as df

D, G = df.divergences, df.gans
softplus = lambda d: jax.nn.softplus(d)
MINE = df.GAN(lambda d: -softplus(-d), lambda d: -softplus(d), softplus)
GAMES = (
    *(G.vanilla(3.0), G.logit(), G.mle(), G.least_squares(), G.ebm(0.3), G.b_gan(D.kl_pq)),
    *(G.nwj(D.alpha(0.5)), G.f_gan(D.jensen_shannon, raw=False)),
)
ROWS = (D.kl_qp, D.alpha(0.5), D.jensen_shannon, D.neyman)
# Where d of one game is far outside the domain of others, and e^u of no use to a float.
bowl = lambda r, a: r**2 + a * r
scaled = lambda a, d: -jax.nn.softplus(-a * d)
U = np.array([-40.0, -5.0, 0.3, 5.0, 40.0])
OF_D, OF_U, OF_R = ("phi", "psi", "h_t", "log_t"), ("inverse", "h"), ("descends", "measures")


def with_slope(function, x):
    return function(x), jax.vmap(jax.grad(function))(x)


def game(gan, u):
    """Every function of a GAN and its slope, at the d of some log ratios."""
    d, r = gan.inverse(u), jnp.exp(u)
    return {
        **{name: with_slope(getattr(gan, name), d) for name in OF_D},
        **{name: with_slope(getattr(gan, name), u) for name in OF_U},
        **{name: getattr(gan, name)(r) for name in OF_R},
    }


def row(div, u):
    names = ("log_f", "h", "h_prime", "activation", "standard")
    at = {name: with_slope(getattr(div, name), u) for name in names}
    rates = {name: getattr(div, name)(jnp.exp(u)) for name in ("f", "f_prime", "f_second")}
    return {**at, **rates, "conjugate": div.conjugate(div.activation(u))}


STACKS = {"gans": (G.stack, GAMES, game), "divergences": (D.stack, ROWS, row)}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("what", STACKS)
def test_each_of_a_stack_is_what_it_is_alone_with_slopes_and_no_nan_of_the_others(what):
    stack, members, everything = STACKS[what]
    together = jax.jit(jax.vmap(everything, in_axes=(0, None)))(stack(*members), jnp.asarray(U))
    alone = jax.jit(lambda many, u: [everything(one, u) for one in many])(members, jnp.asarray(U))
    for i, wanted in enumerate(alone):
        found = jax.tree.map(lambda leaf: leaf[i], together)  # noqa: B023
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-300, err_msg=str(members[i]))


@pytest.mark.usefixtures("x64")
def test_no_gradient_leaks_from_the_others_where_they_have_none():
    """A b-GAN has a log d, which d < 0 has not, where the games beside it are at home."""
    ds, games = jnp.array([-3.0, -0.1, 0.0]), G.stack(G.logit(), G.b_gan(D.kl_pq), G.arcsinh())
    others = jax.tree.map(lambda leaf: leaf[jnp.array([0, 2])], games)
    total = lambda ds: jnp.sum(jax.vmap(lambda gan: gan.h_t(ds))(others))
    wanted, slopes = 1 / np.sqrt(1 + ds**2), jax.jacfwd(total)(ds)
    np.testing.assert_allclose(jax.grad(total)(ds), 1 + wanted, rtol=1e-12)
    np.testing.assert_allclose(slopes, 1 + wanted, rtol=1e-12)
    bend = -ds / (1 + ds**2) ** 1.5
    np.testing.assert_allclose(jnp.diagonal(jax.hessian(total)(ds)), bend, rtol=1e-12)


def test_an_index_into_a_stack_is_one_gan_and_all_run_in_one_program():
    games, traced = G.stack(G.vanilla(), G.logit(), G.mle(), MINE), []

    @jax.jit
    def slope(gan, d):
        traced.append(None)
        return jax.grad(gan.h_t)(d)

    slopes = [slope(jax.tree.map(lambda leaf: leaf[i], games), 0.7) for i in range(4)]  # noqa: B023
    e = np.exp(0.7)
    np.testing.assert_allclose(slopes, [e / (1 + e), 1.0, e, e / (1 + e)], rtol=1e-6)
    assert len(traced) == 1
    assert all(eqx.is_array(leaf) and len(leaf) == 4 for leaf in jax.tree.leaves(games))


def test_what_differs_in_numbers_alone_is_stacked_as_it_is():
    alphas = jnp.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    made = jax.vmap(lambda a: G.f_gan(D.alpha(a)))(alphas)
    stacked = G.stack(*(G.f_gan(D.alpha(a)) for a in alphas))
    assert eqx.tree_equal(made, stacked)
    assert jax.tree.structure(made) == jax.tree.structure(G.f_gan(D.alpha(3.0)))


FAMILIES = {
    "f_gan": lambda a: G.f_gan(D.alpha(a)),
    "f_gan of the table": lambda a: G.f_gan(D.alpha(a), raw=False),
    "f_gan heuristic": lambda a: G.f_gan(D.alpha(a), saturating=False),
    "b_gan": lambda a: G.b_gan(D.alpha(a)),
    "mirror": lambda a: G.mirror(D.alpha(a)),
    **{name: lambda a, name=name: getattr(G, name)(D.alpha(a)) for name in ("nwj", "ulsif")},
    "exponential": lambda a: G.exponential(D.shifted_vanilla(a)),
    "vanilla": G.vanilla,
    "ebm": G.ebm,
    "one's own": lambda a: df.GAN(partial(scaled, a), MINE.psi, partial(jnp.multiply, a)),
    "of one's own partial f": lambda a: G.f_gan(df.Divergence(partial(bowl, a=a))),
    "of one's own h": lambda a: G.f_gan(df.Divergence(h=partial(jnp.multiply, a))),
    "of one's own f": lambda a: G.f_gan(df.Divergence(Partial(bowl, a=a))),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_an_axis_under_vmap(family):
    """Its generator's slope at d = 1, of each number alone and of all at once."""
    make, numbers = FAMILIES[family], jnp.array([0.5, 1.5, 2.0])
    slope = lambda gan: jax.grad(gan.h_t)(1.0) + gan.log_t(1.0)
    alone = jnp.stack([jax.jit(slope)(make(number)) for number in numbers])
    np.testing.assert_allclose(jax.jit(jax.vmap(slope))(jax.vmap(make)(numbers)), alone, rtol=1e-5)


# --- training ---

XS = jr.normal(jr.key(2), (64, 2)) + 1
FIVE = (G.vanilla(), G.non_saturating(), G.logit(), G.mle(), G.least_squares())
SGD = optax.sgd(0.1)


def at(i, tree):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def close(found, wanted):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def trained(gan, key, rate=1e-2):
    options = {"d_optimizer": optax.sgd(rate), "g_optimizer": optax.sgd(rate)}
    options |= {"latent": 3, "steps": 2, "batch_size": 16, "key": key}
    state, info = df.train_gan(gan, critic(last=jax.nn.sigmoid), maker(), XS, **options)
    return state.generator, info.d_losses


def test_five_games_train_in_one_program_as_one_by_one():
    """The critic's values are probabilities here, which each of the five takes."""
    together = jax.jit(jax.vmap(trained, in_axes=(0, None)))(G.stack(*FIVE), jr.key(4))
    losses = np.asarray(together[1])
    assert np.all(np.isfinite(losses)) and len({*losses[:, 0]}) == 2  # logistic, and the squares
    for i in (0, 4):
        close(at(i, together), trained(FIVE[i], jr.key(4)))


def test_a_ratio_step_of_a_stack_is_that_of_each():
    state = df.RatioState.start(critic(last=jax.nn.sigmoid), SGD)
    step = lambda gan: df.ratio_step(gan, SGD, state, (XS - 2, XS))
    together = jax.jit(jax.vmap(step))(G.stack(*FIVE))
    for i in (3, 4):
        close(at(i, together), step(FIVE[i]))


def test_a_learning_rate_is_an_axis_too():
    rates = jnp.array([1e-3, 1e-2])
    run = lambda rate: trained(G.logit(), jr.key(4), rate)
    together = jax.jit(jax.vmap(run))(rates)
    close(at(1, together), run(rates[1]))
    slow, fast = (np.asarray(jax.tree.leaves(at(i, together))[0]) for i in (0, 1))
    assert np.all(slow != fast)


# --- prints ---

PRINTS = {
    "GAN('logit')": G.logit(),
    "GAN('vanilla', shift=3)": G.vanilla(3),
    "GAN('ebm', lam=0.5)": G.ebm(0.5),
    "GAN('nwj', Divergence('kl_qp'))": G.nwj(),
    "GAN('f_gan', Divergence('alpha', a=0.5))": G.f_gan(D.alpha(0.5)),
    "GAN('f_gan', Divergence('kl_pq'), saturating=False)": G.f_gan(D.kl_pq, saturating=False),
    "GAN(<lambda>, <lambda>, tanh)": df.GAN(lambda d: d, lambda d: -d, jnp.tanh),
    "IPM(multiply, negative, tanh)": df.IPM(Partial(jnp.multiply, 2.0), jnp.negative, jnp.tanh),
    "IPM('wasserstein')": G.wasserstein(),
    "PairGAN('relativistic')": G.relativistic(),
    "PairGAN(tanh, <lambda>)": df.PairGAN(jnp.tanh, lambda v: v),
    "Divergence('kl_qp')": D.kl_qp,
    "Divergence('shifted_vanilla', c=2)": D.shifted_vanilla(2),
    "Divergence(f=square)": df.Divergence(jnp.square),
    "Divergence(h=exp)": df.Divergence(h=jnp.exp),
    "GAN('vanilla', shift=f32[3])": jax.vmap(G.vanilla)(jnp.arange(3.0)),
    "GAN('vanilla' | 'logit' | (<lambda>, <lambda>, <lambda>))": G.stack(
        G.vanilla(), G.logit(), MINE
    ),
    "IPM('wasserstein' | 'logit')": G.stack(G.wasserstein(), G.logit()),
    "Divergence('kl_qp' | 'alpha')": D.stack(D.kl_qp, D.alpha(0.5)),
}


@pytest.mark.parametrize("words", PRINTS)
def test_gans_and_divergences_print_in_one_line_as_the_call_that_makes_them(words):
    assert repr(PRINTS[words]) == words


def test_they_print_inside_a_trace_too():
    words = []
    jax.eval_shape(lambda gan: words.append(repr(gan)), G.f_gan(D.alpha(0.5)))
    assert words == ["GAN('f_gan', Divergence('alpha', a=f32[]))"]


def test_every_row_of_the_tables_prints_its_own_name():
    for name, value in vars(D).items():
        if isinstance(value, df.Divergence):
            assert repr(value) == f"Divergence({name!r})"
