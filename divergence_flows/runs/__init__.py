"""Long runs in pieces: chunks of `lax.scan`, and between them a look and a checkpoint.

A run is any `(state, inputs) -> (state, info)` step. It stops where its numbers are no longer
finite or its particles leave the data behind, and resumes bit for bit from a checkpoint, which is
refused if it is damaged or of another run.
"""

from ._devices import over_devices as over_devices
from ._stopping import RunDiverged as RunDiverged
