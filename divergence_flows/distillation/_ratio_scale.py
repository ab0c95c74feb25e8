"""What keeps a learned ratio from throwing samples far: the options of published code, by name."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._checks import check_counts, check_number
from .._types import Values
from ..training._update import check_decay

LogMeans = Float[Array, " bins"]


class RatioScale(eqx.Module):
    """A ratio clipped, divided by its running mean in each noise bin, h' divided by its mean."""

    clip: Any  # None, or two numbers
    bins: int | None
    decay: Any
    normalise: bool

    def check(self, caller: str, has_ratio: bool) -> None:
        """Refuses options of a ratio where there is none, and intervals that are none."""
        asked = {"ratio_clip": self.clip, "ratio_bins": self.bins}
        for name, value in asked.items():
            if value is not None and not has_ratio:
                words = f"`{name}` changes a learned ratio, and `discriminator` is None; leave it"
                raise ValueError(f"{caller}: {words} out, or pass a discriminator.")
        if self.clip is not None:
            low, high = self.clip
            good, words = (0 <= low) & (low < high), "an interval of ratios, 0 <= low < high"
            check_number(caller, "ratio_clip", self.clip, good, words)
        check_counts(caller, {"ratio_bins": self.bins})
        check_decay(caller, self.decay, "ratio_decay")

    def apply(self, u: Values, log_means: Any, place: Values) -> tuple[Values, Any]:
        """The log ratio after clipping and division, `place` in [0, 1]; and the new means."""
        if self.clip is not None:
            low, high = (jnp.log(jnp.asarray(end, u.dtype)) for end in self.clip)
            u = jnp.clip(u, low, high)
        if self.bins is None:
            return u, log_means
        at = jnp.clip((place * self.bins).astype(int), 0, self.bins - 1)
        log_means = self._mean(u, at, log_means)
        return u - log_means[at].astype(u.dtype), log_means

    def _mean(self, u: Values, at: Int[Array, " n"], old: LogMeans) -> LogMeans:
        """Running means of e^u, as logs, since e^u may overflow; empty bins keep theirs."""
        inside = at[:, None] == jnp.arange(old.size)
        count = jnp.sum(inside, axis=0).astype(u.dtype)
        sums = jax.nn.logsumexp(jnp.where(inside, u[:, None], -jnp.inf), axis=0)
        decay = jnp.asarray(self.decay, old.dtype)
        fresh = sums - jnp.log(jnp.maximum(count, 1)) + jnp.log1p(-decay)
        return jnp.where(count > 0, jnp.logaddexp(jnp.log(decay) + old, fresh), old)

    def normalised(self, slopes: Values) -> Values:
        """h' divided by its mean over the batch, if asked."""
        return slopes / jnp.mean(slopes) if self.normalise else slopes
