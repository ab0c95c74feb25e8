"""Runs the tutorials and makes of each a page, with what it printed and drew, and a notebook.

A tutorial is a script in jupytext's percent format. Running it needs no network; any error, and
anything on stderr, fails the build. What ran is kept in build/ until the script or the package
changes.
"""

import base64
import hashlib
import importlib.metadata
import os
import pathlib
import re

import jupytext
import nbclient
import nbformat
from nbformat.v4 import new_code_cell
from traitlets.config import Config

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = ROOT / "docs" / "tutorials"
INLINE = "module://matplotlib_inline.backend_inline"
# Twice the pixels of the page, and no edge cut off.
PICTURES = (
    '%config InlineBackend.figure_formats = ["retina"]\n'
    '%config InlineBackend.rc = {"figure.dpi": 80}'
)
METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
}
DOWNLOAD = (
    "This page is a notebook that was run when the site was built: [download {name}.ipynb]"
    "({name}.ipynb){{ download }}. To run it in Colab, upload it there (*File*, *Upload notebook*);"
    " its first cell installs the library, from a wheel if you put one beside it (*Files*,"
    " *Upload*; `nox -s release` builds it), else from PyPI once it is there.\n"
)


def stamp(script):
    """Changes with the script, the package and what runs them."""
    versions = [importlib.metadata.version(name) for name in ("jax", "matplotlib", "ipykernel")]
    files = [script, pathlib.Path(__file__), *sorted((ROOT / "divergence_flows").rglob("*.py"))]
    text = b"".join(file.read_bytes() for file in files) + repr(versions).encode()
    return hashlib.sha256(text).hexdigest()[:16]


def run(script, folder):
    """The executed notebook of a script, from an earlier run if nothing has changed."""
    kept = folder / f"{script.stem}-{stamp(script)}.ipynb"
    if kept.exists():
        return nbformat.read(kept, as_version=4)
    print(f"running {script.name}", flush=True)
    notebook = jupytext.read(script, fmt="py:percent")
    notebook.metadata = nbformat.from_dict({**METADATA, "colab": {"name": f"{script.stem}.ipynb"}})
    notebook.nbformat_minor = 5
    for i, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{i}", nbformat.from_dict({})
    # The first cell sets up the pictures; it is taken out again.
    notebook.cells.insert(0, new_code_cell(PICTURES, id="pictures"))
    os.environ["MPLBACKEND"] = INLINE
    # Through a file of this machine, not a port.
    config = Config({"KernelManager": {"transport": "ipc"}})
    nbclient.NotebookClient(notebook, timeout=500, kernel_name="python3", config=config).execute()
    del notebook.cells[0]
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        cell.execution_count, cell.metadata = count, nbformat.from_dict({})
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
            if output.output_type == "stream" and output.name == "stderr":
                raise RuntimeError(f"{script.name}, cell {count} wrote to stderr:\n{output.text}")
    nbformat.validate(notebook)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{script.stem}-*.ipynb"):
        old.unlink()
    nbformat.write(notebook, kept)
    return notebook


def picture(output, file, heading):
    """Writes a figure, and says how the page shows it."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(base64.b64decode(output.data["image/png"]))
    size = output.metadata.get("image/png", {})
    width = f'{{ width="{size["width"]}" }}' if "width" in size else ""
    return f"![{heading}]({file.parent.name}/{file.name}){width}"


def shown(text):
    return f"```{{ .text .output }}\n{text.rstrip()}\n```"


def lines(notebook, folder, stem):
    """The page's parts, one after the other."""
    heading, figures = stem, 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield cell.source
            heading = (re.findall(r"^#+ (.+)$", cell.source, re.M) or [heading])[-1]
            continue
        if cell.cell_type != "code" or "google.colab" in cell.source:
            continue  # what only Colab needs is in the notebook, not on the page
        yield f"```python\n{cell.source}\n```"
        printed = ""
        for output in cell.outputs:
            if output.output_type == "stream":
                printed += output.text
                continue
            if printed:
                yield shown(printed)
                printed = ""
            if "image/png" in output.data:
                figures += 1
                file = folder / f"{stem}_files" / f"{figures}.png"
                yield picture(output, file, heading.replace("$", ""))
            else:
                yield shown(output.data["text/plain"])
        if printed:
            yield shown(printed)


def write(script, folder, kept):
    """Writes page, figures and notebook of one tutorial."""
    notebook = run(script, kept)
    parts = list(lines(notebook, folder, script.stem))
    head, _, rest = parts[0].partition("\n")
    if not head.startswith("# "):
        raise ValueError(f"{script.name}: the first cell must be Markdown and begin with a title")
    parts[0] = f"{head}\n\n{DOWNLOAD.format(name=script.stem)}\n{rest}"
    (folder / f"{script.stem}.md").write_text("\n\n".join(parts) + "\n")
    nbformat.write(notebook, folder / f"{script.stem}.ipynb")


def build(folder, kept):
    """All tutorials."""
    folder.mkdir(parents=True, exist_ok=True)
    for script in sorted(SCRIPTS.glob("*.py")):
        write(script, folder, kept)
