"""f, h and their relatives where users call them outside of `jit`: one program, traced once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import divergence_flows as df
from divergence_flows import _types

AS_USERS_HAVE_IT = _types._in_one_program
U = np.linspace(-3.0, 3.0, 7)


@pytest.fixture(autouse=True)
def compiled(monkeypatch, x64):
    monkeypatch.setattr(_types, "_in_one_program", AS_USERS_HAVE_IT)


def test_a_function_is_traced_once_for_each_shape():
    calls = []

    def f(r):
        calls.append(1)
        return r * jnp.log(r)

    h = df.f_to_h(f)
    h(1.5)
    seen = len(calls)
    for u in (0.5, jnp.array(-1.0)):
        np.testing.assert_allclose(h(u), np.exp(u), rtol=1e-14)  # h of KL(p||q)
    assert len(calls) == seen
    np.testing.assert_allclose(h(U), np.exp(U), rtol=1e-13)
    assert len(calls) > seen


@pytest.mark.parametrize("slope", [0.5, 2.0])
def test_bound_numbers_are_arguments_of_the_program(slope):
    bend = Partial(lambda a, r: a * (r - 1 - jnp.log(r)), jnp.array(slope))
    np.testing.assert_allclose(df.f_to_h(bend)(U), slope * U, atol=1e-13)


def test_tables_are_their_closed_forms_and_keep_their_dtype():
    r = np.exp(U)
    mean = (1 + r) / 2
    twice = r * np.log(r / mean) - np.log(mean)  # 2 JS as an f
    f = df.divergences.jensen_shannon.f(r)
    np.testing.assert_allclose(f / f[0], twice / twice[0], rtol=1e-12)
    np.testing.assert_allclose(df.gans.vanilla().phi(U), -np.logaddexp(0.0, -U), rtol=1e-14)
    assert df.divergences.kl_qp.h(jnp.float32(2.0)).dtype == jnp.float32


def test_inside_of_a_trace_there_is_no_program_within_a_program():
    plain = jax.make_jaxpr(df.divergences.pearson.h)(1.0)
    assert not any("in_one_program" in str(eqn.params.get("name")) for eqn in plain.eqns)


def test_a_concave_f_is_still_refused_in_words():
    with pytest.raises(Exception, match="f_to_h: `f` is not strictly convex here"):
        df.f_to_h(jnp.log)(0.5)
