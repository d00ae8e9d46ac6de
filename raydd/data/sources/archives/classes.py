"""Class names of a set of archives: given, beside them, or the folders within them."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from raydd.data.classes import check_class_order, read_class_names, unique_names
from raydd.data.sources.archives.files import CLASS_FILES
from raydd.data.sources.archives.layout import Layout, Named, folder_of
from raydd.data.sources.archives.survey import Files, folders_of_images, is_local, is_small
from raydd.data.sources.files import SPLIT_NAMES, Root

_Folders = Collection[tuple[str, ...]]


def class_names_of(
    root: Root,
    files: Files,
    layout: Layout,
    members: Sequence[Named],
    class_names: Sequence[str] | None,
    num_classes: int | None,
) -> tuple[tuple[str, ...], Layout]:
    """Find the class names.

    Args:
        root: folder of the set.
        files: of the split.
        layout: of the set, its depth not yet known.
        members: of the beginning of one archive.
        class_names: names in label order; None reads ``classes.txt`` or ``class_names.json``.
        num_classes: expected number; labels without any names have the classes "0", "1", ...
    Returns:
        The names, and the layout with the depth of class folders.
    Raises:
        ValueError: nothing says the classes, or two things say different ones.
    """
    names = _listed(root, class_names)
    if not layout.has_labels:
        folders = {folder_of(member.name) for member in members if member.is_image}
        if names is None:
            names, depth = _names_of_folders(root, files)
        else:
            depth = _depth(root, folders, names)
        layout = replace(layout, depth=depth)
    if names is None and num_classes is None:
        raise ValueError(
            f"The webdataset root {root.url} does not say its classes; set dataset.num_classes or "
            "dataset.classes_file, or put classes.txt beside the shards."
        )
    if names is None:
        return tuple(str(index) for index in range(num_classes or 0)), layout
    if num_classes is not None and num_classes != len(names):
        raise ValueError(
            f"The webdataset root {root.url} lists {len(names)} classes, dataset.num_classes says "
            f"{num_classes}; correct one of them."
        )
    return names, layout


def _listed(root: Root, class_names: Sequence[str] | None) -> tuple[str, ...] | None:
    present = {entry["name"] for entry in root.listing()}
    beside = [name for name in CLASS_FILES if name in present]
    names = read_class_names(f"{root.url}/{beside[0]}") if beside else None
    if class_names is None:
        return names
    if names is not None:
        check_class_order(class_names, names, f"{root.url}/{beside[0]}")
    return unique_names(class_names, f"The class list for {root.url}")


def _names_of_folders(root: Root, files: Files) -> tuple[tuple[str, ...], int]:
    """Folders of the first level that differs between images, sorted, and the level."""
    if not (is_local(root) or is_small(files)):
        raise ValueError(
            f"The archives of the webdataset root {root.url} hold class folders, and finding all "
            "of them would read everything; set dataset.classes_file, or put classes.txt beside "
            "the shards."
        )
    folders = folders_of_images(root, files)
    depth = 0
    while len(found := {folder[depth] for folder in folders if len(folder) > depth}) == 1:
        depth += 1
    if not found or found <= set(SPLIT_NAMES):
        shown = ", ".join(sorted("/".join(folder) for folder in folders)[:3])
        what = f"of the splits {', '.join(sorted(found))}" if found else "of one class"
        raise ValueError(
            f"The archives of the webdataset root {root.url} hold images without labels in folders "
            f"{what} ({shown}); give each split archives of its own, and each class a folder or "
            "each image a member with its label (000001.cls)."
        )
    what = f"The folders in the archives of {root.url}"
    return unique_names(sorted(found), what), depth


def _depth(root: Root, folders: _Folders, names: Sequence[str]) -> int:
    """The level of the folders where most are classes; of equal ones the first."""
    known = set(names)
    levels = range(max(map(len, folders)))
    hits = [sum(len(f) > level and f[level] in known for f in folders) for level in levels]
    if not any(hits):
        shown = ", ".join(sorted("/".join(folder) for folder in folders)[:3])
        raise ValueError(
            f"The archives of the webdataset root {root.url} hold images without labels in folders "
            f"({shown}), none of which is one of the {len(names)} classes; correct "
            "dataset.classes_file."
        )
    return hits.index(max(hits))
