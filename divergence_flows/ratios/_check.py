r"""What a log ratio is, and is not: a check of one on samples, and witnesses, which are none.

A true ratio r = p/q has $E_q[r] = 1$ and $E_p[1/r] = 1$.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .._checks import check_samples, scalar_valued
from .._types import AnyCloudLike, AnyFloat, LogRatioFn, Scalar, ScalarLike


class Witness(eqx.Module):
    """A potential whose gradient is a velocity and whose value is no log ratio."""

    potential: LogRatioFn

    def __call__(self, t: Any, x: Any, args: Any) -> Scalar:
        return self.potential(t, x, args)


class RatioCheck(eqx.Module):
    """How far a ratio is from one: see `ratio_check`."""

    mean_r: Scalar
    mean_inverse_r: Scalar
    effective_sample_size: Scalar


def ratio_check(
    log_r: LogRatioFn,
    xs_q: AnyCloudLike,
    xs_p: AnyCloudLike,
    *,
    t: ScalarLike = 0.0,
    args: Any = None,
) -> RatioCheck:
    r"""How far a function is from the log ratio of two samples, in three numbers.

    A true ratio has $E_q[r] = 1$ and $E_p[1/r] = 1$. The effective sample size
    $(\sum r)^2 / \sum r^2$ over samples of q is how many samples of p they are worth; when it is
    small neither mean says much. All sums are taken in log space.

    Args:
        log_r: `log_r(t, x, args)` of one point [nats].
        xs_q: Samples of q, best held out from what trained `log_r` [units of x].
        xs_p: Samples of p, likewise [units of x].
        t: Flow time passed on [units of flow time].
        args: Passed on.

    Returns:
        `mean_r` = E_q[r] and `mean_inverse_r` = E_p[1/r], both 1 for a true ratio, and
        `effective_sample_size` between 1 and the number of samples of q.

    Raises:
        ValueError: If `log_r` is a `witness` or an `mmd_witness`, which is no log ratio, or returns
            no scalar, or there are no samples.
        EquinoxRuntimeError: If a sample is not finite, or numbers are too large for their floats.

    Example:
        ```python
        xs_q, xs_p = jr.normal(jr.key(0), (4000, 1)), jr.normal(jr.key(1), (4000, 1)) + 0.5
        check = df.ratio_check(lambda t, x, args: jnp.sum(x) / 2 - 1 / 8, xs_q, xs_p)
        print(check.mean_r, check.mean_inverse_r)  # 1.0 1.0
        ```

    References:
        Kong, A note on importance sampling using standardized weights, 1992.
    """
    caller = "ratio_check"
    if isinstance(log_r, Witness):
        words = "is no log ratio: a witness gives a velocity but no ratio; train a GAN or"
        raise ValueError(f"{caller}: `log_r` {words} fit `rff_log_ratio` where you need log r.")
    xs_q, xs_p = check_samples(caller, xs_q=xs_q, xs_p=xs_p)
    values = jax.vmap(scalar_valued(caller, "log_r", log_r), in_axes=(None, 0, None))
    u_q, u_p = values(t, xs_q, args), values(t, xs_p, args)
    return RatioCheck(mean_of_exp(u_q), mean_of_exp(-u_p), effective_size(u_q))


def mean_of_exp(u: AnyFloat) -> Scalar:
    """The mean of e^u, summed in log space."""
    return jnp.exp(jax.nn.logsumexp(u) - jnp.log(u.size))


def effective_size(u: AnyFloat) -> Scalar:
    """How many equal weights the weights e^u are worth."""
    return jnp.exp(2 * jax.nn.logsumexp(u) - jax.nn.logsumexp(2 * u))
