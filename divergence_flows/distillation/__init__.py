"""Distillation: the score of a teacher in, a generator out, by any divergence of noised laws.

At y = alpha x + sigma e a generator's score is learned by denoising, the ratio by a discriminator
of all noise levels, and samples move along h'(u) (s_p - s_q), as `score_velocity` has it.
"""

from ._denoising import denoising_loss as denoising_loss
from ._distilled_step import DistilledState as DistilledState, distilled_step as distilled_step
from ._levels import (
    variance_exploding as variance_exploding,
    variance_preserving as variance_preserving,
)
from ._noised_ratio import noised_ratio_step as noised_ratio_step
from ._train_distilled import DistilledInfo as DistilledInfo, train_distilled as train_distilled
