"""How far apart two samples are: any f-divergence with its error, by critics that are judged apart.

A critic is trained on one part of the samples and gives log r on another. Of u = log r the
variational bound is $E_p[f'(r)] - E_q[h(u)]$, h the MonoFlow of f.
"""

from ._between import (
    DivergenceEstimate as DivergenceEstimate,
    divergence_between as divergence_between,
    mutual_information as mutual_information,
)
