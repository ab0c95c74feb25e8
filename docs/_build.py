"""Builds the site: generates pages, runs the tutorials, then zensical; any warning is an error.

    python docs/_build.py        # by `nox -s docs`; needs no network

Markdown is gathered in build/docs, the site lies in site/.
"""

import importlib
import logging
import pathlib
import re
import shutil
import sys
import tomllib
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin

import _api
import _mathml
import _tutorials
import _which_loss
import griffe
from zensical.main import cli

# jaxtyping's shapes are strings: griffe must not read "n *event" as a product.
griffe.Module.imports_future_annotations = property(lambda self: True)

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
PAGES, SITE = ROOT / "build" / "docs", ROOT / "site"
LEFT = "out", "__pycache__"  # of the examples, whose scripts the gallery links to
ANY_TUTORIAL = '"tutorials/*.md"'
WRITTEN = "*.md", "*.png", "*.webp", "*.css", "*.svg"
PICTURE = re.compile(r"!\[([^\]]*)\]\(docs/")


def generate():
    """Everything that zensical reads, in build/docs."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for pattern in WRITTEN:
        for source in HERE.rglob(pattern):
            target = PAGES / source.relative_to(HERE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    shutil.copytree(ROOT / "examples", PAGES / "examples", ignore=shutil.ignore_patterns(*LEFT))
    print("asking the library which loss minimises what", flush=True)
    (PAGES / "which-loss.md").write_text(_which_loss.page())
    sys.path.insert(0, str(ROOT / "benchmarks"))
    tables = importlib.import_module("_readme").tables()
    index = PAGES / "api" / "index.md"
    index.write_text(_api.index(index.read_text(), PAGES / "api", package()))
    for page in PAGES.rglob("*.md"):
        text = page.read_text()
        for name, table in tables.items():
            text = text.replace(f"<!-- bench:{name} -->", table)
        page.write_text(text)
    _tutorials.build(PAGES / "tutorials", ROOT / "build" / "tutorials")
    (PAGES / "assets").mkdir(exist_ok=True)
    _mathml.font(PAGES / "assets" / "stix-two-math.woff")


class Warnings(logging.Handler):
    """Collects what any library warns of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []

    def emit(self, record):
        self.said.append(f"{record.name}: {record.getMessage()}")


def package():
    """The package as griffe reads it."""
    return griffe.load("divergence_flows", search_paths=[ROOT], docstring_parser="google")


def docstrings():
    """Parses every docstring of the package, private ones too: what griffe warns of is an error."""
    waiting = [package()]
    while waiting:
        here = waiting.pop()
        if here.docstring:
            here.docstring.parse("google")
        waiting += [each for each in here.members.values() if not each.is_alias]


def configured():
    """The text of zensical.toml with the tutorials that there are."""
    pages = sorted(page.relative_to(PAGES).as_posix() for page in PAGES.glob("tutorials/*.md"))
    listed = ", ".join(f'"{page}"' for page in pages)
    return (ROOT / "zensical.toml").read_text().replace(ANY_TUTORIAL, listed)


def leaves(entry):
    """The pages below an entry of the navigation."""
    if isinstance(entry, str):
        yield entry
        return
    for each in entry.values() if isinstance(entry, dict) else entry:
        yield from leaves(each)


def unlisted():
    """Pages that the navigation leaves out, and entries without a page."""
    listed = set(leaves(tomllib.loads(configured())["project"]["nav"]))
    return listed ^ {page.relative_to(PAGES).as_posix() for page in PAGES.rglob("*.md")}


def zensical():
    """Builds from a configuration that lies in the root, as zensical wants it, while it builds."""
    file = ROOT / "zensical.build.toml"
    file.write_text(configured())
    try:
        command = ["build", "--clean", "--strict", "--config-file", str(file)]
        cli(command, standalone_mode=False)
    finally:
        file.unlink()


class Links(HTMLParser):
    """Collects what a page refers to, and the anchors that it has."""

    def __init__(self, file):
        super().__init__()
        self.targets, self.anchors = [], set()
        self.feed(file.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found.get("id"), found.get("name")}
        target = found.get("href") if tag in ("a", "link") else found.get("src")
        if target:
            self.targets.append((tag, target))


def broken(site):
    """Formulas left as LaTeX, links that lead nowhere, types that no page explains, ..."""
    pages = {file: Links(file) for file in site.rglob("*.html")}
    for file in pages:
        text = file.read_text()
        # A name that mkdocstrings cannot link keeps its full name as a title.
        for name in set(re.findall(r'<span title="(divergence_flows\.[^"]*\.[A-Z]\w*)">', text)):
            yield f"{file.relative_to(site)}: no page explains {name}; docs/api/types.md should"
        prose = re.sub(r"(?s)<(code|pre|script|style|annotation)\b.*?</\1>", "", text)
        if dollar := re.search(r".{0,60}\$.{0,60}", prose):
            yield f"{file.relative_to(site)}: mathematics not understood in {dollar[0]}"
    for file, page in pages.items():
        if file.name == "404.html":  # its links are relative to wherever it is served
            continue
        for tag, target in page.targets:
            where, anchor = urldefrag(target)
            if re.match(r"[a-z]+:|//", where):
                if tag != "a":
                    yield f"{file.relative_to(site)}: loads {target}"
                continue
            base = "/" + file.relative_to(site).as_posix()
            path = site / unquote(urljoin(base, where) if where else base).lstrip("/")
            path = path / "index.html" if path.is_dir() else path
            if not path.exists():
                yield f"{file.relative_to(site)}: {target} does not exist"
            elif anchor and path in pages and unquote(anchor) not in pages[path].anchors:
                yield f"{file.relative_to(site)}: {target} has no such anchor"


def main():
    warnings = Warnings()
    for name in (None, "griffe", "mkdocstrings"):
        logging.getLogger(name).addHandler(warnings)
    generate()
    if strays := unlisted():
        raise SystemExit(f"zensical.toml's nav and the pages differ in {sorted(strays)}")
    docstrings()
    shutil.rmtree(SITE, ignore_errors=True)
    zensical()
    faults = [*dict.fromkeys(warnings.said), *broken(SITE)]
    if faults:
        raise SystemExit("\n".join(["the site has faults:", *faults]))
    print(f"{len(list(SITE.rglob('*.html')))} pages in {SITE}")


if __name__ == "__main__":
    main()
