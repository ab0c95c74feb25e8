r"""Points z and weights w for expectations under N(0, I): $E[f(z)] = \sum_i w_i f(z_i)$.

Fixed nodes make the right side of an ODE deterministic, which step-size control needs. Random
ones overfit when an optimum is sought on them: judge it on others, of another key.
"""

import functools
import importlib
import itertools
import math
import operator
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, PyTree, Real, UInt32
from numpy.polynomial.hermite_e import hermegauss

from .._checks import check_counts, no_empty_axes, scalar_of
from .._linalg import product
from .._types import AnyFloat, Function, IntScalar, Sample, Scalar, as_float

_MOST_NODES = 2**20
_MOST_SOBOL = 21201  # dimensions of SciPy's direction numbers


class Nodes(eqx.Module):
    """Points and weights of a rule for the standard normal; the weights sum to one.

    `batches`, if given, is a pytree with one entry for each node in front of every leaf: a
    mini-batch, its indices, or the key that draws it. A target is then called as
    `log_p(x, batch)`, and one rule averages over z and over the data at once.
    """

    points: Float[Array, "n dim"]
    weights: Float[Array, " n"]
    batches: PyTree

    def __init__(
        self,
        points: Real[ArrayLike, "n dim"],
        weights: Real[ArrayLike, " n"],
        batches: PyTree = None,
    ) -> None:
        """Keeps points [dimensionless], weights that sum to one, and mini-batches.

        Every field averages over a rule without checks, so that it is checked here.

        Args:
            points: Points z.
            weights: Their weights.
            batches: A pytree with one entry for each node, or None.

        Raises:
            ValueError: If there are no nodes, or a leaf of `batches` has not one entry for each.
            EquinoxRuntimeError: If the points are not finite or the weights do not sum to one.
        """
        no_empty_axes("Nodes", "points", points)
        for leaf in jax.tree.leaves(batches):
            if np.shape(leaf)[:1] != np.shape(weights):
                words = f"has shape {np.shape(leaf)}; its first axis must be the nodes'"
                raise ValueError(f"Nodes: a leaf of `batches` {words}, {np.size(weights)} long.")
        # numpy checks its own arrays: what it finds good costs a trace nothing.
        lib = np if isinstance(points, np.ndarray) else jnp
        message = "Nodes: `points` must be finite; leave out those that are not."
        self.points = _unless_good(points, lib.isfinite(points).all(), message)
        # The round-off of a long sum is far below what the weights of another measure sum to.
        lib = np if isinstance(weights, np.ndarray) else jnp
        eps = float(jnp.finfo(as_float(weights).dtype).eps)
        good = lib.abs(lib.sum(weights) - 1) <= eps**0.5
        message = "Nodes: `weights` must sum to 1; divide them by their sum, if that is finite."
        self.weights = _unless_good(weights, good, message).astype(self.points.dtype)
        self.batches = batches

    @property
    def slopes(self) -> Float[Array, "n dim"]:
        """Weights of g for E[g z^T]."""
        return self.weights[:, None] * self.points


class Regression(eqx.Module):
    """A rule whose averages of g and g z^T are the intercept and slope of a least-squares line.

    They are exact where g is linear, as for a Gaussian target: Stein's identity alone leaves the
    products of all coordinates as noise in each. Of other g they have the same limit.
    """

    points: Float[Array, "n dim"]
    weights: Float[Array, " n"]
    slopes: Float[Array, "n dim"]
    batches: None = None


def regression(nodes: Nodes) -> Regression:
    """Makes the weights of the intercept and the slopes."""
    both = jnp.concatenate([jnp.ones_like(nodes.weights)[:, None], nodes.points], axis=1)
    weighted = nodes.weights[:, None] * both
    # A QR of so many rows takes XLA's CPU seconds, and the condition is below ten.
    factor = jax.scipy.linalg.cho_factor(product(weighted.T, both))
    both = jax.scipy.linalg.cho_solve(factor, weighted.T).T
    return Regression(nodes.points, both[:, 0], both[:, 1:])


class Blocks(eqx.Module):
    """Several rules in one array, of which one is used: a program for one serves for all.

    A block is as large as the smallest rule, so that a small rule costs little; nodes of weight
    zero fill its last.
    """

    points: Float[Array, "blocks size dim"]
    weights: Float[Array, "blocks size"]
    slopes: Float[Array, "blocks size dim"] | None  # of regressions, else made of the others
    first: IntScalar
    last: IntScalar

    @classmethod
    def of(
        cls, rules: list[Nodes | Regression], size: int
    ) -> "tuple[Blocks, Int[np.ndarray, ' rules 2']]":
        """All blocks, and which are those of each rule."""
        counts = [-(-rule.weights.size // size) for rule in rules]
        fills = [
            count * size - rule.weights.size for rule, count in zip(rules, counts, strict=True)
        ]

        def cut(leaves: list[AnyFloat], mode: str) -> AnyFloat:
            """Fills the last block of each rule, and cuts all into blocks."""
            filled = [
                jnp.pad(leaf, [(0, fill), (0, 0)][: leaf.ndim], mode=mode)
                for leaf, fill in zip(leaves, fills, strict=True)
            ]
            return jnp.concatenate(filled).reshape(-1, size, *leaves[0].shape[1:])

        points = cut([rule.points for rule in rules], "edge")
        weights = cut([rule.weights for rule in rules], "constant")
        slopes = None
        if any(isinstance(rule, Regression) for rule in rules):
            slopes = cut([rule.slopes for rule in rules], "constant")
        ends, none = np.cumsum(counts), jnp.asarray(0)
        return cls(points, weights, slopes, none, none), np.stack([ends - counts, ends], axis=1)

    def total(self, sum_over: Function, q: PyTree) -> PyTree:
        """Adds what `sum_over(nodes, q)` makes of each block in use."""
        one = _of_equal_weight(self.points[0])
        shapes = jax.eval_shape(sum_over, one, q)
        zero = jax.tree.map(jnp.zeros_like, shapes)

        def add(total: PyTree, block: PyTree) -> tuple[PyTree, None]:
            """Skips the blocks of other rules."""
            index, points, weights, slopes = block
            nodes = replaced(replaced(one, "points", points), "weights", weights)
            if slopes is not None:
                nodes = Regression(points, weights, slopes)
            used = (self.first <= index) & (index < self.last)
            part = jax.lax.cond(used, functools.partial(sum_over, nodes), lambda q: zero, q)
            return jax.tree.map(jnp.add, total, part), None

        numbers = jnp.arange(len(self.weights))
        return jax.lax.scan(add, zero, (numbers, self.points, self.weights, self.slopes))[0]


def _unless_good(
    values: Real[ArrayLike, "..."], good: Bool[ArrayLike, ""], message: str
) -> AnyFloat:
    """Refuses bad values."""
    if isinstance(good, np.bool_) and good:
        return as_float(values)
    return eqx.error_if(as_float(values), jnp.logical_not(good), message)


def evaluate(caller: str, log_p: Function, x: Sample, batch: PyTree) -> Scalar:
    """Evaluates a target that takes a node's mini-batch, or takes none."""
    return scalar_of(caller, "log_p", log_p, *((x,) if batch is None else (x, batch)))


def replaced(nodes: Any, field: str, value: PyTree) -> Any:
    """Changes one field of a rule, without the checks of `Nodes`."""
    return eqx.tree_at(operator.attrgetter(field), nodes, value)


def _of_equal_weight(points: Float[Array, "n dim"], batches: PyTree = None) -> Nodes:
    """Makes a rule of points drawn here, which need no check."""
    n = points.shape[0]
    return replaced(Nodes(np.zeros(points.shape), np.full(n, 1 / n), batches), "points", points)


def pairs_of(points: Float[Array, "n dim"], batches: PyTree) -> Nodes:
    """Points and their opposites, of equal weight; the two of a pair share a mini-batch."""
    both = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), batches)
    return _of_equal_weight(jnp.concatenate([points, -points]), both)


def cubature(dim: int) -> Nodes:
    r"""The 2 dim points $\pm\sqrt{dim}\, e_i$, of equal weight: exact to degree 3.

    Exact for quadratic targets, biased for others, whose curvature off the axes it cannot see.

    Args:
        dim: Dimension.

    Returns:
        The nodes.

    Raises:
        ValueError: If `dim` is not positive.

    References:
        Arasaratnam & Haykin, Cubature Kalman filters, IEEE TAC 2009; Lambert et al., 2022.
    """
    check_counts("cubature", {"dim": dim})
    axes = math.sqrt(dim) * np.eye(dim)
    return Nodes(np.concatenate([axes, -axes]), np.full(2 * dim, 0.5 / dim))


def gauss_hermite(dim: int, order: int) -> Nodes:
    """The tensor product of Gauss-Hermite rules: order^dim points, exact to degree 2 order - 1.

    Args:
        dim: Dimension.
        order: Points along each axis.

    Returns:
        The nodes.

    Raises:
        ValueError: If a number is not positive, `order` exceeds 180, beyond which numpy's rule
            loses its weights, or there would be more than 2^20 nodes.
    """
    check_counts("gauss_hermite", {"dim": dim, "order": order})
    if order > 180:
        words = f"`order` is {order}; numpy's rule underflows beyond 180: use `trapezoid`."
        raise ValueError(f"gauss_hermite: {words}")
    points, weights = hermegauss(order)
    return _tensor("gauss_hermite", dim, points, weights / weights.sum())


def trapezoid(dim: int) -> Nodes:
    """A trapezoid rule of step .05 up to |z| = 9.5: round-off in one dimension and two.

    Args:
        dim: Dimension, 1 or 2 (381 or 145,161 nodes).

    Returns:
        The nodes.

    Raises:
        ValueError: If `dim` is neither 1 nor 2.

    References:
        Trefethen & Weideman, The exponentially convergent trapezoidal rule, SIAM Review 2014.
    """
    if dim not in (1, 2):
        words = "and the grid has 381^dim points; use `sobol_nodes`, or `gauss_hermite`."
        raise ValueError(f"trapezoid: `dim` is {dim}, {words}")
    points = 0.05 * np.arange(-190, 191)
    weights = np.exp(-(points**2) / 2)
    return _tensor("trapezoid", dim, points, weights / weights.sum())


def normal_nodes(n: int, dim: int, *, key: PRNGKeyArray) -> Nodes:
    """Independent draws of the standard normal, of equal weight: error like n^(-1/2).

    Args:
        n: Number of nodes.
        dim: Dimension.
        key: Key of the draws.

    Returns:
        The nodes.

    Raises:
        ValueError: If a number is not positive.
    """
    check_counts("normal_nodes", {"n": n, "dim": dim})
    return _of_equal_weight(jr.normal(key, (n, dim)))


def sobol_nodes(n: int, dim: int, *, key: PRNGKeyArray) -> Nodes:
    r"""Sobol's points, scrambled at random and sent to the normal: error near 1/n if f is smooth.

    Owen's nested scrambling flips each bit of a coordinate at random, for each value of the bits
    before it. The points stay a net, each is uniform over the keys, and the errors of two keys are
    independent.

    Args:
        n: Number of nodes; a power of two keeps the balance of the sequence.
        dim: Dimension, at most 21201.
        key: Key of the scrambling.

    Returns:
        The nodes.

    Raises:
        ValueError: If a number is not positive or `dim` exceeds 21201.

    References:
        Sobol, 1967; Owen, Scrambled net variance for integrals of smooth functions, 1997.
    """
    check_counts("sobol_nodes", {"n": n, "dim": dim})
    if dim > _MOST_SOBOL:
        raise ValueError(f"sobol_nodes: `dim` is {dim}; at most {_MOST_SOBOL}.")
    return _of_equal_weight(_scrambled_normal(jnp.asarray(_sobol_bits(n, dim)), key))


def standard_nodes(n: int, dim: int, *, key: PRNGKeyArray) -> Nodes:
    """Sobol nodes, or independent draws where fewer points than coordinates leave these alike."""
    return (sobol_nodes if 2 * dim <= n else normal_nodes)(n, dim, key=key)


def few_of(nodes: Nodes, count: int) -> Nodes:
    """The first of a Sobol rule, which are one too."""
    return _of_equal_weight(nodes.points[:count])


@jax.jit
def _scrambled_normal(bits: UInt32[Array, "n dim"], key: PRNGKeyArray) -> Float[Array, "n dim"]:
    """Flips each bit by a coin of its own for every value of the bits before it."""
    levels = (len(bits) - 1).bit_length()
    # Drawn flat: the numbers are the same, and the program compiles in half the time.
    shape = (1 << levels) + len(bits), bits.shape[1]
    drawn = jr.bits(key, (math.prod(shape),), jnp.uint32).reshape(shape)
    # A tree of coins for each coordinate, a heap: a node at level k has the number 2^k + prefix.
    # n points of the sequence differ before the last level, so that below it each has its own.
    coins, flips = drawn[: 1 << levels], drawn[1 << levels :] >> levels

    def flipped(level: IntScalar, flips: UInt32[Array, "n dim"]) -> UInt32[Array, "n dim"]:
        """Adds the flips of one level."""
        below = jnp.uint32(31) - level.astype(jnp.uint32)
        # Not a shift by 32 at level 0, which has no meaning.
        node = (jnp.uint32(1) << (31 - below)) + ((bits >> 1) >> below)
        return flips | ((jnp.take_along_axis(coins, node.astype(jnp.int32), axis=0) & 1) << below)

    flips = jax.lax.fori_loop(0, levels, flipped, flips)
    dtype = jnp.result_type(float)
    # As many bits as the dtype resolves with a half added: no point is ever 0 or 1.
    keep = 23 if jnp.finfo(dtype).bits == 32 else 32
    uniform = (((bits ^ flips) >> (32 - keep)).astype(dtype) + 0.5) / 2**keep
    return jax.scipy.special.ndtri(uniform)


@functools.lru_cache(maxsize=8)
def _sobol_bits(n: int, dim: int) -> np.ndarray:
    """Draws the sequence itself, as integers; SciPy is imported when it is needed."""
    qmc = importlib.import_module("scipy.stats.qmc")
    with warnings.catch_warnings():  # of n that are not powers of two; the docstring says so
        warnings.simplefilter("ignore", UserWarning)
        points = qmc.Sobol(dim, scramble=False, bits=32).random(n)
    return (points * 2.0**32).astype(np.uint32)


def _tensor(caller: str, dim: int, points: np.ndarray, weights: np.ndarray) -> Nodes:
    """Makes a grid of a rule on the line."""
    if len(points) ** dim > _MOST_NODES:
        words = f"{len(points)}^{dim} nodes are too many (2^20 at most); use `sobol_nodes`."
        raise ValueError(f"{caller}: {words}")
    grid = np.array(list(itertools.product(points, repeat=dim)))
    mass = np.array(list(itertools.product(weights, repeat=dim)))
    return Nodes(grid, mass.prod(axis=1))
