"""Training: pure steps `(state, batch, key) -> (state, info)`, and the loops that run them.

A discriminator learns the ratio and particles follow it (`transport`), or a generator does
(`train_gan`), or one discriminator learns the ratio at all times (`train_flow_ratio`). Losses are
optax's to minimise, and every loop can be written by hand from the public steps.
"""

from ._flow_ratio_step import FlowRatioState as FlowRatioState, flow_ratio_step as flow_ratio_step
from ._gan_step import GANState as GANState, gan_step as gan_step
from ._penalty import gradient_penalty as gradient_penalty
from ._ratio_step import (
    RatioState as RatioState,
    particle_step as particle_step,
    ratio_step as ratio_step,
)
from ._train_flow_ratio import FlowRatioInfo as FlowRatioInfo, train_flow_ratio as train_flow_ratio
from ._train_gan import TrainInfo as TrainInfo, train_gan as train_gan
from ._transport import (
    TransportInfo as TransportInfo,
    TransportState as TransportState,
    transport as transport,
)
