"""Mathematics without a network or a script: LaTeX becomes MathML while the pages are built.

A Python-Markdown extension, loaded by zensical.toml after arithmatex, which finds the formulas.
Browsers draw MathML themselves; the font comes out of a PyPI package (`font`, called by _build.py).
"""

import html
import pathlib
import re
import xml.etree.ElementTree as etree

import latex2mathml.converter
import ziamath
from fontTools import subset
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from markdown.treeprocessors import Treeprocessor

INLINE, BLOCK = re.compile(r"\\\((.*)\\\)", re.DOTALL), re.compile(r"\\\[(.*)\\\]", re.DOTALL)
DISPLAYED = re.compile(r"^(\$\$[^$]+\$\$)[ ]*$", re.MULTILINE)
# What latex2mathml does not know, in words that it knows.
WORDS = {
    r"\\(bigl|bigr|Bigl|Bigr)(?![a-zA-Z])": "",
    r"\\(tfrac|frac|dfrac)\s*(\d)\s*(\d|\\?[a-zA-Z]+)": r"\\\1{\2}{\3}",
    r"\\[lr]Vert(?![a-zA-Z])": r"\\|",  # it would stretch one bar and not the other
    r"\\[lr]vert(?![a-zA-Z])": "|",
    r"([a-zA-Z])_([a-zA-Z])'": r"{\1'}_\2",  # a prime above an index would be too high
    r"\\begin\{aligned\}": r"\\begin{align*}",
    r"\\end\{aligned\}": r"\\end{align*}",
}
# Letters, Greek, arrows, operators, mathematical alphabets.
GLYPHS = "U+20-7E,U+A0-FF,U+2B0-3FF,U+2010-22FF,U+2300-23FF,U+27C0-27FF,U+2A00-2AFF,U+1D400-1D7FF"


MATHML = "{http://www.w3.org/1998/Math/MathML}"
etree.register_namespace("", MATHML[1:-1])
# Elements whose children are no sequence of terms.
SCRIPTS = {"mfrac", "msub", "msup", "msubsup", "munder", "mover", "munderover", "mroot", "mtr"}
TIGHT, PREFIXES, SPACE = set("/|\u2016\u221e\u2202\u2207"), set("-+\u2212\u00b1"), "0.1667em"


def kind(element):
    """Its name without the namespace, and its text."""
    return (
        (element.tag.removeprefix(MATHML), element.text or "") if element is not None else ("", "")
    )


def is_operator(element):
    """Whether a sign after it is a sign, not a difference; nothing before it counts too."""
    name, text = kind(element)
    return element is None or (name == "mo" and text not in (")", "]", "}", "\u2032", "|"))


def space(element, left, right):
    element.set("lspace", left)
    element.set("rspace", right)


def tidy(parent):
    """Sets spaces as TeX does: log r, f(-u), p/q; primes stand beside their letter."""
    terms = list(parent)
    for before, term, after in zip([None, *terms], terms, [*terms[1:], None], strict=False):
        tidy(term)
        name, text = kind(term)
        if kind(parent)[0] in SCRIPTS and not (len(text) > 1 and text.isalpha()):
            continue
        if name in ("mi", "mo") and len(text) > 1 and text.isalpha():
            term.tag = f"{MATHML}mo"
            closed = kind(after) in (("mo", "("), ("mo", "["), ("mo", ","), ("mo", ")"))
            alone = kind(parent)[0] not in SCRIPTS and (after is None or closed)
            space(term, "0" if is_operator(before) else SPACE, "0" if alone else SPACE)
        elif text in TIGHT:
            term.tag = f"{MATHML}mo"
            term.set("stretchy", "false")  # a bar has no partner to be as high as
            space(term, "0", "0")
        elif name == "mo" and text in PREFIXES and is_operator(before):
            term.set("form", "prefix")
            space(term, "0", "0")
    for i, term in enumerate(list(parent)):
        power = kind(term[-1])[1] if kind(term)[0] in ("msup", "msubsup") else ""
        if kind(term)[0] == "msup" and power in ("\u2032", "\u2033"):
            row = etree.Element(f"{MATHML}mrow")
            mark = etree.SubElement(row, f"{MATHML}mo", {"lspace": "0", "rspace": "0"})
            mark.text, row.tail = term[-1].text, term.tail
            row.insert(0, term[0])
            parent[i] = row
        elif power == "*":
            term[-1].text = "\u2217"  # the asterisk of text is raised already
        elif kind(term)[0] == "msqrt":
            # The smallest root is as high as this: around a low letter browsers draw it too low.
            term.insert(
                0, etree.Element(f"{MATHML}mspace", {"height": "0.75em", "depth": "0.15em"})
            )


def mathml(latex: str, display: str = "inline") -> str:
    """One formula as MathML."""
    for pattern, word in WORDS.items():
        latex = re.sub(pattern, word, latex)
    found = latex2mathml.converter.convert(latex.strip(), display=display)
    if strange := re.search(r"<m[ion]>(&|\\[a-zA-Z]*)</m[ion]>", found):
        raise ValueError(f"latex2mathml left {strange[1]!r} as it is in: {latex}")
    tree = etree.fromstring(found)
    before = "".join(tree.itertext()).replace("*", "\u2217")
    tidy(tree)
    if (after := "".join(tree.itertext())) != before:
        raise RuntimeError(f"{latex} lost something: {before} became {after}")
    return etree.tostring(tree, encoding="unicode")


def font(file: pathlib.Path) -> None:
    """Writes STIX Two Math, less what no formula of ours needs."""
    source = pathlib.Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
    options = ["--layout-features=*", "--flavor=woff", f"--unicodes={GLYPHS}"]
    subset.main([str(source), *options, f"--output-file={file}"])


class Formulas(Treeprocessor):
    """Replaces arithmatex's elements by MathML."""

    def run(self, root):
        for element in root.iter():
            if element.get("class") == "arithmatex":
                text = html.unescape("".join(element.itertext()))
                inline = INLINE.fullmatch(text.strip())
                latex = (inline or BLOCK.fullmatch(text.strip()))[1]
                made = mathml(latex, "inline" if inline else "block")
                element.text = self.md.htmlStash.store(made)
                element[:] = []


class Apart(Preprocessor):
    """Sets $$...$$ apart by empty lines: docstrings have it in the middle of a paragraph."""

    def run(self, lines):
        return DISPLAYED.sub(r"\n\1\n", "\n".join(lines)).split("\n")


class MathML(Extension):
    """Runs after code is put aside; and after inline patterns, arithmatex with them."""

    def extendMarkdown(self, md):
        md.preprocessors.register(Apart(md), "apart", 5)
        md.treeprocessors.register(Formulas(md), "mathml", 5)


def makeExtension(**options):
    return MathML(**options)
