r"""The path gradient ("sticking the landing") of any f-divergence, for any reparameterised model.

With x = g(z) a sample of q, $\nabla_\theta F_f = -E_z[h'(u)\,\nabla_x u\,\partial_\theta g]$: what
moves samples along the MonoFlow of h, pulled back to the parameters. q's own parameters are held
fixed inside u = log p - log q; the term that this leaves out has mean zero.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree, Real

from .._checks import scalar_of
from .._types import LogDensity, Sample, Scalar, Values, as_float
from ._nodes import Nodes, evaluate

_F_IS_NO_LOSS = " E_q[f(r)] with q held fixed inside r descends h_eff' = -r f'(r), the wrong way."


def stl_loss(
    log_p: Callable[..., Scalar], q: Any, z: Real[ArrayLike, "n *event"] | Nodes, *, h: Any = None
) -> Scalar:
    r"""A loss whose gradient is the path gradient of F_f: $-E_z[h(\log p(g(z)) - \log q(g(z)))]$.

    Every parameter of q is held fixed inside log q, mixture weights too, and none outside. The
    gradient in q is unbiased for that of F_f, and zero for each z alone, not only on average,
    where q = p; far from p it can vary more than plain reparameterisation. The value is KL(q||p)
    for the identity and otherwise E_q[-h], which is no divergence: only its gradient counts, and
    only its first derivatives.

    q has `push(z)`, a sample, and `log_prob(x)`, each for one point. Another library's model takes
    an adapter, and `push` must hold all of its parameters, those of its base too:

        class Flow(eqx.Module):                       # flowjax; distrax: bijector.forward(z)
            law: flowjax.distributions.Transformed    # law.merge_transforms() if its base moves

            def push(self, z): return self.law.bijection.transform(z)
            def log_prob(self, x): return self.law.log_prob(x)

    A q with `log_weights` is a mixture: `push(z)` then returns one sample for each component, and
    the loss sums them with live weights: $\partial F_f / \partial w_k = -E_k[h(u)]$.

    Args:
        log_p: Log density of the target at one point, `log_p(x)`, or `log_p(x, batch)` for nodes
            with mini-batches [nats]. A constant left out does nothing for the identity, and for
            other h makes the divergence that of h(u + log c).
        q: The model, a pytree such as `Gaussian` or `Mixture`. With respect to it the loss is
            differentiated.
        z: Draws of the base distribution of q, which are averaged, or a rule for the normal one.
        h: Increasing function of the log ratio, such as `df.divergences.pearson.h`; the identity,
            KL(q||p), by default.

    Returns:
        The loss [units of h; nats for the identity]; NaN where q has no density, as with a
        singular scale, or z or log p is NaN.

    Raises:
        ValueError: If q has no `push` and `log_prob`, or `h` is a divergence, a GAN, or the f of
            a divergence; if z is empty, or log_p or h returns no scalar.
        EquinoxRuntimeError: If `h` decreases at any sample, as f does where f' < 0.

    Example:
        ```python
        def log_p(x):  # N(1, I)
            return -0.5 * jnp.sum((x - 1.0) ** 2)


        q, z = df.Gaussian(jnp.zeros(2), jnp.eye(2)), jr.normal(jr.key(0), (8, 2))
        slope = jax.grad(df.stl_loss, argnums=1)(log_p, q, z)
        print(slope.mean)  # [-1. -1.]
        ```

    References:
        Roeder, Wu & Duvenaud, Sticking the landing, NeurIPS 2017; Yi & Liu, Bridging the gap
        between VI and WGF, 2023; theory.md, section 5.
    """
    for name in ("push", "log_prob"):
        if not callable(getattr(q, name, None)):
            words = f"`q` is a {type(q).__name__}, without `{name}`; give `push` and `log_prob`"
            raise ValueError(f"stl_loss: {words}, by an adapter as in the docstring.")
    if isinstance(z, Nodes):
        points, weights, batches = z.points, z.weights, z.batches
    else:
        points, weights, batches = as_float(z), None, None
    if not points.shape[0]:
        raise ValueError(f"stl_loss: `z` is empty, of shape {points.shape}; pass one draw or more.")
    # All array leaves are held fixed, which also saves the work of differentiating them. Not
    # eqx.partition: distrax's objects change their structure when leaves are taken out.
    fixed = jax.tree.map(_stop, q)
    u = jax.vmap(partial(_log_ratio, log_p, q, fixed))(points, batches)
    values = u if h is None else _checked(h, u)
    if hasattr(q, "log_weights"):
        values = jnp.sum(values * jax.nn.softmax(q.log_weights), axis=1)
    if weights is None:
        return -jnp.mean(values)
    return -jnp.sum(weights.astype(values.dtype) * values)


def _stop(leaf: Any) -> Any:
    return jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf


def _log_ratio(
    log_p: LogDensity, q: Any, fixed: Any, z: Sample, batch: PyTree
) -> Float[Array, "*components"]:
    """Evaluates u at the sample of one z, or at the sample of each component."""

    def one(x: Sample) -> Scalar:
        """Lets x alone differentiate log q, so that parameters in closures are held fixed too."""
        at = jax.lax.stop_gradient(x)
        log_q, slope = jax.lax.stop_gradient(jax.value_and_grad(fixed.log_prob)(at))
        return evaluate("stl_loss", log_p, x, batch) - (log_q + jnp.sum(slope * (x - at)))

    x = q.push(z)
    if not hasattr(q, "log_weights"):
        return one(x)
    if x.shape[:1] != q.log_weights.shape:
        words = f"`q` has {q.log_weights.shape} log_weights and pushes to shape {x.shape}"
        raise ValueError(f"stl_loss: {words}; push one sample for each component.")
    return jax.vmap(one)(x)


def _checked(h: Any, u: Values) -> Values:
    """Applies h, and refuses what is no h and one that decreases."""
    of = getattr(h, "__self__", h)
    if not callable(h) or hasattr(of, "log_f") or hasattr(of, "h_t"):
        words = f"`h` is a {type(h).__name__}; give an increasing function of log r, or pass `.h`."
        raise ValueError(f"stl_loss: {words}{_F_IS_NO_LOSS}")
    flat = u.ravel()
    slope = jax.vmap(jax.grad(partial(scalar_of, "stl_loss", "h", h)))(jax.lax.stop_gradient(flat))
    message = (
        "stl_loss: `h` decreases at some u = log p/q. It must be a MonoFlow's h, for instance "
        "`df.f_to_h(f)` or `div.h`, not f itself." + _F_IS_NO_LOSS
    )
    flat = eqx.error_if(flat, jnp.any(slope < 0), message)
    values: Any = jax.vmap(h)(flat)
    return values.reshape(u.shape)
