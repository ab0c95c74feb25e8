"""Bad input for training: networks, losses, steps, loops, states and learned ratios."""

from functools import partial

import bad_good as good
import jax
import jax.numpy as jnp
import numpy as np
from bad_calculus import HINGES
from bad_clouds import INTS, MORE_INTS, broken, of_floats
from bad_good import GAN, GOOD, KEY, LINEAR, NAN, NOISE, SGD, TIMED, XS, YS, X, function, itself

import divergence_flows as df

N, G, PEARSON = df.networks, df.gans, df.divergences.pearson
WIDE, IMAGE_CRITIC = N.Discriminator(3, 2, 1, key=KEY), N.ConvDiscriminator(8, 1, 2, key=KEY)
IMAGE_MAKER = N.ConvGenerator(3, 8, 1, 2, key=KEY)
NO_FIT = "discriminator` does not take float32[2]", "pass a function"
NO_FIT_AT = "discriminator` does not take (float32[], float32[2])", "pass a function d(t, x)"
NO_NUMBER = "discriminator` makes float32[2] of float32[2]", "one number"


def with_network(network, *words):
    """Rows that give each step and loop another discriminator: d(t, x) of its own is no d(x)."""
    yield "particle_step transport train_gan", {"discriminator": network}, *words
    yield "ratio_step", {"state": df.RatioState.start(network, SGD)}, "`state.", *words
    yield "gan_step", {"state": df.GANState.start(network, good.AFFINE, SGD, SGD)}, *words


TYPES = [
    ("GANState.start", {"generator": None}, "generator"),
    ("train_gan", {"generator": None}, "generator"),
]
VALUES = [
    *(row for network in (WIDE, IMAGE_CRITIC, TIMED) for row in with_network(network, *NO_FIT)),
    *with_network(jnp.tanh, *NO_NUMBER),
    ("train_flow_ratio", {"discriminator": LINEAR}, *NO_FIT_AT),
    ("flow_ratio_step", {"state": df.FlowRatioState.start(LINEAR, SGD)}, "`state.", *NO_FIT_AT),
    (
        "learned_log_ratio flow_log_ratio flow_ratio_step train_flow_ratio",
        *({"gan": G.wasserstein()}, "`gan` is a", "has no `log_t`"),
    ),
    (
        "learned_log_ratio flow_log_ratio flow_ratio_step train_flow_ratio",
        *({"gan": G.relativistic()}, "`gan` is a PairGAN", "`log_t`", "up to a constant"),
    ),
    ("generator_loss", {"gan": G.relativistic()}, "`d_p` is None", "pass `d_p`"),
    ("particle_step", {"gan": G.relativistic()}, "`xs_p` is None", "pass `xs_p`"),
    ("transport", {"gan": G.relativistic(), "keep_map": 2}, "`keep_map` is 2 with a PairGAN"),
    ("generator_loss", {"gan": PEARSON}, "`gan` is a Divergence", "h_eff", "pass a GAN"),
    ("gradient_penalty", {"penalty": "one"}, "pass `key`"),
    ("gradient_penalty", {"penalty": "one", "key": KEY, "xs_q": XS[:0]}, "`xs_q` has no samples"),
    ("gradient_penalty", {"penalty": "r2", "xs_q": XS[:0]}, "`xs_q` has no samples"),
    (
        "gradient_penalty ratio_step gan_step train_gan transport",
        {"penalty": "r3"},
        "'r1+r2', 'zero'",
    ),
    ("gradient_penalty", {"discriminator": itself}, "`discriminator` makes", "function of one"),
    # --- steps and loops ---
    ("ratio_step", {"batch_size": 2}, "pass `key` too"),
    ("ratio_step", {"penalty": "one"}, "pass `key` too"),
    ("ratio_step flow_ratio_step", {"batch": (XS[:0], YS)}, "`xs_q` has no samples"),
    ("ratio_step flow_ratio_step", {"batch": (XS, YS[:0])}, "`xs_p` has no samples"),
    ("transport gan_step train_gan", {"step_size": 0.0}, "`step_size` is 0.0"),
    ("gan_step train_gan", {"generator_steps": 2}, "`generator_steps` is 2", "pass form='dist"),
    ("gan_step train_gan", {"tau": 0.0}, "`tau` is 0.0"),
    (
        "gan_step train_gan",
        {"form": "direct"},
        "is 'direct'; pass 'loss', 'distillation' or 'proximal'",
    ),
    ("train_flow_ratio", {"form": "parallel"}, "'self_consistent' or 'sequential'"),
    ("gan_step train_gan", {"ema_decay": 1.0}, "`ema_decay` is 1.0"),
    ("flow_ratio_step train_flow_ratio", {"ema_decay": 1.0}, "`ema_decay` is 1.0"),
    ("gan_step train_gan", {"latent": 4}, "`generator` does not take float32[4]"),
    ("train_gan", {"generator": IMAGE_MAKER}, "`generator` makes float32[1,8,8]"),
    (
        "gan_step",
        {"state": df.GANState.start(LINEAR, IMAGE_MAKER, SGD, SGD)},
        "`generator` makes float32[1,8,8]",
    ),
    ("ratio_step flow_ratio_step", {"optimizer": good.ADAM}, "`state` is of another optimiser"),
    ("gan_step", {"d_optimizer": good.ADAM}, "`state` is of another optimiser"),
    ("gan_step", {"g_optimizer": good.ADAM}, "`state` is of another optimiser"),
    ("flow_ratio_step train_flow_ratio", {"score_p": jnp.sum}, "`score_p` makes float32[]"),
    ("train_flow_ratio", {"horizon": 1.0}, "pass either `horizon`"),
    ("train_flow_ratio", {"ts": None, "horizon": None}, "pass either `horizon`"),
    *(("train_flow_ratio", {"ts": None, "horizon": x}, f"`horizon` is {x}") for x in (-1.0, NAN)),
    ("FlowRatioState.start", {"xs_q": None}, "pass both"),
    ("FlowRatioState.start", {"ts": None}, "pass both"),
    # --- networks and devices ---
    ("networks.TimeDiscriminator", {"horizon": 0.0}, "`horizon` is 0.0"),
    ("networks.TimeDiscriminator", {"like": XS[:, :1]}, "`like` has shape (4, 1)"),
    ("networks.ConvDiscriminator", {"size": 6}, "`size` is 6", "multiple of 4"),
    ("networks.ConvGenerator", {"size": 25}, "`size` is 25", "multiple of 4"),
    ("networks.spectral", {"network": jnp.tanh}, "`network` is a", "no layer to normalise"),
    ("networks.spectral", {"network": None}, "`network` is a", "no layer to normalise"),
    *(("over_devices", {"tree": tree}, "leading axis") for tree in (X[0], 1.5, [1.0])),
    *(("over_devices", {"tree": tree}, "has a leaf of type str") for tree in ("keys", ["a"])),
    *(("over_devices", {"tree": tree}, "`tree` holds no arrays") for tree in (None, {})),
]
CALLS = [("over_devices", jax.jit(df.over_devices), (XS,), "inside `jit`")]

lost = lambda x: jnp.full_like(x, NAN)
made = lambda name: lambda x: function(f"{name}()")(x)  # made when first asked for
ratio = lambda xs_q, xs_p: df.ratio_step(**GOOD["ratio_step"] | {"batch": (xs_q, xs_p)})[1].loss
at_times = GOOD["flow_ratio_step"]
timed = lambda xs_q, xs_p: df.flow_ratio_step(**at_times | {"batch": (xs_q, xs_p)})[1].loss
played = lambda xs_p: df.gan_step(**GOOD["gan_step"] | {"xs_p": xs_p})[1].d_loss
moved = lambda xs: df.particle_step(GAN, LINEAR, xs, 0.1)[0]
d_loss, g_loss = partial(df.discriminator_loss, GAN), partial(df.generator_loss, GAN)
r1 = partial(df.gradient_penalty, "r1", good.square)
POINTS = jnp.array([[1.0, 2.0], [0.0, 2.0], [2.0, 1.0]])
WHOLE, VALUES_OF_D, ZEROS = np.asarray(POINTS).astype(int), jnp.array([0.5, 1.5]), np.zeros(3)
R1 = 4 * 14 / 3  # the mean of |2 x|^2
LOSS, STEP = 2 * np.log(2), 0.5 * 0.01 * 14 / 3  # at d = 0; of v = x, eps = .1
witness = df.witness(good.square)
log_r, log_r_at = df.learned_log_ratio(GAN, LINEAR), df.flow_log_ratio(GAN, TIMED)
ANSWERS = [
    (witness, (0.0, X[None], None), 1.25),
    (witness, (0.0, good.NONE, None), 0.0),
    (witness, (0.0, X * NAN, None), NAN),
    (witness, (0, np.array([1, 2]), None), 5.0),
    (r1, (POINTS, POINTS[:0]), R1),
    (r1, (POINTS * NAN, POINTS), NAN),
    (r1, (WHOLE, POINTS), R1),
    # Any shapes of d, of p and q each.
    (d_loss, (jnp.zeros((2, 1)), jnp.zeros(())), LOSS),
    (d_loss, (jnp.zeros(3), jnp.zeros(2)), LOSS),
    (d_loss, (VALUES_OF_D * NAN, VALUES_OF_D), NAN),
    # A loss needs no ratio: the hinge game is trained by it, and only log r is refused.
    (
        partial(df.discriminator_loss, df.GAN(*HINGES, good.double)),
        (jnp.zeros(2), jnp.zeros(2)),
        2.0,
    ),
    (partial(df.discriminator_loss, G.b_gan(PEARSON)), (-VALUES_OF_D, -VALUES_OF_D), NAN),
    (d_loss, (ZEROS.astype(int), ZEROS.astype(int)), LOSS),
    (g_loss, (VALUES_OF_D[None],), -1.0),
    (g_loss, (VALUES_OF_D * NAN,), NAN),
    # Of d = -log r, as the energy's, the right h_T falls: only gan.descends can see it.
    (partial(df.generator_loss, G.ebm()), (0.0,), -1.0),
    (partial(df.generator_loss, df.GAN(*HINGES, good.double)), (VALUES_OF_D,), -2.0),
    (partial(df.generator_loss, G.ulsif(PEARSON)), (-VALUES_OF_D,), NAN),
    (df.distillation_loss, (POINTS, POINTS * NAN, 0.1), NAN),
    (df.distillation_loss, (POINTS, POINTS, NAN), NAN),
    (df.distillation_loss, (WHOLE, POINTS, 0.1), STEP, 1e-6),
    (df.distillation_loss, (POINTS, POINTS, 1), 100 * STEP),
    # A step says so by its loss, and checks nothing: it stands in loops.
    (ratio, (broken(XS), YS), NAN),
    (played, (lost(YS),), NAN),
    (timed, (XS, lost(YS)), NAN),
    (ratio, (INTS, MORE_INTS), of_floats(ratio, INTS, MORE_INTS), 1e-4),
    # A particle that is no number stays none; the others move as they do alone.
    (lambda xs: moved(xs)[1:], (broken(XS),), lambda: moved(XS)[1:]),
    (lambda xs: moved(xs)[0, :1], (broken(XS),), np.full(1, NAN)),
    # A network, which stands in fields and loops, does not check its numbers.
    (made("networks.Discriminator"), (lost(X),), NAN),
    (made("networks.Generator"), (lost(NOISE),), lost(X)),
    (made("networks.ConvDiscriminator"), (lost(good.IMAGE),), NAN),
    (made("networks.ConvGenerator"), (lost(NOISE),), lost(good.IMAGE)),
    (TIMED, (0.5, lost(X)), NAN),
    (good.CRITIC, (np.array([0, 1]),), lambda: good.CRITIC(jnp.array([0.0, 1.0]))),
    (log_r, (0.0, broken(X), None), NAN),
    (log_r_at, (0.5, broken(X), None), NAN),
]
CONVERSIONS = [
    (witness, (0.0, 3.0, None), 9.0),
    (witness, (np.zeros(()), np.array([1.0, 2.0]), None), 5.0),
    (r1, (np.asarray(POINTS), np.asarray(POINTS)), R1),
    (d_loss, (0.0, 0.0), LOSS),
    (d_loss, (ZEROS, ZEROS), LOSS),
    (df.distillation_loss, (np.asarray(POINTS), np.asarray(POINTS), 0.1), STEP, 1e-6),
    (ratio, (np.asarray(XS), np.asarray(YS)), of_floats(ratio, XS, YS), 1e-4),
    (good.CRITIC, (np.asarray(X),), lambda: good.CRITIC(X)),
    # It lays arrays out, so inside jit it is refused.
    *((df.over_devices, (x,), x) for x in (broken(XS), jnp.asarray(INTS), np.asarray(XS))),
]
