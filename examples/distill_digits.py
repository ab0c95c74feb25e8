"""Digits in one call: a diffusion model of them, distilled by three divergences, with scores.

    python examples/distill_digits.py [--fast | --medium]

The data, the squared kernel MMD and the classifier are those of `gan_digits.py`, so the numbers
compare. The networks work on 128 principal components of the training images, as latent diffusion
works on codes. The scores take the first 50 of these, so the cut changes none of them. The teacher
is a denoiser of all noise levels. A generator is the same network, called once at one level
of much noise; it starts as the teacher, and so does the score of q. The rows differ in h alone.
Writes examples/out/distill_digits.png.

With --medium, 13 minutes on two shared CPU cores, 3 seeds, 1000 MMD2 and how often a classifier
tells the digits from held-out ones:

    training digits        .3          50 %
    teacher, 120 calls    1.2          65 %
    teacher, one call    23.9         100 %
    KL(q||p)              3.3 +- .6    82 +- 2 %
    JS                    2.6 +- .5    81 +- 3 %
    KL(p||q)              4.8 +- .6    88 +- 1 %

The best GAN of `gan_digits.py` has 17 and 94 %, from another network on pixels, so not the loss
alone is different. JS and KL(q||p) lie within each other's spread; KL(p||q) is worse, perhaps
because its h' = r trusts the learned ratio most. To the eye many digits are blurred: the
teacher's own are, too. On pixels instead of components (one seed, 4,000 and 500 steps) the teacher
had .6 and 86 %, KL(q||p) 4.7 and 92 %, under visible noise: perhaps because the
hidden layers have fewer units than an image has pixels.

The form without an option is for a GPU, and was sized for less than 8 minutes there by counting
operations. It has not been run: no GPU was at hand.
"""

import argparse
import functools
import pathlib
import time
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from _images import COUNT, Scores, draw
from gan_digits import digits
from sklearn.decomposition import PCA

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
NAMES = {"KL(q||p)": "kl_qp", "JS": "jensen_shannon", "KL(p||q)": "kl_pq"}
CODES = 128  # principal components, as latent diffusion has its codes
# Below the deviation of the last component, to three times that of the first.
SIGMA_MIN, SIGMA_MAX, FIRST = 0.1, 15.0, 3.0
SCHEDULE = functools.partial(df.variance_exploding, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)


class Size(NamedTuple):
    """How much work a run is."""

    seeds: int
    teacher_steps: int
    steps: int
    batch: int
    width: int
    rates: tuple = (1e-3, 3e-4, 1e-3)  # of the teacher, of generators, of scores and ratios
    critic_steps: int = 2


class OneStep(eqx.Module):
    """A generator that is a denoiser at one level of much noise, as in Diff-Instruct and DMD."""

    denoiser: df.networks.Denoiser

    def __call__(self, z):
        """The code of an image, from noise of its size."""
        return self.denoiser(jnp.log(FIRST), FIRST * z)


def even(deviation, alpha, sigma):
    """EDM's weight: the loss of a denoiser is of one size at all levels."""
    return 1 + (sigma / alpha / deviation) ** 2


def denoiser_loss(model, xs, key):
    """At levels that are drawn as `train_distilled` draws its own."""
    key_t, key_noise = jr.split(key)
    level = SCHEDULE(jr.uniform(key_t, xs.shape[:1]))
    options = {"predicts": "data", "weight": even(model.scales.deviation, *level)}
    return df.denoising_loss(model, xs, jr.normal(key_noise, xs.shape), level, **options)


@eqx.filter_jit
def train_teacher(size, xs_p, key):
    """A denoiser of all levels, by the loss and optax alone."""
    key, start = jr.split(key)
    options = {"width": size.width, "depth": 3, "deviation": jnp.std(xs_p), "preserving": False}
    model = df.networks.Denoiser(CODES, **options, key=start)
    optimizer = optax.adam(optax.cosine_decay_schedule(size.rates[0], size.teacher_steps))

    def step(state, key):
        model, opt_state = state
        key_rows, key = jr.split(key)
        xs = jr.choice(key_rows, xs_p, (size.batch,))
        updates, opt_state = optimizer.update(jax.grad(denoiser_loss)(model, xs, key), opt_state)
        return (optax.apply_updates(model, updates), opt_state), None

    start = (model, optimizer.init(model))
    (model, _), _ = jax.lax.scan(step, start, jr.split(key, size.teacher_steps))
    return model


@eqx.filter_jit
def sample(teacher, noise):
    """The teacher's own samples: Heun's steps of its probability flow, d y/d log sigma = y - x."""
    slope = lambda lam, y: y - jax.vmap(functools.partial(teacher, lam))(y)

    def heun(y, ends):
        first = slope(ends[0], y)
        step = ends[1] - ends[0]
        return y + step * 0.5 * (first + slope(ends[1], y + step * first)), None

    lams = jnp.linspace(jnp.log(SIGMA_MAX), jnp.log(SIGMA_MIN), 61)
    ends = jnp.stack([lams[:-1], lams[1:]], axis=1)
    y, _ = jax.lax.scan(heun, SIGMA_MAX * noise, ends)
    return jax.vmap(functools.partial(teacher, lams[-1]))(y)


@eqx.filter_jit
def distil(divergence, teacher, size, xs_p, key):
    """Samples of one seed's averaged generator, as many as in a score; NaN if it diverged."""
    key_d, key_run, key_noise = jr.split(key, 3)
    deviation = teacher.scales.deviation
    options = {"width": size.width, "depth": 2, "deviation": deviation, "preserving": False}
    cosine = lambda rate, steps: optax.cosine_decay_schedule(rate, steps, 0.1)
    rates = {"g_optimizer": cosine(size.rates[1], size.steps)}
    critics = cosine(size.rates[2], size.steps * size.critic_steps)
    rates |= {"s_optimizer": critics, "d_optimizer": critics}
    state, info = df.train_distilled(
        divergence.h,
        teacher,
        OneStep(teacher),
        teacher,
        df.networks.NoisedDiscriminator(CODES, **options, quadratic=False, key=key_d),
        xs_p,
        latent=CODES,
        schedule=SCHEDULE,
        span=(0.0, 1.0),
        score_weight=functools.partial(even, deviation),
        predicts_p="data",
        predicts_q="data",
        steps=size.steps,
        batch_size=size.batch,
        critic_steps=size.critic_steps,
        # Of the published code: a wrong ratio throws no sample far.
        ratio_clip=(0.05, 20.0),
        normalise=True,
        ema_decay=0.99,
        chunk=size.steps,
        key=key_run,
        **{name: optax.adam(rate, b1=0.5, b2=0.99) for name, rate in rates.items()},
    )
    xs = jax.vmap(state.ema)(jr.normal(key_noise, (COUNT, CODES)))
    return jnp.where(info.diverged < 0, xs, jnp.nan)


def report(name, found, start):
    """One line of scores, means of the seeds that did not break, and the seconds since `start`."""
    whole = found[np.isfinite(found[:, 0])]
    words = f"{len(found) - len(whole)} of {len(found)} seeds broke (NaN)"
    if len(whole) == len(found):
        (mmd, accuracy), (mmd_sd, accuracy_sd) = whole.mean(axis=0), whole.std(axis=0)
        words = f"1000 MMD2 {1000 * mmd:5.1f} +- {1000 * mmd_sd:4.1f}  "
        words += f"told apart {accuracy:4.0%} +- {accuracy_sd:2.0%}"
    print(f"{name:22s} {words}  ({time.perf_counter() - start:.0f} s)", flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--fast", action="store_true", help="small networks, few steps, for a check"
    )
    parser.add_argument("--medium", action="store_true", help="for two CPU cores")
    asked = parser.parse_args(argv)
    OUT.mkdir(exist_ok=True)
    size = Size(3, 20000, 6000, 256, 1024)
    if asked.medium:
        size = Size(3, 10000, 800, 128, 512)
    if asked.fast:
        size = Size(1, 500, 50, 64, 256)
    xs, held = digits()
    scores, start = Scores(xs, held), time.perf_counter()
    axes = PCA(CODES, random_state=0).fit(xs.reshape(len(xs), -1))
    xs_p, others = (jnp.asarray(axes.transform(each.reshape(len(each), -1))) for each in (xs, held))
    images = lambda codes: axes.inverse_transform(np.asarray(codes)).reshape(-1, *xs.shape[1:])
    judge = lambda clouds: np.array([scores.both(each) for each in clouds])
    report("training digits", judge([xs[:COUNT]]), start)
    teacher = train_teacher(size, xs_p, jr.key(0))
    losses = [float(denoiser_loss(teacher, each[:1000], jr.key(1))) for each in (xs_p, others)]
    print("the teacher's loss: {:.1f} on digits it saw, {:.1f} on held-out ones".format(*losses))
    noise = jr.normal(jr.key(2), (COUNT, CODES))
    pictures = {"training digits": xs, "teacher, 120 calls": images(sample(teacher, noise))}
    report("teacher, 120 calls", judge([pictures["teacher, 120 calls"]]), start)
    report("teacher, one call", judge([images(jax.vmap(OneStep(teacher))(noise))]), start)
    stack = df.divergences.stack(*(getattr(df.divergences, name) for name in NAMES.values()))
    for i, name in enumerate(NAMES):
        start = time.perf_counter()
        divergence = jax.tree.map(lambda leaf, i=i: leaf[i], stack)
        keys = jr.split(jr.key(3), size.seeds)
        clouds = [images(distil(divergence, teacher, size, xs_p, key)) for key in keys]
        pictures[f"{name}, one call"] = clouds[0]
        report(f"{name}, one call", judge(clouds), start)
    draw(OUT / "distill_digits.png", pictures, across=6, columns=5)


if __name__ == "__main__":
    main()
