"""How many gradients of log p a fit of ours takes."""

import numpy as np

from divergence_flows import Nodes
from divergence_flows.fits._fit import rounds_of
from divergence_flows.fits._judge import SETS

FRESH = 4  # the rule of rest asks one in so many of the fresh nodes


def rounds(n, dim, least=None):
    """Nodes of each round, as `fit_gaussian` makes them; `least` is what it says for a law."""
    last = Nodes(np.zeros((n, dim)), np.full(n, 1 / n))
    least = 4 * dim if least is None else least
    return np.array([nodes.weights.size for nodes in rounds_of(last, least)])


def evaluations(steps, n, dim, least=None, judged=True):
    """Gradients of log p at most: own nodes, fresh ones where they may end it, and the judges'."""
    steps = np.asarray(steps)
    looks = 2 * n * len(steps)
    count = np.sum((steps + 1) * (rounds(n, dim, least) + n // FRESH)) + looks
    return int(count + SETS * n * judged)
