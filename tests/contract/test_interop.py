"""Other libraries' objects go in and out unchanged; the examples that show it are right.

Each example asserts what it claims: a chain of NUTS, a known constant, draws of the target.
"""

import pathlib
import sys

import chex
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flowjax.bijections import TriangularAffine
from flowjax.distributions import StandardNormal, Transformed
from jax.tree_util import Partial

import divergence_flows as df

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples"))
import _ou
import fit_log_density
import with_flowjax
import with_optax_and_profiler
import with_pandas

pytestmark = pytest.mark.usefixtures("own_pictures")


def law(mean, covariance):
    return Transformed(
        StandardNormal((2,)), TriangularAffine(mean, jnp.linalg.cholesky(covariance))
    )


def log_r(p, t, x, args):
    return p.log_prob(x) - law(*_ou.moments(t)).log_prob(x)


@pytest.mark.usefixtures("x64")
def test_particles_flow_from_a_law_of_flowjax_to_another_as_in_closed_form():
    p = law(jnp.zeros(2), jnp.asarray(_ou.P))
    q = law(jnp.asarray(_ou.M), _ou.S * jnp.eye(2))
    xs = q.sample(jr.key(0), (64,))
    field = df.with_log_prob(df.velocity(df.divergences.kl_qp.h, Partial(log_r, p)))
    (moved,), (log_q,) = (y[1:] for y in df.integrate(field, (xs, q.log_prob(xs)), [0.0, 0.7]).ys)
    # The law's density along each particle; and the map is the affine one of section 8: x - mean
    # is stretched along the axes of P, where the variances of q_0 and q_t are known.
    mean, covariance = _ou.moments(0.7)
    chex.assert_trees_all_close(log_q, law(mean, covariance).log_prob(moved), rtol=1e-6)
    variances = jnp.diag(_ou.AXES.T @ covariance @ _ou.AXES)
    stretch = (_ou.AXES * jnp.sqrt(variances / _ou.S)) @ _ou.AXES.T
    chex.assert_trees_all_close(moved, mean + (xs - _ou.M) @ stretch.T, atol=1e-6)


def test_a_flow_of_flowjax_serves_as_q_and_as_p_and_ott_finds_the_particles_at_home(capsys):
    with_flowjax.main(["--fast"])
    assert "Sinkhorn divergence" in capsys.readouterr().out


def test_a_ratio_of_data_frames_tells_two_classes_apart_as_a_logistic_regression_does():
    ours, theirs = with_pandas.main(["--fast"])
    assert ours > theirs - 0.02


def test_schedules_of_optax_steer_and_a_trace_of_the_profiler_shows_one_solve(tmp_path, capsys):
    with_optax_and_profiler.main(["--fast", "--out", str(tmp_path)])
    assert str(tmp_path) in capsys.readouterr().out


@pytest.mark.usefixtures("x64")
def test_a_fit_of_numpyros_log_density_is_what_blackjaxs_sampler_finds(capsys):
    q, info, _ = fit_log_density.compare(fit_log_density.from_numpyro, 1000)
    assert "from_numpyro" in capsys.readouterr().out
    posterior, effects = fit_log_density.predict_with_numpyro(q, info)
    assert np.min(posterior["spread"]) > 0
    # What is predicted scatters about the schools' own means, by their errors.
    means = posterior["mean"][:, None] + posterior["spread"][:, None] * posterior["standard"]
    scores = (effects - means) / fit_log_density.ERRORS
    assert effects.shape == (4000, 8)
    np.testing.assert_allclose(scores.std(axis=0), 1.0, rtol=5 / 8000**0.5)  # five sigma


@pytest.mark.usefixtures("x64")
def test_a_fit_through_flowjaxs_bijections_predicts_what_the_closed_form_does(capsys):
    fit_log_density.bounded()  # which compares
    assert "variance of answers" in capsys.readouterr().out
