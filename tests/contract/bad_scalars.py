"""Bad input for scalars, matrices and Gaussians: one table of six, and what is absent."""

import bad_calculus
import bad_fits
import bad_games
import bad_gaussians
import bad_losses
import bad_paths

_PARTS = (bad_calculus, bad_games, bad_losses, bad_gaussians, bad_fits, bad_paths)
TABLE = {name: row for part in _PARTS for name, row in part.TABLE.items()}

# What a function takes none of: no times here, and of matrices, keys, h, pairs and options few.
MATRIX, TIMES, KEY = "not positive definite", "ts does not increase", "key missing"
H, PAIR, DOMAIN = "h does not increase", "no ratio estimator", "outside the domain"
SHAPES, EMPTY, FLOATS, OPTION = "mismatched shapes", "empty", "python floats", "wrong value"
_NUMBERS = (MATRIX, TIMES, KEY)  # of one number, or a function of one
_GAN = (*_NUMBERS, SHAPES, H)
_SAMPLES = (MATRIX, H, TIMES)
_MATRICES = (H, PAIR, TIMES, KEY, OPTION)
_RULE = (SHAPES, EMPTY, MATRIX, H, PAIR, DOMAIN, TIMES)  # sizes only
_FIELD = (EMPTY, PAIR, DOMAIN, TIMES, KEY)  # its parts refuse to be empty
ABSENT = {
    "f_to_h": (*_NUMBERS, PAIR, DOMAIN),  # h has no end
    "h_to_f": (*_NUMBERS, PAIR, OPTION),
    "first_variation": (*_NUMBERS, PAIR, OPTION),
    "conjugate": (*_NUMBERS, PAIR, OPTION),
    "log_ratio": (*_NUMBERS, H, OPTION),
    "ratio": (*_NUMBERS, H, OPTION),
    "inverse_log_ratio": (*_NUMBERS, H),
    "lift": (*_NUMBERS, OPTION),
    "lower": (*_NUMBERS, OPTION),
    **{
        name: (*_NUMBERS, SHAPES, H, PAIR, OPTION)
        for name in bad_calculus.TABLE
        if name.startswith("divergences.")
    },
    "Divergence": (*_NUMBERS, PAIR),
    **{
        f"gans.{name}": (*_GAN, PAIR, DOMAIN, OPTION)
        for name in ("vanilla", "non_saturating", "logit", "arcsinh", "mle", "ebm", "wasserstein")
    },
    "gans.f_gan": _GAN,
    "gans.b_gan": (*_GAN, PAIR),
    "gans.least_squares": (*_GAN, PAIR, OPTION),
    "gans.nwj": (*_GAN, PAIR, DOMAIN),
    "gans.ulsif": (*_GAN, PAIR),
    "gans.exponential": (*_GAN, PAIR, DOMAIN),
    "gans.mirror": (*_GAN, PAIR),
    "GAN": (*_NUMBERS, OPTION),
    "IPM": (*_NUMBERS, PAIR, DOMAIN, OPTION),
    "witness": (*_SAMPLES, PAIR, DOMAIN, KEY, OPTION),
    "gradient_penalty": (*_SAMPLES, PAIR, DOMAIN),
    "discriminator_loss": (*_SAMPLES, KEY),
    "generator_loss": (*_NUMBERS, SHAPES),
    "distillation_loss": (*_SAMPLES, PAIR, DOMAIN, KEY, OPTION),
    **{
        f"bures.{name}": (*_MATRICES, DOMAIN)
        for name in bad_gaussians.BURES
        if name not in ("submersion", "exp", "geodesic")
    },
    "bures.submersion": (*_MATRICES, DOMAIN, SHAPES),
    "bures.exp": _MATRICES,
    "bures.geodesic": _MATRICES,
    "Gaussian": (*_MATRICES, DOMAIN),
    "gaussian_kl": (*_MATRICES, DOMAIN, EMPTY, FLOATS),  # of two laws, not of arrays
    "Mixture": (*_MATRICES, DOMAIN),
    "Nodes": (MATRIX, H, PAIR, DOMAIN, TIMES, KEY),
    "cubature": (*_RULE, KEY),
    "gauss_hermite": (*_RULE, KEY),
    "trapezoid": (*_RULE, KEY),
    "normal_nodes": _RULE,
    "sobol_nodes": _RULE,
    "gaussian_field": _FIELD,
    "fisher_rao_field": _FIELD,
    "bures_field": _FIELD,
    "mixture_field": _FIELD,
    "forward_backward_step": (*_FIELD, H),
    "fit_gaussian": (H, PAIR, DOMAIN, TIMES),
    "stl_loss": (PAIR, DOMAIN, TIMES, KEY),
}
