"""What the README shows runs, and says what it says."""

import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import divergence_flows as df

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_its_tables_are_those_of_the_committed_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    tables = importlib.import_module("_readme")
    assert tables.filled(README) == README


def test_a_story_has_at_most_fifteen_lines():
    stories = README.split("## Six stories")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", stories, re.DOTALL)
    assert len(blocks) == 6
    assert max(len([line for line in block.splitlines() if line]) for block in blocks) <= 15


# A smaller network reaches the same distance in half the steps; 4 seeds are seeds as 64 are.
SHORTER = {
    "Discriminator(2, 64, 3,": "Discriminator(2, 32, 2,",
    "steps=600": "steps=300",
    "jr.split(jr.key(0), 64)": "jr.split(jr.key(0), 4)",
}


def test_the_readmes_examples_run_and_are_right(capsys):
    text, scope = "\n".join(BLOCKS), {}
    for old, new in SHORTER.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    exec(text, scope)
    # 500 particles and 500 samples of p: .09 lies between two sets of samples.
    assert scope["before"] > 0.7
    assert scope["after"] < 0.16
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "exact" in line]
    assert len(lines) == 4
    for _, _, measured, _, exact in lines:
        # 8,192 numbers leave 1.6 % of Monte-Carlo error in a variance; four of them are allowed.
        assert abs(float(measured) / float(exact) - 1) < 0.064
    r = np.array([0.3, 1.0, 2.5])
    softened = (1 + r) * np.log((1 + r) / (2 * r)) + r - 1
    np.testing.assert_allclose(scope["f"](r), softened, rtol=2e-5, atol=1e-7)
    # At the best Gaussian, E_q[grad log p] = 0 (draws of our own, errors in units of theirs)...
    q, info = scope["q"], scope["info"]
    draws = jax.vmap(q.push)(jr.normal(jr.key(1), (20_000, 30)))
    scores = jax.vmap(jax.grad(scope["log_p"]))(draws)
    whitened = scores @ q.scale
    assert jnp.all(jnp.abs(jnp.mean(whitened, axis=0)) < 0.05)
    # ... and -E_q[hess log p] is the precision: E[grad log p (x - mu)^T] = -I.
    residual = whitened.T @ jax.vmap(q.standardise)(draws) / len(draws) + jnp.eye(30)
    assert jnp.max(jnp.abs(residual)) < 0.15
    assert info.rested
    assert info.gap < 0.1
    # Another optimiser, another estimator: the same Gaussian.
    assert df.gaussian_kl(scope["vi"], q) < 0.05
    # Seeds, each near its own start still, whose discriminators have all learned something.
    d_losses = scope["d_losses"]
    assert d_losses.shape == (4, 100)
    assert len(np.unique(np.asarray(d_losses)[:, 0])) == 4
    assert jnp.all(jnp.mean(d_losses[:, -10:], axis=1) < jnp.mean(d_losses[:, :10], axis=1))
    # The KL flow from N(0, I) to N((3, 0), I) moves the mean by 3 (1 - 1/e); 512 samples of p and
    # 256 of q leave .08 of error, and the ridge holds the ratio back a little.
    assert jnp.max(jnp.abs(jnp.mean(scope["xs"], axis=0) - jnp.array([1.896, 0.0]))) < 0.25
    # As far as 200 steps of training bring it, and on particles that were not in training.
    assert jnp.max(jnp.abs(jnp.mean(scope["new"], axis=0) - jnp.array([1.896, 0.0]))) < 0.35
