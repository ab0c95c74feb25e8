r"""Critics of pairs: they compare a sample of p with one of q, as relativistic GANs do.

The critic maximises the mean of a function of d(x) - d(y) over pairs x ~ p, y ~ q. Adding a number
to d changes nothing, so what it learns of log p/q it learns up to a constant.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from .._checks import check_some
from .._types import Numbers, ScalarFn, Values, as_elementwise, as_float
from ..divergences._label import Label, label_of, labelled
from ..divergences._stable import softplus

PAIR_NO_RATIO = (
    "the critic of a PairGAN gives a velocity, and log r up to a constant, d = log r + c, so T, h "
    "and the dissipation of KL do not apply to it. Where you need log r, subtract log E_q[e^d] "
    "from d, or train a GAN of `gans`."
)
_INSTEAD = {
    **dict.fromkeys(("log_t", "inverse", "h", "descends", "measures"), PAIR_NO_RATIO),
    "h_t": "h_T depends on p; `against(d_p)` makes it of the critic's values at samples of p.",
    **dict.fromkeys(("phi", "psi"), "`critic` is one function of d(x) - d(y) in place of both."),
}


def _mean_over(function: ScalarFn, d_p: Float[Array, " m"], d: Values) -> Values:
    """Mean over samples of p of a function of d - d_p, at each value d."""
    return jnp.mean(function(d[..., None] - d_p), axis=-1)


class PairGAN(eqx.Module):
    r"""What the critic maximises of pairs, a function of d(x) - d(y), and what the generator does.

    The critic maximises $E_{x \sim p, y \sim q}\, c(d(x) - d(y))$, `critic` being c, and the
    generator $E_{x, y}\, g(d(y) - d(x))$, `generator` being g. If $c'(-v) = e^v c'(v)$, as log
    sigma has it, the best critic is log r + c for any number c, and the generator follows the
    MonoFlow of $h'(u) = E_p[g'(u - \log r(X))]$: that depends on p and q, so no divergence of the
    table is descended. Any other c is a game too, whose critic gives a velocity and no ratio.

    `gan_step`, `train_gan`, `ratio_step`, `particle_step` and `transport` take one like a `GAN`;
    what needs a ratio, or `keep_map`, refuses it. The means are over all pairs of two batches:
    published code pairs samples in order, which has the same expectation and more noise, and needs
    as many of p as of q. All pairs cost one number for each, which `batch_size` bounds.

    Example:
        ```python
        gan = df.PairGAN(jnp.tanh, lambda v: v)  # a bounded game of our own
        print(df.discriminator_loss(gan, jnp.ones(3), jnp.zeros(2)))  # -0.762
        print(gan.against(jnp.array([0.0, 1.0]))(2.0))  # 1.5
        ```

    References:
        Jolicoeur-Martineau, The relativistic discriminator, ICLR 2019; Huang et al., The GAN is
        dead; long live the GAN! A modern GAN baseline (R3GAN), NeurIPS 2024.
    """

    critic: ScalarFn
    generator: ScalarFn
    _label: Label

    def __init__(self, critic: ScalarFn, generator: ScalarFn):
        """Wraps plain callables, elementwise functions of a difference of two values of d.

        Args:
            critic: Maximised by the critic, of d(x) - d(y) for x of p and y of q.
            generator: Maximised by the generator, of d(y) - d(x); increasing.
        """
        self.critic = as_elementwise(critic)
        self.generator = as_elementwise(generator)
        self._label = label_of(critic, generator)

    def __repr__(self) -> str:
        return f"PairGAN({self._label})"

    def __getattr__(self, name: str) -> Any:
        """Says what a PairGAN has in place of a GAN's functions, or why it has none."""
        why = f": {_INSTEAD[name]}" if name in _INSTEAD else "."
        raise AttributeError(f"PairGAN has no `{name}`{why}")

    def against(self, d_p: Numbers) -> ScalarFn:
        r"""h_T of this moment: $h_T(d) = E_p[g(d - d(X))]$, a mean over samples of p.

        `velocity(gan.against(jax.vmap(d)(xs_p)), witness(d))` is the field of this critic.

        Args:
            d_p: Values of the critic at samples of p.

        Returns:
            A function of values d, elementwise.

        Raises:
            ValueError: If there are no values.
        """
        check_some("PairGAN.against", "d_p", d_p)
        return as_elementwise(Partial(_mean_over, self.generator, jnp.ravel(as_float(d_p))))


def _log_sigmoid(v: Values) -> Values:
    return -softplus(-v)


@labelled
def relativistic() -> PairGAN:
    r"""The relativistic pairing GAN, of R3GAN: both players maximise log sigma of a difference.

    Its pull on a sample is $h'(u) = E_p[\sigma(\log r(X) - u)]$: it stays near 1 where u is far
    below 0, as that of `non_saturating` does, and vanishes more slowly where q has too little.
    Train it with `penalty="r1+r2"`.

    Returns:
        The game of pairs.

    References:
        Jolicoeur-Martineau, On relativistic f-divergences, ICML 2020; Huang et al., The GAN is
        dead; long live the GAN! A modern GAN baseline (R3GAN), NeurIPS 2024.
    """
    return PairGAN(_log_sigmoid, _log_sigmoid)
