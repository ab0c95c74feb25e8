"""The drift of drifting models: a kernel field of two clouds, as its authors released it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Real

from .._checks import check_samples
from .._linalg import or_one, safe_sqrt
from .._types import AnyCloudLike, Scalar, ScalarLike
from ._bandwidth import positive

# As released: how far a sample is from itself, in mean distances; what a product of softmaxes and
# a force count as at least.
_SELF, _FLOOR, _LEAST = 100.0, 1e-6, 1e-4
Pairs = Float[Array, "n both"]
Rows = Float[Array, "both dim"]


def drift_field(
    xs_q: AnyCloudLike,
    xs_p: AnyCloudLike,
    *,
    radii: Sequence[ScalarLike] | Real[Array | np.ndarray, " radii"] = (0.02, 0.05, 0.2),
) -> Float[Array, "n *event"]:
    r"""The drift of a drifting model at each sample of q: towards samples of p, away from q's own.

    With distances $\delta_{ij}$ from sample i of q to sample j of q or p, in units of their mean,
    and logits $-\delta_{ij}/R$, the weight of a pair is
    $w_{ij} = \sqrt{\max(\operatorname{softmax}_j \operatorname{softmax}_i, 10^{-6})}$, and

    $$V_R(x_i) = \sum_{k \in q} w_{ik} \sum_{j \in p} w_{ij} y_j
      - \sum_{k \in p} w_{ik} \sum_{j \in q} w_{ij} y_j.$$

    The drift is the sum over R of V_R, each divided by its root mean square over all samples and
    coordinates (1e-4 at least), in units of the mean distance over $\sqrt{\text{dim}}$. A sample
    counts as 100 mean distances from itself. So it is in the authors' released code; left out are
    its weights of samples and its fixed negatives, which guidance needs.

    `distillation_loss(ys, drift_field(ys, ys_p), 1.0)` regresses a generator's samples onto
    themselves, moved. That loss is the same number at every step, by construction, since each
    V_R has unit size: it says nothing of convergence. Let ys be features of a pretrained network:
    on pixels it fails. The ratio of two kernel densities, from `kde_log_prob`, is another field,
    that of a divergence by `velocity(h, ...)` for any h; this one has no h.

    Args:
        xs_q: Samples of q, at which the drift is taken [units of x].
        xs_p: Samples of p; there may be more or fewer [units of x].
        radii: Widths R of the kernel, in mean distances between samples.

    Returns:
        The drift at each of `xs_q`, of their shape [units of x].

    Raises:
        ValueError: If there are no samples or no radii, or the samples differ in shape.
        EquinoxRuntimeError: If a sample is not finite, numbers are too large for their floats, or
            a radius is not positive.

    Example:
        ```python
        xs_q, xs_p = jr.normal(jr.key(0), (64, 1)), jr.normal(jr.key(1), (64, 1)) + 2.0
        vs = df.drift_field(xs_q, xs_p, radii=[0.2])
        print(vs.shape, jnp.mean(vs) > 0)  # (64, 1) True
        ```

    References:
        Deng et al., Generative modeling via drifting, 2026, and its code, lambertae/drifting.
    """
    caller = "drift_field"
    xs_q, xs_p = check_samples(caller, xs_q=xs_q, xs_p=xs_p)
    dtype = jnp.result_type(xs_q, xs_p)
    if len(radii) < 1:
        raise ValueError(f"{caller}: `radii` is empty; pass one or more.")
    found = positive(caller, "radii", jnp.stack([jnp.asarray(r, dtype) for r in radii]), dtype)
    flat_q, flat_p = (xs.astype(dtype).reshape(len(xs), -1) for xs in (xs_q, xs_p))
    return _drift(flat_q, flat_p, found).reshape(xs_q.shape)


@jax.jit
def _drift(
    xs_q: Float[Array, "n dim"], xs_p: Float[Array, "m dim"], radii: Float[Array, " radii"]
) -> Float[Array, "n dim"]:
    both = jnp.concatenate([xs_q, xs_p])
    distances = safe_sqrt(jax.vmap(lambda x: jnp.sum((both - x) ** 2, axis=1))(xs_q))
    mean = or_one(jnp.mean(distances))
    unit = mean / jnp.sqrt(xs_q.shape[1])
    away = distances / mean + _SELF * jnp.eye(*distances.shape, dtype=xs_q.dtype)
    # Each force is a difference of means, so that an offset of all samples is only round-off.
    rows = (both - jnp.mean(both, axis=0)) / unit
    forces = jax.vmap(Partial(_force, away, rows))(radii)
    return unit * jnp.sum(forces, axis=0)


def _force(away: Pairs, rows: Rows, radius: Scalar) -> Float[Array, "n dim"]:
    """Attraction less repulsion at each sample of q, of unit root mean square."""
    n, logits = len(away), -away / radius
    shares = jax.nn.softmax(logits, axis=1) * jax.nn.softmax(logits, axis=0)
    weights = jnp.sqrt(jnp.maximum(shares, _FLOOR))
    of_q, of_p = weights[:, :n], weights[:, n:]
    sum_q, sum_p = (jnp.sum(one, axis=1, keepdims=True) for one in (of_q, of_p))
    pairs = jnp.concatenate([-of_q * sum_p, of_p * sum_q], axis=1)
    force = jnp.matmul(pairs, rows, precision="highest")
    return force / jnp.maximum(safe_sqrt(jnp.mean(force**2)), _LEAST)
