"""Where a solve stops, what it saves, and its derivatives in forward mode: closed forms."""

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optimistix as optx
import pytest

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
TS = np.array([0.0, 0.3, 3.0])
EULER = {"solver": diffrax.Euler(), "dt0": 0.25, "max_steps": 16}
REMEDY = r"^integrate: `adjoint` has no forward mode.* pass adjoint=diffrax.DirectAdjoint\(\)"


def decay(t, y, rate):
    return -rate * y


def half(t, y, args, **_):
    return y - 0.5


def below_half(t, y, args, **_):
    return y["x"] < 0.5


def falls(t, y, args):
    return jax.tree.map(lambda leaf: -leaf, y)


AT_HALF = diffrax.Event(half, optx.Newton(1e-10, 1e-10))


@jax.jit
@jax.vmap
def stopped(rate):
    """The solution, and how the time of the event changes with the rate."""

    def time(rate):
        found = df.integrate(decay, 1.0, TS, rate, event=AT_HALF)
        return found.ts[-1], found

    return jax.value_and_grad(time, has_aux=True)(rate)


def test_the_last_row_is_the_time_and_the_state_at_which_an_event_stopped_the_solve():
    rates = np.array([0.1, 1.0, 2.0, 5.0])  # the first never comes down to a half
    (_, found), slope = stopped(rates)
    ends = np.minimum(np.log(2) / rates, 3.0)
    np.testing.assert_allclose(found.ts, np.minimum(TS, ends[:, None]), atol=1e-7)
    np.testing.assert_allclose(found.ys, np.exp(-rates[:, None] * found.ts), atol=1e-7)
    np.testing.assert_allclose(slope, np.where(ends < 3, -ends / rates, 0.0), atol=1e-6)
    occurred = found.result == diffrax.RESULTS.event_occurred
    np.testing.assert_array_equal(occurred, [False, True, True, True])


def test_a_flag_stops_at_the_end_of_its_step_and_a_pytree_in_all_its_leaves():
    start = {"x": 1.0, "y": np.ones((2, 3))}
    event = diffrax.Event(below_half)
    found = df.integrate(falls, start, [0.0, 0.25, 3.0], event=event, **EULER)
    np.testing.assert_allclose(found.ts, [0.0, 0.25, 0.75], rtol=1e-15)  # three steps
    for leaf in found.ys.values():
        rows = np.reshape(leaf, (3, -1))
        np.testing.assert_allclose(rows, 0.75 ** np.array([[0], [1], [3]]) + 0 * rows, rtol=1e-14)


def test_a_solve_that_fails_before_its_event_leaves_what_it_did_not_reach_at_inf():
    options = {"event": AT_HALF, "max_steps": 2, "throw": False}
    found = df.integrate(decay, 1.0, [0.0, 1e-6, 3.0], 1e-3, **options)
    assert found.result == diffrax.RESULTS.max_steps_reached
    np.testing.assert_array_equal(found.ys[::2], [1.0, np.inf])


def test_a_length_ends_at_an_event():
    event = diffrax.Event(lambda t, y, args, **_: y[0][0, 0] - 0.5, AT_HALF.root_finder)
    length = df.curve_length(decay, np.ones((1, 1)), [0.0, 3.0], 1.0, event=event)
    np.testing.assert_allclose(length, 0.5, atol=1e-6)


def square(t, y, args):
    return {"square": y**2, "log": jnp.log(y - 1)}


def test_what_to_save_is_passed_on():
    both = {
        "end": diffrax.SubSaveAt(t1=True),
        "squares": diffrax.SubSaveAt(ts=np.float32([0.25, 0.5]), fn=square),
        "steps": diffrax.SubSaveAt(t0=True, steps=True),
    }
    saveat = diffrax.SaveAt(subs=both, dense=True)
    # The log of the second leaf is NaN: what is made of a state may be.
    found = df.integrate(decay, 1.0, [0.0, 1.0], 1.0, saveat=saveat, max_steps=64)
    np.testing.assert_allclose(found.ys["end"], np.exp(-found.ts["end"]), atol=1e-7)
    np.testing.assert_array_equal(found.ts["end"], [1.0])
    np.testing.assert_allclose(found.ys["squares"]["square"], np.exp([-0.5, -1.0]), atol=1e-7)
    reached = np.isfinite(found.ts["steps"])
    assert reached.sum() == 1 + found.stats["num_accepted_steps"] < 65
    expected = np.exp(-found.ts["steps"][reached])
    np.testing.assert_allclose(found.ys["steps"][reached], expected, atol=1e-7)
    np.testing.assert_allclose(found.evaluate(0.7), np.exp(-0.7), atol=1e-6)
    assert found.ys["squares"]["square"].dtype == jnp.float64


def test_a_solve_that_saves_dense_output_alone_still_says_that_it_failed():
    saveat = diffrax.SaveAt(dense=True)
    found = df.integrate(decay, 1.0, [0.0, 1.0], 1.0, saveat=saveat)
    np.testing.assert_allclose(found.evaluate(0.7), np.exp(-0.7), atol=1e-6)
    with pytest.raises(Exception, match="maximum number of solver steps"):
        df.integrate(decay, 1.0, [0.0, 1.0], 1.0, saveat=saveat, max_steps=2)


def test_the_way_to_rest_can_be_saved_too():
    saveat = diffrax.SaveAt(ts=[0.5, 1.0], t1=True)
    found = df.settle(decay, 1.0, 1.0, rtol=0.0, atol=1e-3, saveat=saveat)
    np.testing.assert_allclose(found.ys, np.exp(-found.ts), atol=1e-7)
    assert found.ys[2] <= 1e-3


# --- forward mode ---


def at_end(rate, **options):
    return df.integrate(decay, np.array([1.0, 2.0]), [0.0, 1.0], rate, **options).ys[-1]


def by_euler(rate, **options):
    """Four steps: (1 - rate / 4)^4, and twice that."""
    return at_end(rate, **EULER, **options)


def euler_slope(rate):
    return -np.multiply.outer((1 - rate / 4) ** 3, [1.0, 2.0])


@pytest.mark.parametrize("adjoint", [diffrax.DirectAdjoint(), diffrax.ForwardMode()])
def test_forward_mode_is_the_closed_form_and_what_reverse_mode_finds(adjoint):
    wanted = -np.exp(-0.7) * np.array([1.0, 2.0])
    value, slope = jax.jvp(lambda rate: at_end(rate, adjoint=adjoint), (0.7,), (1.0,))
    np.testing.assert_allclose(value, -wanted, atol=1e-7)
    np.testing.assert_allclose(slope, wanted, atol=1e-7)
    np.testing.assert_allclose(slope, jax.jacrev(at_end)(0.7), atol=1e-7)


def test_second_derivatives_need_the_direct_adjoint():
    bend = jax.hessian(lambda rate: by_euler(rate, adjoint=diffrax.DirectAdjoint()))(0.7)
    np.testing.assert_allclose(bend, 0.75 * (1 - 0.7 / 4) ** 2 * np.array([1, 2]), rtol=1e-12)


@pytest.mark.parametrize("way", [jax.jacfwd, jax.jacrev, jax.hessian])
def test_eulers_fixed_steps_have_every_derivative_without_an_adjoint(way):
    slope, bend = euler_slope(0.7), 0.75 * (1 - 0.7 / 4) ** 2 * np.array([1, 2])
    wanted = bend if way is jax.hessian else slope
    np.testing.assert_allclose(way(by_euler)(0.7), wanted, rtol=1e-12)


def towards(t, y, rate):
    return 1 - rate * y


def test_forward_mode_goes_through_rest():
    at_rest = lambda rate: df.settle(towards, 0.0, rate, adjoint=diffrax.ForwardMode()).ys[0]
    np.testing.assert_allclose(jax.jacfwd(at_rest)(2.0), -0.25, atol=1e-5)


def test_forward_mode_goes_through_noise():
    """x' = (1 - rate / 4) x + noise: the slope follows from the path itself."""

    def path(rate):
        options = EULER | {"key": jr.key(0), "adjoint": diffrax.ForwardMode()}
        return df.langevin(decay, np.array([1.0, 2.0]), [0, 0.25, 0.5], rate, **options).ys

    xs, slope = jax.jvp(path, (2.0,), (1.0,))
    first = -xs[0] / 4
    np.testing.assert_allclose(slope[1:], [first, first / 2 - xs[1] / 4], rtol=1e-12)


def closed_over(rate):
    return df.integrate(lambda t, y, args: -rate * y, 1.0, [0.0, 1.0]).ys[-1]


def summed(rate):
    return jnp.sum(at_end(rate))


FORWARD = {
    "jvp": lambda rate: jax.jvp(at_end, (rate,), (1.0,)),
    "jvp of jit": lambda rate: jax.jvp(jax.jit(at_end), (rate,), (1.0,)),
    "jit of jvp": jax.jit(lambda rate: jax.jvp(at_end, (rate,), (1.0,))),
    "jacfwd of jit": jax.jacfwd(jax.jit(at_end)),
    "jit of jacfwd": jax.jit(jax.jacfwd(at_end)),
    "jacfwd of vmap": lambda rate: jax.jacfwd(jax.vmap(at_end))(jnp.stack([rate, rate])),
    "hessian": jax.hessian(summed),
    "linearize": lambda rate: jax.linearize(at_end, rate)[1](1.0),
    "what is closed over": lambda rate: jax.jvp(closed_over, (rate,), (1.0,)),
}


@pytest.mark.parametrize("call", FORWARD.values(), ids=FORWARD)
def test_forward_mode_that_the_default_lacks_is_refused_with_what_to_pass(call):
    with pytest.raises(ValueError, match=REMEDY) as caught:
        call(jnp.asarray(0.7))
    assert "\n" not in str(caught.value)


def test_reverse_mode_passes_through_vmap_scan_and_checkpoint():
    rates = jnp.array([0.5, 1.0])
    slopes = np.sum(euler_slope(rates), axis=1)
    many = lambda rates: jnp.sum(jax.vmap(by_euler)(rates))
    found = jax.jit(jax.grad(jax.checkpoint(many)))(rates)
    np.testing.assert_allclose(found, slopes, rtol=1e-12)
    step = lambda total, rate: (total + jnp.sum(by_euler(rate)), None)
    found = jax.grad(lambda rates: jax.lax.scan(step, 0.0, rates)[0])(rates)
    np.testing.assert_allclose(found, slopes, rtol=1e-12)
