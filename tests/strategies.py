"""How laws are drawn by hypothesis: the same examples each time, few shapes, few programs."""

import functools

import jax
import numpy as np
from hypothesis import settings, strategies as st

# The same examples everywhere and always; the first of them compiles, so there is no deadline.
law = settings(derandomize=True, deadline=None, database=None, max_examples=20)
few = settings(law, max_examples=12)

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])
shapes = st.sampled_from([(), (3,), (2, 1, 2)])


def numbers(low, high, size):
    """An array of one size, so that programs are used again."""
    each = st.floats(low, high, allow_subnormal=False)
    return st.lists(each, min_size=size, max_size=size).map(np.array)


def in_float64(test):
    """Runs a law with float64 on; a fixture would be refused, for it is not made anew each time."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        with jax.enable_x64(True):
            test(*args, **kwargs)

    return run
