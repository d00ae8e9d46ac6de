"""One WebDataset archive as a stream of rows; hostile archives give broken rows, never files.

Consecutive members that share a key form a sample; the key is the member's path up to the first
dot of its last part. Nothing is ever written, so a member cannot leave the root; one whose name
tries to is reported all the same.
"""

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from raydd.data.sources.base import MAX_IMAGE_BYTES, Row, broken, resolve_label

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm")
MAX_LABEL_BYTES = 1 << 20


@dataclass
class _Sample:
    """Members of one key, until the next key begins."""

    key: str
    id: str
    image: bytes | None = None
    labels: dict[str, bytes] = field(default_factory=dict)
    reason: str | None = None


def read_rows(stream: BinaryIO, shard: str, index: Mapping[str, int]) -> Iterator[Row]:
    """Stream the rows of one archive.

    Args:
        stream: the archive, at its beginning; read forwards only.
        shard: name of the archive in the ids.
        index: class name -> class index.
    Yields:
        One row per sample, in archive order; broken ones with a reason. A refused member comes as
        its own row where it is met; an archive that is cut short or damaged ends with one more.
    """
    seen: set[str] = set()
    sample: _Sample | None = None
    end = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                # tarfile would keep every header for the whole pass
                archive.members = []  # type: ignore[attr-defined]
                row_id = f"{shard}#{member.offset_data}+{member.size}"
                end = member.offset_data
                if member.isdir():
                    continue
                reason = _refusal(member)
                if reason is not None:
                    yield broken(row_id, reason)
                    continue
                key, suffix = _key_and_suffix(member.name)
                if sample is None or key != sample.key:
                    if sample is not None:
                        yield _row(sample, index)
                    sample = _Sample(key, row_id)
                    if key in seen:
                        sample.reason = f"the key {key!r} occurs twice in its archive"
                    seen.add(key)
                _add_member(sample, suffix, row_id, archive, member)
    except (tarfile.TarError, EOFError) as error:
        # The sample in hand may lack members: this row stands for it too.
        yield broken(f"{shard}#{end}+0", f"the archive is damaged or cut short: {error}")
        return
    if sample is not None:
        yield _row(sample, index)


def _refusal(member: tarfile.TarInfo) -> str | None:
    """Why a member is not even looked at; None for a plain file inside the root."""
    if member.name.startswith("/") or ".." in member.name.split("/") or "\\" in member.name:
        return f"the member name {member.name!r} leaves the archive's root"
    if not member.isreg():
        return f"the member {member.name!r} is not a plain file"
    return None


def _key_and_suffix(name: str) -> tuple[str, str]:
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _add_member(
    sample: _Sample, suffix: str, row_id: str, archive: tarfile.TarFile, member: tarfile.TarInfo
) -> None:
    """Read a member into its sample; what is neither image nor label is passed over."""
    if suffix in IMAGE_SUFFIXES:
        if sample.image is not None:
            sample.reason = sample.reason or f"the key {sample.key!r} has two images"
            return
        sample.id = row_id
        if member.size > MAX_IMAGE_BYTES:
            sample.reason = sample.reason or f"{member.size} bytes is too large for an image"
            return
        sample.image = _content(archive, member)
    elif suffix in ("cls", "json"):
        if member.size > MAX_LABEL_BYTES:
            sample.reason = sample.reason or f"{member.size} bytes is too large for a label"
            return
        sample.labels[suffix] = _content(archive, member)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    content = file.read() if file is not None else b""
    if len(content) != member.size:
        raise EOFError(f"{member.name} has {len(content)} of {member.size} bytes")
    return content


def _row(sample: _Sample, index: Mapping[str, int]) -> Row:
    class_index, label_reason = _label(sample.labels, index)
    reason = sample.reason or label_reason
    if reason is None and sample.image is None:
        reason = f"the key {sample.key!r} has no image"
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
