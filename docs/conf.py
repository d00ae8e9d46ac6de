"""The site: ``make docs`` builds it into build/docs, with warnings as errors.

The sources are the whole checkout, so that a link that works on GitHub works on the site, too.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from keys import render_keys  # noqa: E402

import raydd  # noqa: E402

project, author = "raydd", "the authors of raydd"
copyright = "Apache-2.0"
version = release = raydd.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "raydd/methods/*.md", "clusters/*.md", "C*.md"]
exclude_patterns = [".*", "build", "dist", "runs", "outputs", "tests", "**/__pycache__"]
html_theme, html_title = "furo", "raydd"
html_extra_path = ["site"]  # sends a reader of the site's root to docs/index.html
html_copy_source = False

myst_heading_anchors = 4  # a link to a heading, as GitHub spells it
myst_enable_extensions = ["attrs_inline"]
suppress_warnings = ["misc.highlighting_failure"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True


def _fill_keys(app: object, docname: str, source: list[str]) -> None:
    """Put the tables made from the typed configuration below the page's introduction."""
    if docname == "docs/keys":
        source[0] += "\n" + render_keys()


def _tables(
    app: object, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Spell a docstring's Markdown tables as reStructuredText reads them."""
    rows = [line for line in lines if line.startswith("|") and not re.fullmatch(r"[|-]+", line)]
    if not rows:
        return
    first = lines.index(rows[0])
    last = max(number for number, line in enumerate(lines) if line.startswith("|"))
    table = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        table += [
            f"   {'* -' if not number else '  -'} {cell}" for number, cell in enumerate(cells)
        ]
    lines[first : last + 1] = [*table, ""]


def setup(app: object) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _fill_keys)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", _tables)  # type: ignore[attr-defined]
