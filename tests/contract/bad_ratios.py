"""Bad input for ratios, densities and witnesses of samples, and for the functions they return."""

from functools import partial

import bad_samples as some
import jax.numpy as jnp
from bad_input import by_content, by_type, by_value
from bad_samples import KEY, XS, YS, every, options, wrong_values

import divergence_flows as df

POINT = jnp.array([0.25, -0.5])
BOTH = (XS, YS)


def kde(xs, x=POINT, **more):
    return df.kde_log_prob(xs, **more)(x)


def witness(xs_q, xs_p, x=POINT, **more):
    return df.mmd_witness(xs_q, xs_p, **more)(0.0, x, None)


def logistic(xs_q, xs_p, x=POINT, key=KEY, features=2, newton_steps=1, **more):
    more = {"features": features, "newton_steps": newton_steps, "degree": 0, **more}
    return df.rff_log_ratio(xs_q, xs_p, key=key, **more)(0.0, x, None)


def squares(xs_q, xs_p, x=POINT, key=KEY, centres=2, **more):
    return df.ulsif_ratio(xs_q, xs_p, key=key, centres=centres, **more)(0.0, x, None)


def chosen(xs_q, xs_p, key=KEY, loss="ulsif", features=2, folds=2, **more):
    more = {"loss": loss, "features": features, "folds": folds, **more}
    return df.ratio_bandwidth(xs_q, xs_p, key=key, **more)


def checked(xs_q, xs_p, log_r=None, **more):
    return df.ratio_check(half if log_r is None else log_r, xs_q, xs_p, **more)


def half(t, x, args):
    return 0.5 * jnp.sum(x)


def positive(call, owner, arguments, name, *values):
    """Cells of numbers that must be positive; contents, since they may be traced."""
    refused = by_content(owner, f"`{name}` must be positive")
    return options(call, arguments, **{name: [(value, refused) for value in values]})


def row(name, call, values, arguments=BOTH, names=("xs_q", "xs_p"), point=None, **rest):
    """The columns of a function of samples; `point` refuses x where it returns a function of x."""
    cells = some.of_clouds(call, name, names, arguments)
    cells["mismatched shapes"] = every(call, by_type(name, names[-1]), (XS, YS[:, :1]))
    if point is not None:
        kind, size = point
        bad = [(jnp.ones((3, 2)), kind), (POINT > 0, kind), (None, kind)]
        cells["wrong rank"] += options(call, arguments, x=bad)
        sizes = options(call, arguments, x=[(jnp.ones(1), size), (jnp.ones(3), size)])
        cells["mismatched shapes"] = [*cells["mismatched shapes"][: len(names) - 1], *sizes]
    return {**cells, "wrong value": values, **rest}


def keyless(name):
    return {"key missing": some.keyless(getattr(df, name), name, BOTH)}


FITTED = by_value("the fitted function", "`x` has shape", "was made for shape (2,)")
LINEAR, KERNEL, KDE = (by_type(name, "x") for name in ("linear", "_exact_witness", "_kde"))
FEATURES = partial(witness, features=4)
TABLE = {
    # This row alone has the conversions, which `check_samples` makes for all.
    "median_bandwidth": {
        **row(
            "median_bandwidth",
            df.median_bandwidth,
            [
                *wrong_values(df.median_bandwidth, "median_bandwidth", (XS,), size=1),
                *options(
                    df.median_bandwidth, (XS,), size=[(2.0, by_type("median_bandwidth", "size"))]
                ),
                *every(df.median_bandwidth, by_value("median_bandwidth", "one sample"), (XS[:1],)),
                *every(
                    df.median_bandwidth,
                    by_content("median_bandwidth", "most of them"),
                    (jnp.ones((4, 2)),),
                ),
            ],
            names=("xs", "ys"),
        ),
        **some.equals(df.median_bandwidth, BOTH, (some.INTS, some.MORE_INTS)),
    },
    "kde_log_prob": row(
        "kde_log_prob",
        kde,
        [
            *positive(kde, "kde_log_prob", (XS,), "bandwidth", 0.0, jnp.array(-1.0), jnp.nan),
            *options(kde, (XS,), bandwidth=[("wide", by_type("kde_log_prob", "bandwidth"))]),
            *wrong_values(kde, "kde_log_prob", (XS,), block=0),
        ],
        (XS,),
        ("xs",),
        (KDE, KDE),
        **{
            "not positive definite": every(
                kde,
                by_content("kde_log_prob", "covariance of `xs`", "vary in every direction"),
                (XS * jnp.array([1.0, 0.0]),),
                (XS[:1],),
            )
        },
    ),
    "mmd_witness": row(
        "mmd_witness",
        witness,
        [
            *positive(witness, "mmd_witness", BOTH, "bandwidth", 0.0),
            *options(
                witness,
                BOTH,
                bandwidth=[(jnp.ones((2, 2)), by_value("mmd_witness", "`bandwidth` has shape"))],
            ),
            *wrong_values(partial(witness, key=KEY), "mmd_witness", BOTH, features=3, block=0),
        ],
        point=(KERNEL, FITTED),
        **{
            "key missing": [
                *every(FEATURES, by_value("mmd_witness", "pass `key`"), BOTH),
                *options(FEATURES, BOTH, key=[(0, by_type("mmd_witness", "key"))]),
            ]
        },
    ),
    "rff_log_ratio": row(
        "rff_log_ratio",
        logistic,
        [
            *positive(logistic, "rff_log_ratio", BOTH, "ridge", jnp.array(-1.0)),
            *wrong_values(
                logistic, "rff_log_ratio", BOTH, features=7, degree=3, newton_steps=0, block=-1
            ),
            *every(
                partial(logistic, degree=2),
                by_value("rff_log_ratio", "2555 monomials"),
                (jnp.ones((3, 70)), jnp.ones((3, 70))),
            ),
            *every(
                partial(logistic, degree=1),
                by_content("rff_log_ratio", "a coordinate is the same for all samples"),
                (XS * jnp.array([1.0, 0.0]), YS * jnp.array([1.0, 0.0])),
            ),
        ],
        point=(LINEAR, FITTED),
        **keyless("rff_log_ratio"),
    ),
    "ulsif_ratio": row(
        "ulsif_ratio",
        squares,
        [
            *positive(squares, "ulsif_ratio", BOTH, "ridge", jnp.nan),
            *wrong_values(squares, "ulsif_ratio", BOTH, centres=0, block=0),
            *every(
                partial(squares, bandwidth=1e3, ridge=1e-30),
                by_content("ulsif_ratio", "singular to working precision"),
                BOTH,
            ),
        ],
        point=(LINEAR, FITTED),
        **keyless("ulsif_ratio"),
    ),
    "ratio_bandwidth": row(
        "ratio_bandwidth",
        chosen,
        [
            *positive(chosen, "ratio_bandwidth", BOTH, "ridge", 0.0),
            *wrong_values(chosen, "ratio_bandwidth", BOTH, loss="mse", folds=1, features=0),
            *options(
                chosen,
                BOTH,
                ridge=[("small", by_type("ratio_bandwidth", "ridge"))],
                multiples=[
                    ((), by_value("ratio_bandwidth", "`multiples` holds none")),
                    ((1.0, -1.0), by_value("ratio_bandwidth", "`multiples` is -1.0")),
                ],
            ),
        ],
        **keyless("ratio_bandwidth"),
    ),
    "ratio_check": row(
        "ratio_check",
        checked,
        [
            *every(checked, by_value("ratio_check", "`log_r` returns"), (*BOTH, some.vector)),
            *every(checked, by_type("ratio_check", "log_r"), (*BOTH, "kl")),
            *options(checked, BOTH, t=[("late", by_type("ratio_check", "t"))]),
        ],
        **{
            "no ratio estimator": every(
                checked,
                by_value("ratio_check", "`log_r` is no log ratio", "no ratio"),
                (*BOTH, df.witness(half)),
                (*BOTH, df.mmd_witness(*BOTH, bandwidth=1.0)),
                (*BOTH, df.mmd_witness(*BOTH, features=2, key=KEY)),
            )
        },
    ),
}
NEVER = ("not positive definite", "outside the domain", some.NO_H, some.NO_TS)
ABSENT = {
    **dict.fromkeys(TABLE, (*NEVER, "no ratio estimator", *some.CONVERSIONS)),
    "median_bandwidth": (*some.KEYLESS, some.NO_H, some.NO_TS),
    "kde_log_prob": (*some.KEYLESS[1:], some.NO_H, some.NO_TS, *some.CONVERSIONS),
    "ratio_check": (*NEVER, "key missing", *some.CONVERSIONS),
}
