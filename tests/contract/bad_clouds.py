"""Bad input for clouds: fields and solves, distances, ratios and densities of samples."""

from functools import partial

import bad_good as good
import diffrax
import jax.numpy as jnp
import numpy as np
from bad_good import GOOD, INF, KEY, NAN, TIMES, XS, YS, U, X, decay, itself, log_r, pulling

import divergence_flows as df


def broken(xs, value=NAN):
    """With one number that is none, as an array."""
    return jnp.asarray(xs).at[(0,) * jnp.ndim(xs)].set(value)


down = lambda u: -u
pair = lambda u: jnp.stack([u, u])
vector = lambda t, x, args: x  # where a function must return one number
first = lambda t, x, args: x[:1]
three = lambda t, y, args: jnp.ones(3)
towards = lambda t, x, xs, args: x - jnp.mean(xs, axis=0)
halves = lambda t, x, args: 0.5 * jnp.sum(x)
MEAN = jnp.mean(XS, axis=0)
INTS = np.array([[0, 3], [2, 1], [5, 4], [1, 7]])
MORE_INTS = np.array([[1, 1], [0, 2], [6, 5], [3, 0], [2, 8]])
LINE = XS * jnp.array([1.0, 0.0])
ON_LINE = {"xs_q": LINE, "xs_p": YS * jnp.array([1.0, 0.0])}
MANY, EYE = jnp.ones((3, 70)), jnp.eye(2)
FITTED = ("mmd_witness", "rff_log_ratio", "ulsif_ratio")

END, DENSE = diffrax.SaveAt(t1=True), diffrax.SaveAt(dense=True)

STEPS = ("ratio_step", "flow_ratio_step")
BATCHES = [(xs, YS) for xs in (jnp.ones(()), XS + 0j, None, 1.5, XS.tolist())]
BATCHES += [(XS, YS[:, :1])]

TYPES = [
    ("integrate", {"ts": 1.0}, "ts"),
    ("train_flow_ratio", {"ts": jnp.ones((2, 2))}, "ts"),
    *(("kde_log_prob()", {"x": jnp.ones(n)}, "x") for n in (0, 1, 3)),
    *(
        ("with_log_prob()", {"state": state}, "state")
        for state in (({}, U), (XS, XS), (U[0], U), (XS, None), (XS, U[:3]), (XS, 0.0))
    ),
    *((name, {"batch": batch}, "batch") for name in STEPS for batch in (None, XS)),
]
VALUES = [
    *((name, {"batch": batch}, "`xs_q` ", "; pass ") for name in STEPS for batch in BATCHES),
    ("integrate", {"dt0": None}, "Euler takes", "dt0=0.01"),
    ("integrate settle curve_length", {"y0": None}, "`y0` holds no numbers"),
    ("langevin", {"x0": {}}, "`x0` holds no numbers"),
    ("dissipation", {"grad_u": None}, "`grad_u` is None, without arrays", "pass a cloud"),
    ("velocity() gradient_flow() cloud_velocity()", {"xs": {}}, "`xs` is {}, without arrays"),
    ("score_velocity()", {"xs": {}}, "`xs` is {}, without arrays"),
    ("score_velocity heat_flow_divergence", {"h": jnp.tanh}, "h' depends on u", "pass log_r("),
    ("score_velocity heat_flow_divergence", {"h": pair}, "`h` returns float32[2]"),
    ("heat_flow_divergence", {"score_q": first}, "`score_q` returns", "the point's gradient"),
    ("heat_flow_divergence", {"levels": 0}, "`levels` is 0"),
    ("heat_flow_divergence", {"scale": -1.0}, "`scale` is -1.0"),
    ("settle langevin", {"max_steps": 0}, "`max_steps` is 0"),
    ("integrate", {"field": first}, "`field` returns", "same structure and shapes"),
    ("integrate", {"y0": (XS, X), "field": three}, "`field` returns", "same structure and shapes"),
    ("settle", {"field": first}, "`field` returns float32[1,2]"),
    ("settle", {"rest": vector}, "`rest` returns float32[4,2]"),
    ("settle", {"rtol": INF}, "`rtol` is inf"),
    ("settle langevin", {"dense": True}, "`dense` is no option here"),
    ("integrate langevin", {"saveat": END}, "`ts` holds 3 times", "pass ts=[start, end]"),
    ("integrate", {"saveat": END, "ts": TIMES, "dense": True}, "`dense` is True", "dense=True"),
    ("integrate", {"saveat": diffrax.SaveAt(), "ts": TIMES}, "`saveat` saves nothing"),
    ("settle langevin", {"saveat": DENSE}, "`saveat` has dense=True, which is no option here"),
    ("curve_length", {"saveat": END}, "`saveat` is no option here"),
    ("langevin", {"score": first}, "`score` returns float32[4,1]"),
    ("curve_length", {"field": first}, "`field` returns float32[1,2]"),
    *(
        ("displacement", {"transport_map": f}, "`transport_map` returns")
        for f in (lambda x: x[:1], jnp.sum)
    ),
    ("with_log_prob", {"field": df.gradient_flow(good.to_the_mean)}, "particles may interact"),
    ("dissipation", {"h": pair}, "`h` returns float32[2]"),
    ("inverse_log_ratio", {"lower": 1.0, "upper": 0.0}, "`lower`=1.0 must be below `upper`=0.0"),
    ("inverse_log_ratio", {"lower": NAN}, "`lower`=nan must be below"),
    ("Divergence", {"f": None}, "give exactly one of f", "f=None"),
    ("Divergence", {"log_f": jnp.exp}, "give exactly one"),
    # --- ratios of samples ---
    ("median_bandwidth", {"size": 1}, "`size` is 1", "at least 2"),
    ("median_bandwidth", {"xs": XS[:1], "ys": None}, "one sample"),
    ("mmd_witness rff_log_ratio ulsif_ratio", {"bandwidth": EYE}, "`bandwidth` has shape"),
    ("mmd_witness", {"features": 3, "key": KEY}, "`features` is 3", "even"),
    ("mmd_witness", {"features": 4}, "pass `key`"),
    ("drift_field", {"radii": ()}, "`radii` is empty", "pass one or more"),
    ("rff_log_ratio", {"features": 7}, "`features` is 7"),
    ("rff_log_ratio", {"degree": 3}, "`degree` is 3"),
    ("rff_log_ratio", {"degree": 2, "xs_q": MANY, "xs_p": MANY}, "2555 monomials"),
    ("ratio_bandwidth", {"folds": 1}, "`folds` is 1"),
    ("ratio_bandwidth", {"multiples": ()}, "`multiples` holds none"),
    ("ratio_bandwidth", {"multiples": (1.0, -1.0)}, "`multiples` is -1.0"),
    ("ratio_check", {"log_r": vector}, "`log_r` returns"),
    *(
        ("ratio_check", {"log_r": potential}, "`log_r` is no log ratio", "no ratio")
        for potential in (
            df.witness(halves),
            df.mmd_witness(XS, YS, bandwidth=1.0),
            df.mmd_witness(XS, YS, features=2, key=KEY),
        )
    ),
]
CLOUD = (0.0, XS, None)
CALLS = [
    ("velocity", df.velocity(itself, vector), CLOUD, "`log_r` returns float32[2]"),
    ("velocity", df.velocity(pair, log_r), CLOUD, "`h` returns float32[2]", "one"),
    ("gradient_flow", df.gradient_flow(towards), CLOUD, "`variation` returns float32[2]"),
    ("cloud_velocity", df.cloud_velocity(itself, lambda xs: 3.0), CLOUD, "returns 3.0"),
    ("cloud_velocity", df.cloud_velocity(itself, lambda xs: vector), CLOUD, "`fit(xs)` returns"),
    ("cloud_velocity", df.cloud_velocity(pair, pulling), CLOUD, "`h` returns"),
    ("with_log_prob", df.with_log_prob(first), (0.0, (XS, U), None), "`field` returns"),
    ("witness", df.witness(itself), (0.0, X, None), "`discriminator` returns", "must return"),
]

# Samples that must be finite: NaN in the first or only ones, inf in the second.
CLOUDS = "xs xs_q u like", "ys xs_p"
OF_SAMPLES = (
    *("coupling", "wasserstein2", "displacement", "median_bandwidth", "kde_log_prob", *FITTED),
    *("drift_field", "ratio_bandwidth", "ratio_check", "dissipation", "transport", "train_gan"),
    *("train_flow_ratio", "FlowRatioState.start", "networks.TimeDiscriminator"),
)
CONTENTS = [
    *(
        (name, {x: broken(GOOD[name][x], bad)}, f"`{x}` has NaN or inf", "drop those samples")
        for name in OF_SAMPLES
        for names, bad in zip(CLOUDS, (NAN, INF), strict=True)
        for x in names.split()
        if x in GOOD[name]
    ),
    *(
        (name, {"y0": broken(XS, INF)}, "`y0` has NaN or inf")
        for name in ("settle", "curve_length")
    ),
    *(("integrate", {"y0": broken(XS, bad)}, "`y0` has NaN or inf") for bad in (NAN, INF)),
    ("langevin", {"x0": broken(XS)}, "`x0` has NaN or inf"),
    ("with_log_prob", {"noise": broken(XS)[None]}, "`noise` has NaN"),
    *(
        (name, {weights: masses.at[0].add(gap)}, f"`{weights}` must {words}")
        for name in ("coupling", "wasserstein2")
        for weights, masses in good.WEIGHTS.items()
        for gap, words in (
            (0.5, "sum to 1; divide them by their sum"),
            (-0.5, "be finite, and none negative"),
            (NAN, "be finite, and none negative"),
        )
    ),
    # Arrays of JAX are checked where they are.
    ("integrate", {"ts": jnp.array([0.0, 1.0, 0.5])}, "`ts` must increase"),
    ("integrate", {"dt0": -jnp.ones(())}, "`dt0` must be positive"),
    ("dissipation", {"h": down}, "`h` decreases"),
    ("dissipation", {"of": down}, "`of` decreases"),
    ("dissipation", {"u": -U, "h": jnp.sqrt}, "no slope there", "negate"),
    ("median_bandwidth", {"xs": jnp.ones((4, 2)), "ys": None}, "most of them"),
    *(
        ("kde_log_prob", {"bandwidth": x}, "`bandwidth` must be positive")
        for x in (0.0, jnp.array(-1.0), NAN)
    ),
    *(
        ("kde_log_prob", {"xs": xs}, "covariance of `xs`", "vary in every direction")
        for xs in (LINE, XS[:1])
    ),
    ("mmd_witness", {"bandwidth": 0.0}, "`bandwidth` must be positive"),
    ("drift_field", {"radii": (0.1, 0.0)}, "`radii` must be positive"),
    ("rff_log_ratio", {"ridge": jnp.array(-1.0)}, "`ridge` must be positive"),
    ("rff_log_ratio", {**ON_LINE, "degree": 1}, "a coordinate is the same for all samples"),
    ("ulsif_ratio", {"ridge": NAN}, "`ridge` must be positive"),
    ("ulsif_ratio", {"bandwidth": 1e3, "ridge": 1e-30}, "singular to working precision"),
    ("ratio_bandwidth", {"ridge": 0.0}, "`ridge` must be positive"),
]

moves, flows = df.velocity(itself, log_r), df.gradient_flow(good.to_the_mean)
refits, carries = df.cloud_velocity(itself, pulling), df.with_log_prob(decay)
follows = lambda y0, ts: df.integrate(decay, y0, ts, **good.EULER).ys
quartered = lambda ys: jnp.stack([jnp.asarray(ys, float), 0.25 * jnp.asarray(ys, float)])
PULLED = MEAN.at[0].set(NAN) - broken(XS)  # towards a mean that is NaN
TWO, WHOLE = np.full(4, 2.0), (INTS, MORE_INTS)
PAIRED = ((df.coupling, 4), (df.wasserstein2, 4), (df.median_bandwidth, 5))


def of_floats(call, *arguments):
    """What the same call says of float arrays of JAX."""
    return lambda: call(*[jnp.asarray(x, float) for x in arguments])


ANSWERS = [
    # A field looks at no contents: NaN gives NaN where it is, and changes no other particle.
    (moves, (0.0, XS[:0], None), XS[:0]),
    (moves, (0.0, broken(XS), None), -broken(XS)),
    # A decreasing h is allowed: it moves up the divergence.
    (df.velocity(down, log_r), CLOUD, XS),
    (moves, (0.0, INTS, None), -INTS),
    (flows, (0.0, XS[:0], None), XS[:0]),
    (flows, (0.0, broken(XS), None), PULLED),
    (refits, (0.0, broken(XS), None), PULLED),
    (df.cloud_velocity(down, pulling), CLOUD, XS - MEAN),
    (carries, (0.0, (broken(XS), U), None), (-broken(XS), TWO)),
    (carries, (0.0, (INTS, INTS[:, 0]), None), (-INTS, TWO)),
    (partial(df.dissipation, itself), (INTS[:, 0], INTS), -np.mean(np.sum(INTS**2, axis=1))),
    (follows, (INTS, np.array([0, 1])), quartered(INTS)),
    *((call, (INTS, MORE_INTS[:n]), of_floats(call, INTS, MORE_INTS[:n])) for call, n in PAIRED),
]
CONVERSIONS = [
    (moves, (0.0, np.asarray(XS), None), -XS),
    (follows, (2.0, [0.0, 1.0]), quartered(2.0)),
    (follows, (np.asarray(XS), np.array([0.0, 1.0])), quartered(XS)),
    *(
        (call, (np.asarray(XS), np.asarray(YS[:n])), of_floats(call, XS, YS[:n]))
        for call, n in PAIRED
    ),
]
