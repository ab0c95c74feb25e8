"""Bad input for training: networks, losses, steps, loops, states and learned ratios."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from bad_calculus import HINGES
from bad_clouds import INTS, MORE_INTS, broken, of_floats
from bad_good import (
    ADAM,
    AFFINE,
    CRITIC,
    GAN,
    GOOD,
    IMAGE,
    KEY,
    LINEAR,
    NAN,
    NOISE,
    NONE,
    SGD,
    TIMED,
    XS,
    YS,
    X,
    double,
    function,
    itself,
    square,
)

import divergence_flows as df

N, G, PEARSON = df.networks, df.gans, df.divergences.pearson
CLOCK = N.TimeDiscriminator(2, 2, 1, decays=2, key=KEY)
WIDE, IMAGE_CRITIC = N.Discriminator(3, 2, 1, key=KEY), N.ConvDiscriminator(8, 1, 2, key=KEY)
IMAGE_MAKER = N.ConvGenerator(3, 8, 1, 2, key=KEY)
STEPS, LOOPS = (
    ("ratio_step", "gan_step", "flow_ratio_step"),
    ("transport", "train_gan", "train_flow_ratio"),
)
GAMES = ("gan_step", "train_gan")


def with_network(name, network):
    """The change that gives a step or a loop another discriminator."""
    if name == "ratio_step":
        return {"state": df.RatioState.start(network, SGD)}
    if name == "gan_step":
        return {"state": df.GANState.start(network, AFFINE, SGD, SGD)}
    return (
        {"state": df.FlowRatioState.start(network, SGD)}
        if name == "flow_ratio_step"
        else {"discriminator": network}
    )


def misfits(name):
    """Networks that do not fit, and what is said of them."""
    state = "state." if name in ("ratio_step", "flow_ratio_step") else ""
    over_time = name in ("flow_ratio_step", "train_flow_ratio")
    words = f"`{state}discriminator` does not take float32[2]", "pass a function of one"
    wrong = (
        [(LINEAR, words)] if over_time else [(one, words) for one in (WIDE, IMAGE_CRITIC, TIMED)]
    )
    if not over_time:
        wrong += [
            (jnp.tanh, (f"`{state}discriminator` makes float32[2] of float32[2]", "one number"))
        ]
    return [(name, with_network(name, network), *words) for network, words in wrong]


TYPES = [
    ("GANState.start", {"generator": None}, "generator"),
    ("train_gan", {"generator": None}, "generator"),
]
VALUES = [
    *(row for name in (*STEPS, *LOOPS, "particle_step") for row in misfits(name)),
    *(
        (name, {"gan": G.wasserstein()}, "`gan` is a", "has no `log_t`")
        for name in ("learned_log_ratio", "flow_log_ratio", "flow_ratio_step", "train_flow_ratio")
    ),
    ("generator_loss", {"gan": PEARSON}, "`gan` is a Divergence", "h_eff", "pass a GAN"),
    ("discriminator_loss", {"gan": PEARSON}, "`gan` is a Divergence", "pass a GAN"),
    ("gradient_penalty", {"penalty": "two"}, "`penalty` is 'two'", "pass"),
    ("gradient_penalty", {"penalty": "one"}, "pass `key`"),
    ("gradient_penalty", {"penalty": "one", "key": KEY, "xs_q": XS[:0]}, "`xs_q` has no samples"),
    (
        "gradient_penalty",
        {"discriminator": itself},
        "`discriminator` makes",
        "pass a function of one sample",
    ),
    # --- steps and loops ---
    ("ratio_step", {"batch_size": 2}, "pass `key` too"),
    ("ratio_step", {"penalty": "one"}, "pass `key` too"),
    *(
        (name, {"batch": (xs, ys)}, f"`{x}` has no samples")
        for name in ("ratio_step", "flow_ratio_step")
        for x, xs, ys in (("xs_q", XS[:0], YS), ("xs_p", XS, YS[:0]))
    ),
    *((name, {"step_size": 0.0}, "`step_size` is 0.0") for name in ("transport", *GAMES)),
    *(
        (
            name,
            {"generator_steps": 2},
            "`generator_steps` is 2",
            "only regression onto a kept target",
        )
        for name in GAMES
    ),
    *(
        (name, {"form": "direct"}, "`form` is 'direct'; pass 'loss' or 'distillation'")
        for name in GAMES
    ),
    *(
        (name, {"ema_decay": 1.0}, "`ema_decay` is 1.0")
        for name in (*GAMES, "flow_ratio_step", "train_flow_ratio")
    ),
    *((name, {"latent": 4}, "`generator` does not take float32[4]") for name in GAMES),
    ("train_gan", {"generator": IMAGE_MAKER}, "`generator` makes float32[1,8,8]"),
    (
        "gan_step",
        {"state": df.GANState.start(LINEAR, IMAGE_MAKER, SGD, SGD)},
        "`generator` makes float32[1,8,8]",
    ),
    *(
        (name, {key: ADAM}, "`state` is of another optimiser")
        for name, key in (
            ("ratio_step", "optimizer"),
            ("flow_ratio_step", "optimizer"),
            ("gan_step", "d_optimizer"),
            ("gan_step", "g_optimizer"),
        )
    ),
    *(
        (name, {"score_p": jnp.sum}, "`score_p` makes float32[]")
        for name in ("flow_ratio_step", "train_flow_ratio")
    ),
    ("train_flow_ratio", {"form": "parallel"}, "'self_consistent' or 'sequential'"),
    ("train_flow_ratio", {"horizon": 1.0}, "pass either `horizon`"),
    ("train_flow_ratio", {"ts": None, "horizon": None}, "pass either `horizon`"),
    *(("train_flow_ratio", {"ts": None, "horizon": x}, f"`horizon` is {x}") for x in (-1.0, NAN)),
    ("FlowRatioState.start", {"xs_q": None}, "pass both"),
    ("FlowRatioState.start", {"ts": None}, "pass both"),
    # --- networks ---
    *(("networks.TimeDiscriminator", {"horizon": x}, f"`horizon` is {x}") for x in (0.0, NAN)),
    ("networks.TimeDiscriminator", {"like": XS[:, :1]}, "`like` has shape (4, 1)"),
    ("networks.ConvDiscriminator", {"size": 6}, "`size` is 6", "multiple of 4"),
    ("networks.ConvGenerator", {"size": 25}, "`size` is 25", "multiple of 4"),
    *(
        (name, {"x": NOISE}, "`x` has shape")
        for name in ("learned_log_ratio()", "flow_log_ratio()")
    ),
    *(
        (f"networks.{name}()", {x: other}, f"`{x}` has shape", "made for shape")
        for name, x, other in (
            ("Discriminator", "x", NOISE),
            ("Generator", "z", X),
            ("TimeDiscriminator", "x", NOISE),
            ("ConvDiscriminator", "x", jnp.ones((2, 8, 8))),
            ("ConvGenerator", "z", X),
            ("spectral", "x", NOISE),
        )
    ),
    *(
        ("networks.spectral", {"network": wrong}, "`network` is a", "no layer to normalise")
        for wrong in (None, 1.5, jnp.tanh)
    ),
    # --- devices ---
    ("over_devices", {"tree": X[0]}, "leading axis"),
    *(
        ("over_devices", {"tree": tree}, "`tree` has a leaf of type str")
        for tree in ("keys", ["a"])
    ),
    *(("over_devices", {"tree": tree}, "`tree` holds no arrays") for tree in (None, {})),
    *(("over_devices", {"tree": tree}, "leading axis") for tree in (1.5, [1.0])),
]
CALLS = [("over_devices", jax.jit(df.over_devices), (XS,), "inside `jit`")]
CONTENTS = []

lost = lambda x: jnp.full_like(x, NAN)
made = lambda name: lambda x: function(f"{name}()")(x)  # made when first asked for
ratio = lambda xs_q, xs_p: df.ratio_step(**GOOD["ratio_step"] | {"batch": (xs_q, xs_p)})[1].loss
timed = lambda xs_q, xs_p: (
    df.flow_ratio_step(**GOOD["flow_ratio_step"] | {"batch": (xs_q, xs_p)})[1].loss
)
played = lambda xs_p: df.gan_step(**GOOD["gan_step"] | {"xs_p": xs_p})[1].d_loss
moved = lambda xs: df.particle_step(GAN, LINEAR, xs, 0.1)[0]
d_loss, g_loss, r1 = (
    partial(df.discriminator_loss, GAN),
    partial(df.generator_loss, GAN),
    partial(df.gradient_penalty, "r1", square),
)
POINTS = jnp.array([[1.0, 2.0], [0.0, 2.0], [2.0, 1.0]])
WHOLE, VALUES_OF_D, ZEROS = np.asarray(POINTS).astype(int), jnp.array([0.5, 1.5]), np.zeros(3)
R1 = 4 * 14 / 3  # the mean of |2 x|^2
LOSS, STEP = 2 * np.log(2), 0.5 * 0.01 * 14 / 3  # at d = 0; of v = x, eps = .1
witness = df.witness(square)
log_r, log_r_at = df.learned_log_ratio(GAN, LINEAR), df.flow_log_ratio(GAN, TIMED)
ANSWERS = [
    (witness, (0.0, X[None], None), 1.25),
    (witness, (0.0, NONE, None), 0.0),
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
    (partial(df.discriminator_loss, df.GAN(*HINGES, double)), (jnp.zeros(2), jnp.zeros(2)), 2.0),
    (partial(df.discriminator_loss, G.b_gan(PEARSON)), (-VALUES_OF_D, -VALUES_OF_D), NAN),
    (d_loss, (ZEROS.astype(int), ZEROS.astype(int)), LOSS),
    (g_loss, (VALUES_OF_D[None],), -1.0),
    (g_loss, (VALUES_OF_D * NAN,), NAN),
    # Of d = -log r, as the energy's, the right h_T falls: only gan.descends can see it.
    (partial(df.generator_loss, G.ebm()), (0.0,), -1.0),
    (partial(df.generator_loss, df.GAN(*HINGES, double)), (VALUES_OF_D,), -2.0),
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
    *(
        (made(f"networks.{name}"), (lost(x),), lost(jnp.zeros(shape)))
        for name, x, shape in (
            ("Discriminator", X, ()),
            ("Generator", NOISE, (2,)),
            ("ConvDiscriminator", IMAGE, ()),
            ("ConvGenerator", NOISE, (1, 8, 8)),
        )
    ),
    (TIMED, (0.5, lost(X)), NAN),
    (CRITIC, (np.array([0, 1]),), lambda: CRITIC(jnp.array([0.0, 1.0]))),
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
    (CRITIC, (np.asarray(X),), lambda: CRITIC(X)),
    # It lays arrays out, so inside jit it is refused.
    *((df.over_devices, (x,), x) for x in (broken(XS), jnp.asarray(INTS), np.asarray(XS))),
]
