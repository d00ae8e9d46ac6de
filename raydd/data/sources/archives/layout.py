"""How the archives of a set are laid out, read off the headers of one of them.

A layout is decided once, when the set is opened, and holds for every archive: a sample must not
have another label because of the archive it lies in. What does not fit it is rejected, and counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from raydd.data.images import image_format
from raydd.data.sources.archives.members import Damage, Member, read_members
from raydd.data.sources.archives.names import (
    FIRST_DOT,
    KEYS,
    has_two_labels,
    is_hidden,
    is_image_name,
    label_name,
    split_name,
    the_image,
)

HEAD_BYTES = 512  # enough to know an image by


@dataclass(frozen=True)
class Layout:
    """What holds for every archive of a set.

    Attributes:
        key: how a member's name gives its sample's key, one of ``names.KEYS``.
        has_labels: labels are members beside the images; else the folder is the class.
        is_text_label: a ``.txt`` member is a label, not a caption or a note.
        depth: where labels are folders, position of the class in a member's path.
    """

    key: str = FIRST_DOT
    has_labels: bool = True
    is_text_label: bool = False
    depth: int = 0

    def is_label(self, name: str) -> bool:
        """Tell whether members of a name in ``names.LABEL_NAMES`` are labels."""
        return self.has_labels and (name != "txt" or self.is_text_label)


@dataclass(frozen=True, slots=True)
class Named:
    """A plain member: position of its header, its name, and whether it is an image."""

    header: int
    name: str
    is_image: bool


@dataclass
class Sample:
    """Consecutive members of one key: suffixes of its images, names of its labels."""

    key: str
    header: int
    images: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    @property
    def is_labelled(self) -> bool:
        """It has one image and labels of one image."""
        return bool(self.labels) and self.has_image and not has_two_labels(self.labels)

    @property
    def has_image(self) -> bool:
        """It is clear which of its images is meant."""
        return the_image(self.images) is not None


@dataclass(frozen=True)
class Account:
    """What an archive, or its beginning, holds under a layout.

    Attributes:
        images: members that are images.
        labelled: samples of one image and its label.
        lone: samples of one image, labelled or not.
        apart: samples whose image and label are not side by side.
    """

    images: int = 0
    labelled: int = 0
    lone: int = 0
    apart: int = 0


def named_members(stream: BinaryIO) -> Iterator[Named | Damage]:
    """Plain, visible members of an archive, without reading more of them than their first bytes."""
    for member in read_members(stream):
        if isinstance(member, Damage):
            yield member
        elif is_plain(member):
            yield Named(member.header, member.name, is_image(stream, member))


def is_plain(member: Member) -> bool:
    """Tell whether a member is a file that can belong to a sample."""
    return not (member.is_folder or member.refusal or is_hidden(member.name))


def is_image(stream: BinaryIO, member: Member) -> bool:
    """Tell whether a member is meant as an image, by its name or by its first bytes."""
    # Of the whole file name: under no rule is a label's last part something else.
    suffix = member.name.rpartition("/")[2].lower().partition(".")[2]
    if is_image_name(suffix):
        return True
    if label_name(suffix) is not None or member.size == 0:
        return False
    stream.seek(member.offset)
    return image_format(stream.read(min(HEAD_BYTES, member.size))) is not None


def samples(members: Iterable[Named], rule: str, is_text_label: bool) -> Iterator[Sample]:
    """Group consecutive members that share a key."""
    sample: Sample | None = None
    for member in members:
        key, suffix = split_name(member.name, rule)
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = Sample(key, member.header)
        name = label_name(suffix)
        if member.is_image:
            sample.images.append(suffix)
        elif name is not None and (is_text_label or name != "txt"):
            sample.labels.append(name)
    if sample is not None:
        yield sample


def account(members: Iterable[Named], rule: str, is_text_label: bool) -> Account:
    """Count what members are under a rule; a key that comes again counts only as being apart."""
    images = labelled = lone = apart = 0
    halves: dict[str, bool] = {}  # key -> it has been met with an image
    for sample in samples(members, rule, is_text_label):
        images += len(sample.images)
        if sample.key not in halves:
            labelled += sample.is_labelled
            lone += sample.has_image
        elif bool(sample.images) != bool(sample.labels) and halves[sample.key] == bool(
            sample.labels
        ):
            apart += 1
        if sample.images or sample.labels:
            halves[sample.key] = bool(sample.images)
    return Account(images, labelled, lone, apart)


def find_layout(members: Sequence[Named]) -> tuple[Layout, Account]:
    """Choose the layout under which most samples are one image and its label.

    Of equal ones the convention wins. Labels that stand apart from their images are labels too:
    such an archive is not sorted.

    Args:
        members: of the beginning of an archive.
    Returns:
        The layout, its depth still 0, and what the members are under it.
    """
    names = {label_name(split_name(member.name, rule)[1]) for member in members for rule in KEYS
             if not member.is_image}  # fmt: skip
    is_text_label = "txt" in names and not names & {"cls", "label"} and _has_texts(members, names)
    accounts = {rule: account(members, rule, is_text_label) for rule in KEYS}
    best = max(KEYS, key=lambda rule: (accounts[rule].labelled, accounts[rule].lone))
    found = accounts[best]
    has_labels = found.labelled + found.apart > 0 or not _has_folders(members)
    return Layout(best, has_labels, is_text_label), found


def _has_texts(members: Sequence[Named], names: set[str | None]) -> bool:
    """Tell whether images have a ``.txt`` of their own, and it is their only label."""
    if "json" in names and max(account(members, rule, False).labelled for rule in KEYS):
        return False
    return any(
        found.labelled + found.apart for found in (account(members, rule, True) for rule in KEYS)
    )


def _has_folders(members: Sequence[Named]) -> bool:
    images = [member for member in members if member.is_image]
    return bool(images) and all(folder_of(member.name) for member in images)


def folder_of(name: str) -> tuple[str, ...]:
    """Folders of a member's path, e.g. (``train``, ``ant``)."""
    return tuple(part for part in name.split("/")[:-1] if part not in ("", "."))
