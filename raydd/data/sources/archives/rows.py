"""One WebDataset archive as a stream of rows; hostile archives give broken rows, never files.

Consecutive members that share a key form a sample; the set's layout says what a key is. Nothing is
ever written, so a member cannot leave the root; one whose name tries to is reported all the same.

Rows count what is lost: a damaged place stands for as many images as its bytes would hold, a sample
of several images for all of them. The remains of a sample that another row counts stand for none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from raydd.data.sources.archives.keys import Keys
from raydd.data.sources.archives.labels import MAX_LABEL_BYTES, class_of, class_of_folder
from raydd.data.sources.archives.layout import Layout, folder_of, is_image, is_plain
from raydd.data.sources.archives.members import RECORD, Damage, Member, read_members
from raydd.data.sources.archives.names import (
    has_two_labels,
    label_name,
    split_name,
    the_image,
)
from raydd.data.sources.base import MAX_IMAGE_BYTES, Row, broken

MAX_ID_KEY = 120  # characters of a key that an id repeats
_APART = "its image and its label are not side by side; make the archive with tar --sort=name"


@dataclass
class _Sample:
    """Members of one key, until the next key begins.

    Attributes:
        key: see ``names.split_name``.
        id: of the image, until there is one of the first member.
        header: position of the first member.
        is_remains: a row beside it counts what it may lack.
        folder: of the image.
        images: suffixes of the images.
        image: content of the image that is meant, as far as the members so far tell.
        label_names: of the labels.
        labels: name of the label -> content.
        reason: why the sample is broken.
    """

    key: str
    id: str
    header: int
    is_remains: bool
    suffixes: set[str] = field(default_factory=set)
    folder: tuple[str, ...] = ()
    images: list[str] = field(default_factory=list)
    image: bytes | None = None
    label_names: list[str] = field(default_factory=list)
    labels: dict[str, bytes] = field(default_factory=dict)
    reason: str | None = None


def read_rows(
    stream: BinaryIO,
    shard: str,
    index: Mapping[str, int],
    layout: Layout,
    usual_bytes: tuple[int, int] = (0, 0),
) -> Iterator[Row]:
    """Stream the rows of one archive.

    Args:
        stream: the archive, seekable.
        shard: name of the archive in the ids.
        index: class name -> class index.
        layout: of the set.
        usual_bytes: bytes of a sample and of a whole archive of the set, to tell what a damaged
            or cut one has lost; 0 where nothing tells.
    Yields:
        One row per sample, in archive order; broken ones with a reason. A refused member and a
        damaged place come as their own rows where they are met. Of two samples with one key the
        first is the good one.
    """
    reader = _Reader(stream, shard, index, layout, usual_bytes)
    for member in read_members(stream):
        if isinstance(member, Damage):
            yield from reader.damage(member)
        elif (reason := _refusal(member)) is not None:
            yield reader.refused(member, reason)
        elif is_plain(member):
            yield from reader.member(member)
    yield from reader.close(reader.length)
    yield from reader.nothing()


class _Reader:
    """State of one pass: the sample that is open, the keys met, and how large a sample is."""

    def __init__(
        self,
        stream: BinaryIO,
        shard: str,
        index: Mapping[str, int],
        layout: Layout,
        usual_bytes: tuple[int, int],
    ) -> None:
        self.stream, self.shard, self.index, self.layout = stream, shard, index, layout
        self.length, self.usual_length = stream.seek(0, 2), usual_bytes[1]
        self.keys = Keys()
        self.sample: _Sample | None = None
        self.num_samples = 1 if usual_bytes[0] else 0  # the usual one weighs as much as one met
        self.sample_bytes = usual_bytes[0]  # of num_samples together
        self.num_notes, self.is_empty = 0, True  # keys without image and label; no row so far
        self.counted_key: str | None = None  # a row just given counts its image; "" for any key

    def member(self, member: Member) -> Iterator[Row]:
        """Add a plain member to its sample; the one before it is then complete."""
        key, suffix = split_name(member.name, self.layout.key)
        if self.sample is None or key != self.sample.key or suffix in self.sample.suffixes:
            yield from self.close(member.header)
            is_remains = self.counted_key in ("", key)
            self.sample = _Sample(key, self._id(member, key), member.header, is_remains)
            self.counted_key = None
        self._add(self.sample, suffix, member)

    def refused(self, member: Member, reason: str) -> Row:
        """Return the row of a member that is not even looked at."""
        key = split_name(member.name, self.layout.key)[0]
        if self.sample is not None and self.sample.key == key:
            self.sample.is_remains = True
        self.counted_key = key
        return broken(self._id(member, key), reason)

    def damage(self, damage: Damage) -> Iterator[Row]:
        """Yield the open sample, which the damage may have cut, and the row of the damage."""
        begin = damage.header
        if self.sample is not None and not self._is_whole(self.sample):
            begin, self.sample.is_remains = self.sample.header, True
        yield from self.close(damage.header)
        lost = damage.header + damage.size - begin
        if damage.ending is not None:
            lost += max(0, self.usual_length - RECORD - self.length)
        images = max(1, round(lost * self.num_samples / max(1, self.sample_bytes)))
        reason = damage.reason if images == 1 else f"{damage.reason}; about {images} images"
        yield broken(f"{self.shard}#{damage.header}", reason, images=images)
        self.counted_key = ""

    def close(self, end: int) -> Iterator[Row]:
        """Yield the row of the open sample, which ends at a position; a mere note is none."""
        sample, self.sample = self.sample, None
        if sample is None:
            return
        if sample.images or sample.label_names:
            self.is_empty = False
            if self._is_whole(sample):
                self.num_samples += 1
                self.sample_bytes += end - sample.header
            yield self._row(sample)
        else:
            self.num_notes += 1

    def nothing(self) -> Iterator[Row]:
        """Yield a row for all of an archive that has members, but no image and no label."""
        if self.is_empty and self.num_notes:
            reason = f"none of the archive's {self.num_notes} keys has an image or a label"
            yield broken(f"{self.shard}#0", reason, images=self.num_notes)

    def _id(self, member: Member, key: str) -> str:
        """Place of a member's content, and its key as text that people can read."""
        text = key.encode("utf-8", errors="surrogateescape").decode(errors="backslashreplace")
        shown = "".join(char if char.isprintable() else "?" for char in text[-MAX_ID_KEY:])
        return f"{self.shard}#{member.offset}+{member.size}:{shown}"

    def _is_whole(self, sample: _Sample) -> bool:
        return bool(sample.images and (sample.label_names or not self.layout.has_labels))

    def _add(self, sample: _Sample, suffix: str, member: Member) -> None:
        """Read a member into its sample; what is neither image nor label is passed over."""
        sample.suffixes.add(suffix)
        if is_image(self.stream, member):
            sample.images.append(suffix)
            # Only one image can be meant; the others are counted, not kept.
            if the_image(sample.images) == suffix:
                sample.id = self._id(member, sample.key)
                sample.folder = folder_of(member.name)
                sample.image = self._content(sample, member, MAX_IMAGE_BYTES, "an image")
            return
        name = label_name(suffix)
        if name is None or not self.layout.is_label(name):
            return
        sample.label_names.append(name)
        content = self._content(sample, member, MAX_LABEL_BYTES, "a label")
        if content is not None:
            sample.labels[name] = content

    def _content(self, sample: _Sample, member: Member, limit: int, what: str) -> bytes | None:
        if member.size > limit:
            sample.reason = sample.reason or f"{member.size} bytes is too large for {what}"
            return None
        self.stream.seek(member.offset)
        return self.stream.read(member.size)

    def _row(self, sample: _Sample) -> Row:
        parts = (bool(sample.images), bool(sample.label_names))
        before = self.keys.met(sample.key, parts)
        is_apart = before in ((True, False), (False, True)) and parts == before[::-1]
        class_index, label_reason = self._class(sample)
        reason = sample.reason or (_APART if is_apart else _misfit(sample, self.layout))
        if reason is None and before is not None:
            reason = f"the key {sample.key[:99]!r} occurs twice in its archive"
        reason = reason or label_reason
        if reason is None:
            return Row(sample.id, class_index, sample.image or b"")
        is_counted = is_apart or (sample.is_remains and not self._is_whole(sample))
        images = 0 if is_counted else max(1, len(sample.images))
        return broken(sample.id, reason, class_index, images)

    def _class(self, sample: _Sample) -> tuple[int, str | None]:
        if self.layout.has_labels:
            return class_of(sample.labels, self.index)
        return class_of_folder(sample.folder, self.layout.depth, self.index)


def _misfit(sample: _Sample, layout: Layout) -> str | None:
    """Why the members of a sample are not one image and its label; None where they are."""
    if not sample.images:
        return f"the key {sample.key[:99]!r} has no image"
    if the_image(sample.images) is None or (len(sample.images) > 1 and not layout.has_labels):
        return f"the key {sample.key[:99]!r} has {len(sample.images)} images"
    if has_two_labels(sample.label_names):
        return f"the key {sample.key[:99]!r} has {len(sample.label_names)} labels"
    return None


def _refusal(member: Member) -> str | None:
    """Why a member is not even looked at; None for folders and for plain files in the root."""
    if member.is_folder:
        return None
    if member.name.startswith("/") or ".." in member.name.split("/") or "\\" in member.name:
        return f"the member name {member.name[:99]!r} leaves the archive's root"
    return member.refusal
