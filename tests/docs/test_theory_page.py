"""docs/theory.md: every cell of its tables, read as LaTeX, against the library and each other."""

import functools
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import lambertw

import divergence_flows as df

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "docs"))
from _formula import evaluate

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "theory.md").read_text()
RATIOS = np.array([0.07, 0.6, 1.0, 1.9, 12.0])
SLOPES = np.array([-9.0, -4.0, -2.9, -1.4, -0.75, 0.2, 0.33, 0.9, 5.0, 8.0])
A, SHIFT, LAM = 1.75, 1.25, 0.375  # parameters of rows
C = np.exp(SHIFT)
LETTERS = {"a": A, "C": SHIFT, "c": C, "lambda": LAM}
# What the page says of any f is checked with Pearson's; its h is e^(2u).
PEARSON = {
    r"\(f\^\*\)'\(([^()]*)\)": r"(1 + \\tfrac{1}{2} (\1))",
    r"f\^\*\(([^()]*)\)": r"((\1) + \\tfrac{1}{4} (\1)^2)",
    r"f'\(([^()]*)\)": r"(2 ((\1) - 1))",
    r"f\(([^()]*)\)": r"(((\1) - 1)^2)",
    r"h\^\{-1\}\(([^()]*)\)": r"(\\tfrac{1}{2} \\log(\1))",
    r"h\(([^()]*)\)": r"(e^{2 (\1)})",
}
NODES, WEIGHTS = np.polynomial.legendre.leggauss(60)


def arcsinh_f(r):
    v = jnp.log(r) * (NODES + 1) / 2
    return jnp.log(r) / 2 * jnp.sum(WEIGHTS * (r * jnp.exp(-v) - 1) / jnp.sqrt(1 + v**2))


INTEGRALS = {
    r"$\int_0^u \tfrac{r e^{-v} - 1}{\sqrt{1+v^2}}\,dv$": arcsinh_f,
    # With Pearson's h, u = log(d) / 2, and the integrand is 2 e^(3 v).
    r"$-\int_0^{u} h'(v)\,e^v\,dv$, $u = h^{-1}(d)$": lambda d: -2 * (d**1.5 - 1) / 3,
}


def read(cell, letter):
    """What a cell of the page says, as a function of its letter."""
    if cell in INTEGRALS:
        return INTEGRALS[cell]
    latex = re.match(r"\$([^$]+)\$", cell)[1]
    for pattern, formula in PEARSON.items():
        latex = re.sub(pattern, formula, latex)
    latex = re.sub(r"\\tfrac(\w)(\w)", r"\\tfrac{\1}{\2}", latex)

    def function(x):
        given = {"u": x, "r": jnp.exp(x)} if letter == "u" else {letter: x}
        return evaluate(latex, **LETTERS, **given) + 0.0 * x

    return function


def softplus(x):
    return np.logaddexp(0, x)


# Where f* is finite; below, it keeps the value of the lower end, and above it is infinite.
EVERYWHERE = (-np.inf, np.inf)
CONJUGATE = {
    r"$-1 - \log(-s)$, $s < 0$": (-np.inf, 0),
    r"$e^{s-1}$": EVERYWHERE,
    r"$-\tfrac12 \log(2 - e^{2s})$, $s < \tfrac12\log 2$": (-np.inf, np.log(2) / 2),
    r"$\log 2 - 1 - \log(-W_{-1}(-2e^{s-1}))$, $s < -\log 2$": (-np.inf, -np.log(2)),
    r"$\tfrac{s}{1-s}$, $s < 1$": (-np.inf, 1),
    r"$s + \tfrac14 s^2$, $s \ge -2$": (-2, np.inf),
    r"$2 - 2\sqrt{1-s}$, $s \le 1$": (-np.inf, 1),
    r"$4 - s - 4\sqrt{1-s}$, $-3 \le s \le 1$": (-3, 1),
    r"$s - 2 + w + \tfrac1w$, $w = W_0(e^{1-s})$": EVERYWHERE,
    r"$\tfrac1a\bigl((1 + (a-1)s)^{a/(a-1)} - 1\bigr)$, $1 + (a-1)s > 0$": (-1 / (A - 1), np.inf),
    r"$-\log(1 + c - c\,e^{s/c})$, $s < c \operatorname{sp}(-C)$": (-np.inf, C * softplus(-SHIFT)),
}


def lambert(cell, s):
    """The two formulas with a branch of Lambert's function."""
    if "W_0" in cell:
        w = lambertw(np.exp(1 - s)).real
        return s - 2 + w + 1 / w
    return np.log(2) - 1 - np.log(-lambertw(-2 * np.exp(s - 1), -1).real)


def table(title):
    """Rows of the table below a heading, as lists of cells."""
    lines = PAGE.split(f"\n### {title}\n")[1].split("\n#")[0].splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    return [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in rows]


def rows_of(title, place, **letters):
    """Cells by the first one's code, and what that code makes."""
    rows = {re.match(r"`(.+?)`", row[0])[1]: row[1:] for row in table(title)}
    scope = {"__builtins__": {}} | vars(place) | letters
    return rows, {code: eval(code, scope) for code in rows}


DIVERGENCES, LIBRARY = rows_of("Divergences", df.divergences, a=A, C=SHIFT)
each_divergence = pytest.mark.parametrize("name", DIVERGENCES)
# Each table is one program: apart, its functions take several times as long to compile.


@functools.cache
def divergences():
    """What the page and the library say at RATIOS, and at SLOPES or at the slopes of f there."""

    @jax.jit
    def run(r):
        u, found = jnp.log(r), {}
        for name, (*cells, star) in DIVERGENCES.items():
            f, h, h_prime = map(read, cells, "ruu")
            slope, div = jax.grad(f), LIBRARY[name]
            page = [jax.vmap(g) for g in (f, h, h_prime, slope, jax.grad(slope))]
            points = jnp.asarray(SLOPES) if star in CONJUGATE else page[3](r)
            found[name] = {
                "page": [g(x) for g, x in zip(page, (r, u, u, r, r), strict=True)],
                "library": [div.f(r), div.h(u), div.h_prime(u), div.conjugate(points)],
            }
        return found

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, run(jnp.asarray(RATIOS)))


def test_the_table_of_divergences_has_every_row_of_the_library_and_no_other():
    found = vars(df.divergences).items()
    rows = {k for k, v in found if isinstance(v, df.Divergence) and not k.startswith("_")}
    assert {name.split("(")[0] for name in DIVERGENCES} == rows | {"alpha", "shifted_vanilla"}
    assert {row[3] for row in DIVERGENCES.values()} == {*CONJUGATE, "numerical"}


@each_divergence
def test_f_h_and_its_slope_are_what_the_page_says(name):
    at = divergences()[name]
    for found, said in zip(at["library"][:3], at["page"][:3], strict=True):
        np.testing.assert_allclose(found, said, rtol=1e-11, atol=1e-12)


@each_divergence
def test_the_pages_h_follows_from_its_f(name):
    f, h, h_prime, slope, bend = divergences()[name]["page"]
    assert abs(f[list(RATIOS).index(1.0)]) < 1e-15
    assert np.ptp(RATIOS * slope - f - h) < 1e-11
    np.testing.assert_allclose(RATIOS**2 * bend, h_prime, rtol=1e-10)


@each_divergence
def test_the_conjugate_is_what_the_page_says_outside_its_domain_too(name):
    cell, (f, _, _, slope, _) = DIVERGENCES[name][3], divergences()[name]["page"]
    if cell == "numerical":  # the supremum of s r - f(r), at s = f'(r)
        said = RATIOS * slope - f
    else:
        low, high = CONJUGATE[cell]
        inside = np.maximum(np.where(SLOPES < high, SLOPES, -9.0), low)
        with jax.enable_x64(True):
            value = lambert(cell, inside) if "W_" in cell else read(cell, "s")(jnp.asarray(inside))
        said = np.where(SLOPES < high, value, np.inf)
    np.testing.assert_allclose(divergences()[name]["library"][3], said, rtol=1e-9, atol=1e-10)


# The discriminator's values at which to compare; some rows need them positive, or inside (0, 1).
VALUES, POSITIVE, UNIT = (-1.7, -0.4, 0.3, 0.8), (0.3, 0.8, 1.9), (0.1, 0.45, 0.8)
POINTS = {"least_squares()": UNIT} | dict.fromkeys(("b_gan(f)", "ulsif(f)", "mirror(f)"), POSITIVE)
TABLE, GANS = rows_of("Named GANs", df.gans, f=df.divergences.pearson, C=SHIFT, λ=LAM)
each_gan = pytest.mark.parametrize("name", TABLE)
# f'' of what is said of a user's f, for Pearson's: f'' = 2 and h' = 2 r^2.
OF_F = {
    "$f$": lambda r: 2.0,
    "$g$, $g'' = f''/r$": lambda r: 2 / r,
    "$g$, $g'' = h'/r$": lambda r: 2 * r,
}
FACTORS = {"": 1.0, "2 ": 2.0, "¼ ": 0.25, "½ ": 0.5}


def bend(cell, r):
    """f'' of the divergence that a cell names."""
    if cell in OF_F:
        return OF_F[cell](r)
    factor, code = re.fullmatch(r"(\S )?`(.+)`", cell).groups("")
    return FACTORS[factor] * LIBRARY[code].f_second(r)


@functools.cache
def gans():
    """What the page and the library say of each GAN, with the page's slopes."""

    @jax.jit
    def run():
        found = {}
        for name, cells in TABLE.items():
            gan, d = GANS[name], jnp.asarray(POINTS.get(name, VALUES), float)
            page = [read(cell, "d") for cell in cells[:4]]
            values = [jax.vmap(g)(d) for g in page]
            found[name] = {
                "page": values,
                "slopes": [jax.vmap(jax.grad(g))(d) for g in page],
                "library": [g(d) for g in (gan.phi, gan.psi, gan.log_t, gan.h_t)],
                "bends": [bend(cell, jnp.exp(values[2])) for cell in cells[4:]],
            }
        return found

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, run())


def test_the_table_of_gans_has_every_row_of_the_library_and_no_other():
    named = {name for name in vars(df.gans) if not name.startswith("_")}
    # A Wasserstein critic has no ratio, and one of pairs has it up to a constant.
    others = {"GAN", "wasserstein", "relativistic", "stack"}
    assert {name.split("(")[0] for name in TABLE} == named - others


@each_gan
def test_a_gans_functions_are_what_the_page_says(name):
    for found, said in zip(gans()[name]["library"], gans()[name]["page"], strict=True):
        np.testing.assert_allclose(found, said, rtol=1e-9, atol=1e-12)


@each_gan
def test_the_pages_columns_follow_from_its_phi_psi_and_h_t(name):
    """So the library measures and descends the same: test_gans.py has its calculus."""
    at = gans()[name]
    log_t, (phi, psi, slope, h_t), (measures, descends) = at["page"][2], at["slopes"], at["bends"]
    r = np.exp(log_t)
    # log T is where r phi + psi is largest.
    np.testing.assert_allclose(np.log(-psi / phi), log_t, atol=1e-11)
    assert np.all(phi * slope > 0)
    # The attained f has f' = phi(d), and d moves by dr / (r (log T)').
    np.testing.assert_allclose(phi / (r * slope), measures + 0 * r, rtol=1e-9)
    np.testing.assert_allclose(h_t / slope, r**2 * descends, rtol=1e-9)


def test_the_pulls_on_a_sample_seen_through_are_those_of_the_page():
    words = re.search(r"At \$u = -5\$ (.+?)\n\n", PAGE, re.DOTALL)[1].replace("\n", " ")
    said = [float(word) for word in re.findall(r"(?<![C=] )\b(\d\.\d+|1)(?= for| with)", words)]
    gans = ("vanilla", "shifted", "non_saturating", "logit", "arcsinh", "mle")
    shifted = {"shifted": df.gans.vanilla(3.0)}
    hs = [(shifted.get(name) or getattr(df.gans, name)()).h for name in gans]
    pulls = jax.jit(lambda u: [jax.grad(h)(u) for h in hs])(-5.0)
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
