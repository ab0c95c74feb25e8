"""Denoising: a score at all noise levels, learned from samples; and what a network predicts."""

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import Network, check_input, check_makes, check_shapes, one_of
from .._types import AnyCloudLike, Cloud, Scalar, ValuesLike, vmapped
from ..runs._batches import Data, Samples, samples
from ..training._penalty import check_weights
from ._levels import Level, noised, spread

PREDICTS = ("score", "noise", "data")
REMEDY = (
    "a function of a noise level, log sigma/alpha, and one noised sample that returns an array of "
    "the sample's shape, as `networks.Denoiser` does"
)


def check_predicts(caller: str, **kinds: str) -> None:
    """Refuses what no network predicts."""
    for name, kind in kinds.items():
        if kind not in PREDICTS:
            words = f"`{name}` is {kind!r}; pass 'score', 'noise' or 'data'."
            raise ValueError(f"{caller}: {words}")


def check_score(caller: str, argument: str, model: Network, data: Data) -> None:
    """Refuses a model s(lambda, y), or s(lambda, y, c), that makes no array like a sample."""
    one = one_of(data)
    level = jax.ShapeDtypeStruct((), one[0].dtype)
    check_makes(caller, argument, model, (level, *one), one[0].shape, REMEDY, alone=True)


def score_from(predicts: str, made: Cloud, ys: Cloud, level: Level) -> Cloud:
    """The score at noised samples, of what a network predicts there."""
    alpha, sigma = (spread(part, ys) for part in level)
    if predicts == "score":
        return made
    return -made / sigma if predicts == "noise" else (alpha * made - ys) / sigma**2


def unchecked_denoising_loss(
    model: Network,
    data: Data,
    noise: Cloud,
    level: Level,
    predicts: str,
    weight: ValuesLike | None = None,
) -> Scalar:
    """`denoising_loss` of arguments that have been checked."""
    made = vmapped(model)(*noised(data, noise, level))
    alpha, sigma = (spread(part, made) for part in level)
    error = made - noise
    if predicts == "score":
        error = -sigma * made - noise
    elif predicts == "data":
        error = alpha / sigma * (data[0] - made)
    if weight is not None:
        error = jnp.sqrt(spread(weight, made)) * error
    return jnp.sum(error**2) / error.shape[0]


def denoising_loss(
    model: Network,
    xs: Samples,
    noise: AnyCloudLike,
    level: Level,
    *,
    predicts: str = "score",
    weight: ValuesLike | None = None,
) -> Scalar:
    r"""Denoising score matching at noise levels: the error in the noise, $E\,|\hat e - e|^2$.

    At $y = \alpha x + \sigma e$ the network s(lambda, y), $\lambda = \log\sigma/\alpha$, predicts
    one of three things, and the loss is the same for all:

    - "score": $\hat e = -\sigma s$; the best s is the score of the noised law, grad log p(y);
    - "noise": $\hat e = s$, as DDPM has it;
    - "data": $\hat e = (y - \alpha s)/\sigma$; the best s is the mean of x given y.

    Args:
        model: A module s(lambda, y) of one level and one noised sample, for instance
            `networks.Denoiser`, or s(lambda, y, c).
        xs: Samples [units of x], or `(xs, cs)` with conditions.
        noise: Standard normal noise e of the same shape as the samples.
        level: The pair (alpha, sigma), such as `variance_preserving(t)`: two numbers, or two
            arrays with one of each for every sample.
        predicts: "score", "noise" or "data".
        weight: Factor of each sample's loss, a number or one for each sample; 1 by default.
            $1 + (\sigma/\alpha)^2$ is EDM's weight of data of unit variance, which is even over
            levels for a `networks.Denoiser`.

    Returns:
        The loss, summed over event axes, averaged over samples.

    Raises:
        ValueError: If `predicts` is unknown, there are no samples, noise or level does not fit
            them, or the model does not make an array like a sample.

    Example:
        ```python
        xs, noise = jr.normal(jr.key(0), (4096, 1)), jr.normal(jr.key(1), (4096, 1))
        level = df.variance_preserving(0.5)
        loss = df.denoising_loss(lambda lam, y: -y, xs, noise, level)  # the score of N(0, 1)
        print(abs(loss - level[0] ** 2) < 0.01)  # True
        ```

    References:
        Vincent, Neural Computation, 2011; Ho, Jain & Abbeel, DDPM, NeurIPS 2020; Karras et al.,
        EDM, NeurIPS 2022.
    """
    caller = "denoising_loss"
    check_predicts(caller, predicts=predicts)
    (data,) = samples(caller, xs=xs)
    _, noise = check_shapes(caller, xs=data[0], noise=noise)
    found = [jnp.shape(part) for part in level] if isinstance(level, tuple | list) else []
    if len(found) != 2 or not set(found) <= {(), data[0].shape[:1]}:
        words = f"of two numbers, or of two arrays of shape {data[0].shape[:1]}"
        raise ValueError(f"{caller}: `level` is no pair (alpha, sigma) {words}; pass one.")
    if weight is not None and np.ndim(weight):
        check_input(caller, "weight", jnp.asarray(weight), data[0].shape[0])
    elif weight is not None:
        check_weights(caller, weight=weight)
    check_score(caller, "model", model, data)
    return unchecked_denoising_loss(model, data, noise, (level[0], level[1]), predicts, weight)
