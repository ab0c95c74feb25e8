"""Flows that leave the Gaussian family, to six digits: tests/data/laboratory.json and its laws.

The file is of `examples/_laboratory.py`, which knows nothing of the library: the catalogue is
written there a second time. reference_1d.json is a third party's; for the rows it lacks the
laboratory's own second solver, on a grid in x instead of quantiles, must say the same.
"""

import json
import pathlib
import sys

import diffrax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.scipy.stats.norm import logpdf
from oracles import CASES
from scipy.stats import norm as normal

import divergence_flows as df

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))
lab = pytest.importorskip("_laboratory")
FILE = json.loads((ROOT / "tests" / "data" / "laboratory.json").read_text())
THIRD_PARTY = json.loads((ROOT / "tests" / "data" / "reference_1d.json").read_text())
DIV = {name: getattr(df.divergences, name) for name in lab.H}
NUMBERS = ("mean", "var", "kl", "third")
# The third party's flow: our row, and how much faster ours runs.
NAMES = {
    "kl": ("kl_qp", 1),
    "js": ("jensen_shannon", 1),
    "gan": ("jensen_shannon", 0.5),
    "fkl": ("kl_pq", 1),
    "ns": ("softened_reverse_kl", 1),
    "arcsinh": ("arcsinh", 1),
    "hellinger2": ("squared_hellinger", 2),
}


def filed(name):
    return np.stack([FILE[name][key] for key in NUMBERS], axis=1)


def test_the_kl_row_is_the_closed_form_of_ornstein_and_uhlenbeck():
    t = np.array(lab.TIMES)
    mean, var = 2 * np.exp(-t), 1 - 0.75 * np.exp(-2 * t)
    kl = 0.5 * (var + mean**2 - 1 - np.log(var))
    np.testing.assert_allclose(filed("kl_qp").T, [mean, var, kl, 0 * t], atol=1e-8)


@pytest.mark.parametrize("flow", THIRD_PARTY)
def test_the_file_agrees_with_a_third_partys_solvers(flow):
    name, faster = NAMES[flow]
    # The NS flow's front costs both solvers digits; 2e-7 is what six that stand may be off.
    slack = 2e-7 if flow == "ns" else 5e-9
    records = [each for each in THIRD_PARTY[flow] if each["t"] / faster in lab.TIMES]
    assert len(records) >= 2
    for record in records:
        ours = filed(name)[lab.TIMES.index(record["t"] / faster)]
        np.testing.assert_allclose(ours, [record[key] for key in NUMBERS], rtol=0, atol=slack)


@pytest.mark.parametrize("flow", ["arcsinh", "hellinger2"])
def test_the_file_has_the_oracles_variances(flow):
    name, faster = NAMES[flow]
    cases = [
        (case["inputs"]["t"] / faster, case["expected"])
        for case in CASES
        if case["inputs"].get("flow") == flow and case["name"].endswith(": var")
    ]
    found = [(FILE[name]["var"][lab.TIMES.index(t)], var) for t, var in cases if t in lab.TIMES]
    assert len(found) >= 2
    np.testing.assert_allclose(*zip(*found, strict=True), rtol=0, atol=5e-9)


def test_six_digits_stand_in_every_row():
    for name, row in FILE.items():
        for key in NUMBERS[:3]:
            # The KL of a front comes last: a few units of the sixth digit.
            assert max(row[f"{key}_change"]) < (3e-6 if name in lab.FADING else 1e-6), (name, key)


def test_a_second_solver_said_the_same_when_the_file_was_made():
    for name, row in FILE.items():
        if lab.PHI[name] is not None:
            assert max(row["mean_euler"] + row["var_euler"]) < 3e-6, name
            # Fronts leave the grid's KL an error of first order.
            assert max(row["kl_euler"]) < (1e-4 if name in lab.FADING else 3e-5), name


@pytest.mark.parametrize("name", ["neyman", "le_cam", "jeffreys"])
def test_rows_that_no_oracle_has_come_out_of_a_second_solver(name):
    other = lab.romberg([lab.euler(name, lab.TIMES, dx) for dx in (0.1, 0.05)])
    np.testing.assert_allclose(other, filed(name), atol=3e-4 if name in lab.FADING else 1e-6)


@pytest.mark.parametrize("name", ["kl_pq", "arcsinh", "least_squares"])
def test_a_coarser_run_meets_the_file(name):
    reach = lab.plan(name)["reach"]
    ours, _ = lab.lagrange(name, lab.TIMES, 120, reach, 2, tol=1e-8)
    np.testing.assert_allclose(ours, filed(name), atol=3e-4)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", lab.H)
def test_the_laboratorys_catalogue_is_the_librarys(name):
    u = np.linspace(-3.0, 6.0, 37)
    np.testing.assert_allclose(lab.SLOPE[name](u), DIV[name].h_prime(u), rtol=1e-12)
    constant = lab.H[name](u) - np.asarray(DIV[name].h(u))
    np.testing.assert_allclose(constant, constant[0], atol=1e-10 * np.exp(12))
    if lab.PHI[name] is not None:
        rho = jnp.exp(-u)
        by_rho = (lab.PHI[name](rho * (1 + 1e-5)) - lab.PHI[name](rho * (1 - 1e-5))) / (2e-5 * rho)
        np.testing.assert_allclose(by_rho, lab.SLOPE[name](u), rtol=1e-6, atol=1e-7)


def test_initial_rates_are_the_oracles():
    names = {"kl": "kl_qp", "ns": "softened_reverse_kl", "lecam": "le_cam", "fkl": "kl_pq"}
    rates = {
        names[case["inputs"]["flow"]]: case["expected"]
        for case in CASES
        if case["inputs"].get("flow") in names and case["name"].startswith("-dKL/dt at t=0")
    }
    assert len(rates) == 4
    for name, rate in rates.items():
        assert abs(FILE[name]["initial_rate"] - rate) < 1e-9


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["jensen_shannon", "jeffreys", "neyman", "least_squares"])
def test_kl_and_the_flows_own_divergence_fall_at_the_rate_of_dissipation(name):
    cloud, step = lab.Cloud(name, 400, lab.plan(name)["reach"]), 0.01
    states = cloud.solve([0.5 - step, 0.5, 0.5 + step], 1e-10)
    for f, of in ((lambda u: -u, None), (DIV[name].standard, DIV[name].h)):
        before, _, after = (cloud.mass @ np.asarray(f(u)) for _, u in states)
        x, u = states[1]
        grad_u = cloud.slope(x, u, np.diff(u))[:, None]
        middle = (u[1:] + u[:-1]) / 2
        rate = df.dissipation(DIV[name].h, middle, grad_u, of=of, weights=cloud.weights)
        assert rate < 0
        np.testing.assert_allclose((after - before) / (2 * step), rate, rtol=2e-3)


def kernel(xs):
    """log p - log q with q the library's kernel estimate, 0.15 standard deviations wide."""
    log_q = df.kde_log_prob(xs, bandwidth=0.15 * jnp.std(xs))
    return lambda t, x, args: logpdf(x[0]) - log_q(x)


def learned(xs):
    """log p/q from samples of the two only, by the library's logistic regression."""
    # Quantiles have no noise that a larger penalty would have to keep out.
    options = {"features": 32, "bandwidth": 2.0, "ridge": 1e-4}
    return df.rff_log_ratio(xs, QUANTILES, **options, key=jr.key(0))


QUANTILES = normal.ppf((np.arange(400) + 0.5) / 400)[:, None]


# Even quantiles leave no sampling noise of order n^-1/2 = .05, only the estimator's bias: a kernel
# sees the variance v as (1 + .15^2) v, and a grid of 400 quantiles lacks 1 % of it in the tails.
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "fit"), [("jensen_shannon", kernel), ("arcsinh", kernel), ("jensen_shannon", learned)]
)
def test_integrate_with_an_estimated_ratio_tracks_the_reference(name, fit):
    steps = {"stepsize_controller": diffrax.PIDController(rtol=1e-3, atol=1e-4)}
    steps |= {"solver": diffrax.Heun()}  # of two stages, since each is compiled
    field, start = df.cloud_velocity(DIV[name].h, fit), 2 + 0.5 * QUANTILES
    ys = df.integrate(field, start, (0.0, *lab.TIMES), **steps).ys[1:, :, 0]
    np.testing.assert_allclose(jnp.mean(ys, axis=1), FILE[name]["mean"], atol=0.015)
    np.testing.assert_allclose(jnp.var(ys, axis=1), FILE[name]["var"], rtol=0.05)
