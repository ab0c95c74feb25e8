"""Pictures of clouds, flows, losses and divergences, drawn by matplotlib.

Axes go in and come out: every function draws into `ax`, or into the current axes, hands what else
it is given to matplotlib, and returns the axes. It takes numbers, so it is called outside of `jit`
and `vmap`. One palette that the colour-blind can read: p, q and the moved samples have the same
three colours everywhere. matplotlib is imported when a function is called.
"""

from ._animate import animate as animate
from ._axes import COLORS as COLORS
from ._curves import curves as curves
from ._losses import losses as losses
from ._plane import density as density, ellipses as ellipses
from ._samples import before_after as before_after, paths as paths, samples as samples
