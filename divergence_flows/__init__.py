r"""A divergence gives a velocity; the velocity moves mass.

(front page: written last)
"""

from jaxtyping import install_import_hook

with install_import_hook("divergence_flows", "beartype.beartype"):
    # scalar calculus and tables
    from . import divergences as divergences
    from . import gans as gans
    from ._calculus import conjugate as conjugate
    from ._calculus import f_to_h as f_to_h
    from ._calculus import first_variation as first_variation
    from ._calculus import h_to_f as h_to_f
    from ._calculus import inverse_log_ratio as inverse_log_ratio
    from ._calculus import lift as lift
    from ._calculus import log_ratio as log_ratio
    from ._calculus import lower as lower
    from ._calculus import ratio as ratio
    from .divergences import Divergence as Divergence
    from .gans import GAN as GAN
    # flow, optimal transport
    from ._velocity import (
        dissipation as dissipation,
        gradient_flow as gradient_flow,
        velocity as velocity,
        with_log_prob as with_log_prob,
    )
    from ._flow import (
        integrate as integrate,
        langevin as langevin,
        settle as settle,
    )
    from ._path_length import curve_length as curve_length
    from ._optimal_transport import (
        coupling as coupling,
        displacement as displacement,
        wasserstein2 as wasserstein2,
    )
    # networks, losses, training
    from . import networks as networks
    from ._losses import (
        discriminator_loss as discriminator_loss,
        distillation_loss as distillation_loss,
        generator_loss as generator_loss,
    )
    from ._train import (
        learned_log_ratio as learned_log_ratio,
        particle_step as particle_step,
        ratio_check as ratio_check,
        ratio_step as ratio_step,
        RatioCheck as RatioCheck,
        RatioState as RatioState,
    )
    from ._chunk import TransportState as TransportState
    from ._transport import transport as transport, TransportInfo as TransportInfo
    pass
