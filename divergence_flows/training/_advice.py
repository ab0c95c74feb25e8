"""What usually makes a training diverge, and what to change: the advice of a `RunDiverged`."""

CRITIC = (
    "The discriminator's steps are too large, or nothing bounds its loss: lower its learning rate, "
    "bound it by `penalty` or `networks.spectral`, or take a GAN of bounded loss, such as "
    "`gans.logit()`; at step 0, d may lie outside the domain of phi or psi."
)
PARTICLES = (
    "The steps are too large, or the slope of h_T(d) has no bound: lower `step_size`, bound the "
    "discriminator by `penalty`, or take a GAN whose h_T grows slowly, such as `gans.logit()`."
)
GENERATOR = (
    "The generator's steps are too large, or h_T(d) has no bound: lower its learning rate, or take "
    "a GAN whose h_T grows slowly, such as `gans.logit()`."
)
COLLAPSED = (
    "The discriminator has collapsed: it is flat wherever samples of q are, though p is elsewhere. "
    "Lower its learning rate, take smooth activations, or a GAN that does not saturate."
)
