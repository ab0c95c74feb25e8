"""Makes the page *which loss minimises what*: the library's own answer for every row of `gans`.

The formulas are written down once, here, as LaTeX; the library says which divergences a loss
measures and descends, and every formula is evaluated and compared with what the library computes.
"""

import re
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from _formula import evaluate
from scipy.stats import norm

import divergence_flows as df

U = np.linspace(-3.0, 3.0, 61)
ALLOWED = 1e-6  # float64; what quadrature, autodiff and root finding leave is near 1e-12
# f with f(1) = f'(1) = 0, by the name of the divergence in the library.
NAMED = {
    "kl_qp": r"r - 1 - \log r",
    "kl_pq": r"r \log r - r + 1",
    "jensen_shannon": r"\tfrac{1}{2} r \log r - \tfrac{1}{2} (1 + r) \log(\tfrac{1 + r}{2})",
    "softened_reverse_kl": r"(1 + r) \log(\tfrac{1 + r}{2 r}) + r - 1",
    "squared_hellinger": r"(\sqrt{r} - 1)^2",
    "pearson": "(r - 1)^2",
    "le_cam": r"\tfrac{(r - 1)^2}{r + 1}",
    "least_squares": r"2 r \log(\tfrac{2 r}{1 + r}) - \tfrac{1}{1 + r} + \tfrac{1}{2}"
    r" - \tfrac{5}{4} (r - 1)",
    "neyman": r"\tfrac{(r - 1)^2}{r}",
    "arcsinh": None,  # a quadrature
    "shifted_vanilla(3)": r"c r \log r - (1 + c r) \log(\tfrac{1 + c r}{1 + c})",
    "alpha(1.5)": r"\tfrac{4}{3} (r^{3 / 2} - \tfrac{3}{2} r + \tfrac{1}{2})",
}
LETTERS = {"C": 3.0, "c": np.exp(3.0)}


class Row(NamedTuple):
    """One loss: how to make it, its formulas in d and u, and what the slides say otherwise."""

    call: str
    phi: str
    psi: str
    log_t: str
    h_t: str
    h: str
    slides: str = ""


SP, SP_MINUS = r"-\operatorname{sp}(d)", r"-\operatorname{sp}(-d)"
ROWS = (
    Row(
        "vanilla()",
        SP_MINUS,
        SP,
        "d",
        r"\operatorname{sp}(d)",
        r"\operatorname{sp}(u)",
        "“Neither vanilla nor NS GAN minimises JSD”, say the slides; by their own rule "
        "this one does.",
    ),
    Row(
        "vanilla(3)",
        SP_MINUS,
        SP,
        "d",
        r"\operatorname{sp}(d + C)",
        r"\operatorname{sp}(u + C)",
        "The shift trick, here with $C = 3$ and $c = e^C$.",
    ),
    Row(
        "non_saturating()",
        SP_MINUS,
        SP,
        "d",
        r"-\operatorname{sp}(-d)",
        r"-\operatorname{sp}(-u)",
        "That sentence of the slides is true of this one.",
    ),
    Row("logit()", SP_MINUS, SP, "d", "d", "u"),
    Row("arcsinh()", SP_MINUS, SP, "d", r"\operatorname{arcsinh}(d)", r"\operatorname{arcsinh}(u)"),
    Row(
        "mle()",
        SP_MINUS,
        SP,
        "d",
        "e^d",
        "e^u",
        "“Not the fastest”, say the slides: speeds compare only after a normalisation. For "
        "Gaussians of one covariance this one lowers KL(q‖p) exactly as fast as `logit()`.",
    ),
    Row(
        "f_gan(pearson, raw=False)",
        "d",
        r"-d - \tfrac{1}{4} d^2",
        r"\log(1 + \tfrac{d}{2})",
        r"d + \tfrac{1}{4} d^2",
        "e^{2 u}",
    ),
    Row(
        "f_gan(pearson, False, raw=False)",
        "d",
        r"-d - \tfrac{1}{4} d^2",
        r"\log(1 + \tfrac{d}{2})",
        "d",
        "2 e^u",
        "The slides' f-GAN, Table 1, is this one, Nowozin's heuristic: it descends not $f$ but the "
        "divergence with second derivative $f''/r$.",
    ),
    Row("f_gan(pearson)", "2 (e^d - 1)", "1 - e^{2 d}", "d", "e^{2 d} - 1", "e^{2 u}"),
    Row("f_gan(kl_qp)", "-e^{-d}", "-d", "d", "d", "u"),
    Row(
        "f_gan(kl_qp, False)",
        "-e^{-d}",
        "-d",
        "d",
        "-e^{-d}",
        "-e^{-u}",
        "As above: half of Neyman's $\\chi^2$ instead of KL(q‖p).",
    ),
    Row(
        "b_gan(pearson)",
        "2 (d - 1)",
        "1 - d^2",
        r"\log d",
        "d^2 - 1",
        "e^{2 u}",
        "Holds for $d > 0$ only.",
    ),
    Row(
        "least_squares()",
        "-(d - 1)^2",
        "-d^2",
        r"\log(\tfrac{d}{1 - d})",
        "-(d - 1)^2",
        r"-\sigma(-u)^2",
        "A ratio for $0 < d < 1$ only. With labels $-1, 1, 0$ it is no MonoFlow: $h' < 0$ where "
        "$r > 1$.",
    ),
    Row(
        "ebm()",
        "-d",
        "-e^{-d}",
        "-d",
        "e^{-d}",
        "e^u",
        "$h_T$ falls in $d$ but rises in $r$, because $d = -\\log r$.",
    ),
    Row("nwj()", "d", "-e^{d - 1}", "d - 1", "d - 1", "u", "Not in Table 1."),
    Row("ulsif()", "d", r"-\tfrac{1}{2} d^2", r"\log d", r"\log d", "u", "Not in Table 1."),
    Row("exponential()", "-e^{-d}", "-e^d", "2 d", "2 d", "u", "Not in Table 1."),
    Row(
        "mirror(squared_hellinger)",
        "d",
        r"\tfrac{1}{3} (1 - d^3)",
        r"2 \log d",
        "d",
        "e^{u / 2}",
        "Not in Table 1. The optimal $d$ is $h(\\log r)$ itself.",
    ),
)

# Of critics of pairs: what each player maximises of a difference v, and h'(u) for each x of p.
PAIRS = {
    "relativistic()": (
        *(r"-\operatorname{sp}(-v)", r"-\operatorname{sp}(-v)"),
        r"\sigma(\log r(x) - u)",
    ),
}
BESIDE = ("non_saturating()", "vanilla()", "logit()")  # their h'(u), for comparison
AT = (-5.0, 0.0, 5.0)


def divergence(name):
    """A row of `df.divergences` by name, with its number if it takes one."""
    function, _, number = name.partition("(")
    found = getattr(df.divergences, function)
    return found(float(number.rstrip(")"))) if number else found


def gan_of(call):
    """The GAN of a call."""
    scope = {**vars(df.divergences), **vars(df.gans)}
    return eval(call, {"__builtins__": {}}, scope)


@eqx.filter_jit
def slopes(h, us):
    return jax.vmap(jax.grad(h))(us)


@eqx.filter_jit
def values(f, xs):
    return jax.vmap(f)(xs)


def standard(f, slope_at_one, rs):
    """f less the a (r - 1) that no divergence feels."""
    return values(f, rs) - slope_at_one * (rs - 1)


def name_of(slope):
    """Which named divergence has a proportional h', and the factor."""
    for name in NAMED:
        scale = np.asarray(slope) / np.asarray(divergence(name).h_prime(U))
        if np.ptp(scale) < 1e-9 * np.max(np.abs(scale)):
            return name, float(np.mean(scale))
    raise RuntimeError("no divergence of NAMED has this slope; add it")


def times(factor):
    """A factor in print."""
    nice = {0.25: "¼ ", 0.5: "½ ", 1.0: ""}
    return nice.get(round(factor, 9), f"{factor:g} ")


def differ(one, other, up_to_constant=False):
    """The largest difference of two functions, relative to the largest value."""
    one, other = np.asarray(one), np.asarray(other)
    if up_to_constant:
        one, other = one - one[len(one) // 2], other - other[len(other) // 2]
    return np.max(np.abs(one - other)) / max(np.max(np.abs(other)), 1e-300)


class Found(NamedTuple):
    """What the library says of a row."""

    measures: tuple
    descends: tuple
    pull: float
    error: float


def ask(row):
    """What a row measures and descends; every formula is compared with the library."""
    gan, rs = gan_of(row.call), np.exp(U)
    d = values(gan.inverse, U)
    pairs = {"phi": gan.phi, "psi": gan.psi, "log_t": gan.log_t, "h_t": gan.h_t}
    errors = [
        differ(
            evaluate(getattr(row, name), d=d, **LETTERS) * np.ones_like(U),
            values(function, d),
            up_to_constant=name != "log_t",
        )
        for name, function in pairs.items()
    ]
    errors.append(differ(evaluate(row.h, u=U, **LETTERS), values(gan.h, U), True))
    # The calculus alone, from phi, psi and h_T: no closed form of the tables is used.
    asked = df.h_to_f(df.lower(gan.h_t, df.log_ratio(gan.phi, gan.psi), inverse=gan.inverse))
    measured, descended = slopes(df.f_to_h(gan.measures), U), slopes(gan.h, U)
    both = name_of(measured), name_of(descended)
    shift = float(jax.grad(gan.measures)(1.0))
    claims = (standard(gan.measures, shift, rs), values(gan.descends, rs))
    for (name, factor), claim in zip(both, claims, strict=True):
        exact = divergence(name).standard(U)
        if NAMED[name]:
            errors.append(differ(evaluate(NAMED[name], r=rs, **LETTERS), exact))
        errors.append(differ(factor * exact, claim))
    errors.append(differ(claims[1], values(asked, rs)))
    if max(errors) > ALLOWED:
        raise RuntimeError(f"{row.call}: formulas and library differ: {errors}")
    return Found(*both, float(slopes(gan.h, np.array([-5.0]))[0]), max(errors))


def pull_of_pairs(call):
    """h'(u) of a game of pairs for p = N(0, 1) and q = N(1, 1), by the library and by formula."""
    gan, (critic, generator, h_prime) = gan_of(call), PAIRS[call]
    errors = [
        differ(evaluate(formula, v=U), values(function, U))
        for formula, function in ((critic, gan.critic), (generator, gan.generator))
    ]
    # log r = 1/2 - x, at 200,000 quantiles of p, and at the nodes of Gauss and Hermite.
    h_t = gan.against(0.5 - norm.ppf((np.arange(200_000) + 0.5) / 200_000))
    found = np.array([jax.grad(h_t)(u) for u in AT])
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    inner = h_prime.replace(r"\log r(x)", "y")
    at = np.array([evaluate(inner, y=0.5 - nodes, u=u) for u in AT])
    errors.append(differ(at @ weights / np.sum(weights), found))
    if max(errors) > ALLOWED:
        raise RuntimeError(f"{call}: formulas and library differ: {errors}")
    return found


def named(name, factor):
    return f"{times(factor)}`{name}`"


def formula(latex):
    """For a table's cell: mathematics, tidied for the eye."""
    latex = re.sub(
        r"\\(log|operatorname\{\w+\}|sigma)\((\\tfrac\{[^{}]*\}\{[^{}]*\})\)", r"\\\1 \2", latex
    )
    return f"${latex}$"


def table(head, body):
    lines = ["| " + " | ".join(row) + " |" for row in (head, *body)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def players(rows):
    """What the discriminator and the generator maximise."""
    body = [
        [f"`{row.call}`", *map(formula, (row.phi, row.psi, row.log_t, row.h_t))] for row in rows
    ]
    return table(["`gans.`", r"$\phi(d)$", r"$\psi(d)$", r"$\log T(d)$", "$h_T(d)$"], body)


def verdicts(rows, found):
    """Which divergences those are."""
    head = ["`gans.`", "$h(u)$", "measures", "descends", "one?", "$h'(-5)$"]
    body = []
    for row, each in zip(rows, found, strict=True):
        one = "yes" if each.measures[0] == each.descends[0] else "no"
        two = [named(*each.measures), named(*each.descends)]
        body.append([f"`{row.call}`", formula(row.h), *two, one, f"{each.pull:.2g}"])
    return table(head, body)


def pairs():
    """The players of games of pairs, and their pulls beside those of others."""
    head = ["`gans.`", "critic, of $d(x) - d(y)$", "generator, of $d(y) - d(x)$", "$h'(u)$"]
    body = [
        [f"`{call}`", *map(formula, row[:2]), f"$E_p[{row[2].replace('(x)', '(X)')}]$"]
        for call, row in PAIRS.items()
    ]
    pulls = {call: pull_of_pairs(call) for call in PAIRS}
    pulls |= {call: slopes(gan_of(call).h, np.array(AT)) for call in BESIDE}
    rows = [[f"`{call}`", *(f"{x:.3g}" for x in each)] for call, each in pulls.items()]
    at = table(["`gans.`", *(f"$h'({u:g})$" for u in AT)], rows)
    return f"{table(head, body)}\n\n{at}"


def errata(rows):
    """What the slides say where it differs, or what else to know of a row."""
    return table(
        ["`gans.`", "what the slides say, and where to take care"],
        [[f"`{row.call}`", row.slides] for row in rows if row.slides],
    )


def formulas(found):
    """f of every divergence that the verdicts name."""
    names = dict.fromkeys(name for each in found for name, _ in (each.measures, each.descends))
    integral = r"\int_0^u \tfrac{r e^{-v} - 1}{\sqrt{1 + v^2}} dv"
    body = [[f"`{name}`", formula(NAMED[name] or integral)] for name in names]
    return table(["`divergences.`", "$f(r)$, with $f(1) = f'(1) = 0$"], body)


PAGE = """# Which loss minimises what

A divergence GAN is three functions of the discriminator's value $d$. The discriminator maximises
$E_p[\\phi(d)] + E_q[\\psi(d)]$, and at its best $p/q = T(d)$; the generator maximises
$E_q[h_T(d)]$. So there are two divergences, and they need not be one: $f$ that the discriminator
*measures*, $\\sup_d r \\phi(d) + \\psi(d)$, and $f$ that the generator *descends*, that of
$h(u) = h_T(T^{-1}(e^u))$, $u = \\log r$.

This page was written by the library. Each row asked `h_to_f(lower(h_t, log_t))`, which needs
$\\phi$, $\\psi$ and $h_T$ only and so works for your own loss too; then each formula below was
evaluated at 61 ratios from $e^{-3}$ to $e^3$ and compared. The largest relative difference of all
is WORST (float64); the page is not built above 1e-6.

```python
import divergence_flows as df
import numpy as np

gan = df.gans.non_saturating()  # or df.GAN(phi, psi, h_t) of your own
f = df.h_to_f(df.lower(gan.h_t, gan.log_t))
print(f(0.5), gan.descends(0.5), df.divergences.softened_reverse_kl.standard(np.log(0.5)))
```

## What is minimised

$h'(-5)$ is the pull on a sample that gives itself away, $\\log p/q = -5$: where it is small, the
generator does not learn from its worst samples.

VERDICTS

*One?* says whether the generator descends what the discriminator measures. In a zero-sum game,
$h_T = -\\psi$, it always does.

## Critics of pairs

A relativistic critic sees pairs, x of p and y of q, and is at its best $d = \\log r + c$ for any
number $c$. It has no $\\phi$, $\\psi$ or $T$, and its generator follows an $h$ that depends on $p$
and $q$, so no divergence is named. Below, its pull for $p = N(0, 1)$ and $q = N(1, 1)$ beside
that of three GANs; $v$ is the difference, $u = \\log r$ at the sample that is pulled.

PAIRS

## What the slides say

ERRATA

## The two players

Constants that no player feels are left out; $\\operatorname{sp}(x) = \\log(1 + e^x)$.

PLAYERS

## The divergences

$f + a (r - 1)$ is the same divergence for every $a$; these have $f(1) = f'(1) = 0$.
$\\sigma(x) = 1 / (1 + e^{-x})$.

FORMULAS

The theory behind the table, and the slides' other errata: [theory](theory.md). The picture of both
$f$ of each row: `python examples/what_does_it_minimise.py`.
"""


def page():
    """The page as Markdown."""
    with jax.enable_x64(True):
        found, of_pairs = [ask(row) for row in ROWS], pairs()
    worst = max(each.error for each in found)
    parts = {
        "WORST": f"{worst:.0e}",
        "VERDICTS": verdicts(ROWS, found),
        "ERRATA": errata(ROWS),
        "PAIRS": of_pairs,
        "PLAYERS": players(ROWS),
        "FORMULAS": formulas(found),
    }
    text = PAGE
    for word, part in parts.items():
        text = text.replace(word, part)
    return text


if __name__ == "__main__":
    print(page())
