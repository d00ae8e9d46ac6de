"""WebDataset tar shards: members ``key.jpg`` and ``key.cls`` (or ``key.json``) side by side.

Archives are streamed, never unpacked. An id is ``shard.tar#offset+size:key``: the place of the
image's bytes, so that ``fetch`` is one ranged read, locally and on an object store, and the key of
its sample, for people.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from raydd.data.sources.archives.classes import class_names_of
from raydd.data.sources.archives.files import Archives, find_archives
from raydd.data.sources.archives.layout import Account, Layout, Named, find_layout, samples
from raydd.data.sources.archives.names import label_name, split_name
from raydd.data.sources.archives.rows import read_rows
from raydd.data.sources.archives.survey import (
    doubtful,
    estimate_count,
    first_members,
    is_local,
    is_small,
    label_digests,
    refuse_cut,
)
from raydd.data.sources.base import MAX_IMAGE_BYTES, Row, Shard
from raydd.data.sources.files import Root, digest, last_part

READ_AHEAD = 64  # ranged reads per request
TRIED_ARCHIVES = 3  # until one holds images
_ID = re.compile(r"(?P<shard>.+?)#(?P<offset>[0-9]+)\+(?P<size>[0-9]+)(:.*)?", re.DOTALL)


@dataclass(frozen=True)
class WebDatasetSource:
    """See the module.

    Attributes:
        root: folder of the set.
        files: (path below the root, bytes) of the split's archives.
        class_names: in label order.
        fingerprint: see ``identity``.
        layout: of all archives.
        usual_bytes: of a sample and of an archive, to tell what a damaged one has lost.
        passed_over: (kind, files) of the split that are no archives.
    """

    root: Root
    files: tuple[tuple[str, int], ...]
    class_names: tuple[str, ...]
    fingerprint: str
    layout: Layout
    usual_bytes: tuple[int, int]
    passed_over: tuple[tuple[str, int], ...]

    @classmethod
    def open(
        cls, root: Root, split: str, class_names: Sequence[str] | None, num_classes: int | None
    ) -> "WebDatasetSource":
        """Find the shards of the split, how they are laid out, and the class names.

        Args:
            root: a folder, or a folder and a pattern for file names (``/data/*-of-8.tar``).
            split: see ``files.find_archives``.
            class_names: names in label order; None reads ``classes.txt`` or ``class_names.json``
                beside the shards, or takes the folders within them where there are no labels.
            num_classes: expected number; without any names the classes are "0", "1", ...
        Raises:
            ValueError: missing root or split, an archive that is cut, not sorted, compressed or
                without labels, no way to tell the classes, or disagreeing ones.
        """
        root, pattern = _root_and_pattern(root)
        root.require()
        archives = find_archives(root, split, pattern)
        broken = doubtful(root, archives.files)
        path, members = _sample(root, archives, broken)
        layout, found = find_layout(members)
        refuse_cut(root, archives.files, broken, layout)
        if is_local(root):
            _refuse_layout(root, path, members, layout, found)
        names, layout = class_names_of(
            root, archives.files, layout, members, class_names, num_classes
        )
        fingerprint = _fingerprint(root, split, archives, names, layout)
        usual = (_sample_bytes(members, layout), int(median(size for _, size in archives.files)))
        return cls(root, archives.files, names, fingerprint, layout, usual, archives.unused)

    @property
    def unused(self) -> Mapping[str, int]:
        """Files of the split that are no archives, by suffix."""
        return dict(self.passed_over)

    def shards(self) -> list[Shard]:
        """One per archive."""
        return [Shard(path) for path, _ in self.files]

    def read(self, shard: Shard) -> Iterator[Row]:
        """Stream the samples in archive order; a damaged place is one row for all it has lost."""
        index = {name: position for position, name in enumerate(self.class_names)}
        with self.root.explained(), self.root.fs.open(f"{self.root.path}/{shard.name}") as stream:
            yield from read_rows(stream, shard.name, index, self.layout, self.usual_bytes)

    def fetch(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Read the byte ranges that the ids name."""
        sizes = dict(self.files)
        found: dict[str, bytes] = {}
        for begin in range(0, len(ids), READ_AHEAD):
            block = list(ids[begin : begin + READ_AHEAD])
            places = [self._place(row_id, sizes) for row_id in block]
            paths, starts, ends = (list(column) for column in zip(*places, strict=True))
            contents = self.root.fs.cat_ranges(paths, starts, ends, on_error="raise")
            found.update(zip(block, contents, strict=True))
        return found

    def class_counts(self) -> None:
        """None: only a pass over all archives could tell."""

    def estimate_count(self) -> int | None:
        """Images, by the headers of some archives and the bytes of the others.

        Returns:
            Exact for up to 50 archives; None where they are not local.
        """
        return estimate_count(self.root, self.files, self.layout) if is_local(self.root) else None

    def _place(self, row_id: str, sizes: dict[str, int]) -> tuple[str, int, int]:
        """(path, first byte, one past the last) of an id."""
        match = _ID.fullmatch(row_id)
        if match is not None:
            path, offset, size = match["shard"], int(match["offset"]), int(match["size"])
            if 0 < size <= MAX_IMAGE_BYTES and offset + size <= sizes.get(path, 0):
                return f"{self.root.path}/{path}", offset, offset + size
        raise ValueError(f"The webdataset root {self.root.url} holds no image {row_id!r}.")


def _root_and_pattern(root: Root) -> tuple[Root, str]:
    """Split a root that ends in a file's name or a pattern for such names."""
    name = last_part(root.url)
    if "*" in name or re.search(r"\.(tar|tgz|tar\.\w+)$", name):
        return Root(root.kind, root.url.rpartition("/")[0]), name
    return root, "*"


def _sample(root: Root, archives: Archives, broken: Sequence[str]) -> tuple[str, list[Named]]:
    """The first archive that holds images, of whole ones if there are any, and its members."""
    paths = [path for path, _ in archives.files]
    whole = [path for path in paths if path not in broken] or paths
    for path in whole[:TRIED_ARCHIVES]:
        members = first_members(root, path)
        if any(member.is_image for member in members):
            return path, members
    return path, members


def _refuse_layout(
    root: Root, path: str, members: Sequence[Named], layout: Layout, found: Account
) -> None:
    """Raise ValueError where the samples of an archive can only be rejected."""
    where = f"The webdataset root {root.url} holds {path}, "
    if found.apart > found.labelled:
        raise ValueError(
            f"{where}where {found.apart} images do not lie beside their labels; sort it: unpack "
            "it, and make it again with tar --sort=name."
        )
    if found.images and layout.has_labels and not found.labelled:
        raise ValueError(
            f"{where}where none of {found.images} images has a label of its own; put one beside "
            "each (000001.jpg, 000001.cls), or the images into class folders."
        )
    named = [label_name(split_name(member.name, layout.key)[1]) for member in members]
    if members and not found.images and not any(named):
        raise ValueError(
            f"{where}which has neither images nor labels (its first member is "
            f"{members[0].name[:99]!r}); set dataset.root to the archives of images."
        )


def _sample_bytes(members: Sequence[Named], layout: Layout) -> int:
    """Mean bytes of a sample; 0 where nothing tells."""
    found = samples(members, layout.key, layout.is_text_label)
    begins = [sample.header for sample in found if sample.images]
    return (begins[-1] - begins[0]) // (len(begins) - 1) if len(begins) > 1 else 0


def _fingerprint(
    root: Root, split: str, archives: Archives, names: Sequence[str], layout: Layout
) -> str:
    parts = [*zip(archives.files, archives.stamps, strict=True), layout, *names]
    if not all(archives.stamps) or (is_local(root) and is_small(archives.files)):
        parts += label_digests(root, archives.files)
    return digest("webdataset", split, *parts)
