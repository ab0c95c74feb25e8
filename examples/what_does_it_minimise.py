"""What does your GAN minimise? The f its discriminator measures, the f its generator descends.

    python examples/what_does_it_minimise.py [--fast]

A divergence GAN is three functions of the discriminator's value d: it maximises
E_p[phi(d)] + E_q[psi(d)], and the generator maximises E_q[h_t(d)]. Write your own in GANS. The
picture, examples/out/what_does_it_minimise.png, has both f over r = p/q, each with
f(1) = f'(1) = 0 and scaled to f''(1) = 1. Where they are one curve the generator goes down what
the discriminator measures; in a zero-sum game, h_t = -psi, it always does.
"""

import argparse
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
# The exponential loss of boosting, with two generators; least squares with labels -1, 1, 0.
boost = (lambda d: -jnp.exp(-d), lambda d: -jnp.exp(d))
square = (lambda d: -((d - 1) ** 2), lambda d: -((d + 1) ** 2))
inside = df.inverse_log_ratio(
    df.log_ratio(*square), lower=-1.0, upper=1.0
)  # d is a ratio only there
# name: the GAN, and whether theory says that the two f agree up to scale
GANS = {
    "vanilla": (df.gans.vanilla(), True),
    "vanilla, C = 3": (df.gans.vanilla(3), False),
    "non-saturating": (df.gans.non_saturating(), False),
    "logit": (df.gans.logit(), False),
    "MLE": (df.gans.mle(), False),
    "f-GAN of KL(q||p), saturating": (df.gans.f_gan(df.divergences.kl_qp), True),
    "f-GAN of KL(q||p), heuristic": (df.gans.f_gan(df.divergences.kl_qp, False), False),
    "b-GAN of Pearson": (df.gans.b_gan(df.divergences.pearson), True),
    "least squares, labels 0, 1, 1": (df.gans.least_squares(), False),
    "energy-based": (df.gans.ebm(), True),
    "own: boosting, h_t = -psi": (df.GAN(*boost, jnp.exp), True),
    "own: boosting, h_t = tanh": (df.GAN(*boost, jnp.tanh), False),
    "own: least squares, labels -1, 1, 0": (
        df.GAN(*square, lambda d: -(d**2), inverse=inside),
        False,
    ),
}
NAMED = {k: v for k, v in vars(df.divergences).items() if isinstance(v, df.Divergence)}
NAMED["shifted_vanilla(3)"] = df.divergences.shifted_vanilla(3)


@eqx.filter_jit
def slopes(h, us):
    return jax.vmap(jax.grad(h))(us)


def gap(one, other):
    """0 where two slopes h' are proportional: then their f are, up to a (r - 1)."""
    scale = np.asarray(one) / np.asarray(other)
    return np.ptp(scale) / np.max(np.abs(scale))


def name_of(slope, us):
    for name, div in NAMED.items():
        if gap(slope, div.h_prime(us)) < 1e-6:
            return name
    return "one of no name"


def study(axis, name, gan, expected, us):
    """Draws both f, prints a row, and says whether theory was right."""
    measured, descended = slopes(df.f_to_h(gan.measures), us), slopes(gan.h, us)
    df.plot.curves(gan, us=us, axes=(axis, None))
    axis.set(title=name, xlabel="", ylabel="")
    axis.legend(fontsize=7, loc="center", handlelength=1)
    rises = bool(jnp.all(descended >= 0))
    agree = rises and gap(descended, measured) < 1e-6
    if rises:
        log_t = df.log_ratio(gan.phi, gan.psi)
        rs, f = jnp.exp(us), df.h_to_f(df.lower(gan.h_t, log_t, inverse=gan.inverse))
        ours, theirs = jax.jit(gan.descends)(rs), jax.jit(f)(rs)
        np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(jax.jit(lambda us: log_t(gan.inverse(us)))(us), us, atol=1e-6)
    goes = name_of(descended, us) if rises else "none: h falls"
    verdict = "one" if agree else "two"
    print(f"{name:36s} {name_of(measured, us):20s} {goes:20s} {verdict}")
    if agree != expected:
        raise RuntimeError(f"{name}: theory says {'one' if expected else 'two'}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer points, for a check")
    fast = parser.parse_args(argv).fast
    jax.config.update("jax_enable_x64", True)
    OUT.mkdir(exist_ok=True)
    us = jnp.linspace(-3.0, 3.0, 13 if fast else 121)
    plt.style.use("divergence_flows.plot.style")
    figure, axes = plt.subplots(3, 5, figsize=(15, 8), sharey=True)
    print(f"{'GAN':36s} {'measures':20s} {'descends':20s} divergences")
    for axis, (name, (gan, expected)) in zip(axes.flat, GANS.items(), strict=False):
        study(axis, name, gan, expected, us)
    for axis in axes.flat[len(GANS) :]:
        axis.axis("off")
    figure.supxlabel("r = p/q")
    figure.supylabel("f, scaled to f''(1) = 1")
    path = OUT / "what_does_it_minimise.png"
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
