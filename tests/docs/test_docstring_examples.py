"""Every example in a docstring runs, and prints what it says."""

import contextlib
import inspect
import io
import re

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import divergence_flows as df

ROOMS = (df, df.bures, df.divergences, df.gans, df.networks)
BLOCK = re.compile(r"^Example:\n    ```python\n(.*?)^    ```", re.M | re.DOTALL)
# A printed value stands behind its `print`; numbers hold to the digits that they show.
SAID = re.compile(r"^print\(.*\)  # (.*)$", re.M)
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?")


def numbers(text):
    """The text without its numbers, these, and what each may be off."""
    found = NUMBER.findall(text)
    digits = [len(each.partition(".")[2]) for each in found]
    words = re.sub(r"\s+", " ", NUMBER.sub("#", text)).replace("[ ", "[").replace(" ]", "]")
    return words, [float(each) for each in found], [0.55 * 10.0**-k for k in digits]


def examples():
    found = {}
    for room in ROOMS:
        for name, value in vars(room).items():
            if not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value)):
                for code in BLOCK.findall(inspect.getdoc(value) or ""):
                    found[value.__name__] = inspect.cleandoc("\n" + code)
    return found


EXAMPLES = examples()


def test_the_main_functions_have_an_example():
    assert len(EXAMPLES) >= 20


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_prints_what_it_says(name):
    code, printed = EXAMPLES[name], io.StringIO()
    assert name in code
    assert len([line for line in code.splitlines() if line]) <= 8
    with contextlib.redirect_stdout(printed):
        exec(code, {"df": df, "jax": jax, "jnp": jnp, "jr": jr})
    said = SAID.findall(code)
    assert said
    for line, wanted in zip(printed.getvalue().splitlines(), said, strict=True):
        (words, found, _), (expected_words, expected, allowed) = numbers(line), numbers(wanted)
        assert words == expected_words
        assert all(abs(a - b) <= c for a, b, c in zip(found, expected, allowed, strict=True)), line
