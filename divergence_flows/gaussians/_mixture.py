r"""Mixtures of Gaussians, and their flow: each component is moved by the score of the whole.

Since q in $g = \nabla h(\log p/q)$ is the mixture, components repel each other; with the own
component's score they would not.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree, Real

from .._checks import no_empty_axes
from .._types import Field, Frozen, Matrix, Scalar, ScalarFn, ScalarLike, Vector, as_float
from ..flows._velocity import chain
from ._expectations import Target, averages, check_dimension, rising
from ._gaussian import Gaussian, Shape, no_time, one_point, over_axes, sizes_of
from ._low_rank import Law, LowRankGaussian
from ._nodes import Nodes


class Mixture(eqx.Module):
    r"""The density $q = \sum_k w_k N(\mu_k, S_k S_k^T)$, its weights a softmax of logits.

    Scales are square factors, or vectors of standard deviations, as in `Gaussian`. With `factors`,
    beside vectors, components have a low rank plus a diagonal, as a `LowRankGaussian`. A leading
    time axis, as `integrate` makes it, is allowed on all fields and in `weights` and `components`;
    fields of rates are Mixtures too, in the same three places.

    Example:
        ```python
        q = df.Mixture(jnp.zeros(2), jnp.array([[-2.0], [2.0]]), 0.5 * jnp.ones((2, 1)))
        print(q.weights, q.log_prob(jnp.array([2.0])))  # [0.5 0.5] -0.919
        ```
    """

    logits: Float[Array, "*time k"]
    means: Float[Array, "*time k dim"]
    scales: Float[Array, "*time k dim dim"] | Float[Array, "*time k dim"]
    factors: Float[Array, "*time k dim rank"] | None

    def __init__(
        self,
        logits: Real[ArrayLike, "*time k"],
        means: Real[ArrayLike, "*time k dim"],
        scales: Real[ArrayLike, "*time k dim dim"] | Real[ArrayLike, "*time k dim"],
        factors: Real[ArrayLike, "*time k dim rank"] | None = None,
    ) -> None:
        """Keeps logits [nats], means and factors of covariances [units of x], as floats.

        Args:
            logits: Log weights up to a constant: zeros for equal weights.
            means: The mean of each component.
            scales: For each component a square factor S of its covariance, or a vector of
                standard deviations.
            factors: W of each component, whose covariance is $W W^T + s^2$; scales are vectors s.

        Raises:
            ValueError: If there are no components, or their dimension is 0; if `factors` come with
                square scales.
        """
        no_empty_axes("Mixture", "means", means)
        parts = [as_float(part) for part in (logits, means, scales)]
        if factors is not None:
            no_empty_axes("Mixture", "factors", factors)
            if np.ndim(scales) != np.ndim(means):
                words = f"`scales` have shape {np.shape(scales)}, and `factors` come with vectors"
                raise ValueError(f"Mixture: {words}; pass deviations, or leave `factors` out.")
            parts.append(as_float(factors))
        dtype = jnp.result_type(*parts)
        parts = [part.astype(dtype) for part in parts]
        self.logits, self.means, self.scales = parts[:3]
        self.factors = None if factors is None else parts[3]

    @property
    def log_weights(self) -> Float[Array, "*time k"]:
        """Logarithms of the weights [nats]."""
        return jax.nn.log_softmax(self.logits)

    @property
    def weights(self) -> Float[Array, "*time k"]:
        """The weights, which sum to one."""
        return jax.nn.softmax(self.logits)

    @property
    def components(self) -> Law:
        """All components, as one law with their axis in front (`jax.vmap` over it)."""
        if self.factors is None:
            return Gaussian(self.means, self.scales)
        make = LowRankGaussian
        for _ in range(self.means.ndim - 1):
            make = jax.vmap(make)
        return make(self.means, self.factors, self.scales)

    def push(self, z: Real[ArrayLike, " latent"]) -> Float[Array, "k dim"]:
        """Moves one standard normal draw into each component, to mu_k + S_k z [units of x].

        With `factors` a draw has rank + dim numbers, as in `LowRankGaussian.push`.
        """
        one_point("Mixture.push", "z", z, self._latent, 2)
        components = self.components
        return jax.vmap(type(components).push, (0, None))(components, jnp.asarray(z))

    @property
    def _latent(self) -> Float[Array, "*time k latent"]:
        """An array of the shape of draws, one for each component."""
        if self.factors is None:
            return self.means
        return jnp.concatenate([self.factors[..., 0, :], self.means], axis=-1)

    def sample(self, key: PRNGKeyArray, shape: Shape = ()) -> Float[Array, "... dim"]:
        """Draws samples of shape (*shape, dim): a component each, by weight [units of x].

        Args:
            key: Key of the draws.
            shape: How many, along which axes; one by default.

        Returns:
            The samples, differentiable in means and scales; which component drew is held fixed.

        Raises:
            ValueError: If the law has a time axis, or a size in `shape` is negative.
        """
        no_time("Mixture.sample", self.means, 2)
        sizes = sizes_of("Mixture.sample", shape)
        of_component, of_normal = jr.split(key)
        chosen = jr.categorical(of_component, self.logits, shape=sizes)
        z = jr.normal(of_normal, (*sizes, self._latent.shape[-1]), self.means.dtype)
        each = over_axes(self.push, z)
        return jnp.take_along_axis(each, chosen[..., None, None], axis=-2)[..., 0, :]

    def log_prob(self, x: Real[ArrayLike, " dim"]) -> Scalar:
        """Log density at one point [nats]; NaN if a component is singular."""
        one_point("Mixture.log_prob", "x", x, self.means, 2)
        components = self.components
        each = jax.vmap(type(components).log_prob, (0, None))(components, jnp.asarray(x))
        return jax.nn.logsumexp(self.log_weights + each)


def mixture_field(
    log_p: Callable[..., Scalar],
    nodes: Nodes,
    *,
    h: ScalarFn | None = None,
    metric: str = "wasserstein",
    move_weights: bool = False,
) -> Field:
    r"""Gradient flow of `h` on a mixture: $\dot\mu_k = E_k[g]$, $\dot S_k = E_k[g z^T]$.

    $g = \nabla h(\log p/q)$ with q the mixture. Two conventions are in use. "wasserstein": a
    mixture is a measure over (mu, S), and its particles drift with no factor w_k, each as
    `gaussian_field` moves its one; small components are as fast as large ones. "euclidean": the
    gradient in the parameters, w_k times as large, which is what optimisers of an ELBO follow;
    a component of small weight hardly moves. Moving weights follow
    $\dot w_k = w_k (E_k[h] - E_q[h])$ in the first, Wasserstein-Fisher-Rao, through logits at the
    rate $E_k[h] - E_q[h]$, and in the second logits at w_k times that rate. F_f falls in all.

    Args:
        log_p: As in `gaussian_field` [nats].
        nodes: Rule for the standard normal, used in each component. The log density of a mixture
            is no quadratic: cubature is biased here even on Gaussian targets.
        h: Increasing function of the log ratio; the identity, KL(q||p), by default.
        metric: "wasserstein" (no factor w_k) or "euclidean" (w_k times the rates).
        move_weights: Whether the weights move; otherwise their logits rest.

    Returns:
        `field(t, q, args)` of a `Mixture`: the rates of its logits, means and scales, as a
        `Mixture`. Diagonal scales stay so.

    Raises:
        ValueError: If `metric` is unknown; from the field, if the nodes are not of q's dimension,
            log_p returns no scalar, or q has low-rank components.
        EquinoxRuntimeError: As `gaussian_field`.

    References:
        Lambert et al., Variational inference via Wasserstein gradient flows, NeurIPS 2022, on
        mixtures; theory.md, section 5 and trap 9.
    """
    if metric not in ("wasserstein", "euclidean"):
        words = f'`metric` is {metric!r}; give "wasserstein" or "euclidean" (with a factor w_k).'
        raise ValueError(f"mixture_field: {words}")
    target = Target("mixture_field", log_p, h)
    options = (("flat", metric == "euclidean"), ("moving", move_weights))
    return Partial(Frozen(_rates, options), target, rising(target, nodes))


def _rates(
    target: Target, nodes: Nodes, t: ScalarLike, q: Mixture, args: Any, *, flat: bool, moving: bool
) -> Mixture:
    """Averages over every component, and scales the rates."""
    if q.factors is not None:
        words = "q has `factors`, of which there is no flow"
        raise ValueError(f"{target.caller}: {words}; use `fit_mixture`, or full or vector scales.")
    check_dimension(target.caller, nodes, "q's components", q.means[0])
    zs, weights = nodes.points.astype(q.means.dtype), nodes.weights.astype(q.means.dtype)

    def value_and_velocity(x: Vector, batch: PyTree) -> tuple[Scalar, Vector]:
        """h and its gradient at one point, by the log ratio to the whole mixture."""
        u, grad_u = jax.value_and_grad(lambda x: target(x, batch) - q.log_prob(x))(x)
        if target.h is None:
            return u, grad_u
        value, slope = jax.value_and_grad(target.h)(u)
        return value, chain(slope, grad_u)

    def component(own: Gaussian) -> tuple[Scalar, Vector, Matrix | Vector]:
        """Averages of h, g and g z^T over one component."""
        values, gs = jax.vmap(value_and_velocity)(jax.vmap(own.push)(zs), nodes.batches)
        return jnp.sum(weights * values), *averages(nodes, gs, own.diagonal)

    values, means, scales = jax.vmap(component)(q.components)
    # Fisher-Rao: components whose E_k[h] is above average grow.
    growth = values - jnp.sum(q.weights * values) if moving else jnp.zeros_like(values)
    rates = growth, means, scales
    if flat:
        rates = jax.tree.map(lambda x: jax.vmap(jnp.multiply)(q.weights, x), rates)
    return Mixture(*rates)
