"""What ratios say of samples: divergences with their errors, and posteriors from simulations.

A critic is trained on one part of the samples and gives log r on another. Of u = log r the
variational bound is $E_p[f'(r)] - E_q[h(u)]$, h the MonoFlow of f. A prior times the ratio of a
joint law to its marginals is a posterior.
"""

from ._between import (
    DivergenceEstimate as DivergenceEstimate,
    divergence_between as divergence_between,
    mutual_information as mutual_information,
)
from ._conditional import (
    ConditionalRatio as ConditionalRatio,
    conditional_ratio as conditional_ratio,
    log_posterior as log_posterior,
)
