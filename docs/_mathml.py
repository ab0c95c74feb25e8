"""Mathematics without a network or a script: LaTeX becomes MathML while the pages are built.

A Python-Markdown extension, loaded by zensical.toml after arithmatex, which finds the formulas.
Browsers draw MathML themselves; the font comes out of a PyPI package (`font`, called by _build.py).
"""

import html
import pathlib
import re

import latex2mathml.converter
import ziamath
from fontTools import subset
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

INLINE, BLOCK = re.compile(r"\\\((.*)\\\)", re.DOTALL), re.compile(r"\\\[(.*)\\\]", re.DOTALL)
# What latex2mathml does not know, in words that it knows.
WORDS = {
    r"\\(bigl|bigr|Bigl|Bigr)(?![a-zA-Z])": "",
    r"\\(tfrac|frac|dfrac)\s*(\d)\s*(\d|\\?[a-zA-Z]+)": r"\\\1{\2}{\3}",
    r"\\begin\{aligned\}": r"\\begin{align*}",
    r"\\end\{aligned\}": r"\\end{align*}",
}
# Letters, Greek, arrows, operators, mathematical alphabets.
GLYPHS = "U+20-7E,U+A0-FF,U+2B0-3FF,U+2010-22FF,U+2300-23FF,U+27C0-27FF,U+2A00-2AFF,U+1D400-1D7FF"


def mathml(latex: str, display: str = "inline") -> str:
    """One formula as MathML."""
    for pattern, word in WORDS.items():
        latex = re.sub(pattern, word, latex)
    found = latex2mathml.converter.convert(latex.strip(), display=display)
    if strange := re.search(r"<m[ion]>(&|\\[a-zA-Z]*)</m[ion]>", found):
        raise ValueError(f"latex2mathml left {strange[1]!r} as it is in: {latex}")
    return found


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


class MathML(Extension):
    """Runs after inline patterns, and after arithmatex with them."""

    def extendMarkdown(self, md):
        md.treeprocessors.register(Formulas(md), "mathml", 5)


def makeExtension(**options):
    return MathML(**options)
