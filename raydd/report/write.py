"""Write what a run leaves for people: the distilled set, ``report.json`` and ``report.html``."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from upath import UPath

from raydd.data.card import Card, write_card
from raydd.data.distilled import MANIFEST, DistilledInfo, DistilledRow, read_distilled
from raydd.data.distilled_writer import seal, write_images
from raydd.data.export import (
    EXPORTED,
    SELECTED,
    export_imagefolder,
    export_selected_indices,
)
from raydd.data.rebuild import IDS, read_ids
from raydd.data.rows import Reader, pixel_row
from raydd.engine.engine import Engine
from raydd.engine.generator.adopt import OWN_LICENCE
from raydd.engine.generator.checkpoint import load_generator_card
from raydd.engine.labels.data import LABELS, TEACHER
from raydd.engine.product import Curriculum, Product
from raydd.errors import Refused
from raydd.judge.any_set import Judgement
from raydd.report.gather import headline
from raydd.report.grids import GRID_CLASSES, GRID_SLOTS, grid_caption, grid_slots, read_grid
from raydd.report.page import Grid
from raydd.report.run_page import render_report
from raydd.report.set_page import Pair, render_evaluation
from raydd.store.checkpoint import CARD, WEIGHTS
from raydd.store.files import package_versions, write_atomic
from raydd.store.images import pick_stored
from raydd.store.tables import count_rows, part_files, read_table, write_table


def write_evaluation(
    folder: UPath, report: dict[str, Any], found: Judgement, engine: Engine
) -> None:
    """Write both reports.

    Args:
        folder: where they go.
        report: of :func:`raydd.report.gather.build_evaluation`.
        found: what was measured; its images are shown.
        engine: fetches the real images that are shown.
    """
    write_atomic(folder / "report.json", json.dumps(report, indent=1).encode())
    page = render_evaluation(report, _set_grid(found, engine), _pairs(found, engine))
    write_atomic(folder / "report.html", page.encode())


def _set_grid(found: Judgement, engine: Engine) -> Grid:
    """The first images of the first classes."""
    rows = min(len(engine.class_names), GRID_CLASSES)
    slots = range(min(found.images.summary["slots"][1], GRID_SLOTS))
    side = engine.preprocessing.resolution
    images = read_grid(found.images.folder, rows, slots, side)
    caption = f"the first {len(slots)} of each class" if len(slots) > 1 else "one of each class"
    return Grid("", caption, images, engine.class_names[:rows])


def _pairs(found: Judgement, engine: Engine) -> list[Pair]:
    """The distilled images that are nearest to a real one, with it."""
    nearest = found.leak.summary["nearest"] if found.leak else []
    if not nearest:
        return []
    distilled = pick_stored(
        part_files(found.images.folder),
        [pair["class_index"] for pair in nearest],
        [pair["slot"] for pair in nearest],
        engine.preprocessing.resolution,
    )
    ids = [pair["nearest_id"] for pair in nearest]
    reader = Reader(engine.train_source, engine.preprocessing, engine.data.max_pixels)
    return [
        Pair(
            ours.numpy(), theirs, engine.class_names[p["class_index"]], p["nearest_id"],
            p["distance"], p["distance"] < found.config.nearest.threshold,
        )
        for ours, theirs, p in zip(
            distilled.permute(0, 2, 3, 1), reader.fetch(ids), nearest, strict=True
        )
    ]  # fmt: skip


def write_product(
    folder: UPath,
    engine: Engine,
    product: Product,
    results: Sequence[dict[str, Any]],
    about: Mapping[str, Any],
    export: str,
) -> dict[str, int]:
    """Write the distilled set, with its teacher and card; leave a finished one as it is.

    Beside it goes ``ids.parquet``: what rebuilds the set from its core and the real images.

    Args:
        folder: of the set.
        engine: names classes and preprocessing.
        product: the curricula.
        results: trainings of the judge, for the card; may be empty.
        about: name, method, dataset, licence, seed, ipc and the configuration.
        export: "imagefolder" also writes PNG files beside the set, "indices" those of its real
            images.
    Returns:
        Bytes of ``images``, ``labels`` (0: the teacher is asked online) and ``teacher``.
    """
    if not (folder / MANIFEST).exists():
        _write_set(folder, engine, product, results, about)
    if not (ids := folder.parent / IDS).exists():
        write_table(ids, read_ids(read_distilled(folder)))
    target = folder.parent / "imagefolder"
    if export == "imagefolder" and not (target / EXPORTED).exists():
        export_imagefolder(folder, target)
    if export == "indices":
        try:
            export_selected_indices(folder, engine.train_source, folder.parent / SELECTED)
        except ValueError as error:
            raise Refused(f"export=indices: {error}") from error
    return read_distilled(folder).info.sizes


def write_report(folder: UPath, report: dict[str, Any], product: Product, engine: Engine) -> None:
    """Write ``report.json`` for machines and ``report.html`` for people."""
    write_atomic(folder / "report.json", json.dumps(report, indent=1).encode())
    grids = [_grid(i, item, engine) for i, item in enumerate(product.curricula)]
    write_atomic(folder / "report.html", render_report(report, grids).encode())


def _write_set(
    folder: UPath,
    engine: Engine,
    product: Product,
    results: Sequence[dict[str, Any]],
    about: Mapping[str, Any],
) -> None:
    resolution = engine.preprocessing.resolution
    num_rows = sum(count_rows(path) for item in product.images for path in part_files(item.folder))
    counts = write_images(
        folder,
        _rows(product, resolution),
        num_rows=num_rows,
        class_names=engine.class_names,
        resolution=resolution,
    )
    form = _write_teacher_and_labels(folder, product)
    card = Card(
        about["name"],
        about["method"],
        about["dataset"],
        about["licence"],
        about["config"],
        _card_results(results, about.get("judged_on")),
        form,
        *_generator(product),
    )
    write_card(folder, card, class_names=engine.class_names, counts=counts, resolution=resolution)
    extra = {
        "method": about["method"],
        "rungs": [item.summary["rungs"] for item in product.starts],
        "rejected": product.scores.summary["rejected"],
    }
    info = DistilledInfo(
        engine.class_names,
        engine.preprocessing,
        counts,
        about["config"],
        package_versions(),
        {"run": about["seed"]},
        extra,
        {},
    )
    seal(folder, info)


def _generator(product: Product) -> tuple[str | None, str | None]:
    """Name and licence of the generator; no licence where it is that of the training images."""
    if product.generator is None:
        return None, None
    card = load_generator_card(product.generator.folder)
    return card.name, None if card.licence == OWN_LICENCE else card.licence


def _write_teacher_and_labels(folder: UPath, product: Product) -> str:
    """Copy what gives soft labels; returns their form."""
    labels, teacher = product.labels, product.teacher.folder
    if labels and (labels.folder / TEACHER).exists():  # seeded: the weights that were asked
        teacher = labels.folder / TEACHER
    copies = [(teacher / name, f"{TEACHER}/{name}") for name in (WEIGHTS, CARD)]
    if labels:
        found = sorted((labels.folder / LABELS).iterdir(), key=lambda path: path.name)
        copies += [(path, f"{LABELS}/{path.name}") for path in found]
    for source, name in copies:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name, source.read_bytes())
    return labels.summary["form"] if labels else "online"


def _rows(product: Product, resolution: int) -> Iterator[DistilledRow]:
    """Every image, unit by unit, in the order of curricula, slots and classes."""
    for artifact in product.images:
        for path in part_files(artifact.folder):
            for row in read_table(path).to_pylist():
                yield DistilledRow(
                    pixel_row(row["pixels"], resolution),
                    row["class_index"],
                    row["slot"],
                    row["curriculum"],
                    row["origin"],
                    row["id"],
                )


def _card_results(
    results: Sequence[dict[str, Any]], judged_on: str | None = None
) -> dict[str, str]:
    summary = headline(results)
    if summary is None:
        return {}
    lines = {}
    for images in ("distilled", "random"):
        part = summary[images]
        label, value = f"{summary['architecture']}, top-1 %, {images} images", part["mean"] * 100
        if part["half_width"] is None:
            lines[f"{label} (one seed)"] = f"{value:.1f}"
        else:
            seeds = f"mean and 95 % interval, {len(part['values'])} seeds"
            lines[f"{label} ({seeds})"] = f"{value:.1f} +- {100 * part['half_width']:.1f}"
    return lines | ({"judged on": judged_on} if judged_on else {})


def _grid(number: int, item: Curriculum, engine: Engine) -> Grid:
    """Some images of the first classes: a curriculum's first slots, or a selection's middle."""
    slots = range(*item.images.summary["slots"])
    rows, side = min(len(engine.class_names), GRID_CLASSES), engine.preprocessing.resolution
    images = read_grid(item.images.folder, rows, grid_slots(slots, item.is_real), side)
    caption = grid_caption(slots, item.is_real)
    return Grid(f"Curriculum {number + 1}", caption, images, engine.class_names[:rows])
