"""Thin per-sample networks: discriminators d(x), d(t, x), generators g(z), and denoisers.

One sample in, one value out; `jax.vmap` makes the batch. The only leaves are arrays, so that a
network passes through plain `jit`, `vmap` and `scan`; activations are part of the structure.
"""

from ._conv import ConvDiscriminator as ConvDiscriminator, ConvGenerator as ConvGenerator
from ._mlp import Discriminator as Discriminator, Generator as Generator
from ._noised import Denoiser as Denoiser, NoisedDiscriminator as NoisedDiscriminator
from ._spectral import refresh as refresh, spectral as spectral
from ._time import TimeDiscriminator as TimeDiscriminator
