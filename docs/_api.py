"""Makes the table of the API: every public name, by task, with the first line of its docstring.

Tasks are the headings of the pages in docs/api/, in the order in which the index links them.
"""

import re

NAME = re.compile(r"^::: (?:divergence_flows\.)?(\S+)")
IN_MATHS = re.compile(r"\$[^$]*\$")


def sections(text):
    """(heading, names under it) of a page, in order; a page's module itself is no name."""
    heading, names = "", []
    for line in text.splitlines():
        if line.startswith("## "):
            if names:
                yield heading, names
            heading, names = line[3:], []
        elif found := NAME.match(line):
            names.append(found[1])
    if names:
        yield heading, names


def summary(package, name):
    """The first sentence line of a docstring, fit for a cell of a table."""
    found = package[name]
    while found.is_alias:
        found = found.final_target
    line = found.docstring.value.strip().splitlines()[0]
    # A bar would end the cell.
    return IN_MATHS.sub(lambda maths: maths[0].replace("|", r"\vert{}"), line).replace(
        "|", "&#124;"
    )


def table(page, text, package):
    """The rows of one page under its title."""
    title = re.match("# (.*)", text)[1]
    lines = [f"### [{title}]({page})", "", "| to | use | |", "|---|---|---|"]
    for heading, names in sections(text):
        if not heading:  # the module's own docstring stands at the top of its page
            continue
        for name in names:
            link = f"[`{name}`]({page}#divergence_flows.{name})"
            lines.append(f"| {heading} | {link} | {summary(package, name)} |")
            heading = ""
    return "\n".join(lines)


def index(text, folder, package):
    """The index with its marker replaced by the tables of all pages that it links."""
    pages = dict.fromkeys(re.findall(r"\]\((\w+\.md)\)", text))
    texts = {page: (folder / page).read_text() for page in pages}
    tables = [table(page, body, package) for page, body in texts.items() if ":::" in body]
    return text.replace("<!-- api -->", "\n\n".join(tables))
