r"""Table 1: divergence GANs by name, each a triple (phi, psi, h_T) with closed forms.

The discriminator maximises $E_p[\phi(d)] + E_q[\psi(d)]$, and then r = T(d); the generator
maximises $E_q[h_T(d)]$, and so follows the MonoFlow of $h = h_T \circ T^{-1}$.

References:
    Yi, Zhu & Liu, MonoFlow, ICML 2023; slides, Table 1, with the errata of theory.md.
"""

from ._gan import GAN as GAN
from ._ipm import wasserstein as wasserstein
from ._pair import relativistic as relativistic
from ._stack import stack as stack
from ._table import (
    arcsinh as arcsinh,
    b_gan as b_gan,
    ebm as ebm,
    exponential as exponential,
    f_gan as f_gan,
    least_squares as least_squares,
    logit as logit,
    mirror as mirror,
    mle as mle,
    non_saturating as non_saturating,
    nwj as nwj,
    ulsif as ulsif,
    vanilla as vanilla,
)
