r"""Named f-divergences $F(q) = E_q[f(p/q)]$ with closed forms, as values and constructors.

A `Divergence` holds f, its MonoFlow h and its conjugate, evaluated from u = log r so that nothing
overflows where the true value is finite, and so that first and second derivatives keep their
relative precision. f and h carry the textbook's constants: f + a (r - 1) is the same divergence
and h + c the same flow. Each row is one block of closed forms.

References:
    Yi, Zhu & Liu, MonoFlow, ICML 2023; Nowozin, Cseke & Tomioka, f-GAN, NeurIPS 2016; Liese &
    Vajda, IEEE Trans. IT, 2006.
"""

from ._divergence import Divergence as Divergence
from ._families import alpha as alpha, shifted_vanilla as shifted_vanilla
from ._stack import stack as stack
from ._table import (
    arcsinh as arcsinh,
    jeffreys as jeffreys,
    jensen_shannon as jensen_shannon,
    kl_pq as kl_pq,
    kl_qp as kl_qp,
    le_cam as le_cam,
    least_squares as least_squares,
    neyman as neyman,
    pearson as pearson,
    softened_reverse_kl as softened_reverse_kl,
    squared_hellinger as squared_hellinger,
)
