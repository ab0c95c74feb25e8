"""Distance, geodesics and the submersion, as public functions with their checks."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Bool, Real

from .._linalg import (
    definite,
    lyapunov,
    not_empty,
    or_one,
    product,
    safe_sqrt,
    semidefinite,
    symmetric,
)
from .._types import Matrix, Scalar, ScalarLike, as_float
from ._maps import between, brenier, excess, horizontal_part, squared

MatrixLike = Real[ArrayLike, "dim dim"] | Bool[ArrayLike, "dim dim"]


def submersion(s: MatrixLike) -> Matrix:
    r"""The covariance of a factor: $\pi(S) = S S^T$.

    Args:
        s: A square factor S [units of x].

    Returns:
        The covariance [units of x, squared].
    """
    s = as_float(s)
    return product(s, s.T)


def horizontal(s: MatrixLike, x: MatrixLike) -> Matrix:
    r"""Part K S of a tangent, K symmetric: the part that moves the covariance.

    $$hor(X) = L_\Sigma[X S^T + S X^T]\, S, \qquad \Sigma = S S^T,$$
    with $L_\Sigma[C]$ the solution of $\Sigma K + K \Sigma = C$. It is the nearest point to X of
    all K S, in the Frobenius norm, and is computed in singular vectors of S, where nothing is
    squared or inverted.

    Args:
        s: An invertible factor S [units of x].
        x: A tangent at S [units of x per unit of time].

    Returns:
        The horizontal part [units of x per unit of time].

    Raises:
        EquinoxRuntimeError: If S is singular or not finite.
    """
    return horizontal_part(_invertible(as_float(s), "bures.horizontal: `s`"), as_float(x))


def vertical(s: MatrixLike, x: MatrixLike) -> Matrix:
    r"""Part $A S^{-T}$ of a tangent, A skew: what only rotates S and leaves $S S^T$ as it is.

    $$ver(X) = X - hor(X)$$

    Args:
        s: An invertible factor S [units of x].
        x: A tangent at S [units of x per unit of time].

    Returns:
        The vertical part [units of x per unit of time].

    Raises:
        EquinoxRuntimeError: If S is singular or not finite.
    """
    x = as_float(x)
    return x - horizontal_part(_invertible(as_float(s), "bures.vertical: `s`"), x)


def _invertible(s: Matrix, caller: str) -> Matrix:
    """Refuses a factor whose rows, scaled to unit length, are dependent to working precision."""
    not_empty(s, caller)
    held = jax.lax.stop_gradient(s)
    length = or_one(jnp.linalg.norm(held, axis=1, keepdims=True))
    least = jnp.linalg.svd(held / length, compute_uv=False)[-1]
    message = f"{caller} is singular to working precision or not finite; pass one of full rank."
    return eqx.error_if(s, ~(least > s.shape[0] * jnp.finfo(s.dtype).eps), message)


def inner(sigma: MatrixLike, u: MatrixLike, v: MatrixLike) -> Scalar:
    r"""The metric: $Q_\Sigma(U, V) = \tfrac12 tr(L_\Sigma[U] V)$.

    For U = K Sigma + Sigma K it is $Q(U, U) = tr(K \Sigma K)$, the mean square of the velocity
    K x under N(0, Sigma).

    Args:
        sigma: A covariance, positive definite [units of x, squared].
        u: A symmetric tangent [units of x, squared, per unit of time].
        v: Another.

    Returns:
        The inner product [units of x, squared, per unit of time squared].

    Raises:
        EquinoxRuntimeError: If sigma is not positive definite.
    """
    sigma = definite(as_float(sigma), "bures.inner: `sigma`")
    return 0.5 * jnp.sum(lyapunov(sigma, symmetric(as_float(u))) * symmetric(as_float(v)))


def exp(sigma: MatrixLike, u: MatrixLike) -> Matrix:
    r"""Where the geodesic from Sigma with velocity U is after unit time.

    $$exp_\Sigma(U) = (I + L) \Sigma (I + L), \qquad L \Sigma + \Sigma L = U$$

    Args:
        sigma: A covariance, positive definite [units of x, squared].
        u: A symmetric tangent, small enough for I + L > 0: the geodesic ends where I + L becomes
            singular [units of x, squared].

    Returns:
        The covariance it reaches [units of x, squared].

    Raises:
        EquinoxRuntimeError: If sigma or I + L is not positive definite.
    """
    sigma = definite(as_float(sigma), "bures.exp: `sigma`")
    step = lyapunov(sigma, symmetric(as_float(u)))
    moved = jnp.eye(sigma.shape[0], dtype=step.dtype) + step
    moved = definite(moved, "bures.exp: `u` leaves the geodesic: I + L[u]", "Take a shorter step.")
    return symmetric(product(moved, sigma, moved))


def log(sigma: MatrixLike, other: MatrixLike) -> Matrix:
    r"""Velocity at Sigma of the geodesic that is at `other` after unit time; inverse of `exp`.

    $$log_\Sigma(\Sigma') = (T - I) \Sigma + \Sigma (T - I), \qquad T \Sigma T = \Sigma'$$

    It is minus the Bures-Wasserstein gradient of half the squared distance to `other`.

    Args:
        sigma: A covariance, positive definite [units of x, squared].
        other: Another, positive semidefinite [units of x, squared].

    Returns:
        A symmetric tangent at sigma [units of x, squared].

    Raises:
        EquinoxRuntimeError: If sigma is not positive definite or `other` is indefinite.
    """
    sigma = definite(as_float(sigma), "bures.log: `sigma`")
    half = product(excess(sigma, semidefinite(as_float(other), "bures.log: `other`")), sigma)
    return half + half.T


def brenier_map(a: MatrixLike, b: MatrixLike) -> Matrix:
    r"""Optimal transport of N(0, A) to N(0, B): the positive T with $T A T = B$.

    $$T = A^{-1/2} (A^{1/2} B A^{1/2})^{1/2} A^{-1/2}$$

    Each entry's error is relative to $\min(s_i, s_j) / (d_i d_j)$, s_i = d_i times B's deviation.

    Args:
        a: A covariance, positive definite [units of x, squared].
        b: Another, positive semidefinite [units of x, squared].

    Returns:
        T, symmetric; x goes to T x [dimensionless].

    Raises:
        EquinoxRuntimeError: If `a` is not positive definite or `b` is indefinite.
    """
    a = definite(as_float(a), "bures.brenier_map: `a`")
    return brenier(a, semidefinite(as_float(b), "bures.brenier_map: `b`"))


def geodesic(t: ScalarLike, a: MatrixLike, b: MatrixLike) -> Matrix:
    r"""Covariance a fraction t of the way from A to B, moved by optimal transport.

    $$\gamma(t) = M A M, \qquad M = (1 - t) I + t T$$
    It is computed as $N N^T$, $N = (1 - t) S_A + t S_B$, of the two nearest factors.

    Args:
        t: The fraction; outside of 0 to 1 an extension, as far as the geodesic goes
            [dimensionless].
        a: A covariance, positive definite [units of x, squared].
        b: Another, positive semidefinite [units of x, squared].

    Returns:
        The covariance at `t` [units of x, squared].

    Raises:
        EquinoxRuntimeError: If `a` is not definite, `b` is indefinite, or the geodesic ends at t.
    """
    a = definite(as_float(a), "bures.geodesic: `a`")
    b = semidefinite(as_float(b), "bures.geodesic: `b`")
    fraction = jnp.asarray(t, jnp.result_type(a, b))
    moved = jnp.eye(a.shape[0], dtype=fraction.dtype) * (1 - fraction) + fraction * brenier(a, b)
    caller = "bures.geodesic: `t` is beyond the end: (1 - t) I + t T"
    remedy = "Take `t` between 0 and 1, or not as far beyond."
    return between(fraction, semidefinite(moved, caller, remedy, result=a), b)


def distance(a: MatrixLike, b: MatrixLike) -> Scalar:
    r"""Bures-Wasserstein distance, the W2 of N(0, A) and N(0, B); not squared.

    $$d(A, B) = \min_{O^T O = I} |S_A - S_B O|_F = tr(A + B - 2 (A^{1/2} B A^{1/2})^{1/2})^{1/2},$$
    with S any factors. No traces are subtracted: close matrices keep their digits, also where
    coordinates differ in scale, if one has full rank; for two singular ones the error is absolute,
    eps times the deviations. The gradient at A = B is zero by convention: the distance has a
    corner there, `squared_distance` is smooth.

    Args:
        a: A covariance, positive semidefinite [units of x, squared].
        b: Another [units of x, squared].

    Returns:
        The distance [units of x].

    Raises:
        EquinoxRuntimeError: If `a` or `b` is indefinite.
    """
    a = semidefinite(as_float(a), "bures.distance: `a`")
    return safe_sqrt(squared(a, semidefinite(as_float(b), "bures.distance: `b`")))


def squared_distance(a: MatrixLike, b: MatrixLike) -> Scalar:
    r"""Square of `distance`, smooth where A and B are positive definite, also at A = B.

    $$\partial_A\, d^2(A, B) = I - T, \qquad T A T = B,$$
    and its second derivative at A = B is twice the metric, 2 `inner`.

    Args:
        a: A covariance, positive semidefinite [units of x, squared].
        b: Another [units of x, squared]. Differentiate in a matrix only where it is definite.

    Returns:
        The squared distance [units of x, squared].

    Raises:
        EquinoxRuntimeError: If `a` or `b` is indefinite.
    """
    a = semidefinite(as_float(a), "bures.squared_distance: `a`")
    return squared(a, semidefinite(as_float(b), "bures.squared_distance: `b`"))
