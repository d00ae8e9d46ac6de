"""What every page is made with: one Jinja environment, its filters, and the parts of a page."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml

from raydd.ops.describe import byte_size, duration
from raydd.report.figures import Strip, image_grid, strip


@dataclass(frozen=True)
class Grid:
    """Some images of one curriculum.

    Attributes:
        title: heading.
        caption: what rows and columns are.
        images: uint8 [classes, slots, R, R, 3], RGB.
        class_names: one per row.
    """

    title: str
    caption: str
    images: np.ndarray
    class_names: Sequence[str]


def template(name: str) -> jinja2.Template:
    """A page's template beside this file; it refuses unknown names and escapes every text."""
    return _environment().get_template(name)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # class names and reasons come from files of strangers
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "size": byte_size,
        "duration": duration,
        "percent": _percent,
        "half": _half,
        "number": _number,
        "short": _short,
    }
    return environment


def accuracy_strip(parts: Mapping[str, Mapping[str, Any]]) -> Strip:
    """Every seed of some image sets in percent; of each, by name: values, mean and half_width."""
    rows = {}
    for name, part in parts.items():
        half = part["half_width"] if is_number(part["half_width"]) else math.nan
        rows[name] = ([100 * v for v in part["values"]], 100 * part["mean"], 100 * half)
    return strip(rows)


def picture(grid: Grid) -> dict[str, Any]:
    """What the template shows of a grid."""
    return {
        "title": grid.title,
        "caption": grid.caption,
        "png": base64.b64encode(image_grid(grid.images)).decode(),
        "rows": grid.class_names,
    }


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries and lists of them as one, with dotted keys."""
    if isinstance(tree, Mapping):
        items: Any = tree.items()
    elif isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        items = enumerate(tree)
    else:
        return {prefix.removesuffix("."): tree}
    return {k: v for key, value in items for k, v in flatten(value, f"{prefix}{key}.").items()}


def config_text(config: Mapping[str, Any]) -> str:
    """A configuration as YAML, in the order of its keys."""
    return yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}" if is_number(fraction) else "-"


def _number(count: float) -> str:
    """A number of images, or the median of some."""
    return f"{count:,.1f}".removesuffix(".0")


def _short(value: float) -> str:
    return f"{value:.3g}"


def _half(fraction: float | None) -> str:
    return f"± {100 * fraction:.1f}" if fraction is not None and is_number(fraction) else ""
