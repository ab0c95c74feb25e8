r"""Bures-Wasserstein geometry: covariance matrices as Gaussians that optimal transport moves.

$\pi(S) = S S^T$ sends square matrices with the Frobenius metric onto covariances; the metric that
makes it a Riemannian submersion is that of W2 between centred Gaussians. Everything is computed
from the Brenier map T from A to B, $T A T = B$, or from its excess $K = T - I$, which is solved
from B - A and so keeps its digits when A and B are close.

Functions take the matrices of one problem, (dim, dim); the caller says `jax.vmap`. A symmetric
argument stands for its symmetric part. Derivatives of every order hold at repeated eigenvalues.
Coordinates may differ in scale by any factor. With A = D R D, D the deviations and R correlations,
errors are a few dim eps times the condition of R, entry by entry: relative to d_i d_j for
covariances, and for maps to what d makes of their entries, min(d_i, d_j) / max(d_i, d_j) where A
and B share it. Jacobi's rotations are as fast as LAPACK at dim 16, 30 times slower at dim 256.

References:
    Takatsu, Osaka J. Math. 2011 (submersion, inner); Bhatia, Jain & Lim, Expo. Math. 2019 (distance
    and its square, theorems 1 and 8; horizontal, section 3); Malago, Montrucchio & Pistone,
    Information Geometry 2018 (exp, log); Olkin & Pukelsheim, Linear Algebra Appl. 1982 (Brenier's
    map); McCann, Adv. Math. 1997 (geodesic).
"""

from ._geometry import (
    brenier_map as brenier_map,
    distance as distance,
    exp as exp,
    geodesic as geodesic,
    horizontal as horizontal,
    inner as inner,
    log as log,
    squared_distance as squared_distance,
    submersion as submersion,
    vertical as vertical,
)
