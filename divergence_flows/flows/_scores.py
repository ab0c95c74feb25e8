r"""With two scores in place of a ratio's gradient: $h'(u)\,(s_p - s_q)$ is what moves q.

Distillation of diffusion models learns the two scores one by one, at many noise levels.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from .._checks import check_counts, check_positive, described, raise_if, scalar_valued
from .._types import (
    Field,
    Function,
    LogRatioFn,
    Scalar,
    ScalarFn,
    ScalarLike,
    as_float,
    as_partial,
    traced,
)
from ._diagnostics import squares
from ._velocity import AnyEvent, AnyEventLike, as_floats, chain

# Where h' is looked at to see whether it is constant [nats].
_TRIED = tuple(range(-5, 6))


def score_velocity(
    h: ScalarFn, score_p: Function, score_q: Function, log_r: LogRatioFn | None = None
) -> Field:
    r"""MonoFlow of `h` from two scores: $v(x) = h'(u)\,(s_p(x) - s_q(x))$, $u = \log p/q$.

    It is `velocity(h, log_r)` where $s_p - s_q = \nabla u$. With $h' = 1$, KL(q||p), no ratio is
    needed: that is what DMD, Diff-Instruct and variational score distillation follow, and the
    weights of f-distill are $h'(u)$.

    Args:
        h: Increasing function of the log ratio, scalar to scalar.
        score_p: `score_p(t, x, args)`, the gradient of log p at one point [nats per unit of x], in
            the structure of the point. t may be a noise level.
        score_q: The same of q.
        log_r: $\log p/q$ as `log_r(t, x, args)` of one point [nats]. May be left out where h' is
            constant.

    Returns:
        `field(t, xs, args)`: the velocity of each particle [units of x per unit of flow time], in
        the structure of `xs`.

    Raises:
        ValueError: If h' is not constant and there is no `log_r`; while tracing the field, if a
            score is not made like a point, or `h` or `log_r` does not return a scalar.

    Example:
        ```python
        def score_p(t, x, args):  # N(0, I)
            return -x


        def score_q(t, x, args):  # N(1, I)
            return 1.0 - x


        field = df.score_velocity(df.divergences.kl_qp.h, score_p, score_q)
        print(field(0.0, jnp.zeros((1, 2)), None))  # [[-1. -1.]]
        ```

    References:
        Yin et al., DMD, CVPR 2024; Xu, Nie & Vahdat, f-distill, 2025.
    """
    log_r = ratio_or_constant("score_velocity", h, log_r)
    scores = as_partial(score_p), as_partial(score_q)
    return Partial(_score_velocity, as_partial(h), log_r, scores)


def ratio_or_constant(
    caller: str,
    h: ScalarFn,
    log_r: LogRatioFn | None,
    remedy: str = "`log_r` is None; pass log_r(t, x, args)",
) -> LogRatioFn:
    """The ratio, or a constant one where h' is the same at all: any other h needs a ratio."""
    if log_r is not None:
        return as_partial(log_r)
    u = jnp.asarray(_TRIED, jnp.result_type(float))
    slopes = jax.vmap(jax.grad(scalar_valued(caller, "h", h)))(u)
    middle = slopes[len(_TRIED) // 2]
    varies = jnp.max(jnp.abs(slopes - middle)) > 64 * jnp.finfo(u.dtype).eps * jnp.abs(middle)
    words = f"{caller}: h' depends on u = log p/q, and {remedy}."
    if not traced(varies) and varies:
        raise ValueError(words)
    return Partial(_constant, raise_if(jnp.zeros_like(middle), varies, words))


def _constant(u: Scalar, t: ScalarLike, x: Any, args: Any) -> Scalar:
    return u


def _score_velocity(
    h: ScalarFn,
    log_r: LogRatioFn,
    scores: tuple[Function, Function],
    t: ScalarLike,
    xs: AnyEventLike,
    args: Any,
) -> AnyEvent:
    """Moves each particle on its own."""
    caller = "score_velocity"
    cloud = as_floats(caller, "xs", xs)
    slope, gradient = jax.vmap(functools.partial(_parts, caller, h, log_r, scores, t, args))(cloud)
    return jax.tree.map(lambda part: jax.vmap(chain)(slope, part).astype(part.dtype), gradient)


def _parts(
    caller: str,
    h: ScalarFn,
    log_r: LogRatioFn,
    scores: tuple[Function, Function],
    t: ScalarLike,
    args: Any,
    x: Any,
) -> tuple[Scalar, Any]:
    """h'(u) and the difference of the scores at one point."""
    found = [score(t, x, args) for score in scores]
    for name, made in zip(("score_p", "score_q"), found, strict=True):
        if jax.tree.map(jnp.shape, made) != jax.tree.map(jnp.shape, x):
            words = f"`{name}` returns {described(made)} at a point {described(x)}"
            raise ValueError(f"{caller}: {words}; pass one that returns the point's gradient.")
    u = scalar_valued(caller, "log_r", log_r)(t, x, args)
    slope = jax.grad(scalar_valued(caller, "h", h))(u)
    return slope, jax.tree.map(jnp.subtract, *found)


def heat_flow_divergence(
    h: ScalarFn,
    score_p: Function,
    score_q: Function,
    log_r: LogRatioFn | None,
    draw: Callable[[Scalar], Any],
    *,
    args: Any = None,
    levels: int = 64,
    scale: ScalarLike = 1.0,
) -> Scalar:
    r"""A divergence as the integral of its own dissipation along the heat flow of both laws.

    $$D_f(q\|p) = \tfrac12 \int_0^\infty E_{q_s}[h'(u_s)\,\|\nabla u_s\|^2]\,ds,$$
    where p_s is p with noise $N(0, s I)$, q_s likewise, $u_s = \log p_s/q_s$ and h belongs to f
    (`div.h`, `f_to_h(f)`): adding noise to both makes every f-divergence fall to zero, at this
    rate. It needs scores and a ratio of noised samples only, as those who distil have them.

    Args:
        h: Increasing function of the log ratio, scalar to scalar.
        score_p: `score_p(s, x, args)`, the gradient of log p_s at one point [nats per unit of x].
        score_q: The same of q_s.
        log_r: `log_r(s, x, args)`, u_s at one point [nats]; None where h' is constant.
        draw: `draw(s)`: points of q_s, such as `xs + jnp.sqrt(s) * noise`, or a tuple of points
            and weights of a quadrature rule for it, which sum to one.
        args: Passed to the scores and the ratio.
        levels: Number of noise levels, of a Gauss-Legendre rule in s / (s + scale).
        scale: The variance around which levels are densest [units of x squared]; about that of
            the data.

    Returns:
        The divergence [nats], positive up to the error of rule and points.

    Raises:
        ValueError: If a number is not positive, h' is not constant and there is no `log_r`, or a
            function does not fit the points.

    Example:
        ```python
        def normal(mean, variance):  # the score of a Gaussian, noised
            return lambda s, x, args: (mean - x) / (variance + s)


        noise = jr.normal(jr.key(0), (4096, 1))
        draw = lambda s: jnp.sqrt(1 + s) * noise  # q = N(0, 1), p = N(1, 4)
        h = df.divergences.kl_qp.h
        kl = df.heat_flow_divergence(h, normal(1.0, 4.0), normal(0.0, 1.0), None, draw)
        print(abs(kl - 0.4431) < 0.02)  # True
        ```

    References:
        The dissipation of `dissipation` for two laws that diffuse; Song et al., 2021, for KL.
    """
    caller = "heat_flow_divergence"
    check_counts(caller, {"levels": levels})
    check_positive(caller, scale=scale)
    places, weights = np.polynomial.legendre.leggauss(levels)
    places, weights = (places + 1) / 2, weights / 2
    width = as_float(scale)
    s = width * jnp.asarray(places / (1 - places), width.dtype)
    masses = width * jnp.asarray(weights / (1 - places) ** 2, width.dtype)
    log_r = ratio_or_constant(caller, h, log_r)
    scores = as_partial(score_p), as_partial(score_q)
    rate = Partial(_heat_rate, as_partial(h), log_r, scores, as_partial(draw), args)
    return 0.5 * masses @ jax.lax.map(rate, s)


def _heat_rate(
    h: ScalarFn,
    log_r: LogRatioFn,
    scores: tuple[Function, Function],
    draw: Function,
    args: Any,
    s: Scalar,
) -> Scalar:
    """E[h'(u) |grad u|^2] at one noise level."""
    drawn = draw(s)
    xs, weights = drawn if isinstance(drawn, tuple) else (drawn, None)
    parts = functools.partial(_parts, "heat_flow_divergence", h, log_r, scores, s, args)
    slopes, gradients = jax.vmap(parts)(as_float(xs))
    rates = chain(slopes, squares([gradients]))
    return jnp.mean(rates) if weights is None else weights @ rates
