"""One row for each public name: what it computes of float arrays, for test_transforms.py.

A row calls the name as a user would and returns a pytree; what is differentiable goes in as `x`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.tree_util import Partial

import divergence_flows as df

KEY = jr.key(7)
SGD = optax.sgd(0.1)
D, G, B, N = df.divergences, df.gans, df.bures, df.networks


class Row(NamedTuple):
    """What to compute, at which `x`, and what of the plain law does not hold, with a reason.

    `slope(x, weights)` is the gradient where stopped derivatives are part of the contract: a
    closed form, that of sum(weights * value). None asks for finite differences. `slope_of` says
    where else it is differentiated, and then it is not here. What `loops` takes seconds to call
    outside of `jit`, for JAX compiles its loops at each call.
    """

    call: Callable[[Any], Any]
    x: Callable[[], Any]
    slope: Callable[..., Any] | None = None
    slope_of: str | None = None
    loops: bool = False


def arrays(**values):
    return lambda: jax.tree.map(lambda v: jnp.asarray(v, float), values, is_leaf=_is_list)


def _is_list(value):
    return isinstance(value, list)


def number(value):
    """Not weakly typed, so that a moved point traces nothing anew."""
    return jnp.asarray(value, float)


# --- functions that users write, each with a parameter to differentiate ---


def bowl(a, r):
    """A convex f."""
    return r * jnp.log(r) + a * r**2


def rise(a, u):
    """An increasing h."""
    return a * u + jnp.arcsinh(u)


def line(a, d):
    return a * d


def minus_exp(d):
    return -jnp.exp(d)


def cubic(a, d):
    """A log T."""
    return a * d + d**3


def log_r(t, x, args):
    return jnp.sin(args * x[0] + t) - (1 + t) * jnp.sum(x**2)


def attraction(t, x, xs, args):
    return args * jnp.mean(jnp.sum((x - xs) ** 2, axis=1)) + t * jnp.sum(x**4)


def pull(t, y, args):
    """Every particle goes to `args`."""
    return args - y + 0.1 * jnp.sin(t + y)


def to_rest(t, y, args):
    return args - y


def score(t, x, args):
    return args - x


def shear(x):
    return jnp.stack([2 * x[0] + 0.3 * x[1], 0.3 * x[0] + x[1]])


def log_p(m, x):
    """A target that is no Gaussian."""
    return -0.5 * jnp.sum((x - m) ** 2) - 0.1 * jnp.sum(x**4)


def cloud(seed, n=4, dim=2):
    return jr.normal(jr.key(seed), (n, dim), float)


def clouds():
    return {"q": cloud(1) + 0.5, "p": cloud(2, 5)}


def covariance(seed):
    factor = cloud(seed, 2) + 1.5 * jnp.eye(2)
    return factor @ factor.T


def critic():
    return N.Discriminator(2, 3, 1, key=KEY)


def maker():
    return N.Generator(2, 2, 3, 1, key=jr.key(8))


def clock(trained):
    """A time network of trained weights; standardisation and horizon are held fixed inside."""
    network = N.TimeDiscriminator(2, 3, 1, decays=3, key=KEY)
    return eqx.tree_at(_trained, like(jax.tree.leaves(trained)[0], network), trained)


def _trained(network):
    return network.layers, network.quadratic


def weights_of_clock():
    return _trained(N.TimeDiscriminator(2, 3, 1, decays=3, key=KEY))


def gaussian():
    return df.Gaussian(cloud(3)[0], jnp.linalg.cholesky(covariance(4)))


def mixture():
    return df.Mixture(cloud(3)[0], cloud(5, 2), jnp.stack([covariance(4), covariance(6)]))


def like(x, tree):
    """Constants of a row, in the dtype of its `x`."""
    return jax.tree.map(lambda leaf: leaf.astype(x.dtype), tree)


def with_target(q):
    return lambda: {"m": cloud(9)[0], "q": q()}


# --- what every entry of a table has ---


def divergence(div, u, *without):
    """Every field and method of a divergence."""
    r, s = jnp.exp(u), div.activation(u)
    star = {} if "conjugate" in without else {"conjugate": div.conjugate(s)}
    return star | {
        "log_f": div.log_f(u),
        "h": div.h(u),
        "h_prime": div.h_prime(u),
        "activation": s,
        "standard": div.standard(u),
        "f": div.f(r),
        "f_prime": div.f_prime(r),
        "f_second": div.f_second(r),
    }


def gan(g, u):
    """Every field and property of a GAN."""
    d, r = g.inverse(u), jnp.exp(u)
    return {
        "phi": g.phi(d),
        "psi": g.psi(d),
        "h_t": g.h_t(d),
        "log_t": g.log_t(d),
        "inverse": d,
        "h": g.h(u),
        "descends": g.descends(r),
        "measures": g.measures(r),
    }


def derived(g, u):
    """What a GAN of one's own derives by root finding; `gan` has the rest in closed form."""
    d = g.inverse(u)
    return {"log_t": g.log_t(d), "inverse": d, "h": g.h(u)}


def ipm(g, d):
    return {"phi": g.phi(d), "psi": g.psi(d), "h_t": g.h_t(d)}


U = arrays(u=[-1.2, 0.4, 1.5])
AU = arrays(a=0.7, u=[-1.2, 0.4, 1.5])
INSTANCES = [name for name, value in vars(D).items() if isinstance(value, df.Divergence)]


# Without a closed conjugate they all solve for it as `conjugate` and `Divergence` do.
SOLVED = {"softened_reverse_kl", "jeffreys", "least_squares", "arcsinh"}


def of_divergence(name):
    without = ["conjugate"] if name in SOLVED else []
    return Row(lambda x: divergence(getattr(D, name), x["u"], *without), U)


def of_gan(make):
    return Row(lambda x: gan(make(), x["u"]), U)


CALCULUS = {
    "f_to_h": Row(lambda x: df.f_to_h(Partial(bowl, x["a"]))(x["u"]), AU),
    "h_to_f": Row(lambda x: df.h_to_f(Partial(rise, x["a"]))(jnp.exp(x["u"])), AU),
    "first_variation": Row(
        lambda x: df.first_variation(Partial(bowl, x["a"]))(jnp.exp(x["u"])), AU
    ),
    "conjugate": Row(lambda x: df.conjugate(Partial(bowl, x["a"]))(x["u"]), AU),
    "ratio": Row(lambda x: df.ratio(Partial(line, x["a"]), minus_exp)(x["u"]), AU),
    "log_ratio": Row(lambda x: df.log_ratio(Partial(line, x["a"]), minus_exp)(x["u"]), AU),
    "inverse_log_ratio": Row(lambda x: df.inverse_log_ratio(Partial(cubic, x["a"]))(x["u"]), AU),
    "lift": Row(lambda x: df.lift(Partial(rise, x["a"]), Partial(cubic, x["a"]))(x["u"]), AU),
    "lower": Row(lambda x: df.lower(Partial(rise, x["a"]), Partial(cubic, x["a"]))(x["u"]), AU),
    "Divergence": Row(lambda x: divergence(df.Divergence(Partial(bowl, x["a"])), x["u"]), AU),
    "GAN": Row(
        lambda x: derived(df.GAN(Partial(line, x["a"]), minus_exp, Partial(rise, x["a"])), x["u"]),
        AU,
    ),
    "IPM": Row(
        lambda x: ipm(df.IPM(Partial(line, x["a"]), minus_exp, Partial(rise, x["a"])), x["u"]), AU
    ),
}
TABLES = {
    **{f"divergences.{name}": of_divergence(name) for name in INSTANCES},
    "divergences.alpha": Row(lambda x: divergence(D.alpha(x["a"]), x["u"]), AU),
    "divergences.shifted_vanilla": Row(lambda x: divergence(D.shifted_vanilla(x["a"]), x["u"]), AU),
    "gans.vanilla": Row(lambda x: gan(G.vanilla(x["a"]), x["u"]), AU),
    "gans.non_saturating": of_gan(G.non_saturating),
    "gans.logit": of_gan(G.logit),
    "gans.arcsinh": of_gan(G.arcsinh),
    "gans.mle": of_gan(G.mle),
    "gans.f_gan": of_gan(lambda: G.f_gan(D.squared_hellinger)),
    "gans.b_gan": of_gan(lambda: G.b_gan(D.pearson)),
    "gans.least_squares": of_gan(G.least_squares),
    "gans.ebm": Row(lambda x: gan(G.ebm(x["a"]), x["u"]), AU),
    "gans.nwj": Row(lambda x: gan(G.nwj(D.shifted_vanilla(x["a"])), x["u"]), AU),
    "gans.ulsif": of_gan(lambda: G.ulsif(D.pearson)),
    "gans.exponential": of_gan(G.exponential),
    "gans.mirror": of_gan(lambda: G.mirror(D.kl_pq)),
    "gans.wasserstein": Row(lambda x: ipm(G.wasserstein(), x["u"]), U),
}


# --- flows ---


def cloud_at():
    return {"a": number(0.7), "t": number(0.2), "xs": cloud(1)}


def density(x):
    field = df.velocity(Partial(rise, x["a"]), log_r)
    noise = jr.rademacher(KEY, (2, 4, 2), float)
    state = (x["xs"], x["xs"][:, 0])
    return df.with_log_prob(field, noise=noise)(x["t"], state, x["a"])


# Fixed steps, since an adaptive solver's own choice of steps is not smooth at 1e-8; and Euler's,
# since every stage of a solver is compiled.
EULER = {"solver": diffrax.Euler(), "dt0": 0.25, "max_steps": 8}
FLOWS = {
    "velocity": Row(
        lambda x: df.velocity(Partial(rise, x["a"]), log_r)(x["t"], x["xs"], x["a"]), cloud_at
    ),
    "gradient_flow": Row(lambda x: df.gradient_flow(attraction)(x["t"], x["xs"], x["a"]), cloud_at),
    # The cloud is held fixed in the fit, so it is no part of `x` here:
    # test_a_field_that_refits_is_differentiated_with_the_fit_held_fixed.
    "cloud_velocity": Row(
        lambda x: df.cloud_velocity(
            Partial(rise, x["a"]),
            Partial(df.mmd_witness, xs_p=x["p"], bandwidth=x["a"]),
        )(x["a"], like(x["p"], cloud(1)), None),
        lambda: {"a": number(0.7), "p": cloud(2, 5)},
        loops=True,
    ),
    "with_log_prob": Row(density, cloud_at),
    "dissipation": Row(
        lambda x: df.dissipation(
            Partial(rise, x["a"]), x["u"], x["g"], of=Partial(rise, x["a"]), weights=x["u"] ** 2
        ),
        lambda: {**AU(), "g": cloud(1, 3)},
    ),
    "integrate": Row(
        lambda x: df.integrate(pull, x["xs"], x["ts"], x["a"], **EULER).ys,
        lambda: {"a": number(0.7), "xs": cloud(1), "ts": jnp.array([0.0, 0.6, 0.9])},
    ),
    "settle": Row(
        lambda x: df.settle(to_rest, x["xs"], x["a"], **EULER | {"max_steps": 64}).ys,
        lambda: {"a": number(0.7), "xs": cloud(1)},
        slope_of="integrate",
    ),
    "langevin": Row(
        lambda x: df.langevin(score, x["xs"], [0.0, 1.0], x["a"], **EULER, key=KEY).ys,
        lambda: {"a": number(0.7), "xs": cloud(1)},
        slope_of="integrate",
    ),
    "curve_length": Row(
        lambda x: df.curve_length(pull, x["xs"], [0.0, 1.0], x["a"], **EULER),
        lambda: {"a": number(0.7), "xs": cloud(1)},
        slope_of="integrate",
    ),
    "coupling": Row(lambda x: df.coupling(x["q"], x["p"][:4]), clouds),
    "wasserstein2": Row(lambda x: df.wasserstein2(x["q"], x["p"][:4]), clouds),
    "displacement": Row(
        lambda x: df.displacement(shear, x["t"], x["xs"]),
        lambda: {"t": number(0.3), "xs": cloud(1)},
    ),
}


# --- ratios of samples ---


def at_point():
    return {**clouds(), "x": jnp.array([0.3, -0.2]), "b": number(1.3)}


RATIOS = {
    "median_bandwidth": Row(lambda x: df.median_bandwidth(x["q"], x["p"]), clouds),
    "kde_log_prob": Row(
        lambda x: df.kde_log_prob(x["q"], block=3)(x["x"]),
        at_point,
    ),
    "mmd_witness": Row(
        lambda x: df.mmd_witness(x["q"], x["p"], bandwidth=x["b"], block=3)(0.0, x["x"], None),
        at_point,
    ),
    "rff_log_ratio": Row(
        lambda x: df.rff_log_ratio(
            x["q"], x["p"], features=4, degree=1, bandwidth=x["b"], ridge=x["b"], key=KEY
        )(0.0, x["x"], None),
        at_point,
    ),
    "ulsif_ratio": Row(
        lambda x: df.ulsif_ratio(
            x["q"], x["p"], centres=3, bandwidth=x["b"], ridge=x["b"], key=KEY
        )(0.0, x["x"], None),
        at_point,
    ),
    "ratio_bandwidth": Row(
        lambda x: df.ratio_bandwidth(
            x["q"],
            x["p"],
            multiples=(0.5, 1.0),
            folds=2,
            features=2,
            degree=1,
            ridge=x["b"],
            newton_steps=2,
            key=KEY,
        ),
        at_point,
    ),
}


# --- Gaussians ---


def of_gaussian(q, x):
    return {
        "diagonal": jnp.asarray(q.diagonal),
        "matrix": q.matrix,
        "covariance": q.covariance,
        "push": q.push(x),
        "standardise": q.standardise(x),
        "log_prob": q.log_prob(x),
        "log_prob_of_push": q.log_prob_of_push(x),
        "log_det": q.log_det(),
    }


def of_mixture(q, x):
    return {
        "log_weights": q.log_weights,
        "weights": q.weights,
        "components": q.components,
        "push": q.push(x),
        "log_prob": q.log_prob(x),
    }


def made_inside(make):
    """Nodes are made of Python numbers and keys: inside a transform they are constants."""

    def moments(x):
        nodes = like(x["a"], make())
        return nodes.weights @ jnp.sin(x["a"] * nodes.points)

    return Row(moments, arrays(a=0.7))


def of_field(make, **options):
    field = lambda x: make(Partial(log_p, x["m"]), df.cubature(2), **options)
    return Row(lambda x: field(x)(0.0, x["q"], None), with_target(gaussian))


def bures_rates(x):
    field = df.bures_field(Partial(log_p, x["m"]), df.cubature(2), h=D.jensen_shannon.h)
    return field(0.0, (x["q"].mean, x["q"].covariance), None)


def fitted(x):
    q0 = df.Gaussian(x["q"].mean, jnp.diagonal(x["q"].scale))
    target = Partial(log_p, x["m"])
    options = {"nodes": df.cubature(2), "n": 32, "max_steps": 64, "key": KEY}
    return df.fit_gaussian(target, q0, **options)


GAUSSIANS = {
    "Gaussian": Row(
        lambda x: of_gaussian(df.Gaussian(x["m"], x["s"]), x["x"]),
        lambda: {"m": cloud(3)[0], "s": cloud(4, 2), "x": cloud(5)[0]},
    ),
    "Mixture": Row(
        lambda x: of_mixture(df.Mixture(x["l"], x["m"], x["s"]), x["x"]),
        lambda: {"l": cloud(3)[0], "m": cloud(4, 2), "s": cloud(6, 2), "x": cloud(5)[0]},
    ),
    "Nodes": Row(
        # Weights that do not sum to 1 are refused, so that a plain step aside would be.
        lambda x: df.Nodes(x["z"], jax.nn.softmax(x["w"]), x["w"]),
        lambda: {"z": cloud(3), "w": cloud(4)[:, 0]},
    ),
    "gaussian_kl": Row(
        lambda x: df.gaussian_kl(x["q"], df.Gaussian(x["m"], x["m"] ** 2 + 1)),
        with_target(gaussian),
    ),
    "cubature": made_inside(lambda: df.cubature(2)),
    "gauss_hermite": made_inside(lambda: df.gauss_hermite(2, 3)),
    "trapezoid": made_inside(lambda: df.trapezoid(1)),
    "normal_nodes": made_inside(lambda: df.normal_nodes(8, 2, key=KEY)),
    "sobol_nodes": made_inside(lambda: df.sobol_nodes(8, 2, key=KEY)),
    "gaussian_field": of_field(df.gaussian_field, h=D.pearson.h, triangular=True),
    "fisher_rao_field": of_field(df.fisher_rao_field, estimator="price"),
    "bures_field": Row(bures_rates, with_target(gaussian)),
    "forward_backward_step": Row(
        lambda x: df.forward_backward_step(
            Partial(log_p, x["m"]), df.cubature(2), x["q"], step=x["m"][0] ** 2 / 100
        ),
        with_target(gaussian),
    ),
    "fit_gaussian": Row(fitted, with_target(gaussian), slope_of="test_fit_gaussian.py"),
    "mixture_field": Row(
        lambda x: df.mixture_field(
            Partial(log_p, x["m"]), df.cubature(2), h=D.jensen_shannon.h, move_weights=True
        )(0.0, x["q"], None),
        with_target(mixture),
    ),
}


def two_covariances():
    return {"a": covariance(1), "b": covariance(2), "s": cloud(3, 2), "u": cloud(4, 2)}


def small(u):
    return 0.1 * (u + u.T)


BURES = {
    "bures.submersion": Row(lambda x: B.submersion(x["s"]), two_covariances),
    "bures.horizontal": Row(lambda x: B.horizontal(x["s"], x["u"]), two_covariances),
    "bures.vertical": Row(lambda x: B.vertical(x["s"], x["u"]), two_covariances),
    "bures.inner": Row(lambda x: B.inner(x["a"], x["u"], x["b"]), two_covariances),
    "bures.exp": Row(lambda x: B.exp(x["a"], small(x["u"])), two_covariances),
    "bures.log": Row(lambda x: B.log(x["a"], x["b"]), two_covariances),
    "bures.brenier_map": Row(lambda x: B.brenier_map(x["a"], x["b"]), two_covariances),
    "bures.geodesic": Row(
        lambda x: B.geodesic(0.5 + 0.1 * x["u"][0, 0], x["a"], x["b"]), two_covariances
    ),
    "bures.distance": Row(lambda x: B.distance(x["a"], x["b"]), two_covariances),
    "bures.squared_distance": Row(lambda x: B.squared_distance(x["a"], x["b"]), two_covariances),
}


# --- losses and training ---


def distilled_slope(x, weight):
    """The target is held fixed: only the samples move, by -eps v / n each."""
    zeros = jax.tree.map(jnp.zeros_like, x)
    return {**zeros, "xs": -weight * x["eps"] * x["vs"] / len(x["xs"])}


def with_critic():
    return {**clouds(), "d": critic(), "eps": number(0.1)}


def game():
    return {"p": cloud(2, 5), "d": critic(), "g": maker(), "eps": number(0.3)}


def ratio_step(x):
    state = df.RatioState.start(x["d"], SGD)
    options = {"batch_size": 3, "penalty": "r1", "penalty_weight": x["eps"], "key": KEY}
    return df.ratio_step(G.logit(), SGD, state, (x["q"], x["p"]), **options)


def gan_step(x):
    state = df.GANState.start(x["d"], x["g"], SGD, SGD)
    return df.gan_step(G.vanilla(), SGD, SGD, state, x["p"], latent=2, batch_size=4, key=KEY)


def flow_game():
    """The paths are held fixed in a step, so what moves them, q and the network, is no `x`."""
    return {"p": cloud(2, 5), "eps": number(0.3)}


def flow_options(x):
    times = {"ts": [0.0, 0.1, 0.3], "batch_size": 4, "neighbours": x["eps"], "key": KEY}
    return like(x["p"], (clock(weights_of_clock()), cloud(1))), times


def flow_ratio_step(x):
    (network, xs_q), options = flow_options(x)
    state = df.FlowRatioState.start(network, SGD)
    return df.flow_ratio_step(G.logit(), SGD, state, (xs_q, x["p"]), **options)


def train_flow_ratio(x):
    (network, xs_q), options = flow_options(x)
    options |= {"form": "sequential", "steps": 2, "optimizer": SGD, "chunk": 2}
    return df.train_flow_ratio(G.logit(), network, xs_q, x["p"], **options)


LOSSES = {
    "discriminator_loss": Row(lambda x: df.discriminator_loss(G.vanilla(), x["q"], x["p"]), clouds),
    "generator_loss": Row(lambda x: df.generator_loss(G.vanilla(x["a"]), x["u"]), AU),
    "distillation_loss": Row(
        lambda x: df.distillation_loss(x["xs"], x["vs"], x["eps"]),
        lambda: {"xs": cloud(1), "vs": cloud(2), "eps": number(0.3)},
        slope=distilled_slope,
    ),
    # q is held fixed inside log q, so it is no part of `x` here; test_path_gradient.py has the law
    # of the gradient in q.
    "stl_loss": Row(
        lambda x: df.stl_loss(
            Partial(log_p, x["m"]), like(x["m"], mixture()), x["z"], h=D.jensen_shannon.h
        ),
        lambda: {"m": cloud(9)[0], "z": cloud(1)},
    ),
    "gradient_penalty": Row(
        lambda x: df.gradient_penalty("one", x["d"], x["p"], x["q"], key=KEY), with_critic
    ),
    "witness": Row(lambda x: df.witness(x["d"])(0.0, x["q"][0], None), with_critic),
    "learned_log_ratio": Row(
        lambda x: df.learned_log_ratio(G.ebm(x["eps"]), x["d"])(0.0, x["q"][0], None), with_critic
    ),
    "ratio_check": Row(
        lambda x: df.ratio_check(df.learned_log_ratio(G.logit(), x["d"]), x["q"], x["p"]),
        with_critic,
    ),
    "particle_step": Row(
        lambda x: df.particle_step(G.vanilla(), x["d"], x["q"], x["eps"]), with_critic
    ),
    "ratio_step": Row(ratio_step, with_critic),
    "gan_step": Row(gan_step, game, loops=True),
    "flow_log_ratio": Row(
        lambda x: df.flow_log_ratio(G.ebm(x["eps"]), clock(x["d"]))(x["eps"], x["q"][0], None),
        lambda: {**clouds(), "d": weights_of_clock(), "eps": number(0.3)},
    ),
    "flow_ratio_step": Row(flow_ratio_step, flow_game, loops=True),
    "transport": Row(
        lambda x: df.transport(
            G.logit(),
            x["d"],
            x["q"],
            x["p"],
            steps=2,
            step_size=x["eps"],
            critic_steps=2,
            optimizer=SGD,
            chunk=2,
            key=KEY,
        ),
        with_critic,
    ),
    "train_gan": Row(
        lambda x: df.train_gan(
            G.logit(),
            x["d"],
            x["g"],
            x["p"],
            latent=2,
            steps=2,
            form="distillation",
            step_size=x["eps"],
            d_optimizer=SGD,
            g_optimizer=SGD,
            batch_size=4,
            chunk=2,
            key=KEY,
        ),
        game,
    ),
    "train_flow_ratio": Row(train_flow_ratio, flow_game, slope_of="flow_ratio_step"),
}


def image():
    return {"x": jr.normal(KEY, (1, 4, 4), float)}


NETWORKS = {
    "networks.Discriminator": Row(
        lambda x: x["d"](x["x"]), lambda: {"d": critic(), "x": cloud(1)[0]}
    ),
    "networks.Generator": Row(lambda x: x["g"](x["x"]), lambda: {"g": maker(), "x": cloud(1)[0]}),
    "networks.TimeDiscriminator": Row(
        lambda x: clock(x["d"])(x["t"], x["x"]),
        lambda: {"d": weights_of_clock(), "t": number(0.3), "x": cloud(1)[0]},
    ),
    "networks.ConvDiscriminator": Row(
        lambda x: x["d"](x["x"]), lambda: {"d": N.ConvDiscriminator(4, 1, 2, key=KEY), **image()}
    ),
    "networks.ConvGenerator": Row(
        lambda x: x["g"](x["x"]),
        lambda: {"g": N.ConvGenerator(2, 4, 1, 2, key=KEY), "x": cloud(1)[0]},
    ),
    "networks.spectral": Row(
        lambda x: N.spectral(x["d"], key=KEY)(x["x"]), lambda: {"d": critic(), "x": cloud(1)[0]}
    ),
    "networks.refresh": Row(
        lambda x: N.refresh(N.spectral(x["d"], key=KEY))(x["x"]),
        lambda: {"d": critic(), "x": cloud(1)[0]},
    ),
}
ROWS = {
    **CALCULUS,
    **TABLES,
    **FLOWS,
    **RATIOS,
    **GAUSSIANS,
    **BURES,
    **LOSSES,
    **NETWORKS,
}
# States and reports: pytrees that the row of the function beside them returns or takes.
RECORDS = {
    "FitInfo": "fit_gaussian",
    "RatioCheck": "ratio_check",
    "RatioState": "ratio_step",
    "TransportInfo": "transport",
    "GANState": "gan_step",
    "TrainInfo": "train_gan",
    "FlowRatioState": "flow_ratio_step",
    "FlowRatioInfo": "train_flow_ratio",
}
# Not to be transformed. `over_devices` refuses; `transport` shows a `TransportState` to `on_chunk`
# between its programs only; `RunDiverged` is an error.
OUTSIDE = {"over_devices", "TransportState", "RunDiverged"}
