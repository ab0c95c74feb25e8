"""Bad input that only a run can see, and odd input that has a right answer.

A refusal of what an array holds is the same eagerly and under jit.
"""

import bad_calculus
import bad_clouds
import bad_gaussians
import bad_training
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_calculus import CLOSED_FORMS, ELEMENTWISE, GANS, LIMITS, OF_NONE, SUMS
from bad_good import GOOD, INF, NAN, NONE, function
from bad_input import caller, calls_not_refused, failure, not_equal, not_refused, not_right
from catalogue import ROWS
from jaxtyping import TypeCheckError

SUBJECTS = (bad_calculus, bad_gaussians, bad_clouds, bad_training)
ERROR = eqx.EquinoxRuntimeError
CONTENTS = bad_gaussians.CONTENTS + bad_clouds.CONTENTS
NAMES = list(dict.fromkeys(name for name, *_ in CONTENTS))


def test_elementwise_functions_take_any_shape_and_end_in_their_limits():
    good = np.array([[0.5, 1.5, 2.0]])
    x = jnp.array([[*good[0], NAN, INF, -INF]])
    found = jax.jit(lambda x: [call(x) for call, *_ in CLOSED_FORMS.values()])(x)
    for (name, (_, closed, limits)), value in zip(CLOSED_FORMS.items(), found, strict=True):
        wanted = np.concatenate([closed(good), [limits]], axis=1)
        assert not (said := not_equal(value, wanted)), f"{name}: {said}"


def test_elementwise_functions_of_no_numbers_give_none():
    found = jax.jit(lambda x: [call(x) for call in OF_NONE])(NONE)
    assert all(value.shape == (0,) for value in found)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_functions_refuse_what_is_no_real_number(name):
    words = "divergence_flows.", "Actual value", "Expected type"
    for wrong in (1j, [1.0], "1"):
        assert not (said := failure(TypeCheckError, words, ELEMENTWISE[name], wrong)), said


def test_sums_are_no_elementwise_functions():
    words = "return value of divergence_flows.", "Actual value", "Expected type"
    for call in SUMS:
        assert not (said := failure(TypeCheckError, words, call, jnp.array([0.5, 1.5]))), said


def of_r(name):
    """Fields of a ratio; the f of arcsinh is by quadrature, its f'' = h' / r^2 elementary."""
    return ("f_second",) if name == "arcsinh" else ("f", "f_prime", "f_second")


def at_edges(r, u, s):
    """Fields of all divergences where they end."""
    found = {}
    for name, (*_, closed) in LIMITS.items():
        div = ROWS[name]
        found[name] = {
            field: (getattr(div, field)(r), getattr(div, field)(r[0, :2])) for field in of_r(name)
        }
        found[name] |= {
            "f at ends": div.f(r[:, 5:]),
            "h": div.h(u),
            "activation": div.activation(u),
        }
        found[name] |= {"conjugate": div.conjugate(s)} if closed else {}
    return found


def test_divergences_are_nan_outside_their_domain_and_have_their_limits_at_its_ends():
    r = jnp.array([[1.0, 2.0, NAN, -1.0, -2.0, 0.0, INF]])
    found = jax.jit(at_edges)(r, jnp.array([[NAN, INF, -INF]]), jnp.array([[NAN, 3.0, 4.0]]))
    for name, (at_0, at_inf, top, bottom, ends, closed) in LIMITS.items():
        fields = found[name]
        for field in of_r(name):
            wide, flat = fields[field]
            assert not (said := not_equal(wide[0, :2], flat)), f"{name}.{field}: {said}"
            assert np.isnan(wide[0, 2:5]).all(), f"{name}.{field}"
        assert not (said := not_equal(fields["f at ends"], np.array([[at_0, at_inf]]))), (
            f"{name}: {said}"
        )
        assert not (said := not_equal(fields["h"], np.array([[NAN, top, bottom]]))), (
            f"{name}: {said}"
        )
        assert np.isnan(fields["activation"][0, 0]), name
        if closed:
            assert np.isnan(fields["conjugate"][0, 0]), name
            assert not ends or np.isposinf(fields["conjugate"][0, 1:]).all(), name


def test_gans_undo_their_log_ratio_and_give_nan_for_nan():
    u = jnp.array([[-0.5, 0.25, NAN]])
    players = lambda gan, u: [
        gan.log_t(gan.inverse(u)),
        *(f(u[0, 2:]) for f in (gan.phi, gan.psi, gan.h_t)),
    ]
    found = jax.jit(lambda u: {name: players(gan, u) for name, gan in GANS.items()})(u)
    for name, (again, *others) in found.items():
        assert not (said := not_equal(again, u, 1e-5)), f"{name}: {said}"
        assert np.isnan(others).all(), name


@pytest.mark.parametrize("subject", SUBJECTS)
def test_odd_input_has_its_right_answer(subject):
    assert not (said := not_right(subject.ANSWERS)), said


@pytest.mark.parametrize("subject", SUBJECTS)
def test_integers_floats_and_numpy_arrays_become_arrays(subject):
    assert not (said := not_right(subject.CONVERSIONS, jit=False)), said


@pytest.mark.parametrize("jit", (False, True))
def test_functions_that_are_not_as_they_must_be_are_refused_at_run_time(jit):
    calls = bad_calculus.CONTENT_CALLS + bad_gaussians.CONTENT_CALLS
    assert not (said := calls_not_refused(calls, ERROR, jit)), said


@pytest.mark.parametrize("name", NAMES)
def test_wrong_contents_are_refused_at_run_time(name):
    rows = [row for row in CONTENTS if row[0] == name]
    said = [not_refused(rows, ERROR, jit) for jit in (False, True)]
    assert not any(said), "\n\n".join(said)


def test_numpy_checks_its_own_arrays():
    assert not (said := not_refused(bad_gaussians.NUMPY_CONTENTS, ERROR)), said


# Refused by `raise_if` or `eqx.error_if`: scalars, matrices, clouds, solves, training.
BY_CONTENT = ("Nodes", "bures.exp", "dissipation", "integrate", "stl_loss", "transport")


@pytest.mark.parametrize("name", BY_CONTENT)
def test_what_it_says_under_plain_jit(name):
    """The words stand inside XLA's own error."""
    changes, words = next((row[1], row[2:]) for row in CONTENTS if row[0] == name)
    arrays, rest = eqx.partition(GOOD[name] | changes, eqx.is_array)
    call = jax.jit(
        lambda arrays: jax.tree.leaves(
            eqx.filter(function(name)(**eqx.combine(arrays, rest)), eqx.is_array)
        )
    )
    said = failure(jax.errors.JaxRuntimeError, (f"{caller(name)}: ", *words), call, arrays)
    assert not said, said
