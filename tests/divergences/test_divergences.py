"""Laws of the catalogue: closed forms against oracles, the calculus and each other."""

import functools

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue import ORACLE_NAMES, ROWS
from oracles import CASES

import divergence_flows as df

U = np.array([-8.0, -3.0, -0.7, -1e-3, 1e-3, 0.4, 2.0, 8.0])
INNER = np.array(U[1:-1])
each_row = pytest.mark.parametrize("name", ROWS)
close = chex.assert_trees_all_close


# Functions of a row are arguments: rows of one structure, such as all alphas, share a program.
@jax.jit
def call(function, x):
    return function(x)


@jax.jit
def slope(function, x):
    return jax.vmap(jax.grad(function))(x)


# Rows that only the reference lists are given as a user's own h.
ORACLES = {short: (ROWS[name], factor) for short, (name, factor) in ORACLE_NAMES.items()} | {
    "kl_q_m": (df.Divergence(h=lambda u: jax.nn.softplus(u) - jnp.tanh(u / 2) / 2), 1.0),
    "kl_p_m": (df.Divergence(h=lambda u: jnp.tanh(u / 2) / 2), 1.0),
}


def found(div, case, factor):
    """What a case asks of a divergence that is `factor` times the oracle's."""
    name, inputs, zero = case["name"], case["inputs"], jnp.zeros((), case["dtype"])
    u = jnp.asarray(inputs.get("u", 0.0), case["dtype"])
    if "h' at" in name:
        return call(div.h_prime, u)
    if "h(u)" in name or "h at" in name:
        return call(div.h, u) - call(div.h, zero)
    at_one = call(div.activation, zero)
    if "recession" in name:  # f'(inf) of the standardised f, which is reached to e^-30
        return call(div.activation, zero + 30) - at_one
    if "conjugate" in name:  # of f - a (r - 1) with a = f'(1): f*(d + a) - a
        return call(div.conjugate, inputs["d"] * factor + at_one) - at_one
    if "F(q)" in name:
        x = jnp.linspace(-14.0, 16.0, 3001)
        log_p, log_q = (
            jax.scipy.stats.norm.logpdf(x, m, v**0.5) for m, v in (inputs["p"], inputs["q"])
        )
        return jnp.sum(jnp.exp(log_q) * call(div.standard, log_p - log_q)) * (x[1] - x[0])
    return call(div.standard, u)  # f(e^u), f(0+)


@pytest.mark.parametrize("short", ORACLES)
def test_a_divergence_meets_the_oracles(short):
    div, factor = ORACLES[short]
    cases = [c for c in CASES if c["section"] == "B" and c["inputs"].get("divergence") == short]
    assert len(cases) >= 4
    for case in cases:
        with jax.enable_x64(case["dtype"] == "float64"):
            values = [found(div, case, factor)]
            if "h at" in case["name"] or "h' at" in case["name"]:
                rate = slope(div.h, jnp.full(1, case["inputs"]["u"], case["dtype"]))[0]
                assert jnp.isfinite(rate)
                values += [rate] if "h' at" in case["name"] else []
            # float32 carries the oracle's relative tolerance only to its own precision.
            rtol = max(case["rtol"], 1e-6 if case["dtype"] == "float32" else 0.0)
            wanted = case["expected"] * factor
            for value in values:
                error = abs(float(value) - wanted)
                assert error <= case["atol"] * factor + rtol * abs(wanted), case


@jax.jit
def everything(div, u):
    """A row in closed form, by autodiff, and by the calculus from its f or its h alone."""
    rate = lambda function: jax.vmap(jax.grad(function))
    r, inner = jnp.exp(u), u[1:-1]
    s = div.activation(inner)
    reversed_f = lambda v: jnp.exp(v) * div.log_f(-v)
    return {
        "h": div.h(u),
        "h'": div.h_prime(u),
        "slope of h": rate(div.h)(u),
        "calculus h": df.f_to_h(div.log_f, log_space=True)(u),
        "reversed h'": rate(df.f_to_h(reversed_f, log_space=True))(inner),
        "f of u": div.log_f(u),
        "f at 1": div.f(1.0),
        "f'": div.f_prime(r),
        "slope of f": rate(div.f)(r),
        "r^2 f''": div.f_second(r) * r**2,
        "r^2 slope of f'": rate(jax.grad(div.f))(r) * r**2,
        "activation": div.activation(u),
        "standard": div.standard(u),
        "calculus f": df.h_to_f(div.h)(r),
        "f*": div.conjugate(s),
        "calculus f*": df.conjugate(div.log_f, log_space=True)(s),
        "e^u h'(-u)": jnp.exp(inner) * div.h_prime(-inner),
    }


@functools.cache
def row(name):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, everything(ROWS[name], jnp.asarray(U)))


@each_row
def test_slope_of_h_is_its_closed_form_and_r_squared_times_curvature(name):
    at = row(name)
    close(at["slope of h"], at["h'"], rtol=1e-9)
    close(at["r^2 slope of f'"], at["h'"], rtol=1e-8, atol=1e-12)
    close(at["r^2 f''"], at["h'"], rtol=1e-12)
    close(at["slope of f"], at["f'"], rtol=1e-10, atol=1e-12)
    assert abs(at["f at 1"]) < 1e-14


@each_row
def test_fenchel_young_holds_with_equality_only_at_the_derivative(name):
    at, r = row(name), np.exp(INNER)[:, None]
    gap = at["f of u"][1:-1, None] + at["f*"] - r * at["activation"][1:-1]
    assert np.all(gap > -1e-9)
    assert np.all(gap[~np.eye(r.size, dtype=bool)] > 1e-9)


@each_row
def test_closed_forms_equal_the_calculus(name):
    at = row(name)
    constant = at["calculus h"][5] - at["h"][5]
    close(at["calculus h"] - constant, at["h"], rtol=1e-8, atol=1e-10)
    close(at["calculus f"], at["standard"], rtol=1e-9)
    close(at["calculus f*"], at["f*"], rtol=1e-8, atol=1e-10)


@each_row
def test_reversal_swaps_p_and_q(name):
    """f(r) -> r f(1/r) has h'(u) -> e^u h'(-u)."""
    at = row(name)
    close(at["reversed h'"], at["e^u h'(-u)"], rtol=1e-7, atol=1e-9)


def test_a_divergence_of_ones_own_is_as_good_as_a_named_one():
    with jax.enable_x64(True):
        u, named = jnp.asarray(U[1:-1]), ROWS["squared_hellinger"]
        mine = [
            df.Divergence(lambda r: (jnp.sqrt(r) - 1) ** 2),
            # Not expm1: older jax differentiates it with cancellation far below zero.
            df.Divergence(log_f=lambda u: (jnp.exp(u / 2) - 1) ** 2),
            df.Divergence(h=lambda u: jnp.exp(u / 2)),
        ]
        s = named.activation(u)
        all_of = jax.jit(lambda div: (div.standard(u), div.h_prime(u), div.activation(u)))
        star = jax.jit(lambda div: div.conjugate(s))
        for div in mine:
            f, h_prime, activation = all_of(div)
            close(f, named.standard(u), rtol=1e-8)
            close(h_prime, named.h_prime(u), rtol=1e-8)
            close(activation, s, rtol=1e-7, atol=1e-9)
            close(star(div), star(named), rtol=1e-7, atol=1e-9)


def test_leaves_are_arrays_only():
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(ROWS))


def test_a_divergence_needs_one_definition():
    with pytest.raises(ValueError, match="exactly one of f"):
        df.Divergence()
    with pytest.raises(ValueError, match="exactly one of f"):
        df.Divergence(jnp.log, log_f=jnp.log)
