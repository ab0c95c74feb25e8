"""The recipes run, and each does what it says."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

import divergence_flows as df

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "recipes.md").read_text()


# Less of each: what is asked for below holds all the same.
SHORTER = {
    "x0 = jr.normal(jr.key(5), (512, 2))": "x0 = jr.normal(jr.key(5), (256, 2))",
    "steps = 1000": "steps = 400",
    "shops = 2000": "shops = 60",
    "modes = 40": "modes = 6",
    "batch_size=256)": "batch_size=64)",
    "sizes, steps=500": "sizes, steps=300, folds=2, contrasts=15",
    "jr.split(jr.key(0), 8)": "jr.split(jr.key(0), 3)",
    "Discriminator(2, key=k1)": "Discriminator(2, 16, 1, key=k1)",
    "Generator(2, 2, key=k2)": "Generator(2, 2, 16, 1, key=k2)",
}


def test_the_recipes_run_and_do_what_they_say(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text, scope = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), {}
    for old, new in SHORTER.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    # `moved` and `info` are looked at where they are made: later recipes use the names again.
    parts = re.split(r"^(?=class Patience|np.save|moved, info .* keep_map)", text, flags=re.M)
    assert len(parts) == 4
    first, second, third, last = parts
    exec(first, scope)
    logged = len(scope["info"].losses)
    exec(second, scope)
    stopped, steps = scope["moved"], len(scope["info"].losses)
    exec(third, scope)
    exec(last, scope)
    # What TensorBoard reads has every metric and a value for each step.
    (events,) = (tmp_path / "runs" / "moons").glob("events.*")
    assert logged == 200
    for name in (b"losses", b"speeds"):
        assert events.read_bytes().count(name) == 200
    # It stopped where three chunks in a row were no better, near the held-out samples.
    assert f"stopped after {steps} of 2000 steps" in capsys.readouterr().out
    assert steps % 50 == 0
    assert 200 <= steps < 2000
    held_out = scope["held_out"]
    assert df.wasserstein2(stopped, held_out) < 0.25
    assert df.wasserstein2(scope["xs_q"], held_out) > 0.6
    # An extended run is the run that was never interrupted.
    names = ("gan", "d", "xs_q", "xs_p")
    again, _ = df.transport(*(scope[name] for name in names), steps=200, **scope["options"])
    assert jnp.all(again == scope["whole"])
    assert not jnp.all(scope["half"] == scope["whole"])
    # New points end as near as the ones that were in training.
    ends = [df.wasserstein2(scope[name], held_out) for name in ("moved", "pushed")]
    assert ends[1] < 1.25 * ends[0]
    # The KL flow from N(0, I) to N((3, 0), I) moves the mean by 3 (1 - 1/e); 512 samples of p and
    # 256 of q leave .08 of error, and the ridge holds the ratio back a little.
    truth = jnp.array([3 * (1 - np.exp(-1)), 0.0])
    assert jnp.max(jnp.abs(jnp.mean(scope["xs"], axis=0) - truth)) < 0.25
    # As far as 200 steps of training bring it, and on particles that were not in training.
    assert jnp.max(jnp.abs(jnp.mean(scope["arrived"], axis=0) - truth)) < 0.35
    assert abs(scope["check"].mean_r - 1) < 0.3
    # Rates, beta2 and gamma end where the page says; the generator is nearer than it was.
    trained = scope["trained"]
    ends = trained.g_opt_state.hyperparams
    np.testing.assert_allclose((ends["learning_rate"], ends["b2"]), (5e-5, 0.99), rtol=1e-3)
    np.testing.assert_allclose(scope["gamma"](400), 0.005, rtol=1e-3)
    before, after = (
        df.wasserstein2(jax.vmap(net)(scope["zs"][:300]), held_out)
        for net in (scope["players"][1], trained.generator)
    )
    assert after < 0.8 * before
    # The constant makes a ratio of the critic: E_q[r] = 1 there.
    u = scope["d_q"] - scope["constant"]
    np.testing.assert_allclose(jnp.mean(jnp.exp(u)), 1.0, rtol=1e-4)
    # The best Gaussian's precision is E[-hess log p]; that of rank 2 is near it, and no mean field:
    # shops share a level.
    posterior, report = scope["posterior"], scope["report"]
    rates = np.exp(posterior.mean - 2 + posterior.variances / 2)
    best = np.linalg.inv(np.linalg.inv(scope["prior"].covariance) + np.diag(rates))
    np.testing.assert_allclose(posterior.covariance, best, rtol=0.1, atol=0.01)
    assert np.median(best) > 0.03
    assert report.rested
    # With so many rows the best Gaussian is that at the mode, where Newton's steps go.
    at, inputs, labels = np.zeros(3), *map(np.asarray, (scope["inputs"], scope["labels"]))
    for _ in range(10):
        chance = 1 / (1 + np.exp(labels * (inputs @ at)))
        precision = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + np.eye(3)
        at = at + np.linalg.solve(precision, inputs.T @ (labels * chance) - at)
    fitted = scope["logistic"]
    assert np.max(np.abs(fitted.mean - at)) < 0.05 * np.linalg.eigvalsh(precision)[-1] ** -0.5
    np.testing.assert_allclose(fitted.covariance @ precision, np.eye(3), atol=0.06)
    assert scope["told"].rested
    assert scope["told"].elbo_error < 0.05
    # Of a mixture of as many components the ELBO and the EUBO are 0.
    bounds = scope["bounds"]
    np.testing.assert_allclose([bounds.elbo, bounds.eubo], 0.0, atol=0.01)
    assert bounds.rested
    # The posterior of a radius that is seen with noise: a ring around the origin.
    ring = scope["chain"].position
    radii = jnp.linalg.norm(ring, axis=1)
    grid = np.linspace(0.01, 4, 400)
    weights = grid * np.exp(-0.5 * grid**2 - 0.5 * ((1.5 - grid) / 0.2) ** 2)
    assert abs(radii.mean() - np.average(grid, weights=weights)) < 0.1
    assert radii.std() < 0.4
    assert jnp.all(jnp.abs(ring.mean(0)) < 0.6)
    # Seeds, each near its own start still, whose discriminators have all learned something.
    d_losses = scope["d_losses"]
    assert d_losses.shape == (3, 100)
    assert len(np.unique(np.asarray(d_losses)[:, 0])) == 3
    assert jnp.all(jnp.mean(d_losses[:, -10:], axis=1) < jnp.mean(d_losses[:, :10], axis=1))
