"""Fixed steps in a scan: the numbers of diffrax's own loop, and what only a known length gives."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import divergence_flows as df

# An adjoint that is named leaves the solve to `diffrax.diffeqsolve`.
LOOP = {"adjoint": diffrax.RecursiveCheckpointAdjoint()}
SOLVERS = {"Euler": diffrax.Euler(), "Heun": diffrax.Heun(), "Tsit5": diffrax.Tsit5()}
FIXED = diffrax.ConstantStepSize()
# At ends of steps, within them, two times in one step, and a last step that is shorter.
TIMES = {
    "start and end": [0.0, 1.0],
    "even": np.linspace(0.0, 1.0, 11),
    "between": np.linspace(0.0, 1.03, 14),
    "in one step": [0.0, 0.011, 0.012, 0.013, 0.1],
    "uneven": [0.0, 0.05, 0.052, 0.4],
}
CASES = [("Euler", dt0, times) for dt0 in (0.01, 0.03) for times in TIMES]
CASES += [("Heun", 0.01, "even"), ("Heun", 0.03, "between"), ("Tsit5", 0.03, "between")]


def decay(t, y, rate):
    return jax.tree.map(lambda leaf: -rate * jnp.cos(3 * t) * leaf, y)


def cubic(t, y, rate):
    return -rate * y**3


def primitives(jaxpr):
    """The names of all operations of a program, those of its inner programs too."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


def solve(y0, rate, ts, dt0, solver, **more):
    options = {"solver": solver, "dt0": dt0, "stepsize_controller": FIXED}
    return df.integrate(decay, y0, ts, rate, **options, **more)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("solver", "dt0", "times"), CASES)
def test_the_states_are_those_of_diffraxs_loop(solver, dt0, times):
    y0 = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}
    ours, theirs = (solve(y0, 0.7, TIMES[times], dt0, SOLVERS[solver], **how) for how in ({}, LOOP))
    for one, other in zip(jax.tree.leaves(ours.ys), jax.tree.leaves(theirs.ys), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)
    assert ours.stats["num_steps"] == theirs.stats["num_steps"]
    np.testing.assert_array_equal(ours.ts, theirs.ts)


@pytest.mark.usefixtures("x64")
def test_a_step_that_does_not_divide_the_time_is_the_loop_by_hand():
    # diffrax's rule: the first step is `dt0`, the others share what is left of the whole.
    ends = np.concatenate([[0.0, 0.3], 1.0 * np.arange(2, 5) / 4])
    y = 1.0
    for t, end in itertools.pairwise(ends):
        y += (end - t) * -0.7 * np.cos(3 * t) * y
    found = solve(jnp.array(1.0), 0.7, [0.0, 1.0], 0.3, diffrax.Euler()).ys[-1]
    np.testing.assert_allclose(found, y, rtol=1e-14)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("ts", [[0.0, 1.0], [0.0, 0.333, 1.0]])
def test_both_modes_of_differentiation_are_those_of_the_loop_by_hand(ts):
    def loop(y, rate):
        for _ in range(100):
            y = y - 0.01 * rate * y**3
        return y

    def ours(y, rate):
        return df.integrate(cubic, y, ts, rate, solver=diffrax.Euler(), dt0=0.01).ys[-1]

    at = jnp.array(1.3), jnp.array(0.7)
    exact = jax.grad(loop, (0, 1))(*at)
    for made in (jax.jacrev(ours, (0, 1))(*at), jax.jacfwd(ours, (0, 1))(*at)):
        np.testing.assert_allclose(made, exact, rtol=1e-12)
    np.testing.assert_allclose(jax.hessian(ours)(*at), jax.hessian(loop)(*at), rtol=1e-11)


def test_forward_mode_through_stages_says_which_adjoint_has_it():
    def ours(rate):
        return solve(jnp.ones(2), rate, [0.0, 1.0], 0.1, diffrax.Heun()).ys[-1]

    with pytest.raises(ValueError, match="DirectAdjoint"):
        jax.jvp(ours, (jnp.array(0.7),), (jnp.array(1.0),))


def test_no_loop_asks_the_host_whether_to_go_on():
    def ours(y0):
        return solve(y0, 0.7, TIMES["between"], 0.01, diffrax.Euler()).ys

    found = set(primitives(jax.make_jaxpr(ours)(jnp.ones(2)).jaxpr))
    assert "scan" in found and "while" not in found


def test_reverse_mode_keeps_few_states():
    # 4,096 steps: 64 states and those of 64 steps in place of 4,096.
    def end(y0):
        options = {"solver": diffrax.Euler(), "dt0": 2.0**-12}
        return jnp.sum(df.integrate(cubic, y0, [0.0, 1.0], 0.7, **options).ys[-1])

    y0 = jnp.ones(1000)
    memory = jax.jit(jax.grad(end)).lower(y0).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 300 * y0.nbytes


def test_as_many_steps_of_another_length_trace_nothing():
    calls = []

    def field(t, y, args):
        calls.append(1)
        return -y

    seen = []
    for length in (1.0, 2.0, 3.0):
        df.integrate(field, jnp.ones(2), [0.0, length], solver=diffrax.Euler(), dt0=length / 50)
        seen.append(len(calls))
    assert seen[0] == seen[1] == seen[2]


def test_a_hundred_thousand_steps_in_float32_end_on_time():
    def clock(t, y, args):
        return t

    options = {"solver": diffrax.Euler(), "dt0": 1e-5}
    # The sum of t dt: 1/2 less dt / 2, to the rounding of 1e5 sums in float32.
    found = df.integrate(clock, jnp.array(0.0), [0.0, 0.5, 1.0], **options).ys
    np.testing.assert_allclose(found[1:], [0.125, 0.5], rtol=2e-4)


def test_what_is_not_finite_is_said_as_in_the_loop():
    euler = {"solver": diffrax.Euler(), "dt0": 0.1}
    with pytest.raises(Exception, match="`y0` has NaN or inf"):
        df.integrate(cubic, jnp.array([1.0, jnp.nan]), [0.0, 1.0], 0.7, **euler)
    with pytest.raises(Exception, match="the state is not finite; the steps are too large"):
        df.integrate(cubic, jnp.array([1.0, 1e3]), [0.0, 1.0], 0.7, **euler)
    left = df.integrate(cubic, jnp.array([1.0, 1e3]), [0.0, 1.0], 0.7, **euler, throw=False)
    assert not jnp.isfinite(left.ys[-1, 1])
    y = 1.0
    for _ in range(10):
        y -= 0.1 * 0.7 * y**3
    np.testing.assert_allclose(left.ys[-1, 0], y, rtol=1e-5)
