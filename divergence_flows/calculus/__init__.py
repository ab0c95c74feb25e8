"""From f to h and back, and from a discriminator's (phi, psi) to the ratio that it estimates.

A convex f and an increasing h are two names for one thing, h'(u) = r^2 f''(r) with u = log r; a
pair (phi, psi) yields r = T(d) = -psi'(d) / phi'(d). Autodiff, quadrature and root finding make
this hold for any f, h, phi and psi; the tables' closed forms are tested against it.
"""

from ._duality import (
    conjugate as conjugate,
    f_to_h as f_to_h,
    first_variation as first_variation,
    h_to_f as h_to_f,
)
from ._log_ratio import (
    inverse_log_ratio as inverse_log_ratio,
    lift as lift,
    log_ratio as log_ratio,
    lower as lower,
    ratio as ratio,
)
