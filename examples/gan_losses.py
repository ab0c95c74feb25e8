"""The generator losses of logistic GANs and their slopes: Figures 2 and 3 of the slides.

    python examples/gan_losses.py [--fast]

Writes to examples/out/:

gan_losses.png          -h_T(d) and h_T'(d) of vanilla, non-saturating, logit, arcsinh and MLE.
gan_losses_shifted.png  the same of vanilla with h_T(d + C), C = 0, 1, 3, 5.

d is log p/q at the optimum, so far left is a sample that gives itself away. There the slope is all
the pull that it gets: the printed numbers, at d = -5, are the slides' argument.
"""

import argparse
import math
import pathlib

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
AT = -5.0
# name: GAN, h'(u) in closed form; the shift trick moves the logistic function to the left
FIVE = {
    "vanilla": (df.gans.vanilla(), lambda u: 1 / (1 + math.exp(-u))),
    "non-saturating": (df.gans.non_saturating(), lambda u: 1 / (1 + math.exp(u))),
    "logit": (df.gans.logit(), lambda u: 1.0),
    "arcsinh": (df.gans.arcsinh(), lambda u: 1 / math.sqrt(1 + u**2)),
    "MLE": (df.gans.mle(), math.exp),
}
SHIFTED = {
    f"C = {c}": (df.gans.vanilla(c), lambda u, c=c: 1 / (1 + math.exp(-u - c)))
    for c in (0, 1, 3, 5)
}


@jax.jit
def curves(gan, ds):
    """The loss, through zero at d = 0, for its constant is its own business; its pull; h' at -5."""
    return gan.h_t(0.0) - gan.h_t(ds), jax.vmap(jax.grad(gan.h_t))(ds), jax.grad(gan.h)(AT)


def check(name, found, wanted):
    """Prints h' at u = -5 by autodiff of the h of the GAN, and compares it with its closed form."""
    if not math.isclose(found, wanted, rel_tol=1e-9):
        raise RuntimeError(f"{name}: h'({AT:g}) is {found}, the closed form says {wanted}")
    print(f"{name:15s} h'({AT:g}) = {found:.4g}")


def draw(rows, ds, title, path):
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2))
    games = df.gans.stack(*(gan for gan, _ in rows.values()))  # all in one program
    found = jax.vmap(curves, in_axes=(0, None))(games, ds)
    for (name, (_, exact)), loss, pull, slope in zip(rows.items(), *found, strict=True):
        check(name, slope, exact(AT))
        axes[0].plot(ds, loss, label=name)
        axes[1].plot(ds, pull)
    for axis in axes:
        axis.axvline(AT, color="#9a9a9a", linestyle=":", linewidth=1)
        axis.set(xlabel="d = log p/q at the optimum [nats]", xlim=(ds[0], ds[-1]))
    axes[0].set(ylabel="$h_T(0) - h_T(d)$", ylim=(-6, 9), title=f"{title}: generator loss")
    axes[1].set(ylabel="$h_T'(d)$", ylim=(-0.05, 1.5), title="pull on a sample")
    axes[0].legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    print(f"wrote {path}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer points, for a check")
    fast = parser.parse_args(argv).fast
    jax.config.update("jax_enable_x64", True)
    OUT.mkdir(exist_ok=True)
    plt.style.use("divergence_flows.plot.style")
    ds = jnp.linspace(-9.0, 5.0, 57 if fast else 561)
    draw(FIVE, ds, "logistic GANs", OUT / "gan_losses.png")
    draw(SHIFTED, ds, "vanilla, shifted", OUT / "gan_losses_shifted.png")


if __name__ == "__main__":
    main()
