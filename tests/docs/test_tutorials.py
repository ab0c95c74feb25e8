"""Each tutorial runs as a script, says what theory says, and is a valid notebook."""

import ast
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import jupytext
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest

import divergence_flows as df

SCRIPTS = sorted((pathlib.Path(__file__).parents[2] / "docs" / "tutorials").glob("*.py"))
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
# What the package and its extra `examples` install.
INSTALLED = {"diffrax", "divergence_flows", "equinox", "jax", "matplotlib", "numpy", "optax"}
INSTALLED |= {"optimistix", "sklearn", *sys.stdlib_module_names}


@pytest.fixture
def run(own_pictures):
    """Runs a tutorial, with some of its text replaced, and returns what it defined."""
    precision = jax.config.jax_enable_x64
    plt.switch_backend("agg")

    def run(number, *changes):
        (script,) = [path for path in SCRIPTS if path.stem.startswith(f"{number}_")]
        text, scope = script.read_text(), {"__name__": "tutorial"}
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        exec(compile(text, script, "exec"), scope)
        assert len(plt.get_fignums()) >= 1
        return scope

    yield run
    jax.config.update("jax_enable_x64", precision)


def test_there_is_a_tutorial_for_each_of_the_eight_stories():
    assert [path.stem[:2] for path in SCRIPTS] == [f"{number}_" for number in range(1, 9)]


@each_script
def test_a_tutorial_is_a_valid_notebook_that_needs_only_what_it_installs(script):
    notebook = jupytext.reads(script.read_text(), fmt="py:percent")
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    title, install, *_, last = notebook.cells
    assert title.cell_type == last.cell_type == "markdown"
    assert title.source.startswith(f"# {script.stem[0]}. ")
    assert "## Where to go next" in last.source
    assert 'if "google.colab" in sys.modules' in install.source
    assert any("## What can go wrong" in cell.source for cell in notebook.cells)
    # Back to text, nothing is lost: the page, the notebook and the script are one.
    bodies = jupytext.writes(notebook, fmt="py:percent"), script.read_text()
    assert len({text.split("# %%", 1)[1].strip() for text in bodies}) == 1
    # It needs only the package and its extra of examples.
    nodes = list(ast.walk(ast.parse(script.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= INSTALLED


@each_script
def test_in_colab_a_tutorial_installs_the_wheel_beside_it_or_the_release(
    script, tmp_path, monkeypatch
):
    cell = jupytext.reads(script.read_text(), fmt="py:percent").cells[1].source
    commands = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    exec(cell, {})
    assert commands == []  # outside of Colab nothing is installed
    monkeypatch.setitem(sys.modules, "google.colab", None)
    exec(cell, {})
    wheel = tmp_path / "divergence_flows-0.1.0-py3-none-any.whl"
    wheel.touch()
    exec(cell, {})
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    assert commands == [[*pip, "divergence_flows"], [*pip, wheel.name]]


def test_samples_move_to_the_floor_and_the_classifier_gives_up(run):
    scope = run(1, ("STEPS, CRITIC_STEPS = 600, 10", "STEPS, CRITIC_STEPS = 300, 10"))
    assert scope["before"] > 0.5
    assert scope["after"] < 1.35 * scope["floor"]
    # Twice JS is what is missing to 2 log 2.
    assert 2 * np.log(2) - scope["early_loss"] > 0.03
    assert abs(2 * np.log(2) - scope["last_loss"]) < 0.01
    # Our own h is slower: its slope is at most a half.
    ours, logit = (
        scope["distances"][name] for name in ("h = tanh(d/2), our own", "h = d, KL(q||p)")
    )
    assert ours[4] > logit[4]
    assert scope["same"]


def test_a_flow_in_continuous_time_keeps_to_its_closed_form(run):
    scope = run(2)
    xs, ts, axes = (np.asarray(scope[name]) for name in ("xs", "ts", "AXES"))
    for t, cloud in zip(ts, xs, strict=True):
        mean, variances = (np.asarray(part) for part in scope["moments"](t, scope["RHO"]))
        along = cloud @ axes
        error = np.sqrt(variances / len(cloud))
        assert np.all(np.abs(along.mean(axis=0) - mean) < 4 * error)
        # A variance has the relative standard error sqrt(2 / n).
        assert np.all(np.abs(along.var(axis=0) / variances - 1) < 4 * np.sqrt(2 / len(cloud)))
    assert np.max(np.abs(scope["measured"] / scope["exact"] - 1)) < 0.05
    assert scope["error"] < 2e-4
    # The grid of the closed form has steps of .005.
    assert np.max(np.abs(scope["stopped"] - scope["expected"])) < 0.012
    # Simpson's rule: slopes at both ends and between give the rise.
    rhos, slopes = np.asarray(scope["rhos"]), np.asarray(scope["slopes"])
    rise = (rhos[-1] - rhos[0]) / 18 * (slopes @ [1, 4, 2, 4, 2, 4, 1])
    assert abs(rise - (scope["stopped"][-1] - scope["stopped"][0])) < 0.02


def test_the_fitted_gaussian_is_the_best_one_and_its_report_is_true(run):
    scope = run(3)
    q, info, kl = scope["q"], scope["info"], scope["kl_on_grid"]
    # ELBO, evidence and KL: one equation, two ways. 1,024 nodes judge the ELBO.
    assert abs(scope["log_evidence"] - info.elbo - kl(q)) < 2e-3
    # No Gaussian near it is better, and the two usual ones are worse.
    best = float(kl(q))
    for i, step in enumerate(0.15 * np.concatenate([np.eye(6), -np.eye(6)])):
        bent = np.eye(2) + step[2:].reshape(2, 2)
        other = df.Gaussian(q.mean + q.scale @ jnp.asarray(step[:2]), q.scale @ bent)
        # Turning the factor's columns is no other Gaussian.
        assert kl(other) > best - 1e-4, i
    assert kl(scope["laplace"]) > 2 * best
    assert kl(scope["matched"]) > 1.5 * best
    # Reweighting finds the tail that the Gaussian has not.
    tail = scope["posterior"] @ (scope["grid"][:, 1] > 15)
    assert jnp.mean(scope["points"] @ q.scale[1] + q.mean[1] > 15) < tail / 2
    assert abs(scope["steep"] / tail - 1) < 0.15
    assert scope["report"].gap > 20 * info.gap
    # Predictions are averages over q, here on the grid, to five sigma of outcomes up to 5.
    density = jnp.exp(jax.vmap(q.log_prob)(scope["grid"]))
    share = jax.nn.sigmoid(scope["grid"][:, :1] + scope["grid"][:, 1:] * scope["LOG_DOSE"])
    mean = 5 * density @ share / density.sum()
    error = np.std(scope["predicted"], axis=0) / 4000**0.5
    assert np.all(np.abs(np.mean(scope["predicted"], axis=0) - mean) < 5 * error + 1e-6)


def test_a_generators_gradient_is_that_of_the_divergence_claimed(run, capsys):
    scope = run(4)
    np.testing.assert_allclose(scope["f"](scope["r"]), scope["softened"], rtol=1e-6, atol=1e-12)
    for name, gan in scope["gans"].items():
        one, other = scope["gradients"](gan, scope["START"])
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
        # Where training ends, the divergence is at rest.
        assert np.max(np.abs(scope["gradients"](gan, scope["ends"][name])[1])) < 2e-4
    out = capsys.readouterr().out
    verdicts = dict(re.findall(r"^(\S.*?)\s+(one|two) divergences?$", out, re.MULTILINE))
    assert verdicts.pop("vanilla") == "one"
    assert set(verdicts.values()) == {"two"} and len(verdicts) == 3
    # From twice JS to KL(q||p).
    vanilla, logit, places = scope["ends"]["vanilla"], scope["ends"]["logit"], scope["places"]
    np.testing.assert_allclose(places[0], vanilla, atol=1e-6)
    np.testing.assert_allclose(places[-1], logit, atol=2e-3)
    assert "`h` decreases" in out


def test_seeds_come_near_the_floor_and_their_spread_hides_the_loss(run):
    scope = run(5, ("COUNT = 16, 2, 600,", "COUNT = 8, 2, 600,"))
    distances = scope["distances"]
    assert distances.shape == (3, 8)
    assert np.all(distances.mean(axis=1) < 2.2 * scope["floor"])
    assert np.all(np.abs(scope["late"] - 2 * np.log(2)) < 0.015)
    # The best and the worst seed of one loss are further apart than the means of two losses.
    assert np.min(np.ptp(distances, axis=1)) > np.ptp(distances.mean(axis=1))


def test_path_gradients_end_where_theory_says_and_lose_their_noise(run):
    scope = run(6)
    assert abs(scope["kl"](scope["gaussian"]) - (np.log(2) / 2 - 1 / 8)) < 2e-3
    np.testing.assert_allclose(scope["gaussian"].mean, [1, 1.25], atol=0.03)
    # 8,192 even points, but at q = p any points give the evidence.
    assert abs(scope["kl"](scope["bent"])) < 1e-5
    assert abs(-scope["bent_losses"][-1] - np.log(np.pi)) < 1e-5
    assert scope["apart"].max() < 4
    spreads = np.array([spread for _, spread in scope["path"]])
    # In proportion to the distance, from .1 on.
    ratios = spreads[3:-1] / np.asarray(scope["distances"])[3:-1]
    assert np.ptp(ratios) < 0.1 * ratios[-1]
    assert spreads[-1] < 1e-5 < 1 < scope["plain"][-1][1]
    means, covariances = np.asarray(scope["means"]), np.asarray(scope["covariances"])
    np.testing.assert_allclose(means[0], [1, 1.25], atol=5e-3)
    np.testing.assert_allclose(covariances[0], [[0.25, 0.5], [0.5, 1.5]], atol=1e-2)
    # KL(p||q): the moments of p, as far as the grid of nodes reaches.
    np.testing.assert_allclose(means[2], [1, 1.5], atol=2e-2)
    np.testing.assert_allclose(covariances[2], [[0.5, 1], [1, 3]], rtol=0.03)


def test_generators_of_one_gaussian_choose_what_their_divergence_says(run):
    scope = run(7, ("STEPS, BATCH = 500, 256", "STEPS, BATCH = 500, 128"))
    means, deviation = np.array([-1.0, 1.5]), 0.3

    def denoised(sigma, y):
        """E[x | y] of the two blobs."""
        variance = deviation**2 + sigma**2
        logs = np.log([0.7, 0.3]) - np.sum((y - means[:, None]) ** 2, axis=1) / (2 * variance)
        shares = np.exp(logs - logs.max())
        return y + sigma**2 / variance * (shares @ means[:, None] / shares.sum() - y)

    for sigma in (0.1, 0.3, 1.0):
        ys = scope["xs_p"][:500] + sigma * np.random.default_rng(0).normal(size=(500, 2))
        made = jax.vmap(scope["teacher"], (None, 0))(jnp.log(sigma), ys)
        exact = np.array([denoised(sigma, np.asarray(y)) for y in ys])
        # Beside how far noise moves a sample, after 1,000 small batches.
        assert np.sqrt(np.mean((made - exact) ** 2)) < 0.25 * sigma
    # KL(q||p) has one blob, KL(p||q) the moments of p; JS may have either.
    along = np.asarray(scope["clouds"]).sum(axis=2) / np.sqrt(2)
    whole = np.asarray(scope["xs_p"]).sum(axis=1) / np.sqrt(2)
    assert abs(along[0].mean() + np.sqrt(2)) < 0.1
    assert 0.8 * deviation < along[0].std() < 1.5 * deviation
    assert abs(along[2].mean() - whole.mean()) < 0.3
    assert abs(along[2].std() / whole.std() - 1) < 0.25


def test_two_samples_are_as_far_apart_as_theory_says_and_far_ones_are_not_believed(run):
    scope = run(8, ("STEPS, SIZES = 300, (100, 300, 1000, 3000)", "STEPS, SIZES = 100, (1000,)"))
    (found,) = scope["estimates"]
    assert abs(found.value - 0.5) < 3 * found.error
    assert abs(scope["information"].value - scope["truth"]) < 3 * scope["information"].error
    assert found.believe
    assert not scope["far"].believe
    # Nor are legs whose critics had 100 steps, but for a value that is right.
    farther = scope["farther"]
    assert not farther.believe or abs(farther.value - 20.5) < 2 * farther.error
