"""Every public function under jit, vmap, scan and grad: the same value transformed and not.

transforms.py has one row for each name; here are the laws, and the check that no name is missing.
"""

import functools
import inspect
import pathlib

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import transforms
from test_architecture import PUBLIC
from transforms import KEY, KEYED, OUTSIDE, RECORDS, ROWS

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
STEP, OTHER_KEY = 1e-3, jr.key(3)
# XLA fuses and sums in another order, and what is solved for stops at round-off.
ROUND_OFF = 1e-10


def is_float(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def random_like(tree, seed):
    """Numbers of both signs, one for each of the tree's."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.uniform(-1.0, 1.0, np.shape(leaf)), tree)


def moved(x, direction, by):
    return jax.tree.map(lambda leaf, way: leaf + by * STEP * way, x, direction)


def weighed(weights, value):
    """One number of all floats in a pytree."""
    pairs = zip(jax.tree.leaves(value), jax.tree.leaves(weights), strict=True)
    return sum(jnp.sum(leaf * weight) for leaf, weight in pairs if is_float(leaf)) + 0.0


def value_and_slope(row, weights, x, key):
    """The value, and the gradient of one number made of it if asked for here."""

    def number(x):
        value = row(x, key)
        return weighed(weights, value), value

    if row.slope_of is not None:
        return row(x, key), None
    slope, value = jax.grad(number, has_aux=True)(x)
    return value, slope


def near(found, wanted, rtol, words):
    """Leaf by leaf, relative to the largest number of a leaf; integers and flags exactly."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted), words
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert one.dtype == other.dtype, words
        size = max(1.0, float(np.max(np.abs(other), initial=0.0)))
        allowed = rtol * size if is_float(other) else 0
        np.testing.assert_allclose(one, other, rtol=0, atol=allowed, err_msg=words)


def stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def at(i, tree):
    return jax.tree.map(lambda leaf: leaf[i], tree)


@pytest.mark.parametrize("name", ROWS)
def test_under_jit_scan_vmap_and_grad_at_once_it_is_what_it_is_alone(name):
    """All transforms in one program, so that a row compiles once: jit(scan(vmap(grad)))."""
    row = ROWS[name]
    x = row.x()
    narrow = jax.eval_shape(row, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), x))
    # float64 is on, and float32 stays float32.
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(narrow) if is_float(leaf))
    weights, direction = random_like(narrow, 1), random_like(x, 0)
    # The last is another point, or another key at the second.
    points = [moved(x, direction, by) for by in (-1, 0, 1, 0 if row.takes_key else 3)]
    keys = jnp.stack([KEY, KEY, KEY, OTHER_KEY])
    inner = jax.vmap(functools.partial(value_and_slope, row, weights))
    program = jax.jit(lambda xs: jax.lax.scan(lambda _, x: (None, inner(*x)), None, xs)[1])
    pairs = jax.tree.map(lambda a: a.reshape(2, 2, *a.shape[1:]), (stacked(points), keys))
    made = program(pairs)
    together, slopes = jax.tree.map(lambda a: a.reshape(4, *a.shape[2:]), made)
    near(at(3, together), row(points[3], keys[3]), ROUND_OFF, f"{name}: value")
    # `ratio_bandwidth` chooses one of a few widths: another key may well choose the same.
    if row.takes_key and name != "ratio_bandwidth":
        one, other = jax.tree.leaves(at(1, together)), jax.tree.leaves(at(3, together))
        assert any(np.any(a != b) for a, b in zip(one, other, strict=True)), "keys are ignored"
    if slopes is None:
        return
    if row.slope is not None:
        wanted = stacked([row.slope(point, *jax.tree.leaves(weights)) for point in points])
        near(slopes, wanted, ROUND_OFF, f"{name}: gradient")
        return
    # Simpson's rule: slopes before, at and after x give the rise to STEP^4 of its size.
    before, here, after, _ = jax.vmap(functools.partial(weighed, direction))(slopes)
    start, _, end, _ = jax.vmap(functools.partial(weighed, weights))(together)
    rise = (end - start) / (2 * STEP)
    near((before + 4 * here + after) / 6, rise, 1e-6, f"{name}: gradient")


def test_every_public_function_with_a_key_is_given_one():
    takes_key = {
        name
        for name, public in PUBLIC.items()
        if callable(public) and "key" in inspect.signature(public).parameters
    }
    assert takes_key == set(KEYED)


def test_what_is_differentiated_elsewhere_is_so():
    tests = {path.name for path in pathlib.Path(__file__).parents[1].rglob("test_*.py")}
    plain = {name for name, row in ROWS.items() if row.slope_of is None}
    assert {row.slope_of for row in ROWS.values()} - {None} <= plain | tests


def test_every_public_name_has_a_row():
    same = {"gans.GAN": "GAN", "divergences.Divergence": "Divergence"}
    names = {same.get(name, name) for name, value in PUBLIC.items() if not inspect.ismodule(value)}
    names |= {f"divergences.{name}" for name in transforms.INSTANCES}
    assert names == {*ROWS, *RECORDS, *OUTSIDE}


METHODS = {
    df.Divergence: ("divergences.alpha",),
    df.GAN: ("gans.vanilla",),
    df.IPM: ("IPM",),
    df.PairGAN: ("PairGAN",),
    df.Gaussian: ("Gaussian",),
    df.LowRankGaussian: ("LowRankGaussian",),
    df.Mixture: ("Mixture",),
}


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_the_row_of_a_class_has_every_method_and_every_function_it_holds(kind):
    fields = [field for field, of in kind.__annotations__.items() if "Callable" in str(of)]
    fields = [field for field in fields if not field.startswith("_")]
    methods = [name for name in vars(kind) if not name.startswith("_") and name not in fields]
    methods = [name for name in methods if name not in kind.__annotations__]
    (name,) = METHODS[kind]
    made = jax.eval_shape(ROWS[name], ROWS[name].x())
    assert set(made) == {*fields, *methods}


@pytest.mark.parametrize("name", RECORDS)
def test_states_and_reports_are_what_the_functions_return(name):
    row, kind = ROWS[RECORDS[name]], getattr(df, name)
    inside = lambda leaf: isinstance(leaf, kind)
    made = jax.eval_shape(row, row.x())
    assert any(map(inside, jax.tree.leaves(made, is_leaf=inside)))


# --- where plain laws do not hold, by contract ---


def test_a_coupling_is_a_constant_to_differentiation():
    row = ROWS["coupling"]
    x = row.x()
    _, (pairs, plan) = jax.jit(lambda x: jax.jvp(row, (x,), (x,)))(x)
    assert pairs.dtype == jax.dtypes.float0
    assert not np.any(plan)


def test_a_field_that_refits_is_differentiated_with_the_fit_held_fixed_only_where_asked():
    xs = transforms.cloud(1)
    spread = lambda cloud: jax.tree_util.Partial(_bowl, jnp.var(cloud))
    fixed = df.velocity(jnp.tanh, spread(xs))
    push = lambda field: jax.jvp(lambda xs: field(0.0, xs, None), (xs,), (xs**2,))
    stopped = push(df.cloud_velocity(jnp.tanh, spread, stop_fit=True))
    chex.assert_trees_all_close(stopped, push(fixed), rtol=1e-12)
    by_hand = lambda t, xs, args: df.velocity(jnp.tanh, spread(xs))(t, xs, args)
    whole = push(df.cloud_velocity(jnp.tanh, spread))
    chex.assert_trees_all_close(whole, push(by_hand), rtol=1e-12)
    assert float(jnp.max(jnp.abs(whole[1] - stopped[1]))) > 1e-3


def _bowl(width, t, x, args):
    return -width * jnp.sum(x**4)


TRANSFORMS = {
    "jit": jax.jit,
    "vmap": jax.vmap,
    "scan": lambda call: lambda x: jax.lax.scan(lambda _, y: (None, call(y)), None, x),
    "grad": lambda call: jax.grad(lambda x: jnp.sum(call(x))),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_laying_out_is_refused_inside_every_transform(name):
    with pytest.raises(ValueError, match="inside `jit` or `vmap`; lay it out first"):
        TRANSFORMS[name](df.over_devices)(jnp.ones((4, 4)))
