"""The data-set card: README.md of a distilled set, for people and for the Hub.

The YAML header lets ``datasets.load_dataset`` and the Hub's viewer read the folder as it is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from upath import UPath

from raydd.data.card_header import DataBytes, header_fields
from raydd.data.local_paths import without_local_paths


@dataclass(frozen=True)
class Card:
    """What the card says beyond the numbers found in the set itself.

    Attributes:
        name: title of the set, e.g. the run's name.
        method: method that made it.
        source_name: data set it was distilled from.
        source_licence: its licence, in words or as a Hub identifier; the terms pass on.
        recipe: constants of the run, nested as in the config; printed as YAML, without the places
            of this machine that it names.
        results: what was measured, name -> text or number; empty until it was evaluated.
        labels: form of the soft labels: online, seeded or stored.
        generator: diffusion model that the images were sampled from, if any.
        generator_licence: of its weights; its conditions pass on, too.
    """

    name: str
    method: str
    source_name: str
    source_licence: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    labels: str = "online"
    generator: str | None = None
    generator_licence: str | None = None

    @property
    def licences(self) -> str:
        """Licence of the source and, where it has one of its own, of the generator."""
        return " and ".join(filter(None, (self.source_licence, self.generator_licence)))


def write_card(
    folder: str | UPath,
    card: Card,
    *,
    class_names: Sequence[str],
    counts: Sequence[int],
    resolution: int,
) -> None:
    """Write README.md beside the shards; arguments as for ``render_card``."""
    place = UPath(folder)
    text = render_card(
        card,
        class_names=class_names,
        counts=counts,
        resolution=resolution,
        data=DataBytes.measure(place),
    )
    (place / "README.md").write_text(text, "utf-8")


def render_card(
    card: Card,
    *,
    class_names: Sequence[str],
    counts: Sequence[int],
    resolution: int,
    data: DataBytes | None = None,
) -> str:
    """Return the card as markdown with a YAML header.

    Args:
        card: names, method, licence, recipe, results.
        class_names: in label order.
        counts: images per class, in label order.
        resolution: side of the images, pixels.
        data: size of the shards, if they are written.
    """
    fields = header_fields(
        card.name, card.method, card.licences, class_names, sum(counts), data or DataBytes()
    )
    header = yaml.safe_dump(fields, sort_keys=False, width=1000, allow_unicode=True)
    constants = _plain(without_local_paths(card.recipe))
    recipe = yaml.safe_dump(constants, sort_keys=False) if constants else "not recorded\n"
    least, most = min(counts, default=0), max(counts, default=0)
    per_class = str(most) if least == most else f"{least} to {most}"
    return _BODY.format(
        header=header,
        name=card.name,
        method=card.method,
        source_name=card.source_name,
        source_licence=card.source_licence,
        num_images=sum(counts),
        num_classes=len(class_names),
        per_class=per_class,
        resolution=resolution,
        recipe=recipe,
        results=_results(card.results),
        labels=_LABELS[card.labels],
        sampled=_sampled(card),
        publish=publish_command("path/to/this/folder", card.name),
    )


def publish_command(folder: str | UPath, name: str) -> str:
    """The command of huggingface_hub that puts a distilled set on the Hub."""
    return f"hf upload YOUR_NAME/{name} {folder} --repo-type dataset"


def _sampled(card: Card) -> str:
    if card.generator is None:
        return ""
    terms = f" Its licence: {card.generator_licence}; they inherit its terms, too."
    return f"Sampled from: {card.generator}.{terms if card.generator_licence else ''}\n"


def _plain(value: Any) -> Any:
    """Reduce to what YAML can say: configs hold tuples, numpy numbers and paths."""
    return json.loads(json.dumps(value, default=str))


def _results(results: Mapping[str, Any]) -> str:
    if not results:
        return "Not measured yet: `python -m raydd.evaluate` measures any distilled set.\n"
    lines = ["| measured | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in _plain(results).items()]
    return "\n".join(lines) + "\n"


_TRAIN = """

```python
import raydd

labels = raydd.open_labels("path/to/this/folder")
for epoch in range(300):
    for batch in labels.batches(epoch):  # batch.images: views; batch.logits: the teacher's of them
        ...
```
"""
_LABELS = {
    "online": "Soft labels: ask the network in `teacher/` about every view.\n",
    "seeded": "Soft labels are computed again from the network in `teacher/` and the seeds in "
    f"`labels/`, the same every time:{_TRAIN}",
    "stored": "Soft labels of every view are stored in `labels/`; the views are drawn from the "
    f"seed in `labels/labels.json`:{_TRAIN}",
}

_BODY = """---
{header}---

# {name}

{num_images} images that stand for the {source_name} training set: {num_classes} classes,
{per_class} images per class, {resolution} x {resolution} pixels, made by `{method}` of raydd.

## Load it

```python
import datasets, raydd

images = datasets.load_dataset("path/to/this/folder", split="train")  # PIL images, class names
dataset = raydd.load("path/to/this/folder")                           # torch Dataset
```

`ray.data.read_parquet("path/to/this/folder/data")` reads the columns: `image` (PNG), `label`,
`slot` (number within the class), `curriculum` (round of the method), `origin` (synthetic or real),
`source_id` (the real image it is or started from). `raydd.json` holds the class order, the
preprocessing (mean, std, sizes), the whole configuration, versions, seeds and the sha256 of
every file.

{labels}
## Results

{results}
## Recipe

```yaml
{recipe}```

## Publish it

```bash
{publish}
```

## Licence and privacy

Source: {source_name}. Its licence: {source_licence}. A set distilled from it inherits those terms.
{sampled}
Distillation gives no privacy guarantee: images that start from real ones can resemble them.
"""
