"""Bad input for ratios, densities and witnesses of samples, and for the functions they return."""

from functools import partial

import bad_samples as some
import jax.numpy as jnp
from bad_input import by_content, by_type, by_value
from bad_samples import KEY, XS, YS, every, options, refused, wrong_values

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


def row(name, arguments=BOTH, names=("xs_q", "xs_p"), point=None):
    """The columns of a function of samples; `point` refuses x where it returns a function of x."""
    call = CALLS[name]
    cells = some.of_clouds(call, name, names, arguments) | {"wrong value": WRONG[name]}
    unequal = every(call, by_type(name, names[-1]), (XS, YS[:, :1])) if len(names) == 2 else []
    if point is None:
        return {**cells, "mismatched shapes": unequal}
    kind, size = point
    bad = [(jnp.ones((3, 2)), kind), (POINT > 0, kind), (None, kind)]
    cells["wrong rank"] += options(call, arguments, x=bad)
    sizes = options(call, arguments, x=[(jnp.ones(1), size), (jnp.ones(3), size)])
    return {**cells, "mismatched shapes": [*unequal, *sizes]}


FITTED = by_value("the fitted function", "`x` has shape", "was made for shape (2,)")
LINEAR, KERNEL, KDE = (by_type(name, "x") for name in ("linear", "_exact_witness", "_kde"))
FEATURES = partial(witness, features=4)
CALLS = {
    "median_bandwidth": df.median_bandwidth,
    "kde_log_prob": kde,
    "mmd_witness": partial(witness, key=KEY),
    "rff_log_ratio": logistic,
    "ulsif_ratio": squares,
    "ratio_bandwidth": chosen,
    "ratio_check": checked,
}
median, density, mmd, rff, ulsif, bandwidth, check = (
    partial(refused, call, name) for name, call in CALLS.items()
)
LINE = (XS * jnp.array([1.0, 0.0]), YS * jnp.array([1.0, 0.0]))
MANY = (jnp.ones((3, 70)), jnp.ones((3, 70)))
SINGULAR = {"bandwidth": 1e3, "ridge": 1e-30}
WRONG = {
    "median_bandwidth": [
        *median((XS,), "`size` is 1", "at least 2", size=1),
        *median((XS,), "size", kind=by_type, size=2.0),
        *median((XS[:1],), "one sample"),
        *median((jnp.ones((4, 2)),), "most of them", kind=by_content),
    ],
    "kde_log_prob": [
        *(
            cell
            for value in (0.0, jnp.array(-1.0), jnp.nan)
            for cell in density(
                (XS,), "`bandwidth` must be positive", kind=by_content, bandwidth=value
            )
        ),
        *density((XS,), "bandwidth", kind=by_type, bandwidth="wide"),
        *density((XS,), "`block` is 0", block=0),
    ],
    "mmd_witness": [
        *mmd(BOTH, "`bandwidth` must be positive", kind=by_content, bandwidth=0.0),
        *mmd(BOTH, "`bandwidth` has shape", bandwidth=jnp.ones((2, 2))),
        *mmd(BOTH, "`features` is 3", "even", features=3),
        *mmd(BOTH, "`block` is 0", block=0),
    ],
    "rff_log_ratio": [
        *rff(BOTH, "`ridge` must be positive", kind=by_content, ridge=jnp.array(-1.0)),
        *wrong_values(
            logistic, "rff_log_ratio", BOTH, features=7, degree=3, newton_steps=0, block=-1
        ),
        *rff(MANY, "2555 monomials", degree=2),
        *rff(LINE, "a coordinate is the same for all samples", kind=by_content, degree=1),
    ],
    "ulsif_ratio": [
        *ulsif(BOTH, "`ridge` must be positive", kind=by_content, ridge=jnp.nan),
        *wrong_values(squares, "ulsif_ratio", BOTH, centres=0, block=0),
        *ulsif(BOTH, "singular to working precision", kind=by_content, **SINGULAR),
    ],
    "ratio_bandwidth": [
        *bandwidth(BOTH, "`ridge` must be positive", kind=by_content, ridge=0.0),
        *bandwidth(BOTH, "ridge", kind=by_type, ridge="small"),
        *wrong_values(chosen, "ratio_bandwidth", BOTH, loss="mse", folds=1, features=0),
        *bandwidth(BOTH, "`multiples` holds none", multiples=()),
        *bandwidth(BOTH, "`multiples` is -1.0", multiples=(1.0, -1.0)),
    ],
    "ratio_check": [
        *check((*BOTH, some.vector), "`log_r` returns"),
        *check((*BOTH, "kl"), "log_r", kind=by_type),
        *check(BOTH, "t", kind=by_type, t="late"),
    ],
}
TABLE = {
    "median_bandwidth": row("median_bandwidth", names=("xs", "ys")),
    "kde_log_prob": row("kde_log_prob", (XS,), ("xs",), (KDE, KDE)),
    "mmd_witness": row("mmd_witness", point=(KERNEL, FITTED)),
    "rff_log_ratio": row("rff_log_ratio", point=(LINEAR, FITTED)),
    "ulsif_ratio": row("ulsif_ratio", point=(LINEAR, FITTED)),
    "ratio_bandwidth": row("ratio_bandwidth"),
    "ratio_check": row("ratio_check"),
}
for name in ("rff_log_ratio", "ulsif_ratio", "ratio_bandwidth"):
    TABLE[name]["key missing"] = some.keyless(getattr(df, name), name, BOTH)
TABLE["mmd_witness"]["key missing"] = [
    *refused(FEATURES, "mmd_witness", BOTH, "pass `key`"),
    *refused(FEATURES, "mmd_witness", BOTH, "key", kind=by_type, key=0),
]
# `check_samples` converts for all of them.
TABLE["median_bandwidth"] |= some.equals(df.median_bandwidth, BOTH, (some.INTS, some.MORE_INTS))
TABLE["kde_log_prob"]["not positive definite"] = [
    cell
    for xs in (LINE[0], XS[:1])
    for cell in density((xs,), "covariance of `xs`", "vary in every direction", kind=by_content)
]
TABLE["ratio_check"]["no ratio estimator"] = [
    cell
    for potential in (
        df.witness(half),
        df.mmd_witness(*BOTH, bandwidth=1.0),
        df.mmd_witness(*BOTH, features=2, key=KEY),
    )
    for cell in check((*BOTH, potential), "`log_r` is no log ratio", "no ratio")
]
NEVER = ("not positive definite", "outside the domain", some.NO_H, some.NO_TS)
ABSENT = {
    **dict.fromkeys(TABLE, (*NEVER, "no ratio estimator", *some.CONVERSIONS)),
    "median_bandwidth": (*some.KEYLESS, some.NO_H, some.NO_TS),
    "kde_log_prob": (*some.KEYLESS[1:], some.NO_H, some.NO_TS, *some.CONVERSIONS),
    "ratio_check": (*NEVER, "key missing", *some.CONVERSIONS),
}
