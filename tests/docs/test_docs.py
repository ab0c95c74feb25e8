"""The documentation names everything once, its links lead somewhere, and its table is true."""

import collections
import importlib
import inspect
import pathlib
import re
import sys

import jax
import numpy as np
import pytest

import divergence_flows as df

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = pathlib.Path(df.__file__).parent
MODULES = ("bures", "divergences", "gans", "networks")
# Pages that docs/_build.py writes, and what makes them.
MADE = {"which-loss.md": "_which_loss.py"} | {
    f"tutorials/{path.stem}.{ending}": f"tutorials/{path.name}"
    for path in (DOCS / "tutorials").glob("*.py")
    for ending in ("md", "ipynb")
}


# Names


def public_names():
    """Every object once, under its shortest name."""
    rooms = {name for name in vars(df) if inspect.ismodule(vars(df)[name])} - set(MODULES)
    front = {k: v for k, v in vars(df).items() if not k.startswith("_") and k not in rooms}
    yield df.__name__
    yield from (f"{df.__name__}.{name}" for name in front)
    known = {id(each) for each in front.values()}
    for module in MODULES:
        for name, found in vars(getattr(df, module)).items():
            if not name.startswith("_") and id(found) not in known:
                yield f"{df.__name__}.{module}.{name}"


def test_every_public_name_is_on_exactly_one_page_of_the_api():
    pages = [page.read_text() for page in (DOCS / "api").glob("*.md")]
    shown = collections.Counter(
        name for page in pages for name in re.findall(r"^::: (\S+)", page, re.M)
    )
    assert shown == collections.Counter(public_names())


def test_the_pages_of_the_api_are_those_of_its_index():
    linked = set(re.findall(r"\]\((\w+\.md)\)", (DOCS / "api" / "index.md").read_text()))
    assert linked == {page.name for page in (DOCS / "api").glob("*.md")} - {"index.md"}


# Links


def sources():
    """(where it will be, its Markdown) of every page that a person writes."""
    for page in DOCS.rglob("*.md"):
        yield page.relative_to(DOCS), page.read_text()
    for script in (DOCS / "tutorials").glob("*.py"):
        cells = re.split(r"^# %%", script.read_text(), flags=re.M)
        text = "\n".join(cell for cell in cells if cell.startswith(" [markdown]"))
        yield script.relative_to(DOCS).with_suffix(".md"), re.sub(r"^# ?", "", text, flags=re.M)


def anchors(text):
    """Slugs of the headings, as Python-Markdown makes them."""
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        words = re.sub(r"[^\w\s-]", "", re.sub(r"[`*$]", "", heading)).strip().lower()
        yield re.sub(r"[-\s]+", "-", words)


SOURCES = {path.as_posix(): text for path, text in sources()}


@pytest.mark.parametrize("page", SOURCES)
def test_links_between_pages_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", SOURCES[page], flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        where, _, anchor = target.partition("#")
        path = (DOCS / page).parent / where if where else DOCS / page
        name = path.resolve().relative_to(DOCS).as_posix()
        assert path.exists() or (DOCS / MADE.get(name, "nothing")).exists(), target
        if anchor and name in SOURCES:
            assert anchor in set(anchors(SOURCES[name])), target


def test_the_navigation_lists_every_page():
    toml = (ROOT / "zensical.toml").read_text()
    listed = re.findall(r'"([\w/*-]+\.md)"', toml)
    written = {name for name in SOURCES if not name.startswith("tutorials/")}
    assert sorted(listed) == sorted(written | {"which-loss.md", "tutorials/*.md"})


# The front page


def test_ten_lines_move_one_cloud_onto_the_other(capsys):
    data, lines = re.findall(r"```python\n(.*?)```", SOURCES["index.md"], re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) <= 10
    scope = {}
    exec(data, scope)
    exec(lines, scope)
    before, after = map(float, capsys.readouterr().out.split())
    # .17 lies between two samples of the curve; particles spread more evenly than samples.
    assert before > 0.9
    assert after < 0.17
    # The curve is one from end to end, of unit scale in 1.3: no part of it is left empty.
    gaps = np.linalg.norm(scope["xs_p"][:, None] - scope["path"][-1][None], axis=-1).min(axis=1)
    assert gaps.max() < 0.3


# Which loss minimises what: every formula beside one written down here, in another language


def sp(x):
    return np.logaddexp(0, x)


def sigma(x):
    return 1 / (1 + np.exp(-x))


F = {  # f with f(1) = f'(1) = 0
    "kl_qp": lambda r: -np.log(r) + r - 1,
    "kl_pq": lambda r: r * np.log(r) - r + 1,
    "jensen_shannon": lambda r: (r * np.log(2 * r / (1 + r)) + np.log(2 / (1 + r))) / 2,
    "softened_reverse_kl": lambda r: (1 + r) * np.log((1 + r) / (2 * r)) + r - 1,
    "squared_hellinger": lambda r: 1 + r - 2 * np.sqrt(r),
    "pearson": lambda r: r**2 - 2 * r + 1,
    "neyman": lambda r: r - 2 + 1 / r,
    "le_cam": lambda r: (r - 1) ** 2 / (r + 1),
    "least_squares": lambda r: (
        2 * r * np.log(2 * r) - 2 * r * np.log1p(r) - 1 / (1 + r) + 1.75 - 1.25 * r
    ),
    "shifted_vanilla(3)": lambda r: (
        np.exp(3) * r * np.log(r)
        - (1 + np.exp(3) * r) * (np.log1p(np.exp(3) * r) - np.log1p(np.exp(3)))
    ),
    "alpha(1.5)": lambda r: (r**1.5 - 1.5 * r + 0.5) / 0.75,
}
# h, then factor and name of what the discriminator measures and of what the generator descends.
TRUTH = {
    "vanilla()": (sp, (2, "jensen_shannon"), (2, "jensen_shannon")),
    "vanilla(3)": (lambda u: sp(u + 3), (2, "jensen_shannon"), (1, "shifted_vanilla(3)")),
    "non_saturating()": (lambda u: -sp(-u), (2, "jensen_shannon"), (1, "softened_reverse_kl")),
    "logit()": (lambda u: u, (2, "jensen_shannon"), (1, "kl_qp")),
    "arcsinh()": (np.arcsinh, (2, "jensen_shannon"), (1, "arcsinh")),
    "mle()": (np.exp, (2, "jensen_shannon"), (1, "kl_pq")),
    "f_gan(pearson, raw=False)": (lambda u: np.exp(2 * u), (1, "pearson"), (1, "pearson")),
    "f_gan(pearson, False, raw=False)": (
        lambda u: 2 * np.exp(u),
        (1, "pearson"),
        (2, "kl_pq"),
    ),
    "f_gan(pearson)": (lambda u: np.exp(2 * u), (1, "pearson"), (1, "pearson")),
    "f_gan(kl_qp)": (lambda u: u, (1, "kl_qp"), (1, "kl_qp")),
    "f_gan(kl_qp, False)": (lambda u: -np.exp(-u), (1, "kl_qp"), (0.5, "neyman")),
    "b_gan(pearson)": (lambda u: np.exp(2 * u), (1, "pearson"), (1, "pearson")),
    "least_squares()": (lambda u: -(sigma(-u) ** 2), (0.25, "le_cam"), (1, "least_squares")),
    "ebm()": (np.exp, (1, "kl_pq"), (1, "kl_pq")),
    "nwj()": (lambda u: u, (1, "kl_pq"), (1, "kl_qp")),
    "ulsif()": (lambda u: u, (0.5, "pearson"), (1, "kl_qp")),
    "exponential()": (lambda u: u, (1, "squared_hellinger"), (1, "kl_qp")),
    "mirror(squared_hellinger)": (
        lambda u: np.exp(u / 2),
        (0.5, "alpha(1.5)"),
        (1, "squared_hellinger"),
    ),
}
U = np.array([-2.5, -1.0, -0.3, 0.2, 0.9, 2.0])


@pytest.fixture(scope="module")
def which_loss():
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module("_which_loss")
    sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def rows(which_loss):
    return {row.call: row for row in which_loss.ROWS}


def same_up_to_a_constant(one, other):
    one, other = (np.asarray(each) - np.asarray(each)[0] for each in (one, other))
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


def test_the_table_has_every_gan_of_the_library(rows):
    named = {call.partition("(")[0] for call in rows}
    assert set(TRUTH) == set(rows)
    # A Wasserstein critic has no ratio.
    assert named == {name for name in vars(df.gans) if not name.startswith("_")} - {
        "GAN",
        "wasserstein",
    }


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", F)
def test_the_tables_f_are_right(which_loss, name):
    found = which_loss.evaluate(which_loss.NAMED[name], r=np.exp(U), **which_loss.LETTERS)
    np.testing.assert_allclose(found, F[name](np.exp(U)), rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("call", TRUTH)
def test_the_tables_players_make_its_h_and_what_is_measured(which_loss, rows, call):
    row, (h, (factor, measured), _) = rows[call], TRUTH[call]

    def at(name, d):
        return (
            np.asarray(which_loss.evaluate(getattr(row, name), d=d, **which_loss.LETTERS)) + 0 * d
        )

    # d for each u by bisection, within the domain that the formulas allow.
    ends = {"least_squares()": (1e-9, 1 - 1e-9), "b_gan(pearson)": (1e-9, 1e9)}
    positive = call in ("ulsif()", "mirror(squared_hellinger)", "b_gan(pearson)")
    low, high = ends.get(call, (1e-9, 1e3) if positive else (-1.999, 50.0))
    low, high = (-50.0, 50.0) if row.log_t in ("d", "-d", "2 d", "d - 1") else (low, high)
    low, high = np.full_like(U, low), np.full_like(U, high)
    rising = at("log_t", low)[0] < at("log_t", high)[0]
    for _ in range(80):
        middle = (low + high) / 2
        below = (at("log_t", middle) < U) == rising
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    d, r = low, np.exp(U)
    same_up_to_a_constant(at("h_t", d), h(U))
    same_up_to_a_constant(which_loss.evaluate(row.h, u=U, **which_loss.LETTERS) + 0 * U, h(U))
    # That d is where r phi + psi is largest; its value there is f, up to a (r - 1) and a constant.
    for step in (-1e-4, 1e-4):
        value = r * at("phi", d) + at("psi", d)
        assert np.all(r * at("phi", d + step) + at("psi", d + step) <= value)
    line = np.stack([np.ones_like(r), r], axis=1)
    rest = value - factor * F[measured](r)
    fit = line @ np.linalg.lstsq(line, rest, rcond=None)[0]
    np.testing.assert_allclose(rest, fit, atol=1e-7 * max(1.0, np.max(np.abs(value))))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("call", TRUTH)
def test_the_library_says_of_each_loss_what_theory_says(which_loss, rows, call):
    h, measured, descended = TRUTH[call]
    gan, r = which_loss.gan_of(rows[call]), np.exp(U)
    same_up_to_a_constant(jax.vmap(gan.h)(U), h(U))
    factor, name = measured
    slope = jax.grad(gan.measures)(1.0)
    np.testing.assert_allclose(
        jax.vmap(gan.measures)(r) - slope * (r - 1), factor * F[name](r), rtol=1e-7, atol=1e-9
    )
    factor, name = descended
    if name in F:  # arcsinh has no closed form
        found = jax.vmap(gan.descends)(r)
        np.testing.assert_allclose(found, factor * F[name](r), rtol=1e-7, atol=1e-9)
