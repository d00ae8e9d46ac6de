"""Render the result browser: one HTML file with its data, styles, scripts and the plots' library.

The content policy names the hashes of our scripts: nothing is loaded, and a class name or an error
text of a stranger cannot run.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

_HERE = Path(__file__).parent
_SCRIPTS = (
    "numbers.js",
    "table.js",
    "plots.js",
    "lines.js",
    "trial.js",
    "main.js",
)


def render_browser(model: Mapping[str, Any], renew: int | None = None) -> str:
    """Render the page.

    Args:
        model: of :func:`raydd.browser.model.page_model`.
        renew: seconds after which the page loads itself again; None is never.
    """
    own = "\n".join((_HERE / name).read_text("utf-8") for name in _SCRIPTS)
    scripts = [get_plotlyjs(), f'(() => {{ "use strict";\n{own}\n}})();']
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([_HERE, _HERE.parent / "report"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("browser.html.jinja").render(
        title=model["title"],
        renew=renew,
        data=Markup(embed(model)),
        scripts=[Markup(script) for script in scripts],
        policy=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
    )


def embed(value: Any) -> str:
    """Json that may stand inside a script element: no text can close it or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
