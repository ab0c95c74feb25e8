"""One good call of every public function, and of what it returns; bad input is a change of one.

GOOD has the arguments by name: what a function needs, and what makes it fast. Axes of equal size
must line up: 4 samples of q, 5 of p, in 2 dimensions, with noise of 3.
"""

from functools import cache, partial

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from test_architecture import PUBLIC

import divergence_flows as df

B, G, N = df.bures, df.gans, df.networks
KEY, NAN, INF = jr.key(0), np.nan, np.inf
XS = jnp.array([[0.5, -1.0], [1.5, 0.5], [-0.5, 2.0], [2.0, 1.0]])
YS = jnp.array([[1.0, 1.0], [0.0, -0.5], [2.5, 0.5], [-1.0, 0.0], [0.5, 2.0]])
U, X, NOISE, NONE = XS[:, 0], XS[0], jnp.array([0.5, -1.0, 2.0]), jnp.zeros(0)
SAMPLES = {"xs_q": XS, "xs_p": YS}
WEIGHTS = {"weights_x": jnp.full(4, 1 / 4), "weights_y": jnp.full(5, 1 / 5)}

# Functions that users write.
r_log_r = lambda r: r * jnp.log(r)
double = lambda d: 2 * d
softplus = lambda d: jax.nn.softplus(d)
log_sigmoid = lambda d: -jax.nn.softplus(-d)
minus_softplus = lambda d: -jax.nn.softplus(d)
itself = lambda x: x
square = lambda x: jnp.sum(x**2)
log_p = lambda x: -0.5 * jnp.sum(x**2)
log_r = lambda t, x, args: -0.5 * jnp.sum(x**2)  # its velocity is -x
decay = lambda t, xs, args: -xs
steady = lambda t, xs, args: jnp.ones_like(xs)
noised = lambda s: XS * jnp.sqrt(1 + s)
tripled = lambda x: 3 * x
to_the_mean = lambda t, x, xs, args: 0.5 * jnp.mean(jnp.sum((x - xs) ** 2, axis=-1))
pulled = lambda centre, t, x, args: -0.5 * jnp.sum((x - centre) ** 2)
pulling = lambda xs: partial(pulled, jnp.mean(xs, axis=0))

SCORES = {"h": itself, "score_p": decay, "score_q": steady}
GAN, SGD, ADAM = G.logit(), optax.sgd(0.1), optax.adam(0.1)
LOGISTIC = {"phi": log_sigmoid, "psi": minus_softplus}
TRIPLE = {**LOGISTIC, "h_t": softplus}
# Without hidden layers: what a step does with it compiles fastest.
LINEAR, AFFINE = N.Discriminator(2, 2, 0, key=KEY), N.Generator(3, 2, 2, 0, key=KEY)
TIMED = N.TimeDiscriminator(2, 2, 0, decays=2, quadratic=False, key=KEY)
LEVELLED = N.NoisedDiscriminator(2, 2, 0, quadratic=False, key=KEY)
LEARNED = {"discriminator": LEVELLED, "d_optimizer": SGD}
scored = lambda lam, y: -y
TEN = jnp.stack([jnp.sin(jnp.arange(10.0)), jnp.cos(2 * jnp.arange(10.0))], axis=1)
CRITIC, IMAGE = N.Discriminator(2, 2, 1, key=KEY), jnp.ones((1, 8, 8))

COVARIANCE, OTHER = jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([[1.0, 0.0], [0.0, 3.0]])
ORIGIN, EYE, ONES = jnp.zeros(2), jnp.eye(2), jnp.ones(2)
LOW = df.LowRankGaussian(ORIGIN, jnp.ones((2, 1)), jnp.ones(2))
Q, LINE_Q = df.Gaussian(ORIGIN, EYE), df.Gaussian(jnp.zeros(1), jnp.ones(1))
MIX = df.Mixture(jnp.zeros(3), jnp.zeros((3, 2)), jnp.ones((3, 2)))
RULE = df.cubature(2)
TARGET = {"log_p": log_p, "nodes": RULE}


def of_pairs(critic):
    """A ratio of points in the plane, of which nothing is known."""
    arrays, rest = eqx.partition(critic, eqx.is_array)
    one = jax.tree.map(lambda leaf: leaf[None], arrays)
    zeros = jnp.zeros_like(arrays.layers[0].weight[0, :2])
    units, zero = jnp.stack([zeros, zeros + 1]), zeros[0]
    judged = zero, zero, zeros, jnp.ones((), bool)
    return df.ConditionalRatio(one, GAN, (units, units), *judged, rest, ((2,), (2,)))


CONDITIONAL = of_pairs(N.Discriminator(4, 2, 0, key=KEY))

# Two steps of Euler are exact where these are used, and compile fastest.
HEUN, EULER = diffrax.Heun(), {"solver": diffrax.Euler(), "dt0": 0.5}
SOLVE = {"ts": np.array([0.0, 0.5, 1.0]), **EULER}
TIMES = [0.0, 1.0]
FOLDS = {"loss": "ulsif", "features": 2, "folds": 2}
ONE_STEP = {"batch_size": 2, "steps": 1}
TWO_OPTIMIZERS = {"d_optimizer": SGD, "g_optimizer": SGD}
SMALL = {"width": 2, "depth": 1, "key": KEY}


def alike(good, *names):
    """Rows of functions that are called alike."""
    return dict.fromkeys(names, good)


GOOD = {
    **alike({"f": r_log_r}, "f_to_h", "first_variation", "conjugate", "Divergence"),
    "divergences.Divergence": {"f": r_log_r},
    "h_to_f": {"h": jnp.exp},
    "inverse_log_ratio": {"log_t": double},
    "lift": {"h": jnp.exp, "log_t": jnp.log},
    "lower": {"h_t": jnp.exp, "log_t": double},
    **alike(LOGISTIC, "log_ratio", "ratio"),
    "divergences.alpha": {"a": 2.0},
    "divergences.shifted_vanilla": {"c": 2.0},
    **alike(TRIPLE, "GAN", "gans.GAN", "IPM"),
    "PairGAN": {"critic": log_sigmoid, "generator": double},
    "gans.vanilla": {"shift": 2.0},
    "gans.ebm": {"lam": 2.0},
    **{
        f"gans.{name}": {"div": df.divergences.pearson}
        for name in ("f_gan", "b_gan", "nwj", "ulsif", "exponential", "mirror")
    },
    **alike({}, "gans.stack", "divergences.stack"),  # of none: it is refused in words
    "discriminator_loss": {"gan": GAN, "d_p": jnp.zeros(3), "d_q": jnp.zeros(2)},
    "generator_loss": {"gan": GAN, "d_q": jnp.zeros(2)},
    "distillation_loss": {"xs": XS, "vs": XS, "eps": 0.1},
    "gradient_penalty": {"penalty": "r1", "discriminator": square, "xs_p": YS, "xs_q": XS},
    "witness": {"discriminator": square},
    "learned_log_ratio": {"gan": GAN, "discriminator": LINEAR},
    "flow_log_ratio": {"gan": GAN, "discriminator": TIMED},
    # --- fields and flows ---
    "velocity": {"h": itself, "log_r": log_r},
    "gradient_flow": {"variation": to_the_mean},
    "score_velocity": SCORES,
    "heat_flow_divergence": {**SCORES, "log_r": None, "draw": noised, "levels": 2},
    "cloud_velocity": {"h": itself, "fit": pulling},
    "with_log_prob": {"field": decay, "noise": XS[None]},
    "dissipation": {"h": itself, "u": U, "grad_u": XS, "weights": U},
    "integrate": {"field": decay, "y0": XS, **SOLVE},
    "settle": {"field": decay, "y0": XS, **EULER},
    "langevin": {"score": decay, "x0": XS, "key": KEY, **SOLVE},
    "curve_length": {"field": steady, "y0": XS, **SOLVE},
    **alike({"xs": XS, "ys": YS, **WEIGHTS}, "coupling", "wasserstein2"),
    "displacement": {"transport_map": tripled, "t": 0.5, "xs": XS},
    # --- ratios of samples ---
    "median_bandwidth": {"xs": XS, "ys": YS},
    "kde_log_prob": {"xs": XS},
    **alike(SAMPLES, "mmd_witness", "drift_field"),
    "rff_log_ratio": {**SAMPLES, "features": 2, "newton_steps": 1, "degree": 0, "key": KEY},
    "ulsif_ratio": {**SAMPLES, "centres": 2, "key": KEY},
    "ratio_bandwidth": {**SAMPLES, **FOLDS, "key": KEY},
    "ratio_check": {"log_r": lambda t, x, args: 0.5 * jnp.sum(x), **SAMPLES},
    # --- Gaussians ---
    "bures.submersion": {"s": COVARIANCE},
    **alike({"s": COVARIANCE, "x": OTHER}, "bures.horizontal", "bures.vertical"),
    "bures.inner": {"sigma": COVARIANCE, "u": OTHER, "v": OTHER},
    "bures.exp": {"sigma": COVARIANCE, "u": OTHER},
    "bures.log": {"sigma": COVARIANCE, "other": OTHER},
    "bures.brenier_map": {"a": COVARIANCE, "b": OTHER},
    "bures.geodesic": {"t": 0.5, "a": COVARIANCE, "b": OTHER},
    "bures.distance": {"a": COVARIANCE, "b": OTHER},
    "bures.squared_distance": {"a": COVARIANCE, "b": OTHER},
    "Gaussian": {"mean": ORIGIN, "scale": EYE},
    "LowRankGaussian": {"mean": ORIGIN, "factor": LOW.factor, "scale": LOW.scale},
    "gaussian_kl": {"q": Q, "p": Q},
    "Mixture": {"logits": MIX.logits, "means": MIX.means, "scales": jnp.ones((3, 2))},
    "Nodes": {"points": jnp.array([[1.0], [-1.0]]), "weights": jnp.array([0.5, 0.5])},
    "cubature": {"dim": 2},
    "gauss_hermite": {"dim": 1, "order": 3},
    "trapezoid": {"dim": 1},
    **alike({"n": 4, "dim": 2, "key": KEY}, "normal_nodes", "sobol_nodes"),
    **alike(TARGET, "gaussian_field", "fisher_rao_field", "bures_field", "mixture_field"),
    "forward_backward_step": {**TARGET, "q": Q, "step": 0.1},
    "fit_gaussian": {"log_p": log_p, "q0": LINE_Q, "n": 32, "solver": HEUN, "key": KEY},
    "fit_mixture": {"log_p": log_p, "k": 2, "q0": LINE_Q, "n": 32, "key": KEY},
    "stl_loss": {"log_p": log_p, "q": Q, "z": jnp.ones((4, 2))},
    "divergence_between": {
        **{"xs_p": TEN, "xs_q": 2 * TEN[:8], "div": df.divergences.kl_qp, "critic": LINEAR},
        **{"folds": 2, "steps": 1, "batch_size": 2, "optimizer": SGD, "key": KEY},
    },
    "mutual_information": {
        **{"xs": TEN[:, 0], "ys": TEN[:, 1], "critic": LINEAR},
        **{"folds": 2, "steps": 1, "batch_size": 2, "optimizer": SGD, "key": KEY},
    },
    "conditional_ratio": {
        **{"thetas": TEN[:, 0], "xs": TEN[:, 1], "critic": LINEAR, "contrasts": 2},
        **{"folds": 2, "steps": 1, "batch_size": 4, "optimizer": SGD, "key": KEY},
    },
    "log_posterior": {"ratio": CONDITIONAL, "log_prior": log_p, "x": X},
    # --- training and networks ---
    "particle_step": {"gan": GAN, "discriminator": LINEAR, "xs": XS, "step_size": 0.1},
    "ratio_step": {
        **{"gan": GAN, "optimizer": SGD, "state": df.RatioState.start(LINEAR, SGD)},
        **{"batch": (XS, YS)},
    },
    "gan_step": {
        **{"gan": GAN, **TWO_OPTIMIZERS, "state": df.GANState.start(LINEAR, AFFINE, SGD, SGD)},
        **{"xs_p": YS, "latent": 3, "batch_size": 2, "key": KEY},
    },
    "flow_ratio_step": {
        **{"gan": GAN, "optimizer": SGD, "state": df.FlowRatioState.start(TIMED, SGD)},
        **{"batch": (XS, YS), "ts": TIMES, "batch_size": 2, "key": KEY},
    },
    "transport": {
        **{"gan": GAN, "discriminator": LINEAR, **SAMPLES, "steps": 1, "critic_steps": 1},
        **{"optimizer": SGD, "step_size": 0.1, "key": KEY},
    },
    "train_gan": {
        **{"gan": GAN, "discriminator": LINEAR, "generator": AFFINE, "xs_p": YS, "latent": 3},
        **{**ONE_STEP, **TWO_OPTIMIZERS, "key": KEY},
    },
    "train_flow_ratio": {
        **{"gan": GAN, "discriminator": TIMED, **SAMPLES, "ts": TIMES, **ONE_STEP},
        **{"optimizer": SGD, "key": KEY},
    },
    # --- distillation ---
    **alike({"t": 0.5}, "variance_preserving", "variance_exploding"),
    "denoising_loss": {"model": scored, "xs": XS, "noise": YS[:4], "level": (0.8, 0.6)},
    "noised_ratio_step": {
        **{"gan": GAN, "optimizer": SGD, "state": df.RatioState.start(LEVELLED, SGD)},
        **{"batch": (XS, YS), "key": KEY},
    },
    "distilled_step": {
        **{"h": itself, "score_p": scored, "g_optimizer": SGD, "s_optimizer": SGD},
        **{"state": df.DistilledState.start(AFFINE, scored, SGD, SGD, **LEARNED), "xs_p": YS},
        **{"latent": 3, "d_optimizer": SGD, "batch_size": 2, "critic_steps": 1, "key": KEY},
    },
    "train_distilled": {
        **{"h": itself, "score_p": scored, "generator": AFFINE, "score_q": scored, "latent": 3},
        **{"discriminator": LEVELLED, "xs_p": YS, **ONE_STEP, "critic_steps": 1, "key": KEY},
    },
    "over_devices": {"tree": XS},
    "networks.Discriminator": {"dim": 2, **SMALL},
    "networks.Generator": {"latent": 3, "dim": 2, **SMALL},
    "networks.TimeDiscriminator": {"dim": 2, "decays": 2, "like": XS, **SMALL},
    **alike({"dim": 2, **SMALL}, "networks.Denoiser", "networks.NoisedDiscriminator"),
    "networks.ConvDiscriminator": {"size": 8, "width": 2, "key": KEY},
    "networks.ConvGenerator": {"latent": 3, "size": 8, "width": 2, "key": KEY},
    "networks.spectral": {"network": CRITIC, "key": KEY},
    "networks.refresh": {"network": CRITIC},
}
OF_LATENTS = ("push", "log_prob_of_push", "score_of_push")
# Methods, and with () what the good call returns.
OWNERS = {
    "Gaussian": Q,
    "LowRankGaussian": LOW,
    "Mixture": MIX,
    "RatioState": df.RatioState,
    "GANState": df.GANState,
}
OWNERS |= {"FlowRatioState": df.FlowRatioState, "DistilledState": df.DistilledState}
OF_POINT = {"t": 0.5, "x": X, "args": None}
OF_CLOUD = {"t": 0.0, "xs": XS, "args": None}
GOOD |= {
    "RatioState.start": {"discriminator": LINEAR, "optimizer": SGD},
    "GANState.start": {"discriminator": LINEAR, "generator": AFFINE, **TWO_OPTIMIZERS},
    "DistilledState.start": {
        **{"generator": AFFINE, "score_q": scored, "g_optimizer": SGD, "s_optimizer": SGD},
    },
    "FlowRatioState.start": {"discriminator": TIMED, "optimizer": SGD, "xs_q": XS, "ts": TIMES},
    **alike(OF_CLOUD, "velocity()", "gradient_flow()", "cloud_velocity()", "score_velocity()"),
    "with_log_prob()": {"t": 0.0, "state": (XS, U), "args": None},
    **alike(OF_POINT, "witness()", "learned_log_ratio()", "flow_log_ratio()"),
    "kde_log_prob()": {"x": X},
    **alike(OF_POINT, "mmd_witness()", "rff_log_ratio()", "ulsif_ratio()"),
    **alike({"t": 0.0, "q": Q, "args": None}, "gaussian_field()", "fisher_rao_field()"),
    "bures_field()": {"t": 0.0, "state": (ORIGIN, EYE), "args": None},
    "mixture_field()": {"t": 0.0, "q": MIX, "args": None},
    **alike({"z": X}, "Gaussian.push", "Gaussian.log_prob_of_push", "Mixture.push"),
    **alike({"z": jnp.ones(3)}, *(f"LowRankGaussian.{name}" for name in OF_LATENTS)),
    **alike({"key": KEY, "shape": (2,)}, "Gaussian.sample", "Mixture.sample"),
    **alike({"x": X}, "Gaussian.standardise", "Gaussian.log_prob", "Mixture.log_prob"),
    "LowRankGaussian.log_prob": {"x": X},
    "LowRankGaussian.sample": {"key": KEY, "shape": (2,)},
    "log_posterior()": {"theta": X},
    **alike({"x": X}, "networks.Discriminator()", "networks.spectral()"),
    "networks.Generator()": {"z": NOISE},
    "networks.TimeDiscriminator()": {"t": 0.5, "x": X},
    **alike({"level": 0.5, "y": X}, "networks.Denoiser()", "networks.NoisedDiscriminator()"),
    "networks.ConvDiscriminator()": {"x": IMAGE},
    "networks.ConvGenerator()": {"z": NOISE},
}


@cache
def function(name):
    """The function of a row: a public one, a method, or what the good call of one returns."""
    if name.endswith("()"):
        return function(name[:-2])(**GOOD[name[:-2]])
    owner, _, method = name.rpartition(".")
    return getattr(OWNERS[owner], method) if owner in OWNERS else PUBLIC[name]
