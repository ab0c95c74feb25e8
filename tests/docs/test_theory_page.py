"""docs/theory.md: each cell of its tables, keyed by its LaTeX, against mpmath and the library."""

import pathlib
import re

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


def arcsinh_f(r):
    return mp.quad(lambda v: (r * exp(-v) - 1) / sqrt(1 + v * v), [0, log(r)])


# LaTeX of a cell -> the same, in mpmath. f of r; h and h' of u; f* of s, with where it is finite.
F = {
    r"-\log r": lambda r: -log(r),
    r"r \log r": lambda r: r * log(r),
    r"\tfrac12 r \log r - \tfrac12 (1+r) \log\tfrac{1+r}{2}": lambda r: (
        (r * log(r) - (1 + r) * log((1 + r) / 2)) / 2
    ),
    r"(1+r) \log\tfrac{1+r}{2r}": lambda r: (1 + r) * log((1 + r) / (2 * r)),
    r"(\sqrt r - 1)^2": lambda r: (sqrt(r) - 1) ** 2,
    r"(r-1)^2": lambda r: (r - 1) ** 2,
    r"(r-1)^2 / r": lambda r: (r - 1) ** 2 / r,
    r"(r-1)^2 / (r+1)": lambda r: (r - 1) ** 2 / (r + 1),
    r"(r-1) \log r": lambda r: (r - 1) * log(r),
    r"2r \log\tfrac{2r}{1+r} - \tfrac{1}{1+r} + \tfrac12": lambda r: (
        2 * r * log(2 * r / (1 + r)) - 1 / (1 + r) + mp.mpf(1) / 2
    ),
    r"\int_0^u \tfrac{r e^{-v} - 1}{\sqrt{1+v^2}}\,dv": arcsinh_f,
    r"\tfrac{r^a - a r + a - 1}{a(a-1)}": lambda r: (r**A - A * r + A - 1) / (A * (A - 1)),
    r"c\,r \log r - (1 + c r) \log\tfrac{1+cr}{1+c}": lambda r: (
        C * r * log(r) - (1 + C * r) * log((1 + C * r) / (1 + C))
    ),
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
SPECIAL = {
    "alpha(a)": df.divergences.alpha(A),
    "shifted_vanilla(C)": df.divergences.shifted_vanilla(SHIFT),
}


def table(title):
    """Rows of the table below a heading, as lists of cells."""
    lines = PAGE.split(f"\n### {title}\n")[1].split("\n#")[0].splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    return [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in rows]


def name_in(cell):
    return re.match(r"`(.+?)`", cell)[1]


def plain(cell):
    assert re.fullmatch(r"\$[^$]+\$", cell), cell
    return cell[1:-1]


DIVERGENCES = {name_in(row[0]): row[1:] for row in table("Divergences")}
each_divergence = pytest.mark.parametrize("name", DIVERGENCES)


def library(name):
    return SPECIAL[name] if name in SPECIAL else getattr(df.divergences, name)


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
    us, div = np.log(RATIOS), library(name)
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
    (found,) = values([library(name).conjugate], [[float(s) for s in slopes]])
    np.testing.assert_allclose(found, [float(value) for value in truth], rtol=1e-9, atol=1e-10)


# What the GANs' table says of a divergence f is checked with this one; its f* from 1/4 s^2 + s.
PEARSON = df.divergences.pearson
SP_MINUS, SP_PLUS = lambda d: -sp(-d), lambda d: -sp(d)
CELLS = {
    r"-\operatorname{sp}(-d)": SP_MINUS,
    r"-\operatorname{sp}(d)": SP_PLUS,
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
# name in the page: the GAN, and the discriminator's values at which to compare
POSITIVE, UNIT = (0.3, 0.8, 1.9), (0.1, 0.45, 0.8)
GANS = {
    "vanilla(C)": (df.gans.vanilla(SHIFT), VALUES),
    "non_saturating()": (df.gans.non_saturating(), VALUES),
    "logit()": (df.gans.logit(), VALUES),
    "arcsinh()": (df.gans.arcsinh(), VALUES),
    "mle()": (df.gans.mle(), VALUES),
    "f_gan(f, raw=False)": (df.gans.f_gan(PEARSON, raw=False), VALUES),
    "f_gan(f, saturating=False, raw=False)": (
        df.gans.f_gan(PEARSON, saturating=False, raw=False),
        VALUES,
    ),
    "f_gan(f)": (df.gans.f_gan(PEARSON), VALUES),
    "b_gan(f)": (df.gans.b_gan(PEARSON), POSITIVE),
    "least_squares()": (df.gans.least_squares(), UNIT),
    "ebm(λ)": (df.gans.ebm(LAM), VALUES),
    "nwj(f)": (df.gans.nwj(PEARSON), VALUES),
    "ulsif(f)": (df.gans.ulsif(PEARSON), POSITIVE),
    "exponential(f)": (df.gans.exponential(PEARSON), VALUES),
    "mirror(f)": (df.gans.mirror(PEARSON), POSITIVE),
}
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
TABLE = {name_in(row[0]): row[1:] for row in table("Named GANs")}
each_gan = pytest.mark.parametrize("name", TABLE)


def cell_key(cell):
    assert cell.startswith("$") and cell.endswith("$"), cell
    return cell[1:-1]


def test_the_table_of_gans_has_every_row_of_the_library_and_no_other():
    makers = {
        name
        for name, value in vars(df.gans).items()
        if callable(value) and getattr(value, "__module__", "").startswith("divergence_flows.gans")
    }
    assert {name.split("(")[0] for name in TABLE} == {m for m in makers if not m.startswith("_")}
    assert set(TABLE) == set(GANS)


def test_every_formula_of_the_table_of_gans_has_a_check_and_no_check_is_left_over():
    rows = TABLE.values()
    assert {cell_key(cell) for row in rows for cell in row[:4]} == set(CELLS)
    assert {cell for row in rows for cell in row[4:]} == set(SECOND)


@each_gan
def test_a_gans_functions_are_what_the_page_says(name):
    gan, points = GANS[name]
    functions = (gan.phi, gan.psi, gan.log_t, gan.h_t)
    oracles = [CELLS[cell_key(cell)] for cell in TABLE[name][:4]]
    assert_equal(functions, oracles, [points] * 4, rtol=1e-9)


@each_gan
def test_the_pages_log_t_follows_from_its_phi_and_psi_at_a_maximum(name):
    phi, psi, log_t, _ = (CELLS[cell_key(cell)] for cell in TABLE[name][:4])
    with mp.workdps(30):
        for d in map(mp.mpf, GANS[name][1]):
            assert abs(log(-mp.diff(psi, d) / mp.diff(phi, d)) - log_t(d)) < 1e-12
            assert mp.diff(phi, d) * mp.diff(log_t, d) > 0


@each_gan
def test_what_a_gan_measures_and_descends_is_what_the_page_says(name):
    phi, _, log_t, h_t = (CELLS[cell_key(cell)] for cell in TABLE[name][:4])
    measures, descends = (SECOND[cell] for cell in TABLE[name][4:])
    with mp.workdps(30):
        for d in map(mp.mpf, GANS[name][1]):
            r, slope = exp(log_t(d)), mp.diff(log_t, d)
            # The attained f has f' = phi(d), and d moves by dr / (r (log T)').
            assert abs(mp.diff(phi, d) / (r * slope) / measures(r) - 1) < 1e-9
            assert abs(mp.diff(h_t, d) / slope / (r * r * descends(r)) - 1) < 1e-9


@each_gan
def test_the_library_says_the_same_of_what_a_gan_measures_and_descends(name):
    gan, _ = GANS[name]
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
    x = np.linspace(-12.0, 12.0, 20_001)
    dx = x[1] - x[0]

    def parts(m):
        p = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
        q = np.exp(-2 * (x - m) ** 2) * np.sqrt(2 / np.pi)
        return p, q

    def js(m):
        p, q = parts(m)
        return np.sum(p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))) * dx

    def frozen(m):  # E_q log(1 - D*), D* made at the mean 2
        p, q = parts(2.0)
        return np.sum(parts(m)[1] * np.log(q / (p + q))) * dx

    def second_term(m):
        p, q = parts(m)
        return np.sum(q * np.log(q / (p + q))) * dx

    step = 1e-4
    slopes = [(f(2 + step) - f(2 - step)) / (2 * step) for f in (js, frozen, second_term)]
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
