"""One WebDataset archive as a stream of rows; hostile archives give broken rows, never files.

Consecutive members that share a key form a sample; the key is the member's path up to the first
dot of its last part. Nothing is ever written, so a member cannot leave the root; one whose name
tries to is reported all the same.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from raydd.data.sources.base import MAX_IMAGE_BYTES, Row, broken, resolve_label
from raydd.data.sources.tar_members import Damage, Member, read_members

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm")
LABEL_SUFFIXES = ("cls", "json")
MAX_LABEL_BYTES = 1 << 20
REMEMBERED_KEYS = 1 << 18  # about 20 MB
_REPEATED = "the key {!r} occurs twice in its archive"


@dataclass
class _Sample:
    """Members of one key, until the next key begins."""

    key: str
    id: str
    suffixes: list[str] = field(default_factory=list)
    image: bytes | None = None
    labels: dict[str, bytes] = field(default_factory=dict)
    reason: str | None = None


class _Keys:
    """The latest keys of an archive; an older one is forgotten, so that memory stays bounded."""

    def __init__(self) -> None:
        self.digests: dict[int, None] = {}

    def is_repeated(self, key: str) -> bool:
        """Remember the key and tell whether it was there before."""
        content = key.encode("utf-8", errors="surrogateescape")
        digest = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
        if digest in self.digests:
            return True
        self.digests[digest] = None
        if len(self.digests) > REMEMBERED_KEYS:
            del self.digests[next(iter(self.digests))]
        return False


def read_rows(stream: BinaryIO, shard: str, index: Mapping[str, int]) -> Iterator[Row]:
    """Stream the rows of one archive.

    Args:
        stream: the archive, seekable.
        shard: name of the archive in the ids.
        index: class name -> class index.
    Yields:
        One row per sample, in archive order; broken ones with a reason. A refused member and a
        damaged place come as their own rows where they are met. Of two samples with one key the
        first is the good one.
    """
    keys = _Keys()
    sample: _Sample | None = None
    for member in read_members(stream):
        if isinstance(member, Damage):
            if sample is not None:
                yield _row(sample, index)
                sample = None
            yield broken(f"{shard}#{member.header}", member.reason)
            continue
        row_id = f"{shard}#{member.offset}+{member.size}"
        key, suffix = _key_and_suffix(member.name)
        reason = _refusal(member)
        if reason is not None:
            yield broken(row_id, reason)
        elif not _is_ignored(member, key):
            if sample is None or key != sample.key or suffix in sample.suffixes:
                if sample is not None:
                    yield _row(sample, index)
                repeated = keys.is_repeated(key)
                sample = _Sample(
                    key, row_id, reason=_REPEATED.format(key[:99]) if repeated else None
                )
            _add_member(sample, suffix, row_id, stream, member)
    if sample is not None:
        yield _row(sample, index)


def _refusal(member: Member) -> str | None:
    """Why a member is not even looked at; None for folders and for plain files in the root."""
    if member.is_folder:
        return None
    if member.name.startswith("/") or ".." in member.name.split("/") or "\\" in member.name:
        return f"the member name {member.name[:99]!r} leaves the archive's root"
    return member.refusal


def _is_ignored(member: Member, key: str) -> bool:
    """Folders, and hidden files such as those that macOS adds."""
    return member.is_folder or not key.rpartition("/")[2]


def _key_and_suffix(name: str) -> tuple[str, str]:
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _add_member(
    sample: _Sample, suffix: str, row_id: str, stream: BinaryIO, member: Member
) -> None:
    """Read a member into its sample; what is neither image nor label is passed over."""
    is_image = suffix in IMAGE_SUFFIXES
    if not is_image and suffix not in LABEL_SUFFIXES:
        return
    sample.suffixes.append(suffix)
    if is_image and sample.image is not None:
        sample.reason = sample.reason or f"the key {sample.key[:99]!r} has two images"
        return
    if is_image:
        sample.id = row_id
    if member.size > (MAX_IMAGE_BYTES if is_image else MAX_LABEL_BYTES):
        what = "an image" if is_image else "a label"
        sample.reason = sample.reason or f"{member.size} bytes is too large for {what}"
        return
    stream.seek(member.offset)
    content = stream.read(member.size)
    if is_image:
        sample.image = content
    else:
        sample.labels[suffix] = content


def _row(sample: _Sample, index: Mapping[str, int]) -> Row:
    class_index, label_reason = _label(sample.labels, index)
    reason = sample.reason or label_reason
    if reason is None and sample.image is None:
        reason = f"the key {sample.key[:99]!r} has no image"
    if reason is not None:
        return broken(sample.id, reason, class_index)
    return Row(sample.id, class_index, sample.image or b"")


def _label(labels: Mapping[str, bytes], index: Mapping[str, int]) -> tuple[int, str | None]:
    """(class_index, None) or (-1, reason), from ``.cls`` text or the ``label`` of ``.json``."""
    if "cls" in labels:
        text = labels["cls"].decode("utf-8", errors="replace").strip()
        number = text.removeprefix("-")
        is_number = number.isascii() and number.isdecimal() and len(number) < 19
        return resolve_label(int(text) if is_number else text, index)
    if "json" in labels:
        try:
            content = json.loads(labels["json"])
        except (ValueError, RecursionError):
            return -1, "the .json member is not valid json"
        return resolve_label(content.get("label") if isinstance(content, dict) else None, index)
    return -1, "there is no .cls or .json label"
