"""Bad input for ratios, densities and witnesses of samples, and for what they return."""

import functools

import jax.numpy as jnp
from bad_input import by_content, by_type, by_value
from bad_samples import (
    INTS,
    KEY,
    KEYLESS,
    MORE_INTS,
    NO_H,
    NO_TS,
    XS,
    YS,
    every,
    keyless,
    of_clouds,
    options,
    vector,
)

import divergence_flows as df

POINT = jnp.array([0.25, -0.5])
BOTH, WHOLE = (XS, YS), (INTS, MORE_INTS)
Q_AND_P = ("xs_q", "xs_p")


def kde(xs, x=POINT, **more):
    return df.kde_log_prob(xs, **more)(x)


def witness(xs_q, xs_p, x=POINT, **more):
    return df.mmd_witness(xs_q, xs_p, **more)(0.0, x, None)


def logistic(xs_q, xs_p, x=POINT, key=KEY, features=2, newton_steps=1, **more):
    options = {"features": features, "newton_steps": newton_steps, "degree": 0, **more}
    return df.rff_log_ratio(xs_q, xs_p, key=key, **options)(0.0, x, None)


def squares(xs_q, xs_p, x=POINT, key=KEY, centres=2, **more):
    return df.ulsif_ratio(xs_q, xs_p, key=key, centres=centres, **more)(0.0, x, None)


def chosen(xs_q, xs_p, key=KEY, loss="ulsif", features=2, folds=2, **more):
    options = {"loss": loss, "features": features, "folds": folds, **more}
    return df.ratio_bandwidth(xs_q, xs_p, key=key, **options)


def checked(xs_q, xs_p, log_r=None, **more):
    return df.ratio_check(half if log_r is None else log_r, xs_q, xs_p, **more)


def half(t, x, args):
    return 0.5 * jnp.sum(x)


def at_points(call, arguments, size, kind):
    """Cells of the function that comes back: one point of the samples' size."""
    short, cloud = jnp.ones(1), jnp.ones((3, 2))
    wrong = options(call, arguments, x=[(short, size), (jnp.ones(3), size)])
    return wrong, options(call, arguments, x=[(cloud, kind), (POINT > 0, kind), (None, kind)])


def widths(owner, call, arguments, name="bandwidth"):
    """Cells of numbers that must be positive; contents, since they may be traced."""
    bad = by_content(owner, f"`{name}` must be positive")
    wrong = [(0.0, bad), (jnp.array(-1.0), bad), (jnp.nan, bad), ("wide", by_type(owner, name))]
    return options(call, arguments, **{name: wrong})


FITTED = by_value("the fitted function", "`x` has shape", "was made for shape (2,)")
AS_POINT = by_type("linear", "x")
SIZES, RANKS = {}, {}
for fit, arguments, size, kind in (
    (kde, (XS,), by_type("_kde", "x"), by_type("_kde", "x")),
    (witness, BOTH, FITTED, by_type("_exact_witness", "x")),
    (logistic, BOTH, FITTED, AS_POINT),
    (squares, BOTH, FITTED, AS_POINT),
):
    SIZES[fit], RANKS[fit] = at_points(fit, arguments, size, kind)


def of_two(call, owner, **rest):
    """The columns of a fit to two samples."""
    cells = of_clouds(call, owner, Q_AND_P, BOTH, WHOLE, 1e-3)
    unequal = every(call, by_type(owner, "xs_p"), (XS, YS[:, :1]))
    found = {**cells, "mismatched shapes": [*unequal, *SIZES.get(call, [])]}
    found["wrong rank"] = [*found["wrong rank"], *RANKS.get(call, [])]
    return {**found, **rest}


FEATURES = functools.partial(witness, features=4)
TABLE = {
    "median_bandwidth": {
        **of_clouds(df.median_bandwidth, "median_bandwidth", ("xs", "ys"), BOTH, WHOLE),
        "mismatched shapes": every(
            df.median_bandwidth, by_type("median_bandwidth", "ys"), (XS, YS[:, :1])
        ),
        "wrong value": [
            *options(
                df.median_bandwidth,
                (XS,),
                size=[
                    (1, by_value("median_bandwidth", "`size` is 1", "at least 2")),
                    (2.0, by_type("median_bandwidth", "size")),
                ],
            ),
            *every(df.median_bandwidth, by_value("median_bandwidth", "one sample"), (XS[:1],)),
            *every(
                df.median_bandwidth,
                by_content("median_bandwidth", "most of them"),
                (jnp.ones((4, 2)),),
            ),
        ],
    },
    "kde_log_prob": {
        **of_clouds(kde, "kde_log_prob", ("xs",), (XS,), (INTS,), 1e-4),
        "mismatched shapes": SIZES[kde],
        "not positive definite": every(
            kde,
            by_content("kde_log_prob", "covariance of `xs`", "vary in every direction"),
            (XS * jnp.array([1.0, 0.0]),),
            (XS[:1],),
        ),
        "wrong value": [
            *widths("kde_log_prob", kde, (XS,)),
            *options(kde, (XS,), block=[(0, by_value("kde_log_prob", "`block` is 0"))]),
        ],
    },
    "mmd_witness": of_two(
        witness,
        "mmd_witness",
        **{
            "key missing": [
                *every(FEATURES, by_value("mmd_witness", "pass `key`"), BOTH),
                *options(FEATURES, BOTH, key=[(0, by_type("mmd_witness", "key"))]),
            ],
            "wrong value": [
                *widths("mmd_witness", witness, BOTH),
                *options(
                    functools.partial(witness, key=KEY),
                    BOTH,
                    features=[(3, by_value("mmd_witness", "`features` is 3", "even"))],
                    block=[(0, by_value("mmd_witness", "`block` is 0"))],
                    bandwidth=[
                        (jnp.ones((2, 2)), by_value("mmd_witness", "`bandwidth` has shape"))
                    ],
                ),
            ],
        },
    ),
    "rff_log_ratio": of_two(
        logistic,
        "rff_log_ratio",
        **{
            "key missing": keyless(df.rff_log_ratio, "rff_log_ratio", BOTH),
            "wrong value": [
                *widths("rff_log_ratio", logistic, BOTH, "ridge")[1:2],
                *options(
                    logistic,
                    BOTH,
                    features=[(0, by_value("rff_log_ratio", "`features` is 0"))],
                    degree=[(3, by_value("rff_log_ratio", "`degree` is 3"))],
                    newton_steps=[(0, by_value("rff_log_ratio", "`newton_steps` is 0"))],
                    block=[(-1, by_value("rff_log_ratio", "`block` is -1"))],
                ),
            ],
        },
    ),
    "ulsif_ratio": of_two(
        squares,
        "ulsif_ratio",
        **{
            "key missing": keyless(df.ulsif_ratio, "ulsif_ratio", BOTH),
            "wrong value": [
                *widths("ulsif_ratio", squares, BOTH, "ridge")[2:],
                *options(
                    squares,
                    BOTH,
                    centres=[(0, by_value("ulsif_ratio", "`centres` is 0"))],
                    block=[(0, by_value("ulsif_ratio", "`block` is 0"))],
                ),
            ],
        },
    ),
    "ratio_bandwidth": of_two(
        chosen,
        "ratio_bandwidth",
        **{
            "key missing": keyless(df.ratio_bandwidth, "ratio_bandwidth", BOTH),
            "wrong value": [
                *widths("ratio_bandwidth", chosen, BOTH, "ridge")[3:],
                *options(
                    chosen,
                    BOTH,
                    loss=[("mse", by_value("ratio_bandwidth", "`loss` is 'mse'"))],
                    folds=[(1, by_value("ratio_bandwidth", "`folds` is 1"))],
                    features=[(0, by_value("ratio_bandwidth", "`features` is 0"))],
                    multiples=[
                        ((), by_value("ratio_bandwidth", "`multiples` holds none")),
                        ((1.0, -1.0), by_value("ratio_bandwidth", "`multiples` is -1.0")),
                    ],
                ),
            ],
        },
    ),
    "ratio_check": of_two(
        checked,
        "ratio_check",
        **{
            "no ratio estimator": every(
                checked,
                by_value("ratio_check", "no log ratio"),
                (*BOTH, df.witness(half)),
                (*BOTH, df.mmd_witness(XS, YS, bandwidth=1.0)),
            ),
            "wrong value": [
                *every(checked, by_value("ratio_check", "`log_r` returns"), (*BOTH, vector)),
                *every(checked, by_type("ratio_check", "log_r"), (*BOTH, "kl")),
                *options(checked, BOTH, t=[("late", by_type("ratio_check", "t"))]),
            ],
        },
    ),
}
NEVER = ("not positive definite", "outside the domain", NO_H, NO_TS)
ABSENT = {
    "median_bandwidth": (*KEYLESS, NO_H, NO_TS),
    "kde_log_prob": (*KEYLESS[1:], NO_H, NO_TS),
    "mmd_witness": (*NEVER, "no ratio estimator"),
    "rff_log_ratio": (*NEVER, "no ratio estimator"),
    "ulsif_ratio": (*NEVER, "no ratio estimator"),
    "ratio_bandwidth": (*NEVER, "no ratio estimator"),
    "ratio_check": (*NEVER, "key missing"),
}
