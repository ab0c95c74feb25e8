"""With a ratio, a velocity; with a velocity, a flow of particles, densities or whole clouds.

A field is `field(t, y, args)` on a whole state. `velocity` makes one of h and a log ratio,
`cloud_velocity` fits the ratio to the cloud itself, and `integrate` follows any field: the one
place where diffrax solves. Diagnostics say how fast a divergence falls and how long the path is.
"""

from ._density import with_log_prob as with_log_prob
from ._diagnostics import curve_length as curve_length, dissipation as dissipation
from ._integrate import integrate as integrate
from ._langevin import langevin as langevin
from ._optimal_transport import (
    coupling as coupling,
    displacement as displacement,
    wasserstein2 as wasserstein2,
)
from ._scores import (
    heat_flow_divergence as heat_flow_divergence,
    score_velocity as score_velocity,
)
from ._settle import settle as settle
from ._velocity import (
    cloud_velocity as cloud_velocity,
    gradient_flow as gradient_flow,
    velocity as velocity,
)
