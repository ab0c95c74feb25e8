"""Bad input for scalars, matrices and Gaussians: calculus, tables, losses, bures, fits."""

import jax.numpy as jnp
import numpy as np
from bad_input import Cell, Right, by_content, by_type

import divergence_flows as df

A = jnp.array([[2.0, 0.5], [0.5, 1.0]])
B = jnp.array([[1.0, 0.0], [0.0, 3.0]])
TABLE = {
    "bures.distance": {
        "wrong rank": [Cell(df.bures.distance, (A[0], B), by_type("distance", "a"))],
        "wrong dtype": [Cell(df.bures.distance, (A + 0j, B), by_type("distance", "a"))],
        "mismatched shapes": [Cell(df.bures.distance, (A, jnp.eye(3)), by_type("distance", "b"))],
        "not positive definite": [
            Cell(df.bures.distance, (-A, B), by_content("bures.distance", "positive")),
        ],
        "numpy arrays": [
            Cell(df.bures.distance, (np.asarray(A), np.asarray(B)), Right(df.bures.distance(A, B))),
        ],
    },
}
# What a function takes none of.
ABSENT = {
    "bures.distance": ("h does not increase", "key missing"),
}
