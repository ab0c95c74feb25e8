r"""Critics without a ratio: integral probability metrics, of which WGAN is the known one.

A critic of an IPM maximises $E_p[d] - E_q[d]$ over functions that are kept from being steep, by a
gradient penalty or spectral norms. Its gradient is a velocity; its value is no function of p/q.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from .._types import ScalarFn, as_elementwise, identity
from ..divergences._label import Label, label_of, labelled
from ._losses import NO_RATIO

_OF_A_RATIO = ("log_t", "inverse", "h", "descends", "measures")


class IPM(eqx.Module):
    """What the critic maximises on samples of p and of q, and what the generator maximises.

    `gan_step`, `train_gan`, `ratio_step`, `particle_step` and `transport` take one like a `GAN`;
    what needs a ratio refuses it.

    References:
        Arjovsky, Chintala & Bottou, Wasserstein generative adversarial networks, ICML 2017.
    """

    phi: ScalarFn
    psi: ScalarFn
    h_t: ScalarFn
    _label: Label

    def __init__(self, phi: ScalarFn, psi: ScalarFn, h_t: ScalarFn):
        """Wraps plain callables, elementwise functions of the critic's value d.

        Args:
            phi: Maximised by the critic on samples of p.
            psi: Maximised by the critic on samples of q.
            h_t: Maximised by the generator; increasing.
        """
        self.phi = as_elementwise(phi)
        self.psi = as_elementwise(psi)
        self.h_t = as_elementwise(h_t)
        self._label = label_of(phi, psi, h_t)

    def __repr__(self) -> str:
        return f"IPM({self._label})"

    def __getattr__(self, name: str) -> Any:
        """Says why an IPM has none of what a GAN derives from its ratio."""
        why = f": {NO_RATIO}" if name in _OF_A_RATIO else "."
        raise AttributeError(f"IPM has no `{name}`{why}")


@labelled
def wasserstein() -> IPM:
    """The Wasserstein GAN's game, phi = d, psi = -d, h_T = d; the critic needs a bound.

    Without a bound on the critic's slope its loss has no minimum: train it with
    `penalty="one"`, or make it by `networks.spectral`.

    Returns:
        The IPM.

    References:
        Arjovsky, Chintala & Bottou, ICML 2017; Gulrajani et al., NeurIPS 2017.
    """
    return IPM(identity, jnp.negative, identity)
