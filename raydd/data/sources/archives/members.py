"""Where the members of a tar archive lie, read header by header; hostile archives are reported.

The standard library's reader is not used, because it takes a damaged header in the middle for the
end of the archive, keeps what an extended header claims in memory, and recurses once for each of
them. Here a damaged header costs its own member: reading goes on at the next block that is one.
More zeros than writers pad with are damage too: so looks a download that filled a file it had
reserved only in part.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

BLOCK = 512
MAX_EXTENDED_BYTES = 1 << 16  # long names are a few kilobytes; a larger header is hostile
SEARCH_BYTES = 1 << 20
RECORD = 20 * BLOCK  # archives are padded with zeros to a multiple of this, unless told otherwise
END_MARK = 2 * BLOCK
RECORDS = (RECORD, *(1 << power for power in range(14, 21)))  # that people set
_DAMAGED = "the archive is damaged or cut short"
_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_PAX, _PAX_GLOBAL = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE), tarfile.XGLTYPE
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_EMPTY = set(tarfile.SUPPORTED_TYPES) - {*_PLAIN, tarfile.GNUTYPE_SPARSE}


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive.

    Attributes:
        header: position of its header, bytes from the archive's beginning; unique.
        offset: position of its content.
        size: bytes of its content.
        name: as stored; bytes that are not UTF-8 are kept as surrogates.
        refusal: why its content is not to be read; None for a plain file.
        is_folder: it is a folder, which has no content.
    """

    header: int
    offset: int
    size: int
    name: str
    refusal: str | None = None
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where the archive cannot be read.

    Attributes:
        header: where it begins, bytes from the archive's beginning.
        reason: in plain words.
        size: bytes to the next member, or to the end: the members that stood there are lost.
        ending: where the archive may have been cut here, for it has no end mark and no member
            follows, how it ends, in plain words.
    """

    header: int
    reason: str
    size: int = 0
    ending: str | None = None


@dataclass
class _Extended:
    """What extended headers say about the member that follows them."""

    values: dict[str, str] = field(default_factory=dict)
    broken: bool = False


class _Damaged(Exception):
    pass


def read_members(stream: BinaryIO) -> Iterator[Member | Damage]:
    """Walk through the headers of an archive; contents are passed over, not read.

    Args:
        stream: seekable; may be moved between two members.
    Yields:
        Members and damages in archive order. An archive without an end mark ends with a damage,
        for nobody can tell whether it was cut between two members.
    """
    length = stream.seek(0, 2)
    position, extended = 0, _Extended()
    zeros = 0  # bytes of zeros in front of ``position``
    while position < length:
        block = _read(stream, position, BLOCK)
        if block.count(0) == len(block):
            # The end mark, a hole, or the seam of two archives: a member may still follow.
            zeros, position = zeros + len(block), position + len(block)
            continue
        yield from _hole(zeros, position)
        try:
            info = _header(block)
            offset = position + BLOCK
            size = _size(info, extended, length - offset)
            if _is_extension(info):
                _extend(extended, info, _read(stream, offset, min(size, MAX_EXTENDED_BYTES)))
            else:
                yield _member(info, extended, position, size)
                extended = _Extended()
            position = offset + -(-size // BLOCK) * BLOCK
        except _Damaged as error:
            following = _next_header(stream, position + BLOCK, length)
            lost = (length if following is None else following) - position
            # Behind an end mark there may be anything.
            is_end = following is None and (zeros < END_MARK or zeros == position)
            ending = "ends in the middle of a member" if is_end else None
            yield Damage(position, f"{_DAMAGED}: {error}", lost, ending)
            if following is None:
                return
            position, extended = following, _Extended()
        zeros = 0
    if not zeros:
        yield Damage(length, f"{_DAMAGED}: it has no end mark", 0, "has no end mark")
    yield from _hole(zeros, length, "ends in {} bytes of zeros")


def _hole(zeros: int, end: int, ending: str | None = None) -> Iterator[Damage]:
    """The damage of zeros in front of ``end`` that no writer would have padded with."""
    is_padding = zeros <= END_MARK or any(
        zeros < record + END_MARK and end % record == 0 for record in RECORDS
    )
    # Some pad a file without regard to its records.
    if not is_padding and not (ending and zeros < RECORD + END_MARK):
        reason = f"{_DAMAGED}: {zeros} bytes of zeros stand in it"
        yield Damage(end - zeros, reason, zeros, ending and ending.format(zeros))


def is_header(block: bytes) -> bool:
    """Tell whether a block is the header of a member."""
    try:
        return _header(block) is not None
    except _Damaged:
        return False


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise _Damaged(str(error)) from error


def _size(info: tarfile.TarInfo, extended: _Extended, available: int) -> int:
    """Bytes of content behind a header, checked against what is there."""
    if info.type in _EMPTY and not _is_extension(info):
        return 0  # links, folders and devices, whatever they claim
    size = info.size
    if "size" in extended.values and not _is_extension(info):
        text = extended.values["size"]
        size = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else -1
    if not 0 <= size <= available:
        raise _Damaged(f"a member claims {size} bytes, {max(available, 0)} are left")
    return size


def _is_extension(info: tarfile.TarInfo) -> bool:
    return info.type in (_LONG_NAME, _LONG_LINK, _PAX_GLOBAL, *_PAX)


def _extend(extended: _Extended, info: tarfile.TarInfo, content: bytes) -> None:
    """Note what an extended header says; one that makes no sense spoils the member behind it."""
    if info.type in (_LONG_LINK, _PAX_GLOBAL):
        return
    if info.size > MAX_EXTENDED_BYTES:
        extended.broken = True
    elif info.type == _LONG_NAME:
        extended.values["path"] = _text(content.partition(b"\0")[0])
    else:
        try:
            extended.values.update(_pax_records(content))
        except ValueError:
            extended.broken = True


def _pax_records(content: bytes) -> Iterator[tuple[str, str]]:
    """Records ``length key=value`` of a pax header; the length counts the whole record."""
    position = 0
    while position < len(content) and content[position] != 0:
        digits, space, _ = content[position : position + 10].partition(b" ")
        record = content[position : position + int(digits)]
        key, equals, value = record[len(digits) + 1 :].partition(b"=")
        if not (space and equals and record.endswith(b"\n")):
            raise ValueError("not a pax record")
        yield _text(key), _text(value[:-1])
        position += len(record)


def _member(info: tarfile.TarInfo, extended: _Extended, header: int, size: int) -> Member:
    name = extended.values.get("path", info.name)
    refusal = None
    if extended.broken:
        refusal = f"the extended header of the member {name[:99]!r} cannot be used"
    elif info.type not in _PLAIN or any(key.startswith("GNU.sparse") for key in extended.values):
        refusal = f"the member {name[:99]!r} is not a plain file"
    return Member(header, header + BLOCK, size, name, refusal, info.isdir())


def _next_header(stream: BinaryIO, position: int, length: int) -> int | None:
    """Position of the next block that is a header by magic and checksum, or None."""
    while position < length:
        blocks = _read(stream, position, SEARCH_BYTES)
        for begin in range(0, len(blocks) - BLOCK + 1, BLOCK):
            block = blocks[begin : begin + BLOCK]
            if block[257:262] == b"ustar" and is_header(block):
                return position + begin
        position += SEARCH_BYTES
    return None


def _read(stream: BinaryIO, position: int, size: int) -> bytes:
    stream.seek(position)
    return stream.read(size)


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="surrogateescape")
