"""The f and h of a game at some log ratios, in one program, and what they are called."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from .._types import AnyFloat, Scalar
from ..divergences import _table as table
from ..divergences._divergence import Divergence
from ..gans._gan import GAN

NAMES = {
    "KL(q||p)": table.kl_qp,
    "KL(p||q)": table.kl_pq,
    "JS": table.jensen_shannon,
    "softened reverse KL": table.softened_reverse_kl,
    "Jeffreys": table.jeffreys,
    "Pearson": table.pearson,
    "Neyman": table.neyman,
    "Hellinger": table.squared_hellinger,
    "Le Cam": table.le_cam,
    "least squares": table.least_squares,
    "arcsinh": table.arcsinh,
}
# Log ratios at which slopes are compared, the middle one 0.
AT = np.linspace(-2.0, 2.0, 9)
# Two divergences of the table differ by far more; an inverse that is solved for, by less.
_ALIKE = 1e-3


class Slopes(eqx.Module):
    """h' of what is descended and of what is measured; of a divergence they are one."""

    descended: AnyFloat
    measured: AnyFloat


@eqx.filter_jit
def slopes(subject: GAN | Divergence, us: AnyFloat) -> Slopes:
    """h' at log ratios; what is measured has f' = phi(d) at the optimum, so h' = r phi(d)'."""
    if isinstance(subject, Divergence):
        return Slopes(subject.h_prime(us), subject.h_prime(us))
    phi_prime = jax.vmap(jax.grad(Partial(_phi_of_u, subject)))(us)
    return Slopes(jax.vmap(jax.grad(subject.h))(us), jnp.exp(us) * phi_prime)


def _phi_of_u(gan: GAN, u: Scalar) -> Scalar:
    return gan.phi(gan.inverse(u))


def name_of(found: np.ndarray) -> str | None:
    """The divergence whose flow has these slopes h' at `AT`, up to a factor, if it has a name."""
    for name, divergence in NAMES.items():
        scale = found / np.asarray(divergence.h_prime(jnp.asarray(AT, float)))
        if np.min(scale) > 0 and np.ptp(scale) < _ALIKE * np.max(scale):
            return name
    return None
