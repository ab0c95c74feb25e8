"""Bad input that only a run can see, and numbers that become arrays.

A refusal of what an array holds is the same eagerly and under jit.
"""

import bad_calculus
import bad_clouds
import bad_gaussians
import bad_training
import equinox as eqx
import jax
import pytest
from bad_good import GOOD, function
from bad_input import caller, calls_not_refused, failure, not_refused, not_right

SUBJECTS = (bad_calculus, bad_gaussians, bad_clouds, bad_training)
ERROR = eqx.EquinoxRuntimeError
CONTENTS = bad_gaussians.CONTENTS + bad_clouds.CONTENTS
NAMES = list(dict.fromkeys(name for name, *_ in CONTENTS))


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
