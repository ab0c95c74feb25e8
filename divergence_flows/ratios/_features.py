r"""Feature maps: the functions fitted to samples are linear in their coefficients.

Random Fourier features are $\sqrt{1/k}\,(\cos w_j^T x, \sin w_j^T x)$ with $w_j$ normal of
deviation 1/bandwidth: their inner products approximate the kernel (Rahimi & Recht, 2007).
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._checks import check_input, constant
from .._types import Scalar, ScalarLike, Values, Vector, VectorLike, as_float
from ._bandwidth import XsQ, standardised

FeatureMap = Callable[..., Any]  # x -> a vector of features
Coefficients = Float[Array, " features"]
Widths = Float[Array, " widths"]
# The cost of a fit grows with the square of their number.
MOST_MONOMIALS = 2048


class Fourier(eqx.Module):
    """Random Fourier features, and monomials of the coordinates in units of their spread."""

    frequencies: Float[Array, "half dim"]
    centre: Float[Array, " dim"]
    spread: Float[Array, " dim"]
    degree: int = eqx.field(static=True)

    def __call__(self, x: Vector) -> Float[Array, " features"]:
        """Features of one sample."""
        check_input("the fitted function", "x", x, self.centre.size)
        away = x - self.centre
        angles = jnp.matmul(self.frequencies, away, precision="highest")
        waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])
        unit, (one, other) = away / self.spread, np.triu_indices(x.size)
        monomials = [unit, unit[one] * unit[other]][: self.degree]
        scale = math.sqrt(len(self.frequencies))
        return jnp.concatenate([jnp.ones_like(x[:1]), waves / scale, *monomials])


class Centres(eqx.Module):
    """A constant, and a Gaussian bump at each of some points, the mean over bandwidths."""

    points: Float[Array, "centres dim"]
    widths: Widths

    def __call__(self, x: Vector) -> Float[Array, " features"]:
        """Features of one sample."""
        check_input("the fitted function", "x", x, self.points.shape[1])
        squares = jnp.sum((self.points - x) ** 2, axis=1)
        return jnp.concatenate([jnp.ones_like(x[:1]), gaussian_kernel(squares, self.widths)])


def gaussian_kernel(squares: Values, widths: Widths) -> Values:
    """The kernel at squared distances, the mean over bandwidths."""
    return jnp.mean(jnp.exp(-0.5 * squares[..., None] / widths**2), axis=-1)


def check_features(caller: str, dim: int, features: int, degree: int) -> None:
    """Refuses an odd number of features, and unknown or too high degrees."""
    if features < 2 or features % 2:
        raise ValueError(f"{caller}: `features` is {features}; pass an even number, 2 at least.")
    if degree not in (0, 1, 2):
        raise ValueError(f"{caller}: `degree` is {degree}; pass 0, 1 or 2.")
    if degree == 2 and monomials(dim) > MOST_MONOMIALS:
        raise ValueError(
            f"{caller}: `degree` is 2, which makes {monomials(dim)} monomials of {dim} "
            "coordinates, and the cost grows with the square of features; pass degree=1."
        )


def monomials(dim: int) -> int:
    """The number of monomials of degree 1 and 2."""
    return dim * (dim + 3) // 2


@eqx.filter_jit
def fourier(xs: XsQ, widths: Widths, features: int, degree: int, key: PRNGKeyArray) -> Fourier:
    """Draws random Fourier features; samples give the units of the monomials."""
    half = features // 2
    # Drawn in one precision, so that a key gives the same features in all.
    normal = jax.random.normal(key, (half, xs.shape[1]), jnp.float32).astype(xs.dtype)
    frequencies = normal / widths[np.arange(half) % widths.size][:, None]
    # Along a constant coordinate samples have no distance: the kernel has no features there.
    frequencies = jnp.where(constant(xs), 0.0, frequencies)
    mean, spread, _ = standardised(xs)
    return Fourier(frequencies, mean, spread, degree)


def linear(
    feature_map: FeatureMap, c: Coefficients, t: ScalarLike, x: VectorLike, args: Any
) -> Scalar:
    """A potential: coefficients times features, at all times."""
    return jnp.dot(c, feature_map(as_float(x)), precision="highest")


def solve(matrix: Float[Array, "k k"], vector: Float[Array, " k"]) -> Float[Array, " k"]:
    """Solves normal equations by Cholesky; NaN where the matrix is singular."""
    operator = lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)
    return lx.linear_solve(operator, vector, lx.Cholesky(), throw=False).value


def check_solved(caller: str, found: Values, solved: Bool[Array, "..."]) -> Values:
    """Refuses a result that depends on unsolved normal equations."""
    words = "the normal equations are singular to working precision; raise `ridge`"
    return eqx.error_if(found, ~jnp.all(solved), f"{caller}: {words}, or use float64.")
