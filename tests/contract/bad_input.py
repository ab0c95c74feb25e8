"""How bad input is checked: a good call with some arguments changed is refused in words."""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from bad_good import GOOD, function

# The function that a ValueError names, where it is not the row's own.
CALLERS = {
    "FlowRatioState.start": "FlowRatioState",
    "networks.spectral()": "Discriminator",
    "learned_log_ratio()": "Discriminator",
    "flow_log_ratio()": "TimeDiscriminator",
    **dict.fromkeys(("mmd_witness()", "rff_log_ratio()", "ulsif_ratio()"), "the fitted function"),
}


def caller(name):
    """What the words of a refusal start with."""
    return CALLERS.get(name, name.removesuffix("()").removeprefix("networks."))


def annotated(name):
    """The parameters of a function by name, its `args` of anything and **options aside."""
    parameters = inspect.signature(function(name)).parameters.values()
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    declared = {one.name: one for one in parameters if one.kind not in kinds}
    # What is bound by a keyword keeps its others in `**arrays`.
    hidden = {key: None for key in GOOD[name] if key not in declared}
    return {key: value for key, value in (declared | hidden).items() if key != "args"}


def failure(error, words, call, *args, **kwargs):
    """What is wrong with a refusal, in words; nothing if it is as it should be."""
    try:
        jax.block_until_ready(call(*args, **kwargs))
    except Exception as found:
        # Equinox puts the place before the words, and advice about its debugger after them.
        text = "\n".join([str(found), *getattr(found, "__notes__", [])])
        if not isinstance(found, error):
            return f"{type(found).__name__}: {text}"
        if isinstance(found, TypeError | ValueError) and "\n" in str(found):
            return f"more than one line: {text}"
        missing = [word for word in words if word not in text]
        return f"{missing} not in: {text}" if missing else ""
    return "nothing was refused"


def calls_not_refused(calls, error=ValueError, jit=False):
    """All that is wrong with (who is named, call, arguments, words...) that must be refused."""
    wrong = []
    for named, call, arguments, *words in calls:
        positional, by_name = ((), arguments) if isinstance(arguments, dict) else (arguments, {})
        call = eqx.filter_jit(call) if jit else call
        said = failure(error, (f"{named}: ", *words), call, *positional, **by_name)
        wrong += [f"{named}, {words}: {said}"] if said else []
    return "\n\n".join(wrong)


def not_refused(rows, error=ValueError, jit=False):
    """As `calls_not_refused`, of (names in one string, changes of their good calls, words...)."""
    calls = [
        (caller(name), function(name), GOOD[name] | changes, *words)
        for names, changes, *words in rows
        for name in names.split()
    ]
    return calls_not_refused(calls, error, jit)


def _all(calls, arguments):
    return [call(*each) for call, each in zip(calls, arguments, strict=True)]


def as_arrays(arguments):
    """Numbers as arrays, for a NaN in a program is another thing than one that goes in."""
    return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, float) else x, arguments)


def not_right(rows, jit=True):
    """All that is wrong with rows of (call, arguments, answer, tolerance), as one program."""
    calls, arguments = [row[0] for row in rows], [row[1] for row in rows]
    found = eqx.filter_jit(_all)(calls, as_arrays(arguments)) if jit else _all(calls, arguments)
    wrong = []
    for i, (value, (_, given, answer, *atol)) in enumerate(zip(found, rows, strict=True)):
        said = not_equal(value, answer() if callable(answer) else answer, *atol)
        wrong += [f"{i}, {str(given)[:80]}: {said}"] if said else []
    return "\n\n".join(wrong)


def not_equal(found, wanted, atol=1e-6):
    """What is wrong with an answer, in words: its structure, shapes or values."""
    try:
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            assert np.shape(one) == np.shape(other), f"{np.shape(one)}, not {np.shape(other)}"
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=atol, equal_nan=True)
    except (AssertionError, ValueError) as error:
        return str(error)
    return ""
