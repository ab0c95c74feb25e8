"""docs/theory.md: each cell of its tables, keyed by its LaTeX, against mpmath and the library."""

import pathlib
import re

import catalogue
import jax
import mpmath as mp
import numpy as np
import pytest

import divergence_flows as df

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "theory.md").read_text()
RATIOS = (0.07, 0.6, 1.0, 1.9, 12.0)
SLOPES = (-2.9, -1.4, -0.75, 0.2, 0.33, 0.9)
VALUES = (-1.7, -0.4, 0.3, 0.8)  # of a discriminator; inside (0, 1) where it must be
A, SHIFT, LAM = 1.75, 1.25, 0.375  # parameters of rows, whole in float32 too
C = mp.exp(SHIFT)
sp, sigma = lambda x: mp.log1p(mp.exp(x)), lambda x: 1 / (1 + mp.exp(-x))
log, exp, sqrt = mp.log, mp.exp, mp.sqrt


def lambert(branch):
    return lambda x: mp.lambertw(x, branch).real


# LaTeX of a cell -> the same, in mpmath. f of r; h and h' of u; f* of s, with where it is finite.
F = {
    r"-\log r": catalogue.F["kl_qp"],
    r"r \log r": catalogue.F["kl_pq"],
    r"\tfrac12 r \log r - \tfrac12 (1+r) \log\tfrac{1+r}{2}": catalogue.F["jensen_shannon"],
    r"(1+r) \log\tfrac{1+r}{2r}": catalogue.F["softened_reverse_kl"],
    r"(\sqrt r - 1)^2": catalogue.F["squared_hellinger"],
    r"(r-1)^2": catalogue.F["pearson"],
    r"(r-1)^2 / r": catalogue.F["neyman"],
    r"(r-1)^2 / (r+1)": catalogue.F["le_cam"],
    r"(r-1) \log r": catalogue.F["jeffreys"],
    r"2r \log\tfrac{2r}{1+r} - \tfrac{1}{1+r} + \tfrac12": catalogue.F["least_squares"],
    r"\int_0^u \tfrac{r e^{-v} - 1}{\sqrt{1+v^2}}\,dv": lambda r: mp.quad(
        lambda v: (r * exp(-v) - 1) / sqrt(1 + v * v), [0, log(r)]
    ),
    r"\tfrac{r^a - a r + a - 1}{a(a-1)}": catalogue.alpha_of(mp.mpf(A)),
    r"c\,r \log r - (1 + c r) \log\tfrac{1+cr}{1+c}": catalogue.shifted_of(SHIFT),
}
H = {
    "u": lambda u: u,
    "e^u": exp,
    r"\tfrac12 \operatorname{sp}(u)": lambda u: sp(u) / 2,
    r"-\operatorname{sp}(-u)": lambda u: -sp(-u),
    "e^{u/2}": lambda u: exp(u / 2),
    "e^{2u}": lambda u: exp(2 * u),
    "-2 e^{-u}": lambda u: -2 * exp(-u),
    r"\tfrac{(r-1)(3r+1)}{(r+1)^2}": lambda u: (exp(u) - 1) * (3 * exp(u) + 1) / (exp(u) + 1) ** 2,
    "e^u + u": lambda u: exp(u) + u,
    r"-\sigma(-u)^2": lambda u: -(sigma(-u) ** 2),
    r"\operatorname{arcsinh} u": mp.asinh,
    r"\tfrac{e^{a u} - 1}{a}": lambda u: (exp(A * u) - 1) / A,
    r"\operatorname{sp}(u + C)": lambda u: sp(u + SHIFT),
}
H_PRIME = {
    "1": lambda u: mp.mpf(1),
    "e^u": exp,
    r"\tfrac12 \sigma(u)": lambda u: sigma(u) / 2,
    r"\sigma(-u)": lambda u: sigma(-u),
    r"\tfrac12 e^{u/2}": lambda u: exp(u / 2) / 2,
    "2 e^{2u}": lambda u: 2 * exp(2 * u),
    "2 e^{-u}": lambda u: 2 * exp(-u),
    r"8\,\sigma(u)^2 \sigma(-u)": lambda u: 8 * sigma(u) ** 2 * sigma(-u),
    "e^u + 1": lambda u: exp(u) + 1,
    r"2\,\sigma(u)\,\sigma(-u)^2": lambda u: 2 * sigma(u) * sigma(-u) ** 2,
    r"1/\sqrt{1+u^2}": lambda u: 1 / sqrt(1 + u * u),
    "e^{a u}": lambda u: exp(A * u),
    r"\sigma(u + C)": lambda u: sigma(u + SHIFT),
}
EVERYWHERE = (-mp.inf, mp.inf)
CONJUGATE = {
    r"$-1 - \log(-s)$, $s < 0$": (lambda s: -1 - log(-s), (-mp.inf, 0)),
    r"$e^{s-1}$": (lambda s: exp(s - 1), EVERYWHERE),
    r"$-\tfrac12 \log(2 - e^{2s})$, $s < \tfrac12\log 2$": (
        lambda s: -log(2 - exp(2 * s)) / 2,
        (-mp.inf, log(2) / 2),
    ),
    r"$\log 2 - 1 - \log(-W_{-1}(-2e^{s-1}))$, $s < -\log 2$": (
        lambda s: log(2) - 1 - log(-lambert(-1)(-2 * exp(s - 1))),
        (-mp.inf, -log(2)),
    ),
    r"$\tfrac{s}{1-s}$, $s < 1$": (lambda s: s / (1 - s), (-mp.inf, 1)),
    r"$s + \tfrac14 s^2$, $s \ge -2$": (lambda s: s + s * s / 4, (-2, mp.inf)),
    r"$2 - 2\sqrt{1-s}$, $s \le 1$": (lambda s: 2 - 2 * sqrt(1 - s), (-mp.inf, 1)),
    r"$4 - s - 4\sqrt{1-s}$, $-3 \le s \le 1$": (lambda s: 4 - s - 4 * sqrt(1 - s), (-3, 1)),
    r"$s - 2 + w + \tfrac1w$, $w = W_0(e^{1-s})$": (
        lambda s: s - 2 + lambert(0)(exp(1 - s)) + 1 / lambert(0)(exp(1 - s)),
        EVERYWHERE,
    ),
    r"$\tfrac1a\bigl((1 + (a-1)s)^{a/(a-1)} - 1\bigr)$, $1 + (a-1)s > 0$": (
        lambda s: ((1 + (A - 1) * s) ** (A / (A - 1)) - 1) / A,
        (-1 / (A - 1), mp.inf),
    ),
    r"$-\log(1 + c - c\,e^{s/c})$, $s < c \operatorname{sp}(-C)$": (
        lambda s: -log(1 + C - C * exp(s / C)),
        (-mp.inf, C * sp(-SHIFT)),
    ),
    "numerical": None,
}


def table(title):
    """Rows of the table below a heading, as lists of cells."""
    lines = PAGE.split(f"\n### {title}\n")[1].split("\n#")[0].splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    return [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in rows]


def rows_of(title, *places, **letters):
    """Cells by the first one's code, and what that code makes."""
    rows = {re.match(r"`(.+?)`", row[0])[1]: row[1:] for row in table(title)}
    scope = {name: value for place in places for name, value in vars(place).items()} | letters
    return rows, {code: eval(code, {"__builtins__": {}}, scope) for code in rows}


def plain(cell):
    assert re.fullmatch(r"\$.+\$", cell), cell
    return cell[1:-1]


DIVERGENCES, LIBRARY = rows_of("Divergences", df.divergences, a=A, C=SHIFT)
each_divergence = pytest.mark.parametrize("name", DIVERGENCES)


def values(functions, points):
    """Each function at its own points, all in one program."""
    with jax.enable_x64(True):
        points = [np.asarray(some, float) for some in points]
        run = jax.jit(lambda given: [f(some) for f, some in zip(functions, given, strict=True)])
        return [np.asarray(value) for value in run(points)]


def assert_equal(functions, oracles, points, rtol=1e-11):
    for found, oracle, some in zip(values(functions, points), oracles, points, strict=True):
        truth = [float(oracle(mp.mpf(point))) for point in some]
        np.testing.assert_allclose(found, truth, rtol=rtol, atol=1e-12)


def test_the_table_of_divergences_has_every_row_of_the_library_and_no_other():
    found = vars(df.divergences).items()
    rows = {k for k, v in found if isinstance(v, df.Divergence) and not k.startswith("_")}
    assert {name.split("(")[0] for name in DIVERGENCES} == rows | {"alpha", "shifted_vanilla"}


def test_every_formula_of_the_table_of_divergences_has_a_check_and_no_check_is_left_over():
    columns = list(zip(*DIVERGENCES.values(), strict=True))
    for cells, checks in zip(columns[:3], (F, H, H_PRIME), strict=True):
        assert {plain(cell) for cell in cells} == set(checks)
    assert set(columns[3]) == set(CONJUGATE)


@each_divergence
def test_f_h_and_its_slope_are_what_the_page_says(name):
    f, h, h_prime, _ = DIVERGENCES[name]
    us, div = np.log(RATIOS), LIBRARY[name]
    oracles = (F[plain(f)], H[plain(h)], H_PRIME[plain(h_prime)])
    assert_equal((div.f, div.h, div.h_prime), oracles, (RATIOS, us, us))


@each_divergence
def test_the_pages_h_follows_from_its_f(name):
    f, h, h_prime, _ = (DIVERGENCES[name][i] for i in range(4))
    f, h, h_prime = F[plain(f)], H[plain(h)], H_PRIME[plain(h_prime)]
    with mp.workdps(30):
        assert abs(f(mp.mpf(1))) < 1e-20
        constants = [r * mp.diff(f, r) - f(r) - h(log(r)) for r in map(mp.mpf, RATIOS)]
        assert max(constants) - min(constants) < 1e-12
        for r in map(mp.mpf, RATIOS):
            assert abs(r * r * mp.diff(f, r, 2) / h_prime(log(r)) - 1) < 1e-8


def no_formula(name):
    """Slopes and the supremum there, from f alone: f'(r) and r f'(r) - f(r)."""
    f = F[plain(DIVERGENCES[name][0])]
    slopes = [mp.diff(f, mp.mpf(r)) for r in RATIOS]
    return slopes, [s * r - f(mp.mpf(r)) for s, r in zip(slopes, RATIOS, strict=True)]


@each_divergence
def test_the_conjugate_is_what_the_page_says_outside_its_domain_too(name):
    entry = CONJUGATE[DIVERGENCES[name][3]]
    with mp.workdps(30):
        if entry is None:
            slopes, truth = no_formula(name)
        else:
            formula, (low, high) = entry
            inside = [s for s in SLOPES if low < s < high]
            below, above = [s for s in (-9, -4) if s < low], [s for s in (5, 8) if s > high]
            slopes = [*inside, *below, *above]
            truth = [formula(mp.mpf(max(s, low))) for s in (*inside, *below)]
            truth += [mp.inf for _ in above]
    (found,) = values([LIBRARY[name].conjugate], [[float(s) for s in slopes]])
    np.testing.assert_allclose(found, [float(value) for value in truth], rtol=1e-9, atol=1e-10)


CELLS = {
    r"-\operatorname{sp}(-d)": lambda d: -sp(-d),
    r"-\operatorname{sp}(d)": lambda d: -sp(d),
    "d": lambda d: d,
    r"\operatorname{sp}(d + C)": lambda d: sp(d + SHIFT),
    r"\operatorname{arcsinh} d": mp.asinh,
    "e^d": exp,
    "-f^*(d)": lambda d: -d - d * d / 4,
    r"\log (f^*)'(d)": lambda d: log(1 + d / 2),
    "f^*(d)": lambda d: d + d * d / 4,
    "f'(e^d)": lambda d: 2 * (exp(d) - 1),
    "f(e^d) - e^d f'(e^d)": lambda d: 1 - exp(2 * d),
    "e^d f'(e^d) - f(e^d)": lambda d: exp(2 * d) - 1,
    "f'(d)": lambda d: 2 * (d - 1),
    "f(d) - d f'(d)": lambda d: 1 - d * d,
    r"\log d": log,
    "d f'(d) - f(d)": lambda d: d * d - 1,
    "-(d-1)^2": lambda d: -((d - 1) ** 2),
    "-d^2": lambda d: -d * d,
    r"\log\tfrac{d}{1-d}": lambda d: log(d / (1 - d)),
    r"-(d + \lambda)": lambda d: -(d + LAM),
    r"-e^{-d-\lambda}": lambda d: -exp(-d - LAM),
    r"-d-\lambda": lambda d: -d - LAM,
    r"e^{-d-\lambda}": lambda d: exp(-d - LAM),
    "-e^{d-1}": lambda d: -exp(d - 1),
    "d - 1": lambda d: d - 1,
    "h(d - 1)": lambda d: exp(2 * (d - 1)),
    r"-\tfrac12 d^2": lambda d: -d * d / 2,
    r"h(\log d)": lambda d: d * d,
    "-e^{-d}": lambda d: -exp(-d),
    "-e^d": lambda d: -exp(d),
    "2d": lambda d: 2 * d,
    "h(2d)": lambda d: exp(4 * d),
    # Of Pearson, h = e^(2 u): u = log(d) / 2, and the integral of 2 e^(3 v) from 0 to u.
    r"-\int_0^{u} h'(v)\,e^v\,dv$, $u = h^{-1}(d)": lambda d: -2 * (d ** mp.mpf(1.5) - 1) / 3,
    "h^{-1}(d)": lambda d: log(d) / 2,
}
# The discriminator's values at which to compare, where not VALUES.
POSITIVE, UNIT = (0.3, 0.8, 1.9), (0.1, 0.45, 0.8)
POINTS = {"least_squares()": UNIT} | dict.fromkeys(("b_gan(f)", "ulsif(f)", "mirror(f)"), POSITIVE)
# Second derivatives of f, in words of the page; f itself is Pearson, whose f'' = 2, h' = 2 r^2.
SECOND = {
    "2 `jensen_shannon`": lambda r: 1 / (r * (1 + r)),
    "`kl_qp`": lambda r: 1 / r**2,
    "`kl_pq`": lambda r: 1 / r,
    "`shifted_vanilla(C)`": lambda r: sigma(log(r) + SHIFT) / r**2,
    "`softened_reverse_kl`": lambda r: 1 / (r**2 * (1 + r)),
    "`arcsinh`": lambda r: 1 / (r**2 * sqrt(1 + log(r) ** 2)),
    "$f$": lambda r: mp.mpf(2),
    "$g$, $g'' = f''/r$": lambda r: 2 / r,
    "$g$, $g'' = h'/r$": lambda r: 2 * r,
    "¼ `le_cam`": lambda r: 2 / (1 + r) ** 3,
    "`least_squares`": lambda r: 2 / (r * (1 + r) ** 3),
    "½ `pearson`": lambda r: mp.mpf(1),
    "`squared_hellinger`": lambda r: mp.mpf(r) ** mp.mpf(-1.5) / 2,
}
# What the table says of a divergence f is checked with Pearson's; its f* is 1/4 s^2 + s.
TABLE, GANS = rows_of("Named GANs", df.gans, f=df.divergences.pearson, C=SHIFT, λ=LAM)
each_gan = pytest.mark.parametrize("name", TABLE)


def points_of(name):
    return POINTS.get(name, VALUES)


def test_the_table_of_gans_has_every_row_of_the_library_and_no_other():
    named = {name for name in vars(df.gans) if not name.startswith("_")}
    # A Wasserstein critic has no ratio.
    assert {name.split("(")[0] for name in TABLE} == named - {"GAN", "wasserstein"}


def test_every_formula_of_the_table_of_gans_has_a_check_and_no_check_is_left_over():
    rows = TABLE.values()
    assert {plain(cell) for row in rows for cell in row[:4]} == set(CELLS)
    assert {cell for row in rows for cell in row[4:]} == set(SECOND)


@each_gan
def test_a_gans_functions_are_what_the_page_says(name):
    gan = GANS[name]
    functions = (gan.phi, gan.psi, gan.log_t, gan.h_t)
    oracles = [CELLS[plain(cell)] for cell in TABLE[name][:4]]
    assert_equal(functions, oracles, [points_of(name)] * 4, rtol=1e-9)


@each_gan
def test_the_pages_columns_follow_from_its_phi_psi_and_h_t(name):
    phi, psi, log_t, h_t = (CELLS[plain(cell)] for cell in TABLE[name][:4])
    measures, descends = (SECOND[cell] for cell in TABLE[name][4:])
    with mp.workdps(30):
        for d in map(mp.mpf, points_of(name)):
            # log T is where r phi + psi is largest.
            r, slope, rise = exp(log_t(d)), mp.diff(log_t, d), mp.diff(phi, d)
            assert abs(log(-mp.diff(psi, d) / rise) - log_t(d)) < 1e-12
            assert rise * slope > 0
            # The attained f has f' = phi(d), and d moves by dr / (r (log T)').
            assert abs(rise / (r * slope) / measures(r) - 1) < 1e-9
            assert abs(mp.diff(h_t, d) / slope / (r * r * descends(r)) - 1) < 1e-9


@each_gan
def test_the_library_says_the_same_of_what_a_gan_measures_and_descends(name):
    gan = GANS[name]
    measures, descends = (SECOND[cell] for cell in TABLE[name][4:])
    us = [-1.0, 0.4, 1.1]
    slopes = [jax.vmap(jax.grad(h)) for h in (gan.h, df.f_to_h(gan.measures))]
    oracles = [lambda u, f=f: exp(2 * u) * f(exp(u)) for f in (descends, measures)]
    assert_equal(slopes, oracles, [us, us], rtol=1e-6)


def test_the_pulls_on_a_sample_seen_through_are_those_of_the_page():
    words = re.search(r"At \$u = -5\$ (.+?)\n\n", PAGE, re.DOTALL)[1].replace("\n", " ")
    said = [float(word) for word in re.findall(r"(?<![C=] )\b(\d\.\d+|1)(?= for| with)", words)]
    gans = ("vanilla", "shifted", "non_saturating", "logit", "arcsinh", "mle")
    shifted = {"shifted": df.gans.vanilla(3.0)}
    hs = [(shifted.get(name) or getattr(df.gans, name)()).h for name in gans]
    pulls = values([jax.grad(h) for h in hs], [-5.0] * len(hs))
    np.testing.assert_allclose(pulls, said, atol=6e-5)


def gaussian_moments(slope):
    """E of h'(u) |grad u|^2 from q = N(2, 1/4), p = N(0, 1); grad u = 3 x - 8."""
    x = np.linspace(-12.0, 12.0, 40_001)
    log_p, log_q = -(x**2) / 2, -2 * (x - 2) ** 2 + np.log(2.0)
    weights = np.exp(log_q) / np.sqrt(2 * np.pi) * (x[1] - x[0])
    return np.sum(weights * slope(np.exp(log_p - log_q)) * (3 * x - 8) ** 2)


def test_kl_starts_to_fall_as_fast_as_the_page_says():
    assert "at rate 6.25 along its own flow, at rate 73 along" in PAGE
    assert abs(gaussian_moments(np.ones_like) - 6.25) < 1e-9
    assert abs(gaussian_moments(lambda r: r) - 73) < 1e-6


def test_the_gradient_with_the_best_discriminator_frozen_is_the_whole_gradient_of_2_js():
    x, dx = np.linspace(-12.0, 12.0, 20_001, retstep=True)
    p = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    q_at = lambda m: np.exp(-2 * (x - m) ** 2) * np.sqrt(2 / np.pi)
    log_half = lambda a, q: np.log(a / (p + q))
    js = lambda m: np.sum(p * log_half(2 * p, q_at(m)) + q_at(m) * log_half(2 * q_at(m), q_at(m)))
    # E_q log(1 - D*), with D* made at the mean 2, or at m.
    frozen = lambda m: np.sum(q_at(m) * log_half(q_at(2.0), q_at(2.0)))
    second_term = lambda m: np.sum(q_at(m) * log_half(q_at(m), q_at(m)))
    slopes = [(f(2 + 1e-4) - f(2 - 1e-4)) * dx / 2e-4 for f in (js, frozen, second_term)]
    assert abs(slopes[0] - slopes[1]) < 1e-6
    assert slopes[2] < slopes[0] / 2


def test_least_squares_with_labels_minus_1_1_and_0_falls_for_r_above_1():
    u = np.linspace(0.1, 4.0, 9)
    d = np.tanh(u / 2)  # the optimum, (r - 1) / (r + 1)
    h = -(d**2)
    assert np.all(np.diff(h) < 0)
    assert "with labels $(-1, 1, 0)$ $h$ falls for $r > 1$" in PAGE


def test_every_public_name_in_the_page_exists():
    names = set(re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)?)`", PAGE))
    places = (df, df.divergences, df.gans, df.bures)
    for name in names - {"divergences", "gans"}:
        head, _, tail = name.partition(".")
        found = [place for place in places if hasattr(place, head)]
        if name in ("gan.measures", "gan.descends"):
            assert hasattr(df.GAN, tail)
        elif tail:
            assert hasattr(getattr(df, head), tail), name
        else:
            assert found, name


def test_no_reference_lacks_a_year_and_none_is_out_of_order():
    items = PAGE.split("## References")[1].split("\n- ")[1:]
    assert all(re.search(r"\b(19|20)\d\d\.$", item.strip()) for item in items)
    names = [re.match(r"(?:[A-Z]\.[- ]?(?:-?[A-Z]\. )?)*((?:\w|-)+)", i)[1] for i in items]
    assert names == sorted(names, key=str.lower)
