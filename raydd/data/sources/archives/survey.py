"""What is learnt of archives when a set is opened, from their headers and their last bytes.

Contents are passed over by seeking, so a local archive of any size costs a few system calls for
each member. On an object store passing over is reading: there only a beginning is looked at, and
what else is wrong with an archive shows, and counts, when it is read.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import BinaryIO, TypeVar

from raydd.data.sources.archives.labels import MAX_LABEL_BYTES
from raydd.data.sources.archives.layout import (
    Layout,
    Named,
    account,
    folder_of,
    is_plain,
    named_members,
)
from raydd.data.sources.archives.members import (
    BLOCK,
    END_MARK,
    RECORD,
    Damage,
    is_header,
    read_members,
)
from raydd.data.sources.archives.names import label_name
from raydd.data.sources.files import Root

SAMPLE_MEMBERS = 1 << 16  # of one local archive; a few seconds at most
SAMPLE_BYTES = 16 << 20  # of one archive that is not local
SMALL_BYTES = 256 << 20  # a set whose labels are read when it is opened
COUNTED_ARCHIVES = 50
NUM_READERS = 16  # threads: mostly waiting
Files = Sequence[tuple[str, int]]  # (path below the root, bytes)
_Result = TypeVar("_Result")


def is_local(root: Root) -> bool:
    """Tell whether seeking costs nothing."""
    protocol = root.fs.protocol
    return "file" in ([protocol] if isinstance(protocol, str) else protocol)


def is_small(files: Files) -> bool:
    """Tell whether every header may be read, wherever the archives lie."""
    return sum(size for _, size in files) <= SMALL_BYTES


def for_each(
    root: Root, paths: Sequence[str], work: Callable[[BinaryIO], _Result]
) -> list[_Result]:
    """Call ``work`` on every archive, opened, side by side; results in the order of the paths."""

    def one(path: str) -> _Result:
        with root.fs.open(f"{root.path}/{path}") as stream:
            return work(stream)

    with root.explained(), ThreadPoolExecutor(NUM_READERS) as pool:
        return list(pool.map(one, paths))


def first_members(root: Root, path: str) -> list[Named]:
    """Members of the beginning of an archive; of a local one usually all."""
    end = None if is_local(root) else SAMPLE_BYTES

    def work(stream: BinaryIO) -> list[Named]:
        found: list[Named] = []
        for member in islice(named_members(stream), SAMPLE_MEMBERS):
            if end is not None and member.header > end:
                break
            if isinstance(member, Named):
                found.append(member)
        return found

    return for_each(root, [path], work)[0]


def doubtful(root: Root, files: Files) -> list[str]:
    """Local archives whose last bytes are not those of a whole one; a look at each."""
    if not is_local(root):
        return []
    paths = [path for path, _ in files]
    whole = for_each(root, paths, _looks_whole)
    return [path for path, is_whole in zip(paths, whole, strict=True) if not is_whole]


def refuse_cut(root: Root, files: Files, paths: Sequence[str], layout: Layout) -> None:
    """Read the headers of doubtful archives.

    Raises:
        ValueError: some end too early; says which, after how many samples, and what to do.
    """
    endings = for_each(root, paths, lambda stream: _ending(stream, layout))
    cut = [(path, end) for path, end in zip(paths, endings, strict=True) if end is not None]
    if not cut:
        return
    path, (what, cure, count) = cut[0]
    usual = _usual_count(root, [file for file in files if file[0] not in paths], layout)
    left = f"{count} of about {usual}" if usual else f"{count}"
    noun = "sample" if left == "1" else "samples"
    more = f" ({len(cut) - 1} more archives are incomplete)" if len(cut) > 1 else ""
    raise ValueError(
        f"The {root.kind} root {root.url} holds {path}, which {what}, after {left} "
        f"{noun}{more}; fetch it again, or {cure.format(path=f'{root.path}/{path}')}."
    )


def _looks_whole(stream: BinaryIO) -> bool:
    """Tell whether a stream ends in an end mark and no more zeros than usual."""
    length = stream.seek(0, 2)
    stream.seek(max(0, length - RECORD - END_MARK - BLOCK))
    tail = stream.read()
    zeros = len(tail) - len(tail.rstrip(b"\0"))
    return length % BLOCK == 0 and END_MARK <= zeros < RECORD + END_MARK


def _ending(stream: BinaryIO, layout: Layout) -> tuple[str, str, int] | None:
    """What is wrong with an archive's end, what else helps, its samples; None for a good end."""
    found: list[Named] = []
    last: Damage | None = None
    for member in named_members(stream):
        if isinstance(member, Named):
            found.append(member)
        else:
            last = member
    if last is None or last.ending is None:
        return None
    count, away = count_samples(found, layout), "move it away to go on without it"
    stream.seek(0)
    first = stream.read(BLOCK)
    if first.strip(b"\0") and not is_header(first):
        begins = first.partition(b"\0")[0][:24]
        return f"is no tar archive (it begins with {begins!r})", away, count
    if last.size == 0 and first:
        mark = "if it is whole add the mark: head -c 1024 /dev/zero >> '{path}'"
        return "has no end mark, so that nobody can tell what is missing", mark, count
    return last.ending if first else "is empty", away, count


def count_samples(members: Iterable[Named], layout: Layout) -> int:
    """Samples with an image, and with a label where labels are members."""
    found = account(members, layout.key, layout.is_text_label)
    return found.labelled if layout.has_labels else found.lone


def _usual_count(root: Root, whole: Files, layout: Layout) -> int:
    """Samples of a whole archive of middle size; 0 where there is none."""
    if not whole:
        return 0
    path, _ = sorted(whole, key=lambda file: file[1])[len(whole) // 2]
    return for_each(root, [path], lambda stream: _count(stream, layout))[0]


def _count(stream: BinaryIO, layout: Layout) -> int:
    return count_samples((m for m in named_members(stream) if isinstance(m, Named)), layout)


def estimate_count(root: Root, files: Files, layout: Layout) -> int:
    """Count samples by the headers of at most 50 local archives, of the others by their bytes."""
    step = -(-len(files) // COUNTED_ARCHIVES)
    counted = files[::step]
    total = sum(for_each(root, [path for path, _ in counted], lambda s: _count(s, layout)))
    share = sum(size for _, size in counted) / max(1, sum(size for _, size in files))
    return round(total / share) if share else 0


def folders_of_images(root: Root, files: Files) -> set[tuple[str, ...]]:
    """Folders, within their archives, that hold images."""

    def work(stream: BinaryIO) -> set[tuple[str, ...]]:
        members = named_members(stream)
        return {folder_of(m.name) for m in members if isinstance(m, Named) and m.is_image}

    return set().union(*for_each(root, [path for path, _ in files], work))


def label_digests(root: Root, files: Files) -> list[str]:
    """Digest of every archive's headers and of the content of its label members."""
    return for_each(root, [path for path, _ in files], _label_digest)


def _label_digest(stream: BinaryIO) -> str:
    hashed = hashlib.sha256()
    for member in read_members(stream):
        hashed.update(repr(member).encode())
        if isinstance(member, Damage) or not is_plain(member):
            continue
        suffix = member.name.lower().rpartition("/")[2].partition(".")[2]
        if label_name(suffix) is not None and member.size <= MAX_LABEL_BYTES:
            stream.seek(member.offset)
            hashed.update(stream.read(member.size))
    return hashed.hexdigest()
