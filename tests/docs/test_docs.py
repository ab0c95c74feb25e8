"""The documentation names everything once, its links lead somewhere, and its table is true."""

import ast
import builtins
import collections
import functools
import importlib
import inspect
import pathlib
import re
import sys

import catalogue
import mpmath as mp
import numpy as np
import pytest

import divergence_flows as df

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = pathlib.Path(df.__file__).parent
MODULES = ("bures", "divergences", "gans", "networks", "plot")
# Pages that docs/_build.py writes, and what makes them.
MADE = {"which-loss.md": "_which_loss.py"} | {
    f"tutorials/{path.stem}.{ending}": f"tutorials/{path.name}"
    for path in (DOCS / "tutorials").glob("*.py")
    for ending in ("md", "ipynb")
}
MADE |= {
    f"tutorials/{path.stem}_files/{number}.png": f"tutorials/{path.name}"
    for path in (DOCS / "tutorials").glob("*.py")
    for number in (1, 2)
}
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("[!_]*.py"))
MADE |= {f"examples/{name}": f"../examples/{name}" for name in EXAMPLES}


# Names


def public_names():
    """Every object once, under its shortest name."""
    rooms = {name for name in vars(df) if inspect.ismodule(vars(df)[name])} - set(MODULES)
    front = {k: v for k, v in vars(df).items() if not k.startswith("_") and k not in rooms}
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
    index = (DOCS / "api" / "index.md").read_text()
    linked = set(re.findall(r"\]\((\w+\.md)\)", index))
    assert linked == {page.name for page in (DOCS / "api").glob("*.md")} - {"index.md"}
    # docs/_api.py writes a table of every public name there.
    assert index.count("<!-- api -->") == 1


# Types


# What a signature may name without a heading of ours.
OTHERS = {"Any", "Callable", "Mapping", "Sequence", "diffrax", "eqx", "jax", "np", "os"}
OTHERS |= {"Array", "ArrayLike", "Bool", "Float", "Int", "PRNGKeyArray", "PyTree", "Real"}
OTHERS |= {*dir(builtins)}


def annotations(node):
    """Every annotation in the public part of a function or a class."""
    if isinstance(node, ast.ClassDef):
        for part in node.body:
            name = getattr(part, "name", None) or getattr(getattr(part, "target", 0), "id", "_")
            if name in ("__init__", "__call__") or not name.startswith("_"):
                yield from annotations(part)
    elif isinstance(node, ast.AnnAssign):
        yield node.annotation
    elif isinstance(node, ast.FunctionDef):
        every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        yield from (each.annotation for each in every if each.annotation)
        yield from [node.returns] if node.returns else []


def test_every_type_in_a_signature_has_a_heading():
    headings = set(re.findall(r"^### (\w+)", (DOCS / "api" / "types.md").read_text(), re.M))
    known = OTHERS | headings | {name.rpartition(".")[2] for name in public_names()}
    for name in public_names():
        found = functools.reduce(getattr, name.split(".")[1:], df)
        if inspect.isfunction(found) or inspect.isclass(found):
            tree = ast.parse(inspect.getsource(inspect.unwrap(found)))
            used = {
                part.id
                for each in annotations(tree.body[0])
                for part in ast.walk(each)
                if isinstance(part, ast.Name) and not part.id.startswith("_")
            }
            assert used <= known, f"docs/api/types.md: {name} has {used - known}"


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


def test_the_gallery_shows_every_example_in_less_than_a_megabyte():
    page = SOURCES["gallery.md"]
    cards = re.findall(r"!\[[^\]]+\]\((pictures/[\w.]+)\).*\n\n.*\(examples/(\w+\.py)\)", page)
    listed = re.findall(r"^- \[.*\]\(examples/(\w+\.py)\)", page, re.M)
    assert sorted({script for _, script in cards} | set(listed)) == EXAMPLES
    assert len(listed) <= 3
    assert sum(path.stat().st_size for path in (DOCS / "pictures").iterdir()) < 1e6


# Which loss minimises what: every formula beside one made of f in mpmath

F = catalogue.F | {
    "arcsinh": lambda r: mp.quad(
        lambda v: (r * mp.exp(-v) - 1) / mp.sqrt(1 + v * v), [0, mp.log(r)]
    ),
    "shifted_vanilla(3)": catalogue.F["shifted_3"],
    "alpha(1.5)": catalogue.alpha_of(mp.mpf(3) / 2),
}
# Factor and name of what the discriminator measures, and of what the generator descends.
TRUTH = {
    "vanilla()": ((2, "jensen_shannon"), (2, "jensen_shannon")),
    "vanilla(3)": ((2, "jensen_shannon"), (1, "shifted_vanilla(3)")),
    "non_saturating()": ((2, "jensen_shannon"), (1, "softened_reverse_kl")),
    "logit()": ((2, "jensen_shannon"), (1, "kl_qp")),
    "arcsinh()": ((2, "jensen_shannon"), (1, "arcsinh")),
    "mle()": ((2, "jensen_shannon"), (1, "kl_pq")),
    "f_gan(pearson, raw=False)": ((1, "pearson"), (1, "pearson")),
    "f_gan(pearson, False, raw=False)": ((1, "pearson"), (2, "kl_pq")),
    "f_gan(pearson)": ((1, "pearson"), (1, "pearson")),
    "f_gan(kl_qp)": ((1, "kl_qp"), (1, "kl_qp")),
    "f_gan(kl_qp, False)": ((1, "kl_qp"), (0.5, "neyman")),
    "b_gan(pearson)": ((1, "pearson"), (1, "pearson")),
    "least_squares()": ((0.25, "le_cam"), (1, "least_squares")),
    "ebm()": ((1, "kl_pq"), (1, "kl_pq")),
    "nwj()": ((1, "kl_pq"), (1, "kl_qp")),
    "ulsif()": ((0.5, "pearson"), (1, "kl_qp")),
    "exponential()": ((1, "squared_hellinger"), (1, "kl_qp")),
    "mirror(squared_hellinger)": ((0.5, "alpha(1.5)"), (1, "squared_hellinger")),
}
U = np.array([-2.5, -1.0, -0.3, 0.2, 0.9, 2.0])
# Where the bisection for d starts: the domain that the formulas allow.
ENDS = {"least_squares()": (1e-9, 1 - 1e-9), "b_gan(pearson)": (1e-9, 1e9)} | dict.fromkeys(
    ("ulsif()", "mirror(squared_hellinger)"), (1e-9, 1e3)
)


def of_f(name, make):
    """`make(f, r)` at the ratios e^U."""
    with mp.workdps(30):
        return np.array([float(make(F[name], mp.exp(u))) for u in U])


def h_of(f, r):
    return r * mp.diff(f, r) - f(r)


def standard(f, r):
    """f with f(1) = f'(1) = 0."""
    return f(r) - f(mp.mpf(1)) - mp.diff(f, mp.mpf(1)) * (r - 1)


@pytest.fixture(scope="module")
def which_loss():
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module("_which_loss")
    sys.path.remove(str(DOCS))


def same_up_to_a_constant(one, other):
    np.testing.assert_allclose(one - one[0], other - other[0], rtol=1e-6, atol=1e-8)


def test_the_table_has_every_gan_of_the_library(which_loss):
    assert set(TRUTH) == {row.call for row in which_loss.ROWS}
    named = {name for name in vars(df.gans) if not name.startswith("_")}
    # A Wasserstein critic has no ratio, and a stack is of others; pairs have a table of their own.
    pairs = {call.partition("(")[0] for call in which_loss.PAIRS}
    table = {call.partition("(")[0] for call in TRUTH}
    assert table | pairs == named - {"GAN", "wasserstein", "stack"}


@pytest.mark.usefixtures("x64")
def test_the_pulls_of_pairs_are_those_of_quadrature(which_loss):
    sigma = lambda v: 1 / (1 + mp.exp(-v))
    with mp.workdps(20):
        density = lambda x: mp.exp(-(x**2) / 2) / mp.sqrt(2 * mp.pi)
        pull = lambda u: mp.quad(lambda x: density(x) * sigma(0.5 - x - u), [-12, 0, 12])
        wanted = [float(pull(u)) for u in which_loss.AT]
    np.testing.assert_allclose(which_loss.pull_of_pairs("relativistic()"), wanted, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_the_tables_f_are_right(which_loss):
    for name, formula in which_loss.NAMED.items():
        if formula is not None:
            found = which_loss.evaluate(formula, r=np.exp(U), **which_loss.LETTERS)
            np.testing.assert_allclose(found, of_f(name, standard), rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("call", TRUTH)
def test_the_tables_players_make_its_h_and_what_is_measured(which_loss, call):
    (row,) = (row for row in which_loss.ROWS if row.call == call)
    (factor, measured), (h_factor, descended) = TRUTH[call]

    def at(name, **values):
        formula = which_loss.evaluate(getattr(row, name), **values, **which_loss.LETTERS)
        return np.asarray(formula) + np.zeros_like(U)

    # d for each u by bisection.
    low, high = ENDS.get(call, (-1.999, 50.0))
    low, high = (-50.0, 50.0) if row.log_t in ("d", "-d", "2 d", "d - 1") else (low, high)
    low, high = np.full_like(U, low), np.full_like(U, high)
    rising = at("log_t", d=low)[0] < at("log_t", d=high)[0]
    for _ in range(80):
        middle = (low + high) / 2
        below = (at("log_t", d=middle) < U) == rising
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    d, r = low, np.exp(U)
    for h in (at("h_t", d=d), at("h", u=U)):
        same_up_to_a_constant(h, h_factor * of_f(descended, h_of))
    # That d is where r phi + psi is largest; its value there is f, up to a (r - 1) and a constant.
    value = r * at("phi", d=d) + at("psi", d=d)
    for near in (d - 1e-4, d + 1e-4):
        assert np.all(r * at("phi", d=near) + at("psi", d=near) <= value)
    line = np.stack([np.ones_like(r), r], axis=1)
    rest = value - factor * of_f(measured, standard)
    fit = line @ np.linalg.lstsq(line, rest, rcond=None)[0]
    np.testing.assert_allclose(rest, fit, atol=1e-7 * max(1.0, np.max(np.abs(value))))
