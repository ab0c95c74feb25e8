r"""A divergence from log ratios along a path, with an error that holds what no leg can show.

A leg's critic knows the densities at the leg's ends, and is asked where p is: E_p of its log ratio
errs in the first order. So each leg is fitted again on samples that its critic has not seen, to 1,
v and v^2 of v = log p/q. What this changes, and the error of it, say how sure the way from the legs
to p is. The value itself stays as it was: a noisy v would make it too small.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._types import AnyCloud, Cloud, IntScalar, Scalar
from ..divergences._divergence import Divergence
from ..ratios._check import RatioCheck, effective_size, mean_of_exp
from ._cross_fit import Columns, Folds, Trainer, by_each, side_by_side
from ._path import Path
from ._verdict import DEVIATIONS, FEWEST, LOOSEST, widened

Pairs = Float[Array, " n"]
Features = Float[Array, "features n"]
Steps = Float[Array, "legs features"]
# As many pairs tell as much as they need to, and each costs so many evaluations as legs, squared.
_MOST = 10_000


def pairs_held_out(
    xs_p: Cloud, columns_q: Columns, folds: tuple[Folds, Folds]
) -> tuple[AnyCloud, AnyCloud, Int[Array, " pairs"]]:
    """Pairs of a row of p and one of q that one fold holds out, no row in two, and their fold."""
    first, *others = columns_q
    if others:
        # Half of the rows give y to the other half.
        split = [(one[: one.size // 2 * 2 : 2], one[1::2]) for one in folds[0].windows()]
    else:
        both = zip(*(each.windows() for each in folds), strict=True)
        split = [(p[: q.size], q[: p.size]) for p, q in both]
    most = -(-_MOST // len(split))
    split = [(p[:most], q[:most]) for p, q in split]
    own = np.repeat(np.arange(len(split)), [p.size for p, _ in split])
    at_p, at_q = (
        each.order[np.concatenate(places)]
        for each, places in zip(folds, zip(*split, strict=True), strict=True)
    )
    xs_q = side_by_side(first, others, at_p if others else at_q, at_q)
    return xs_p[at_p], xs_q, jnp.asarray(own)


def two_sided(div: Divergence, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""f(r)/(1 + r) from u = log r: its mean over q and its mean over p add up to $E_q[f(r)]$."""
    zero, top = jnp.zeros((), u.dtype), jnp.log(jnp.finfo(u.dtype).max) / 2
    # Where h grows like r at most, h/r has its limit long before e^u overflows.
    known = (u < top) | (div.h_prime(top) > 1.01 * jnp.abs(div.h(top)))
    positive = jnp.maximum(u, 0)
    held = jnp.where(known, positive, top)
    above = div.activation(positive) - div.activation(zero)
    above -= (div.h(held) - div.h(zero)) * jnp.exp(-held)
    below = div.standard(jnp.minimum(u, 0))
    return jnp.where(u > 0, above * jax.nn.sigmoid(u), below * jax.nn.sigmoid(-u))


def fitted_again(u_near: Pairs, u_far: Pairs, near: Features, far: Features) -> Features:
    """What each pair adds to the coefficients of features that a leg's log ratio has missed.

    Their mean is one step of Newton's for logistic regression.
    """
    miss_near, miss_far = jax.nn.sigmoid(u_near), jax.nn.sigmoid(-u_far)
    sides = ((miss_near, near), (miss_far, far))
    curved = sum((miss * (1 - miss) * each) @ each.T for miss, each in sides)
    slopes = miss_far * far - miss_near * near
    # Features that are constant, as of a critic that sees nothing, get none.
    return jnp.linalg.pinv(curved / u_far.size, hermitian=True) @ slopes


def leg_holds(
    xs: tuple[Cloud, Cloud], u: tuple[Pairs, Pairs], fixed: int, deviations: float
) -> tuple[Bool[Array, ""], RatioCheck, Scalar]:
    """Whether a ratio turns means at the near end into those at the far end; its largest error.

    The samples of both ends are made of the same pairs, so that each pair gives a difference.
    """
    (near, far), (u_near, u_far) = xs, u
    r, inverse = jnp.exp(u_near), jnp.exp(-u_far)
    weighted = [jnp.stack([r, inverse, r * u_near]), r * near.T, r * near.T**2]
    wanted = [jnp.stack([jnp.ones_like(r), jnp.ones_like(r), u_far]), far.T, far.T**2]
    off = jnp.concatenate(weighted) - jnp.concatenate(wanted)
    error = jnp.std(off, axis=1) / u_near.size**0.5
    good = jnp.abs(jnp.mean(off, axis=1)) <= deviations * error + 64 * jnp.finfo(off.dtype).eps
    # Of mutual information the means of products of x and y tell what is missed; x is one for both.
    x, y = near[:, :fixed], r[:, None] * near[:, fixed:] - far[:, fixed:]
    cross = x.T @ y / r.size
    spread = jnp.sqrt((x**2).T @ y**2 / r.size - cross**2) / r.size**0.5
    good = jnp.all(good) & jnp.all(jnp.abs(cross) <= deviations * spread)
    worth = jnp.minimum(effective_size(u_near), effective_size(-u_far))
    check = RatioCheck(mean_of_exp(u_near), mean_of_exp(-u_far), worth)
    return good, check, jnp.maximum(*error[:2])


def judged_on_path(
    how: Trainer,
    path: Path,
    critics: PyTree,
    div: Divergence,
    xs_p: Cloud,
    columns_q: Columns,
    folds: tuple[Folds, Folds],
) -> dict[str, PyTree]:
    """The fields of an estimate."""
    legs = jnp.arange(path.legs)
    ends_p, ends_q, own = pairs_held_out(xs_p, columns_q, folds)
    xs_q, own_q = ends_q, own
    if len(columns_q) == 1:
        (xs_q,), own_q = columns_q, folds[1].of_rows()

    def over_legs(xs: AnyCloud, own: Array) -> tuple[Array, Array]:
        """Log ratios by every critic in all, and of each leg by those that have not seen xs."""

        def add(sums: Array, leg: IntScalar) -> tuple[Array, Array]:
            each = by_each(how, critics, lambda rates: path.leg(rates, leg, xs))
            return sums + each, jnp.take_along_axis(each, own[None], axis=0)[0]

        return jax.lax.scan(add, jnp.zeros((how.folds, len(xs)), xs.dtype), legs)

    each_p, u_p = over_legs(xs_p, folds[0].of_rows())
    each_q, u_q = over_legs(xs_q, own_q)
    u_p, u_q = jnp.sum(u_p, axis=0), jnp.sum(u_q, axis=0)
    scale = (jnp.mean(u_p) - jnp.mean(u_q)) / 2
    scale = jnp.where(scale > 0, scale, 1)

    def features(u: Pairs) -> Features:
        """1, v and v^2 of a log ratio of p and q: near -1 for q, and near 1 for p."""
        v = (u - (jnp.mean(u_p) + jnp.mean(u_q)) / 2) / scale
        return jnp.stack([jnp.ones_like(v), v, v**2])

    # Log ratios of every leg at every place: of each leg the ends, and at each place the sum.
    places = jnp.arange(path.legs + 1)
    known = jax.lax.map(lambda at: over_legs(path.at(at, ends_q, ends_p), own)[1], places)
    u_near, u_far = known[legs, legs], known[legs + 1, legs]
    there = jax.vmap(features)(jnp.sum(known, axis=1))
    near, far = there[:-1], there[1:]

    adds = jax.vmap(fitted_again)(u_near, u_far, near, far)
    steps = jnp.mean(adds, axis=2)

    def part(steps: Steps, u: Pairs) -> Pairs:
        """What each sample adds to the divergence."""
        return two_sided(div, u + jnp.sum(steps, axis=0) @ features(u))

    def value(steps: Steps) -> Scalar:
        return jnp.mean(part(steps, u_p)) + jnp.mean(part(steps, u_q))

    # Of critics of which each misses a fold: a jackknife.
    of_each = [jnp.mean(two_sided(div, each), axis=1) for each in (each_p, each_q)]
    of_critics = (how.folds - 1) * jnp.var(sum(of_each))
    of_samples = sum(jnp.var(part(steps, u)) / u.size for u in (u_p, u_q))
    of_pairs = jnp.einsum("ls,lsn->n", jax.grad(value)(steps), adds)
    variance = of_samples + of_critics + jnp.var(of_pairs) / of_pairs.size
    first, second = value(jnp.zeros_like(steps)), value(steps)
    dim, fixed = xs_p.shape[1], path.fixed
    wide = widened(path.legs * (2 * dim + 3 + fixed * (dim - fixed)))

    def checked(one: tuple) -> tuple:
        leg, *u = one
        xs = path.at(leg, ends_q, ends_p), path.at(leg + 1, ends_q, ends_p)
        return leg_holds(xs, tuple(u), fixed, wide)

    good, checks, loose = jax.lax.map(checked, (legs, u_near, u_far))
    worst = jnp.argmax(jnp.abs(jnp.log(checks.mean_r)))
    firm = (loose < LOOSEST) & (checks.effective_sample_size >= FEWEST)
    agree = jnp.abs(first - second) <= DEVIATIONS * jnp.sqrt(variance)
    return {
        "value": first,
        "error": jnp.sqrt(variance + (first - second) ** 2),
        "plug_in": second,
        "plug_in_error": jnp.sqrt(variance),
        "check": RatioCheck(
            checks.mean_r[worst],
            checks.mean_inverse_r[worst],
            jnp.min(checks.effective_sample_size),
        ),
        "believe": jnp.all(good & firm) & agree,
        "log_r_p": u_p,
        "log_r_q": u_q,
    }
