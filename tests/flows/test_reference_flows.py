"""Flows that leave the Gaussian family, against two PDE solvers' numbers (oracles, section E).

One-dimensional particles carry fixed quantiles z, so their own spacing gives log q; what is under
test is the table's h and `integrate`. Second differences on 161 quantiles leave errors of 1e-3.
"""

import jax
import jax.numpy as jnp
import pytest
from jax.tree_util import Partial
from oracles import CASES

import divergence_flows as df

D = df.divergences
FLOWS = {
    "kl": (D.kl_qp, 1.0),
    "js": (D.jensen_shannon, 1.0),
    "gan": (D.jensen_shannon, 2.0),
    "ns": (D.softened_reverse_kl, 1.0),
    "arcsinh": (D.arcsinh, 1.0),
    "hellinger2": (D.squared_hellinger, 0.5),
    "shifted_3": (D.shifted_vanilla(3.0), 1.0),
}
TIMES = (0.0, 0.5, 1.0, 2.0)


def quantile_field(h, factor, z, t, x, args):
    """h'(u) du/dx of a cloud whose particles keep their normal quantiles z."""
    step = z[1] - z[0]
    stretch = jnp.gradient(x, step)
    u = -0.5 * x**2 + 0.5 * z**2 + jnp.log(stretch)
    return factor * jnp.gradient(h(u), step) / stretch


@pytest.mark.parametrize("flow", FLOWS)
def test_integrate_with_a_tabled_h_meets_the_pde_solvers(flow):
    div, factor = FLOWS[flow]
    cases = [
        c for c in CASES if c["inputs"].get("flow") == flow and c["inputs"].get("t") in TIMES[1:]
    ]
    cases = [c for c in cases if c["section"] == "E" and c["name"].endswith(("var", "mean", "1.5"))]
    with jax.enable_x64(True):
        z = jnp.linspace(-5.0, 5.0, 161)
        field = Partial(quantile_field, div.h, factor, z)
        xs = df.integrate(field, 2 + 0.5 * z, TIMES).ys
        weights = jnp.exp(-0.5 * z**2) / jnp.sum(jnp.exp(-0.5 * z**2))
        assert cases or flow == "kl"
        for case in cases:
            x = xs[TIMES.index(case["inputs"]["t"])]
            mean = weights @ x
            got = {"mean": mean, "var": weights @ (x - mean) ** 2}.get(
                case["name"].rsplit(" ", 1)[1], jnp.interp(-1.0, z, x)
            )
            assert abs(got - case["expected"]) < 5e-3, (case["id"], got, case["expected"])
        assert abs(weights @ xs[1] - 2 * jnp.exp(-0.5)) < 5e-3 or flow != "kl"
