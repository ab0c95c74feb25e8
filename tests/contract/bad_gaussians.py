"""Bad input for matrices and Gaussians: bures, laws, rules of nodes, fields, steps and fits."""

from functools import partial

import diffrax
import jax.numpy as jnp
import numpy as np
from bad_good import (
    COVARIANCE,
    EYE,
    GOOD,
    INF,
    KEY,
    MIX,
    NAN,
    NONE,
    ONES,
    ORIGIN,
    Q,
    X,
    itself,
    log_p,
)
from jax.tree_util import Partial

import divergence_flows as df
from divergence_flows.fits._fit import unraveller

INDEFINITE, SINGULAR = jnp.array([[1.0, 2.0], [2.0, 1.0]]), jnp.ones((2, 2))
MANY = df.Gaussian(jnp.zeros((4, 2)), jnp.ones((4, 2)))
MIXES = df.Mixture(jnp.zeros((4, 2)), jnp.zeros((4, 2, 2)), jnp.ones((4, 2, 2)))
WIDE, WIDE_RULE = df.Gaussian(jnp.zeros(3), jnp.eye(3)), df.cubature(3)
FLAT, LINE = df.Gaussian(ORIGIN, SINGULAR), df.Gaussian(ORIGIN, jnp.array([1.0, 0.0]))
LOST = df.Gaussian(ORIGIN * NAN, EYE)
EMPTY, NO_MATRIX = jnp.zeros((0, 2)), jnp.zeros((0, 0))
POINTS, WEIGHTS = GOOD["Nodes"].values()
BATCHED = df.Nodes(POINTS, WEIGHTS, WEIGHTS)
LOG_TWO_PI = np.log(2 * np.pi)
FIELDS = ("gaussian_field", "fisher_rao_field", "bures_field", "mixture_field")
pair = lambda u: jnp.stack([u, u])


def scaled(by, x):
    return by * log_p(x)


def beyond(edge, x):
    return jnp.where(x[0] > edge, log_p(x), -jnp.inf)


# A target whose support ends; its gradient outside is 0, and finite.
OUTSIDE = Partial(beyond, jnp.zeros(()))


def times(by):
    """A target whose scale is an array: a NaN of it compiles nothing new."""
    return Partial(scaled, jnp.asarray(by))


# What each matrix must be.
DEFINITE, SEMI, INVERTIBLE, ANY, SHORT = "not positive", "negative", "singular", "", "leaves"
BURES = {
    "submersion": {"s": ANY},
    "horizontal": {"s": INVERTIBLE, "x": ANY},
    "vertical": {"s": INVERTIBLE, "x": ANY},
    "inner": {"sigma": DEFINITE, "u": ANY, "v": ANY},
    "exp": {"sigma": DEFINITE, "u": SHORT},
    "log": {"sigma": DEFINITE, "other": SEMI},
    "brenier_map": {"a": DEFINITE, "b": SEMI},
    "geodesic": {"a": DEFINITE, "b": SEMI},
    "distance": {"a": SEMI, "b": SEMI},
    "squared_distance": {"a": SEMI, "b": SEMI},
}
MATRICES = [(f"bures.{name}", *each) for name, kinds in BURES.items() for each in kinds.items()]
# Diagonal ones, of integers, where all has a closed form: what becomes of diag(4, 1), diag(1, 9).
WHOLE = np.diag([4, 1]), np.diag([1, 9]), np.diag([1, 9])
BECOMES = {
    "submersion": np.diag([16.0, 1.0]),
    "horizontal": np.diag([1.0, 9.0]),
    "vertical": np.zeros((2, 2)),
    "inner": 20.3125,
    "exp": np.diag([5.0625, 30.25]),
    "log": np.diag([-4.0, 4.0]),
    "brenier_map": np.diag([0.5, 3.0]),
    "geodesic": np.diag([2.25, 4.0]),
    "distance": 5**0.5,
    "squared_distance": 5.0,
}
METHODS = ("push", "standardise", "log_prob", "log_prob_of_push")
# By the type hook: a row, changes, the parameter that is named.
TYPES = [
    ("Gaussian", {"mean": 0.0}, "mean"),
    ("Gaussian", {"scale": 1.0}, "scale"),
    ("Gaussian", {"scale": jnp.ones(1)}, "scale"),
    ("LowRankGaussian", {"factor": 1.0}, "factor"),
    ("Gaussian", {"mean": MANY.mean, "scale": jnp.ones((3, 2))}, "scale"),
    ("bures_field()", {"state": (ORIGIN, jnp.eye(3))}, "state"),
    ("fit_gaussian", {"q0": {"a": "1"}}, "q0"),
    ("fit_gaussian", {"q0": ONES + 0j}, "q0"),
    *((name, {"dim": np.array(2)}, "dim") for name in GOOD if "dim" in GOOD[name]),
    *((name, {"h": df.divergences.kl_qp}, "h") for name in (*FIELDS, "velocity")),
    ("f_to_h", {"f": df.divergences.kl_qp}, "f"),
]
# By a ValueError: a row, changes, the words.
VALUES = [
    *(
        (f"bures.{name}", dict.fromkeys(kinds, NO_MATRIX), "` is empty, of shape (0, 0)", "pass a")
        for name, kinds in BURES.items()
        if name != "submersion"
    ),
    ("Gaussian", {"mean": NONE, "scale": NONE}, "`mean` is empty, of shape (0,)", "pass"),
    ("LowRankGaussian", {"factor": jnp.ones((2, 0))}, "`factor` is empty, of shape (2, 0)", "pass"),
    ("LowRankGaussian", {"factor": jnp.ones((2, 3))}, "3 columns and 2 rows", "pass a `Gaussian`"),
    ("LowRankGaussian.sample", {"shape": (-1,)}, "`shape` is (-1,)", "pass sizes"),
    ("Mixture", {"logits": NONE, "means": EMPTY, "scales": EMPTY}, "`means` is empty", "pass"),
    ("Gaussian.sample Mixture.sample", {"shape": (2, -1)}, "`shape` is (2, -1)", "pass sizes"),
    ("gaussian_kl", {"q": MANY}, "`q`", "(4, 2)", "jax.vmap"),
    ("gaussian_kl", {"p": MANY}, "`p`", "(4, 2)", "jax.vmap"),
    ("gaussian_kl", {"p": WIDE}, "`q` has dimension 2 and `p` 3"),
    ("Nodes", {"batches": jnp.ones(3)}, "`batches` has shape (3,)"),
    ("gauss_hermite", {"order": 181}, "`order` is 181", "use `trapezoid`"),
    ("gauss_hermite", {"dim": 9, "order": 9}, "9^9 nodes are too many", "use `sobol_nodes`"),
    *(("trapezoid", {"dim": n}, f"`dim` is {n}, ", "use `sobol_nodes`") for n in (-1, 0, 3)),
    ("sobol_nodes", {"dim": 30000}, "`dim` is 30000", "at most 21201"),
    (
        "gaussian_field fisher_rao_field bures_field fit_gaussian forward_backward_step",
        *({"estimator": "best"}, "`estimator` is 'best'", "give", "price"),
    ),
    ("mixture_field", {"metric": "best"}, "`metric` is 'best'", "give", "euclidean"),
    ("forward_backward_step", {"q": MANY}, "(4, 2)", "jax.vmap"),
    ("forward_backward_step", {"log_p": itself}, "`log_p` returns", "must return"),
    ("forward_backward_step", {"nodes": WIDE_RULE}, "`nodes` have dimension 3", "make nodes"),
    ("fit_gaussian", {"q0": MANY}, "(4, 2)", "jax.vmap"),
    ("fit_gaussian", {"log_p": pair, "nodes": df.cubature(1)}, "`log_p` returns"),
    ("fit_gaussian", {"nodes": WIDE_RULE}, "`nodes` have dimension 3", "make"),
    (
        "fit_gaussian",
        {"solver": None, "stepsize_controller": diffrax.PIDController(rtol=1e-3, atol=1e-6)},
        *("`stepsize_controller` is for a solver", "pass one", "leave it out"),
    ),
    ("fit_gaussian", {"q0": {}}, "`q0` is {}", "pass where to start"),
    ("fit_gaussian", {"q0": None}, "`q0` is None", "pass where to start"),
    *(("fit_gaussian", {"n": n}, f"`n` makes {n} draws", "25") for n in (-1, 0, 3)),
    ("fit_mixture", {"q0": MANY}, "(4, 2)", "jax.vmap"),
    *(("fit_mixture", {"q0": q0}, f"`q0` is {q0}", "pass where to start") for q0 in ({}, None)),
    *(("fit_mixture", {"n": n}, f"`n` is {n}", "pass 25 or more") for n in (-1, 0, 24)),
    ("fit_mixture", {"log_p": pair}, "`log_p` returns"),
    ("fit_mixture", {"nodes": WIDE_RULE}, "`nodes` have dimension 3", "make"),
    ("fit_mixture", {"nodes": BATCHED}, "`nodes` have mini-batches", "pass nodes"),
    ("fit_mixture", {"k": 2, "q0": MIX}, "means of shape (3, 2) and `k` is 2", "pass at most"),
    ("fit_mixture", {"rank": 2}, "`rank` is 2 in 1 dim", "leave `rank` out"),
    ("fit_mixture", {"rank": 1, "q0": Q}, "`rank` is 1, and `q0` has", "pass parameters"),
    *(
        ("fit_mixture", {"xs_p": xs}, f"`xs_p` is {words} and one sample is float32[1]", "pass")
        for xs, words in ((ORIGIN, "float32[2]"), (EYE, "float32[2,2]"))
    ),
    ("fit_mixture", {"xs_p": EMPTY[:, :1]}, "`xs_p` has no samples", "pass at least"),
    ("Mixture", {"factors": jnp.ones((3, 2, 0))}, "`factors` is empty", "pass"),
    (
        "Mixture",
        *({"scales": jnp.ones((3, 2, 2)), "factors": jnp.ones((3, 2, 1))}, "`scales` have shape"),
        "pass deviations",
    ),
    ("stl_loss", {"log_p": itself}, "`log_p` returns"),
    ("stl_loss", {"h": pair}, "`h` returns", "must return one real number"),
    ("stl_loss", {"q": 3}, "`q` is a int", "give `push`"),
    ("stl_loss", {"h": df.divergences.kl_qp}, "`h` is", "pass `.h`"),
    ("stl_loss", {"h": df.gans.logit()}, "`h` is", "pass `.h`"),
    ("stl_loss", {"h": df.divergences.kl_qp.f}, "`h` is", "pass `.h`"),
    ("stl_loss", {"h": 3.0}, "`h` is", "give an increasing function"),
]
FALLS, ONE_BY_ONE = ("`h` decreases", "Give an increasing h"), ("(4, 2", "jax.vmap")
OF_3 = "`nodes` have dimension 3", "make nodes"
LAWS = dict(zip(FIELDS, (Q, Q, (ORIGIN, EYE), MIX), strict=True))


def rates(name, target, law, h=None, dim=2):
    return getattr(df, name)(target, df.cubature(dim), h=h)(0.0, law, None)


def unravel(vectors):
    """What a fit of two numbers does with vectors, without a fit."""
    return unraveller({"a": jnp.zeros(()), "b": jnp.zeros(1)})(vectors)


# By a ValueError too, of what is made here: the function that is named, a call, its arguments.
CALLS = [
    ("Gaussian.log_det", MANY.log_det, (), "(4, 2)", "jax.vmap"),
    ("Gaussian.sample", MANY.sample, (KEY,), "(4, 2)", "jax.vmap"),
    ("Mixture.sample", MIXES.sample, (KEY,), "(4, 2, 2)", "jax.vmap"),
    ("FitInfo.unravel", unravel, (jnp.ones((5, 3)),), "vectors of 2 numbers, and not of 3"),
    *((f"Gaussian.{name}", getattr(MANY, name), (X,), *ONE_BY_ONE) for name in METHODS),
    *((f"Mixture.{name}", getattr(MIXES, name), (X,), *ONE_BY_ONE) for name in METHODS[::2]),
    *((name, rates, (name, itself, law), "`log_p` returns", "must") for name, law in LAWS.items()),
    *((name, rates, (name, log_p, law, None, 3), *OF_3) for name, law in LAWS.items()),
    *((name, rates, (name, log_p, MANY), "jax.vmap") for name in FIELDS[:2]),
    ("mixture_field", rates, ("mixture_field", log_p, MIXES), "jax.vmap"),
    *(
        (f"{kind}.push", df.stl_loss, (log_p, q, z), "`z` has shape", "pass")
        for kind, q, z in (
            ("Gaussian", MANY, jnp.ones((4, 2))),
            ("Gaussian", Q, jnp.ones((4, 1))),
            ("Gaussian", Q, jnp.ones((4, 3))),
            ("Gaussian", Q, WIDE_RULE),
            ("Mixture", MIX, jnp.ones((4, 3))),
        )
    ),
]

NO_SUM = "`weights` must sum to 1", "divide"
STEP, SINGULAR_Q = "forward_backward_step", ("`q` has a singular", "not finite", "pass one")
ETA, NO_STEP = jnp.asarray(0.1), "`step` must be positive and at most"
BEYOND = "`t` is beyond the end", "Take `t` between 0 and 1"
START = {"nodes": df.cubature(1), "log_p": times(1.0)}
one = lambda mean, scale: df.Gaussian(jnp.array([mean]), jnp.array([scale]))
# At run time, by what an array holds.
CONTENTS = [
    *(
        (name, {argument: matrix}, f"`{argument}`", kind)
        for name, argument, kind in MATRICES
        for matrix in (
            *((GOOD[name][argument].at[0, 1].set(bad) for bad in (NAN, INF)) if kind else ()),
            *([INDEFINITE] if kind in (DEFINITE, SEMI) else ()),
            *([SINGULAR] if kind in (DEFINITE, INVERTIBLE) else ()),
        )
    ),
    ("bures.exp", {"sigma": EYE, "u": -3 * EYE}, "`u` leaves the geodesic", "Take a sh"),
    *(("bures.geodesic", {"t": t, "a": EYE, "b": EYE / 4}, *BEYOND) for t in (2.5, NAN)),
    ("gaussian_kl", {"p": LOST}, "`p`", "not finite", "Pass"),
    *(("gaussian_kl", {"p": law}, "`p` has a singular", "Pass") for law in (FLAT, LINE)),
    ("Nodes", {"points": POINTS * NAN}, "`points` must be finite"),
    ("Nodes", {"weights": WEIGHTS * INF}, *NO_SUM),
    ("Nodes", {"weights": jnp.ones(2)}, *NO_SUM),
    (STEP, {"log_p": times(NAN), "step": ETA}, "`log_p`", "not finite at nodes", "start"),
    (STEP, {"log_p": OUTSIDE, "step": ETA}, "-inf at nodes of `q`", "support"),
    (STEP, {"log_p": times(3e38), "step": ETA}, "derivatives", "sums overflow"),
    *((STEP, {"log_p": times(1.0), "q": q, "step": ETA}, *SINGULAR_Q) for q in (LOST, FLAT, LINE)),
    *((STEP, {"log_p": times(1.0), "step": ETA * x}, NO_STEP) for x in (NAN, -1.0, 30.0)),
    ("fit_gaussian", START | {"log_p": times(NAN)}, "`log_p`", "not finite at nodes of `q0`"),
    ("fit_gaussian", START | {"q0": one(NAN, 1.0)}, "`q0`", "not finite", "Start"),
    ("fit_gaussian", START | {"q0": one(0.0, 0.0)}, "`q0` has a singular", "Start"),
    ("fit_mixture", {"log_p": times(NAN)}, "`log_p`", "not finite at nodes of `q0`"),
    ("fit_mixture", {"q0": one(NAN, 1.0)}, "`q0`", "not finite", "Start"),
    ("fit_mixture", {"q0": one(0.0, 0.0)}, "`q0` has a singular", "Start"),
    ("fit_mixture", {"xs_p": jnp.array([[NAN]])}, "`xs_p` has NaN or inf", "drop"),
    ("stl_loss", {"h": jnp.negative}, "`h` decreases", "It must"),
]


def mean_rate(name, target, law):
    found = rates(name, target, law)
    if name == "mixture_field":
        return found.means[0]
    return found[0] if name == "bures_field" else found.mean


# Of fields, which are made before they are asked.
CONTENT_CALLS = [
    (name, rates, (name, log_p, law, jnp.negative), *FALLS) for name, law in LAWS.items()
]
# numpy checks its own arrays, not under jit.
NUMPY_CONTENTS = [("Nodes", {"points": np.ones((2, 1)), "weights": np.ones(2)}, *NO_SUM)]

halfway = lambda a, b: df.bures.geodesic(0.5, a, b)
is_lost = lambda *arguments: jnp.isnan(mean_rate(*arguments)).any()
lost = lambda x: NAN * jnp.sum(x)
of_bures = lambda name: halfway if name == "geodesic" else getattr(df.bures, name)
LOST_2, DIAGONAL = jnp.full((2, 2), NAN), jnp.diag(jnp.array([1.0, 3.0]))
ALONE = df.Mixture(jnp.array([0.0, -INF]), EYE, jnp.ones((2, 2)))  # a weight of zero
POINT_MASSES = df.Mixture(ORIGIN, EYE, 0 * EYE)
NO_DENSITY = [FLAT, FLAT, (ORIGIN, INDEFINITE), POINT_MASSES]
Z, HERE = jnp.ones((4, 2)), -LOG_TWO_PI  # log q - log p, wherever z is
WHOLE_Q = np.zeros(2, int), np.eye(2, dtype=int)
# A call, its arguments, the answer, and how far from it.
ANSWERS = [
    *((of_bures(name), WHOLE[: len(BURES[name])], BECOMES[name], 1e-5) for name in BURES),
    (df.bures.submersion, (LOST_2,), LOST_2),
    (df.bures.horizontal, (COVARIANCE, LOST_2), LOST_2),
    (df.bures.vertical, (COVARIANCE, LOST_2), LOST_2),
    (df.bures.inner, (COVARIANCE, LOST_2, EYE), NAN),
    (df.bures.inner, (COVARIANCE, EYE, LOST_2), NAN),
    (df.bures.submersion, (NO_MATRIX,), NO_MATRIX),
    # A factor is any square matrix: its product with its transpose is what is semidefinite.
    (df.bures.submersion, (SINGULAR,), 2 * SINGULAR),
    # A singular covariance is a Gaussian on a subspace, and has a distance: here from a point.
    (df.bures.distance, (0 * COVARIANCE, DIAGONAL), 2.0),
    (df.bures.squared_distance, (0 * COVARIANCE, DIAGONAL), 4.0),
    (Q.log_prob, (jnp.array([NAN, 0.0]),), NAN),
    (df.Gaussian(ORIGIN, ONES).log_prob, (jnp.array([INF, 0.0]),), -INF),
    (LOST.push, (ONES,), np.array([NAN, NAN])),
    # A factor has no sign, and a singular one is a law without a density.
    (df.Gaussian(ORIGIN, -EYE).log_prob, (ORIGIN,), -LOG_TWO_PI),
    *((law.log_prob, (ONES,), NAN) for law in (FLAT, LINE, POINT_MASSES)),
    *((law.log_det, (), -INF) for law in (FLAT, LINE)),
    (df.Gaussian, WHOLE_Q, Q),
    (Q.log_prob, (np.array([1, 0]),), -LOG_TWO_PI - 0.5),
    (df.gaussian_kl, (LOST, Q), NAN),
    *((df.gaussian_kl, (law, Q), INF) for law in (FLAT, LINE)),
    (MIX.log_prob, (ONES * NAN,), NAN),
    (ALONE.log_prob, (EYE[0],), -LOG_TWO_PI),
    (df.Mixture, (np.zeros(3, int), np.zeros((3, 2)), np.ones((3, 2))), MIX),
    (MIX.log_prob, (np.zeros(2, int),), -LOG_TWO_PI),
    (df.Nodes, (np.array([[1], [-1]]), WEIGHTS), (POINTS, WEIGHTS)),
    # A field has no check of values in it; what solves it has, and reports.
    *((mean_rate, (name, lost, law), np.array([NAN, NAN])) for name, law in LAWS.items()),
    *((is_lost, (name, log_p, law), True) for name, law in zip(FIELDS, NO_DENSITY, strict=True)),
    *((is_lost, (name, log_p, LINE), True) for name in FIELDS[:2]),
    # A target of integers, a constant for one, has a rate too.
    *((mean_rate, (name, lambda x: 0, law), np.zeros(2)) for name, law in LAWS.items()),
    (mean_rate, ("bures_field", jnp.sum, WHOLE_Q), ONES, 1e-5),
    # At the optimum the step rests, whatever its size.
    (partial(df.forward_backward_step, step=1), (log_p, df.cubature(2), Q), Q),
    (df.stl_loss, (log_p, Q, Z * NAN), NAN),
    *((df.stl_loss, (log_p, law, Z), NAN) for law in (FLAT, LINE)),
    (df.stl_loss, (log_p, Q, np.ones((4, 2), int)), HERE),
]
fitted = lambda q0: df.fit_gaussian(**GOOD["fit_gaussian"] | START | {"q0": q0})[0].mean
CONVERSIONS = [
    (df.Gaussian, (np.zeros(2), np.eye(2)), Q),
    (df.Nodes, (np.asarray(POINTS), np.asarray(WEIGHTS)), (POINTS, WEIGHTS)),
    *((fitted, (q0,), np.zeros(1), 1e-2) for q0 in (1.0, np.array(1.0), np.array(1))),
    (df.stl_loss, (log_p, Q, np.ones((4, 2))), HERE),
]
