"""What a verdict of "believe" asks for, with a path and without."""

import math

# A mean that a ratio makes right is within so many of its standard errors,
DEVIATIONS = 3.0
# standard errors of E_q[r] and E_p[1/r] are below this, and so many effective samples of each.
LOOSEST, FEWEST = 0.25, 20.0


def widened(count: int) -> float:
    """How many standard errors a mean may be off where so many are asked: the more, the wider."""
    return (DEVIATIONS**2 + 2 * math.log(count)) ** 0.5
