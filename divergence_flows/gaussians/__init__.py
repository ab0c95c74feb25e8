"""Where q is a Gaussian, or a mixture of them, the flow is an ODE on its mean and covariance.

Expectations under q are sums over nodes, so that fields are smooth functions of q. A geometry
(Bures-Wasserstein or Fisher-Rao) turns the path gradient into a field, which `fit_gaussian`
follows until it rests.
"""

from ._flows import (
    bures_field as bures_field,
    fisher_rao_field as fisher_rao_field,
    gaussian_field as gaussian_field,
)
from ._forward_backward import forward_backward_step as forward_backward_step
from ._gaussian import Gaussian as Gaussian
from ._kl import gaussian_kl as gaussian_kl
from ._low_rank import LowRankGaussian as LowRankGaussian
from ._mixture import Mixture as Mixture, mixture_field as mixture_field
from ._nodes import (
    Nodes as Nodes,
    cubature as cubature,
    gauss_hermite as gauss_hermite,
    normal_nodes as normal_nodes,
    sobol_nodes as sobol_nodes,
    trapezoid as trapezoid,
)
from ._path_gradient import stl_loss as stl_loss
