"""The best law of a family for a log density, in one call.

Natural-gradient steps on fixed nodes, more of them where fresh ones still see a gain; the end is
judged on nodes that decided nothing: its gap, its ELBO and k-hat.
"""

from ._fit import FitInfo as FitInfo, fit_gaussian as fit_gaussian
from ._mixture_fit import MixtureInfo as MixtureInfo, fit_mixture as fit_mixture
