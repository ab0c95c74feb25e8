"""Ratios and witnesses from samples alone, in closed form or by a few Newton steps.

Each fit takes samples of q and of p and returns a function of one sample: a log ratio by logistic
regression on features, a ratio by least squares, a density or a witness by kernels. Bandwidths
come from the samples, by the median rule or by cross-validation.
"""

from ._bandwidth import median_bandwidth as median_bandwidth
from ._check import RatioCheck as RatioCheck, ratio_check as ratio_check
from ._cross_validation import ratio_bandwidth as ratio_bandwidth
from ._drift import drift_field as drift_field
from ._kernels import kde_log_prob as kde_log_prob, mmd_witness as mmd_witness
from ._least_squares import ulsif_ratio as ulsif_ratio
from ._logistic import rff_log_ratio as rff_log_ratio
