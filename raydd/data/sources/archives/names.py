"""What the name of an archive's member says: its sample's key, and what it is of the sample."""

from collections import Counter
from collections.abc import Sequence

FIRST_DOT, LAST_DOT, FOLDER = KEYS = ("first dot", "last dot", "folder")
LABEL_NAMES = ("cls", "label", "json", "txt")  # in the order of trust
# What has such a name is meant to be an image, whatever it holds; others are known by content.
IMAGE_SUFFIXES = (
    "jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp", "png", "webp", "bmp", "dib", "gif", "tif",
    "tiff", "ppm", "pgm", "pbm", "pnm", "avif", "heic",
)  # fmt: skip
_TEXT = ("cls.txt", "label.txt")


def split_name(name: str, rule: str) -> tuple[str, str]:
    """Key and lower-case suffix of a member.

    Args:
        name: as stored, e.g. ``a/0001.jpg``.
        rule: ``first dot``, the convention (``img.0001.jpg`` is of the sample ``img``);
            ``last dot``, for names that hold dots; ``folder``, where each sample has its own
            (``0001/input.jpg``; a member without a folder follows the convention).
    """
    folder, slash, file = name.removeprefix("./").rpartition("/")
    if rule == FOLDER and folder:
        return folder, file.lower()
    stem, suffix = _last_dot(file) if rule == LAST_DOT else file.partition(".")[::2]
    return f"{folder}{slash}{stem}", suffix.lower()


def _last_dot(file: str) -> tuple[str, str]:
    for ending in _TEXT:
        if file.lower().endswith(f".{ending}"):
            return file[: -len(ending) - 1], ending
    stem, dot, suffix = file.rpartition(".")
    return (stem, suffix) if dot else (file, "")


def is_hidden(name: str) -> bool:
    """Tell whether the file is one of those that macOS and others add."""
    return name.rpartition("/")[2].startswith(".")


def label_name(suffix: str) -> str | None:
    """Which of ``LABEL_NAMES`` a suffix is: ``cls``, ``cls.txt``, ``output.cls``; None for none."""
    parts = suffix.split(".")
    if len(parts) > 1 and parts[-1] == "txt":
        parts.pop()
    return parts[-1] if parts[-1] in LABEL_NAMES else None


def is_image_name(suffix: str) -> bool:
    """Tell whether a suffix, e.g. ``jpg`` or ``input.png``, is an image's."""
    return suffix.rpartition(".")[2] in IMAGE_SUFFIXES


def the_image(suffixes: Sequence[str]) -> str | None:
    """Which of a sample's images is meant: the only one, or the only one without a word before it.

    ``jpg`` beside ``mask.png`` is; of ``jpg`` and ``png``, or ``1.jpg`` and ``2.jpg``, none is.
    """
    plain = [suffix for suffix in suffixes if not is_extra(suffix)]
    chosen = plain or suffixes
    return chosen[0] if len(chosen) == 1 else None


def is_extra(suffix: str) -> bool:
    """Tell whether a suffix has a word before its last part, as ``mask.png`` has."""
    word, dot, _ = suffix.partition(".")
    return bool(dot) and not word.isdecimal()


def has_two_labels(names: Sequence[str]) -> bool:
    """Tell whether a label occurs twice: then members of several samples share a key."""
    return any(count > 1 for count in Counter(names).values())
