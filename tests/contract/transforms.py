"""One row for each public name: what it computes of float arrays, and of a key if it takes one.

A row calls the name as a user would and returns a pytree; what is differentiable goes in as `x`.
test_transforms.py and test_determinism.py have the laws.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from bad_good import of_pairs
from jax.tree_util import Partial

import divergence_flows as df

KEY = jr.key(7)
SGD = optax.sgd(0.1)
D, G, B, N = df.divergences, df.gans, df.bures, df.networks


@dataclasses.dataclass(frozen=True)
class Row:
    """What to compute of `x`, or of `x` and a key, and where the plain law does not hold.

    `slope(x, weights)` is the gradient where stopped derivatives are part of the contract: a
    closed form, that of sum(weights * value). None asks for finite differences. `slope_of` names
    the test or row that differentiates it instead.
    """

    call: Callable[..., Any]
    x: Callable[[], Any]
    slope: Callable[..., Any] | None = None
    slope_of: str | None = None

    @property
    def takes_key(self):
        return "key" in inspect.signature(self.call).parameters

    def __call__(self, x, key=KEY):
        return self.call(x, key) if self.takes_key else self.call(x)


def number(value):
    """Not weakly typed, so that a moved point traces nothing anew."""
    return jnp.asarray(value, float)


def arrays(**values):
    return lambda: {name: number(value) for name, value in values.items()}


# --- functions that users write, each with a parameter to differentiate ---

bowl = lambda a, r: r * jnp.log(r) + a * r**2  # a convex f
rise = lambda a, u: a * u + jnp.arcsinh(u)  # an increasing h
line = lambda a, d: a * d
minus_exp = lambda d: -jnp.exp(d)
cubic = lambda a, d: a * d + d**3  # a log T
log_r = lambda t, x, args: jnp.sin(args * x[0] + t) - (1 + t) * jnp.sum(x**2)
to_args = lambda t, y, args: args - y
pull = lambda t, y, args: args - y + 0.1 * jnp.sin(t + y)
shear = lambda x: jnp.stack([2 * x[0] + 0.3 * x[1], 0.3 * x[0] + x[1]])
log_p = lambda m, x: -0.5 * jnp.sum((x - m) ** 2) - 0.1 * jnp.sum(x**4)  # no Gaussian


def attraction(t, x, xs, args):
    return args * jnp.mean(jnp.sum((x - xs) ** 2, axis=1)) + t * jnp.sum(x**4)


def cloud(seed, n=4, dim=2):
    return jr.normal(jr.key(seed), (n, dim), float)


def clouds():
    return {"q": cloud(1) + 0.5, "p": cloud(2, 5)}


def covariance(seed):
    factor = cloud(seed, 2) + 1.5 * jnp.eye(2)
    return factor @ factor.T


def critic(key=KEY):
    return N.Discriminator(2, 3, 1, key=key)


def maker(key=KEY):
    return N.Generator(2, 2, 3, 1, key=key)


def time_network(key=KEY):
    return N.TimeDiscriminator(2, 3, 1, decays=3, key=key)


def clock(trained):
    """A time network of trained weights; standardisation and horizon are held fixed inside."""
    network = time_network()
    return eqx.tree_at(_trained, like(jax.tree.leaves(trained)[0], network), trained)


def _trained(network):
    return network.layers, network.quadratic


def weights_of_clock():
    return _trained(time_network())


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
    s = div.activation(u)
    star = {} if "conjugate" in without else {"conjugate": div.conjugate(s)}
    of_u = {name: getattr(div, name)(u) for name in ("log_f", "h", "h_prime", "standard")}
    of_r = {name: getattr(div, name)(jnp.exp(u)) for name in ("f", "f_prime", "f_second")}
    return {"activation": s, **star, **of_u, **of_r}


def gan(g, u):
    """Every field and property of a GAN."""
    of_d = {name: getattr(g, name)(g.inverse(u)) for name in ("phi", "psi", "h_t", "log_t")}
    of_r = {name: getattr(g, name)(jnp.exp(u)) for name in ("descends", "measures")}
    return {"inverse": g.inverse(u), "h": g.h(u), **of_d, **of_r}


def derived(g, u):
    """What a GAN of one's own derives by root finding; `gan` has the rest in closed form."""
    d = g.inverse(u)
    return {"log_t": g.log_t(d), "inverse": d, "h": g.h(u)}


def ipm(g, d):
    return {"phi": g.phi(d), "psi": g.psi(d), "h_t": g.h_t(d)}


def pair(g, v):
    return {"critic": g.critic(v), "generator": g.generator(v), "against": g.against(v)(v)}


def mine(kind, a):
    """A game of one's own."""
    return kind(Partial(line, a), minus_exp, Partial(rise, a))


def each(of, stacked, u):
    """Every field of each of a stack."""
    return jax.vmap(of, in_axes=(0, None))(stacked, u)


U = arrays(u=[-1.2, 0.4, 1.5])
AU = arrays(a=0.7, u=[-1.2, 0.4, 1.5])
INSTANCES = [name for name, value in vars(D).items() if isinstance(value, df.Divergence)]
# Without a closed conjugate they all solve for it as `conjugate` and `Divergence` do.
SOLVED = {"softened_reverse_kl", "jeffreys", "least_squares", "arcsinh"}


def of_divergence(name):
    without = ["conjugate"] if name in SOLVED else []
    return Row(lambda x: divergence(getattr(D, name), x["u"], *without), U)


def of_gan(make, *divs):
    return Row(lambda x: gan(make(*divs), x["u"]), U)


def of_a_and_u(call):
    return Row(lambda x: call(x["a"], x["u"]), AU)


CALCULUS = {
    name: of_a_and_u(call)
    for name, call in {
        "f_to_h": lambda a, u: df.f_to_h(Partial(bowl, a))(u),
        "h_to_f": lambda a, u: df.h_to_f(Partial(rise, a))(jnp.exp(u)),
        "first_variation": lambda a, u: df.first_variation(Partial(bowl, a))(jnp.exp(u)),
        "conjugate": lambda a, u: df.conjugate(Partial(bowl, a))(u),
        "ratio": lambda a, u: df.ratio(Partial(line, a), minus_exp)(u),
        "log_ratio": lambda a, u: df.log_ratio(Partial(line, a), minus_exp)(u),
        "inverse_log_ratio": lambda a, u: df.inverse_log_ratio(Partial(cubic, a))(u),
        "lift": lambda a, u: df.lift(Partial(rise, a), Partial(cubic, a))(u),
        "lower": lambda a, u: df.lower(Partial(rise, a), Partial(cubic, a))(u),
        "Divergence": lambda a, u: divergence(df.Divergence(Partial(bowl, a)), u),
        "GAN": lambda a, u: derived(mine(df.GAN, a), u),
        "IPM": lambda a, u: ipm(mine(df.IPM, a), u),
        "PairGAN": lambda a, u: pair(df.PairGAN(Partial(rise, a), Partial(line, a)), u),
        "divergences.alpha": lambda a, u: divergence(D.alpha(a), u),
        "divergences.shifted_vanilla": lambda a, u: divergence(D.shifted_vanilla(a), u),
        "gans.vanilla": lambda a, u: gan(G.vanilla(a), u),
        "gans.ebm": lambda a, u: gan(G.ebm(a), u),
        "gans.nwj": lambda a, u: gan(G.nwj(D.shifted_vanilla(a)), u),
        "gans.stack": lambda a, u: each(gan, G.stack(G.vanilla(a), G.logit()), u),
        "generator_loss": lambda a, u: df.generator_loss(G.vanilla(a), u),
    }.items()
}
OF_NOTHING = ("non_saturating", "logit", "arcsinh", "mle", "least_squares", "exponential")
OF_A_DIVERGENCE = {"f_gan": D.squared_hellinger, "b_gan": D.pearson, "ulsif": D.pearson}
OF_A_DIVERGENCE |= {"mirror": D.kl_pq}
TABLES = {
    "divergences.stack": Row(lambda x: each(divergence, D.stack(D.kl_qp, D.pearson), x["u"]), U),
    **{f"divergences.{name}": of_divergence(name) for name in INSTANCES},
    **{f"gans.{name}": of_gan(getattr(G, name)) for name in OF_NOTHING},
    **{f"gans.{name}": of_gan(getattr(G, name), div) for name, div in OF_A_DIVERGENCE.items()},
    "gans.wasserstein": Row(lambda x: ipm(G.wasserstein(), x["u"]), U),
    "gans.relativistic": Row(lambda x: pair(G.relativistic(), x["u"]), U),
}


# --- flows ---


def cloud_at():
    return {"a": number(0.7), "t": number(0.2), "xs": cloud(1)}


def shrink(t, x, args):
    return -args * x / (1 + t)


def heated(xs, s):
    return xs * jnp.sqrt(1 + s)


def density(x):
    field = df.velocity(Partial(rise, x["a"]), log_r)
    noise = jr.rademacher(KEY, (2, 4, 2), float)
    return df.with_log_prob(field, noise=noise)(x["t"], (x["xs"], x["xs"][:, 0]), x["a"])


def refitted(x):
    fit = Partial(df.mmd_witness, xs_p=x["p"], bandwidth=x["a"])
    return df.cloud_velocity(Partial(rise, x["a"]), fit)(x["a"], like(x["p"], cloud(1)), None)


def dissipated(x):
    h = Partial(rise, x["a"])
    return df.dissipation(h, x["u"], x["g"], of=h, weights=x["u"] ** 2)


def distances(x):
    """Of as many points, and of others of other weights."""
    weights = jax.nn.softmax(x["q"][:, 0])
    equal = df.wasserstein2(x["q"], x["p"][:4])
    return equal, df.wasserstein2(x["q"], x["p"], weights_x=weights)


# Fixed steps, since an adaptive solver's own choice of steps is not smooth at 1e-8; and Euler's,
# since every stage of a solver is compiled.
EULER = {"solver": diffrax.Euler(), "dt0": 0.25, "max_steps": 8}
UNIT = [0.0, 1.0]
FLOWS = {
    "velocity": Row(
        lambda x: df.velocity(Partial(rise, x["a"]), log_r)(x["t"], x["xs"], x["a"]), cloud_at
    ),
    "gradient_flow": Row(lambda x: df.gradient_flow(attraction)(x["t"], x["xs"], x["a"]), cloud_at),
    "score_velocity": Row(
        lambda x: df.score_velocity(Partial(rise, x["a"]), to_args, shrink, log_r)(
            x["t"], x["xs"], x["a"]
        ),
        cloud_at,
    ),
    "heat_flow_divergence": Row(
        lambda x: df.heat_flow_divergence(
            *(Partial(rise, x["a"]), to_args, shrink, log_r, Partial(heated, x["xs"])),
            **{"args": x["a"], "levels": 3, "scale": x["a"]},
        ),
        cloud_at,
    ),
    # The cloud is held fixed in the fit, so it is no part of `x` here:
    # test_a_field_that_refits_is_differentiated_with_the_fit_held_fixed.
    "cloud_velocity": Row(refitted, lambda: {"a": number(0.7), "p": cloud(2, 5)}),
    "with_log_prob": Row(density, cloud_at),
    "dissipation": Row(dissipated, lambda: {**AU(), "g": cloud(1, 3)}),
    "integrate": Row(
        lambda x: df.integrate(pull, x["xs"], x["ts"], x["a"], **EULER).ys,
        lambda: {"a": number(0.7), "xs": cloud(1), "ts": jnp.array([0.0, 0.6, 0.9])},
    ),
    "settle": Row(
        lambda x: df.settle(to_args, x["xs"], x["a"], **EULER | {"max_steps": 64}).ys,
        cloud_at,
        slope_of="integrate",
    ),
    "langevin": Row(
        lambda x, key: df.langevin(to_args, x["xs"], UNIT, x["a"], **EULER, key=key).ys,
        cloud_at,
        slope_of="integrate",
    ),
    "curve_length": Row(
        lambda x: df.curve_length(pull, x["xs"], UNIT, x["a"], **EULER),
        cloud_at,
        slope_of="integrate",
    ),
    "coupling": Row(lambda x: [df.coupling(x["q"], x["p"][:n]) for n in (4, 5)], clouds),
    "wasserstein2": Row(distances, clouds),
    "displacement": Row(lambda x: df.displacement(shear, x["t"], x["xs"]), cloud_at),
}


# --- ratios of samples ---


def at_point():
    return {**clouds(), "x": jnp.array([0.3, -0.2]), "b": number(1.3)}


def at(x, fit, **options):
    return fit(x["q"], x["p"], bandwidth=x["b"], **options)(0.0, x["x"], None)


def witnesses(x, key):
    return at(x, df.mmd_witness, block=3), at(x, df.mmd_witness, features=4, key=key)


def logistic(x, key):
    options = {"features": 4, "degree": 1, "ridge": x["b"], "newton_steps": 3}
    return at(x, df.rff_log_ratio, **options, key=key)


def chosen_bandwidth(x, key):
    options = {"multiples": (0.5, 1.0), "folds": 2, "features": 2, "degree": 1, "newton_steps": 2}
    return df.ratio_bandwidth(x["q"], x["p"], **options, ridge=x["b"], key=key)


RATIOS = {
    "median_bandwidth": Row(lambda x: df.median_bandwidth(x["q"], x["p"]), clouds),
    "kde_log_prob": Row(lambda x: df.kde_log_prob(x["q"], block=3)(x["x"]), at_point),
    "mmd_witness": Row(witnesses, at_point),
    "rff_log_ratio": Row(logistic, at_point),
    "ulsif_ratio": Row(
        lambda x, key: at(x, df.ulsif_ratio, centres=3, ridge=x["b"], key=key), at_point
    ),
    "ratio_bandwidth": Row(chosen_bandwidth, at_point),
    "drift_field": Row(
        lambda x: df.drift_field(x["q"], x["p"], radii=(x["b"], x["b"] / 5)), at_point
    ),
}


# --- Gaussians ---


def of_low_rank(x):
    q = df.LowRankGaussian(x["m"], x["s"][:, :1], jnp.exp(x["s"][:, 1]))
    at_z = ("push", "log_prob_of_push", "score_of_push")
    z = jnp.concatenate([x["x"], x["m"][:1]])
    return {name: getattr(q, name)(z) for name in at_z} | {
        "log_prob": q.log_prob(x["x"]),
        "covariance": q.covariance,
        "latent_size": jnp.asarray(q.latent_size),
        "variances": q.variances,
        "log_det": q.log_det(),
        "sample": q.sample(KEY, (2,)),
    }


def of_gaussian(x):
    q = df.Gaussian(x["m"], x["s"])
    at_x = ("push", "standardise", "log_prob", "log_prob_of_push")
    return {name: getattr(q, name)(x["x"]) for name in at_x} | {
        "diagonal": jnp.asarray(q.diagonal),
        "matrix": q.matrix,
        "covariance": q.covariance,
        "log_det": q.log_det(),
        "sample": q.sample(KEY, (2,)),
    }


def of_mixture(x):
    q = df.Mixture(x["l"], x["m"], x["s"])
    parts = {name: getattr(q, name) for name in ("log_weights", "weights", "components")}
    drawn = {"sample": q.sample(KEY, (2,))}
    return parts | drawn | {"push": q.push(x["x"]), "log_prob": q.log_prob(x["x"])}


def made_inside(make):
    """Nodes are made of Python numbers: inside a transform they are constants."""
    return Row(lambda x: moments(x, make()), arrays(a=0.7))


def made_of_key(make):
    return Row(lambda x, key: moments(x, make(8, 2, key=key)), arrays(a=0.7))


def moments(x, nodes):
    nodes = like(x["a"], nodes)
    return nodes.weights @ jnp.sin(x["a"] * nodes.points)


def of_field(make, q=gaussian, **options):
    field = lambda x: make(Partial(log_p, x["m"]), df.cubature(2), **options)
    return Row(lambda x: field(x)(0.0, x["q"], None), with_target(q))


def bures_rates(x):
    field = df.bures_field(Partial(log_p, x["m"]), df.cubature(2), h=D.jensen_shannon.h)
    return field(0.0, (x["q"].mean, x["q"].covariance), None)


def stepped(x):
    step = x["m"][0] ** 2 / 100
    return df.forward_backward_step(Partial(log_p, x["m"]), df.cubature(2), x["q"], step=step)


def fitted(x, key):
    q0 = df.Gaussian(x["q"].mean, jnp.diagonal(x["q"].scale))
    options = {"nodes": df.cubature(2), "n": 32, "max_steps": 64, "key": key}
    return df.fit_gaussian(Partial(log_p, x["m"]), q0, **options)


def fitted_mixture(x, key):
    q0 = df.Gaussian(x["q"].mean, jnp.diagonal(x["q"].scale))
    options = {"n": 32, "tol": 1e-3, "max_steps": 64, "key": key}
    return df.fit_mixture(Partial(log_p, x["m"]), 2, q0, **options)


def at_samples():
    return {"m": cloud(3)[0], "s": cloud(4, 2), "x": cloud(5)[0]}


GAUSSIANS = {
    "Gaussian": Row(of_gaussian, at_samples),
    "LowRankGaussian": Row(of_low_rank, at_samples),
    "Mixture": Row(
        of_mixture, lambda: {"l": cloud(3)[0], "m": cloud(4, 2), "s": cloud(6, 2), "x": cloud(5)[0]}
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
    "normal_nodes": made_of_key(df.normal_nodes),
    "sobol_nodes": made_of_key(df.sobol_nodes),
    "gaussian_field": of_field(df.gaussian_field, h=D.pearson.h, triangular=True),
    "fisher_rao_field": of_field(df.fisher_rao_field, estimator="price"),
    "bures_field": Row(bures_rates, with_target(gaussian)),
    "mixture_field": of_field(df.mixture_field, mixture, h=D.jensen_shannon.h, move_weights=True),
    "forward_backward_step": Row(stepped, with_target(gaussian)),
    "fit_gaussian": Row(fitted, with_target(gaussian), slope_of="test_fit_gaussian.py"),
    "fit_mixture": Row(fitted_mixture, with_target(gaussian), slope_of="test_fit_mixture.py"),
}


def two_covariances():
    return {"a": covariance(1), "b": covariance(2), "s": cloud(3, 2), "u": cloud(4, 2)}


BURES = {
    f"bures.{name}": Row(call, two_covariances)
    for name, call in {
        "submersion": lambda x: B.submersion(x["s"]),
        "horizontal": lambda x: B.horizontal(x["s"], x["u"]),
        "vertical": lambda x: B.vertical(x["s"], x["u"]),
        "inner": lambda x: B.inner(x["a"], x["u"], x["b"]),
        "exp": lambda x: B.exp(x["a"], 0.1 * (x["u"] + x["u"].T)),
        "log": lambda x: B.log(x["a"], x["b"]),
        "brenier_map": lambda x: B.brenier_map(x["a"], x["b"]),
        "geodesic": lambda x: B.geodesic(0.5 + 0.1 * x["u"][0, 0], x["a"], x["b"]),
        "distance": lambda x: B.distance(x["a"], x["b"]),
        "squared_distance": lambda x: B.squared_distance(x["a"], x["b"]),
    }.items()
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


def loss_of_paths(x):
    # q is held fixed inside log q, so it is no part of `x`; test_path_gradient.py has that law.
    q = like(x["m"], mixture())
    return df.stl_loss(Partial(log_p, x["m"]), q, x["z"], h=D.jensen_shannon.h)


def ratio_step(x, key):
    state = df.RatioState.start(x["d"], SGD)
    options = {"batch_size": 3, "penalty": "r1", "penalty_weight": x["eps"], "key": key}
    return df.ratio_step(G.logit(), SGD, state, (x["q"], x["p"]), **options)


def gan_step(x, key):
    state = df.GANState.start(x["d"], x["g"], SGD, SGD)
    options = {"latent": 2, "batch_size": 4, "form": "proximal", "tau": x["eps"], "key": key}
    return df.gan_step(G.vanilla(), SGD, SGD, state, x["p"], **options, generator_steps=2)


def transport(x, key):
    options = {"steps": 2, "critic_steps": 2, "batch_size": 3, "step_size": x["eps"]}
    options |= {"optimizer": SGD, "chunk": 2, "key": key}
    return df.transport(G.logit(), x["d"], x["q"], x["p"], **options)


def train_gan(x, key):
    options = {"latent": 2, "steps": 2, "form": "distillation", "step_size": x["eps"]}
    options |= {"d_optimizer": SGD, "g_optimizer": SGD, "batch_size": 4, "chunk": 2, "key": key}
    return df.train_gan(G.logit(), x["d"], x["g"], x["p"], **options)


def flow_game():
    """The paths are held fixed in a step, so what moves them, q and the network, is no `x`."""
    return {"p": cloud(2, 5), "eps": number(0.3)}


def flow_options(x, key):
    times = {"ts": [0.0, 0.1, 0.3], "batch_size": 4, "neighbours": x["eps"], "key": key}
    return like(x["p"], (time_network(), cloud(1))), times


def flow_ratio_step(x, key):
    (network, xs_q), options = flow_options(x, key)
    state = df.FlowRatioState.start(network, SGD)
    return df.flow_ratio_step(G.logit(), SGD, state, (xs_q, x["p"]), **options)


def train_flow_ratio(x, key):
    (network, xs_q), options = flow_options(x, key)
    options |= {"form": "sequential", "steps": 2, "optimizer": SGD, "chunk": 2}
    return df.train_flow_ratio(G.logit(), network, xs_q, x["p"], **options)


def noised_ratio_step(x, key):
    state = df.RatioState.start(of_levels(noised_critic, x["d"]), SGD)
    options = {"penalty": "zero", "penalty_weight": x["eps"], "batch_size": 3, "key": key}
    return df.noised_ratio_step(G.logit(), SGD, state, (x["q"], x["p"]), **options)


def noised_critic(key=KEY):
    return N.NoisedDiscriminator(2, 3, 1, key=key)


def of_levels(make, trained):
    """A network of noise levels with these weights; the data's deviation is held fixed inside."""
    return eqx.tree_at(_weights, like(jax.tree.leaves(trained)[0], make()), trained)


def _weights(network):
    return [getattr(network, name) for name in ("layers", "quadratic") if hasattr(network, name)]


def with_noised_critic():
    return {**clouds(), "d": _weights(noised_critic()), "eps": number(0.1)}


def distillation():
    return {**game(), "d": _weights(noised_critic()), "s": number([0.3, -0.7])}


def teacher(lam, y):
    return jnp.tanh(lam) - y


def distilled_step(x, key):
    options = {"discriminator": of_levels(noised_critic, x["d"]), "ratio_bins": 2}
    networks = x["g"], Partial(scored, x["s"])
    state = df.DistilledState.start(*networks, SGD, SGD, d_optimizer=SGD, **options)
    options = {"latent": 2, "batch_size": 4, "critic_steps": 2, "normalise": True, "key": key}
    options |= {"d_optimizer": SGD, "ratio_clip": (0.1, 1 + x["eps"])}
    return df.distilled_step(Partial(rise, x["eps"]), teacher, SGD, SGD, state, x["p"], **options)


def train_distilled(x, key):
    options = {"latent": 2, "batch_size": 4, "critic_steps": 1, "steps": 2, "chunk": 2, "key": key}
    options |= {"g_optimizer": SGD, "s_optimizer": SGD, "ema_decay": x["eps"]}
    return df.train_distilled(D.kl_qp.h, teacher, x["g"], Partial(scored, x["s"]), **options)


def scored(s, lam, y):
    return s * y


ESTIMATED = {"folds": 2, "steps": 2, "batch_size": 4, "optimizer": SGD}


def estimated(x, key):
    options = ESTIMATED | {"critic": x["d"], "key": key}
    return df.divergence_between(x["p"], x["q"], D.jensen_shannon, **options)


def informed(x, key):
    options = ESTIMATED | {"critic": x["d"], "key": key}
    return df.mutual_information(x["p"][:, 0], x["p"][:, 1], **options)


def conditional(x, key):
    options = ESTIMATED | {"contrasts": 2, "critic": x["d"], "key": key}
    return df.conditional_ratio(x["p"][:, 0], x["p"][:, 1], **options)


def posterior(x):
    return df.log_posterior(of_pairs(x["d"]), Partial(log_p, x["eps"]), x["x"])(x["theta"])


def with_ten():
    return {"p": cloud(1, 10), "q": cloud(2, 9) + 0.5, "d": critic()}


LOSSES = {
    "discriminator_loss": Row(lambda x: df.discriminator_loss(G.vanilla(), x["q"], x["p"]), clouds),
    "distillation_loss": Row(
        lambda x: df.distillation_loss(x["xs"], x["vs"], x["eps"]),
        lambda: {"xs": cloud(1), "vs": cloud(2), "eps": number(0.3)},
        slope=distilled_slope,
    ),
    "stl_loss": Row(loss_of_paths, lambda: {"m": cloud(9)[0], "z": cloud(1)}),
    "gradient_penalty": Row(
        lambda x, key: df.gradient_penalty("one", x["d"], x["p"], x["q"], key=key), with_critic
    ),
    "witness": Row(lambda x: df.witness(x["d"])(0.0, x["q"][0], None), with_critic),
    "learned_log_ratio": Row(
        lambda x: df.learned_log_ratio(G.ebm(x["eps"]), x["d"])(0.0, x["q"][0], None), with_critic
    ),
    "ratio_check": Row(
        lambda x: df.ratio_check(df.learned_log_ratio(G.logit(), x["d"]), x["q"], x["p"]),
        with_critic,
    ),
    "divergence_between": Row(estimated, with_ten),
    "mutual_information": Row(informed, with_ten),
    "conditional_ratio": Row(conditional, with_ten),
    "log_posterior": Row(
        posterior,
        lambda: {
            **{"d": N.Discriminator(4, 3, 1, key=KEY), "eps": number(0.3)},
            **{"x": number([0.3, -0.7]), "theta": number([0.5, 0.2])},
        },
    ),
    "particle_step": Row(
        lambda x: df.particle_step(G.vanilla(), x["d"], x["q"], x["eps"]), with_critic
    ),
    "ratio_step": Row(ratio_step, with_critic),
    "gan_step": Row(gan_step, game),
    "flow_log_ratio": Row(
        lambda x: df.flow_log_ratio(G.ebm(x["eps"]), clock(x["d"]))(x["eps"], x["q"][0], None),
        lambda: {**clouds(), "d": weights_of_clock(), "eps": number(0.3)},
    ),
    "flow_ratio_step": Row(flow_ratio_step, flow_game),
    "transport": Row(transport, with_critic),
    "train_gan": Row(train_gan, game),
    "train_flow_ratio": Row(train_flow_ratio, flow_game, slope_of="flow_ratio_step"),
    "variance_preserving": Row(
        lambda x: df.variance_preserving(x["t"], x["low"], x["high"]),
        arrays(t=[0.2, 0.7], low=0.3, high=9.0),
    ),
    "variance_exploding": Row(
        lambda x: df.variance_exploding(x["t"], x["low"], x["high"]),
        arrays(t=[0.2, 0.7], low=0.3, high=9.0),
    ),
    "denoising_loss": Row(
        lambda x: df.denoising_loss(Partial(scored, x["s"]), x["q"], x["e"], (x["a"], x["b"])),
        lambda: {
            **{"q": cloud(1), "e": cloud(2), "s": number([0.3, -0.7])},
            **{"a": number(0.8), "b": number([0.1, 0.5, 0.7, 1.0])},
        },
    ),
    "noised_ratio_step": Row(noised_ratio_step, with_noised_critic),
    # Samples are stopped where they move.
    "distilled_step": Row(distilled_step, distillation, slope_of="test_distillation_laws.py"),
    "train_distilled": Row(train_distilled, distillation, slope_of="test_distillation_laws.py"),
}


# --- networks: one that `x` holds, and one of weights drawn from a key, at the same point ---


def of_network(make, x):
    both = lambda x, key: [d(x["x"]) for d in (x["d"], like(x["x"], make(key)))]
    return Row(both, lambda: {"d": make(KEY), "x": number(x)})


def clocks(x, key):
    return [d(x["t"], x["x"]) for d in (clock(x["d"]), like(x["x"], time_network(key)))]


def spectral(x, key):
    """The norm forgets the key; signs of the singular vectors do not."""
    network = N.spectral(x["d"], key=key)
    return network(x["x"]), [jnp.sign(leaf).astype(int) for leaf in jax.tree.leaves(network)]


def denoiser(key=KEY):
    return N.Denoiser(2, 3, 1, preserving=False, key=key)


def of_level(make):
    both = lambda x, key: [
        d(x["t"], x["x"]) for d in (of_levels(make, x["d"]), like(x["x"], make(key)))
    ]
    return Row(both, lambda: {"d": _weights(make()), "t": number(0.3), "x": number(POINT)})


POINT = np.array([0.4, -0.9])
ON_CRITIC = lambda: {"d": critic(), "x": number(POINT)}
NETWORKS = {
    "networks.Discriminator": of_network(critic, POINT),
    "networks.Generator": of_network(maker, POINT),
    "networks.TimeDiscriminator": Row(
        clocks, lambda: {"d": weights_of_clock(), "t": number(0.3), "x": number(POINT)}
    ),
    "networks.Denoiser": of_level(denoiser),
    "networks.NoisedDiscriminator": of_level(noised_critic),
    "networks.ConvDiscriminator": of_network(
        lambda key: N.ConvDiscriminator(4, 1, 2, key=key), np.sin(np.arange(16.0)).reshape(1, 4, 4)
    ),
    "networks.ConvGenerator": of_network(lambda key: N.ConvGenerator(2, 4, 1, 2, key=key), POINT),
    "networks.spectral": Row(spectral, ON_CRITIC),
    "networks.refresh": Row(lambda x: N.refresh(N.spectral(x["d"], key=KEY))(x["x"]), ON_CRITIC),
}
ROWS = CALCULUS | TABLES | FLOWS | RATIOS | GAUSSIANS | BURES | LOSSES | NETWORKS
KEYED = [name for name, row in ROWS.items() if row.takes_key]
# States and reports: pytrees that the row of the function beside them returns or takes.
RECORDS = {
    "FitInfo": "fit_gaussian",
    "MixtureInfo": "fit_mixture",
    "RatioCheck": "ratio_check",
    "DivergenceEstimate": "divergence_between",
    "ConditionalRatio": "conditional_ratio",
    "RatioState": "ratio_step",
    "TransportInfo": "transport",
    "GANState": "gan_step",
    "TrainInfo": "train_gan",
    "FlowRatioState": "flow_ratio_step",
    "FlowRatioInfo": "train_flow_ratio",
    "DistilledState": "distilled_step",
    "DistilledInfo": "train_distilled",
}
# Not to be transformed. `over_devices` refuses; `transport` shows a `TransportState` to `on_chunk`
# between its programs only; `RunDiverged` is an error. Pictures are drawn of numbers: tests/plot.
OUTSIDE = {"over_devices", "TransportState", "RunDiverged"}
OUTSIDE |= {f"plot.{name}" for name, value in vars(df.plot).items() if inspect.isfunction(value)}
