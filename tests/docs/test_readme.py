"""What the README shows runs, and says what it says."""

import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_its_tables_are_those_of_the_committed_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    tables = importlib.import_module("_readme")
    assert tables.filled(README) == README


def test_it_has_at_most_150_lines_and_links_to_files_that_are_there():
    assert len(README.splitlines()) <= 150
    for target in re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", README):
        assert (ROOT / target).exists(), target


def test_its_ten_lines_are_those_of_the_front_page():
    page = (ROOT / "docs" / "index.md").read_text()
    assert re.findall(r"```python\n(.*?)```", page, re.DOTALL) == BLOCKS[:2]
    assert len([line for line in BLOCKS[1].splitlines() if line]) <= 10


# A smaller network reaches the same distance in half the steps.
SHORTER = {"Discriminator(2, 64, 3,": "Discriminator(2, 32, 2,", "steps=600": "steps=300"}


def test_the_readmes_examples_run_and_are_right(capsys):
    text, scope = "\n".join(BLOCKS), {}
    for old, new in SHORTER.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    exec(text, scope)
    before, after = map(float, capsys.readouterr().out.splitlines()[0].split())
    # .17 lies between two samples of the curve; particles spread more evenly than samples.
    assert before > 0.9
    assert after < 0.17
    # The curve is one from end to end, of unit scale in 1.3: no part of it is left empty.
    gaps = np.linalg.norm(scope["xs_p"][:, None] - scope["path"][-1][None], axis=-1).min(axis=1)
    assert gaps.max() < 0.3
    # 500 particles and 500 samples of p: .09 lies between two sets of samples.
    assert scope["before"] > 0.7
    assert scope["after"] < 0.16
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
