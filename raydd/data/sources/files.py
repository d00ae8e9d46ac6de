"""Addresses: any local path or fsspec URI, and what went wrong with it in one sentence."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import fsspec

from raydd.data.sources.identity import stamp

_FAMILIES = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))
SPLIT_NAMES = (*(name for family in _FAMILIES for name in family), "trainval")


@dataclass(frozen=True)
class Root:
    """Where a source lies.

    Attributes:
        kind: the source's kind, for messages.
        url: absolute address; a local path or an fsspec URI.
    """

    kind: str
    url: str

    @classmethod
    def open(cls, kind: str, root: str) -> "Root":
        """Resolve ``root`` against the working folder of this process (workers have another).

        Raises:
            ValueError: the URI's package is not installed.
        """
        try:
            fs, path = fsspec.core.url_to_fs(str(root))
        except (ImportError, ValueError) as error:
            raise ValueError(f"The {kind} root {root} cannot be opened: {error}.") from error
        fs.invalidate_cache()  # a listing of an earlier run must not hide changed files
        local = "file" in ([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)
        return cls(kind, path if local else str(root).rstrip("/"))

    @property
    def fs(self) -> Any:
        """The fsspec file system (fsspec keeps one instance per address)."""
        return fsspec.core.url_to_fs(self.url)[0]

    @property
    def path(self) -> str:
        """The root as the file system spells it, without a trailing slash."""
        return str(fsspec.core.url_to_fs(self.url)[1]).rstrip("/")

    def listing(self, relative: str = "") -> list[dict[str, Any]]:
        """Entries of a folder below the root, sorted by name.

        Returns:
            name (last part), size, type (file, directory or other), islink, mtime and stamp (see
            :mod:`raydd.data.sources.identity`) of each; a link has those of what it leads to.
        Raises:
            ValueError: the root is missing, gated or out of reach.
        """
        folder = f"{self.path}/{relative}" if relative else self.path
        with self.explained():
            entries = self.fs.ls(folder, detail=True)
        # Object stores list a folder's own marker object among its files: left out here.
        found = [self._entry(entry) for entry in entries if entry["name"].rstrip("/") != folder]
        return sorted(found, key=lambda entry: str(entry["name"]))

    def _entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        is_link = entry.get("islink", False)
        if is_link:
            with suppress(OSError):  # a dangling link stays what it is: neither file nor folder
                entry = self.fs.info(entry["name"])
        kept = {key: entry.get(key) for key in ("size", "type", "mtime")} | {"stamp": stamp(entry)}
        return {"name": last_part(entry["name"].rstrip("/")), "islink": is_link, **kept}

    def folders(self, relative: str = "") -> list[str]:
        """Names of the folders below ``relative``, sorted; hidden ones left out."""
        return [
            entry["name"]
            for entry in self.listing(relative)
            if is_folder(entry) and not entry["name"].startswith(".")
        ]

    def has_folder(self, relative: str) -> bool:
        """Tell whether the folder exists below the root."""
        with self.explained():
            return bool(self.fs.isdir(f"{self.path}/{relative}"))

    def require(self) -> None:
        """Raise ValueError unless the root is a folder."""
        with self.explained():
            if not self.fs.exists(self.path):
                raise FileNotFoundError(self.path)
            if self.fs.isfile(self.path):
                raise NotADirectoryError(self.path)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what file systems raise for a wrong address into one sentence for the user."""
        try:
            yield
        except Exception as error:
            sentence = self._explanation(error)
            if sentence is None:
                raise
            raise ValueError(sentence) from error

    def _explanation(self, error: Exception) -> str | None:
        # By name: huggingface_hub, botocore and their like are imported only for their own roots.
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {"GatedRepoError", "PermissionError", "NoCredentialsError"}:
            return (
                f"The {self.kind} root {self.url} may not be read: accept its terms on its page, "
                "log in (for the Hub: `hf auth login`, or set HF_TOKEN; for S3: set AWS_PROFILE, "
                "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and run again."
            )
        if "NotADirectoryError" in names:
            return f"The {self.kind} root {self.url} is a file; set dataset.root to its folder."
        if names & {"FileNotFoundError", "RepositoryNotFoundError"}:
            return f"The {self.kind} root {self.url} does not exist; set dataset.root."
        if names & {
            "TransportError",
            "ConnectionError",
            "OfflineModeIsEnabled",
            "LocalEntryNotFoundError",
        }:
            return (
                f"The {self.kind} root {self.url} is out of reach ({error}); connect this machine "
                "or set dataset.root to a copy."
            )
        return None


def missing_split(root: Root, split: str, present: Sequence[str]) -> ValueError:
    """Return the error for a split that is not there, naming those that are."""
    others = [name for name in present if name != split]
    there = f"it has {', '.join(others)}" if others else "it has no split folders or files"
    return ValueError(
        f"The {root.kind} root {root.url} has no split {split!r} ({there}); "
        "set dataset.split_train and dataset.split_test."
    )


def split_aliases(split: str) -> tuple[str, ...]:
    """Names to look for in turn: the split's own, then others of one meaning (val, validation)."""
    family = next((names for names in _FAMILIES if split.lower() in names), ())
    return (split, *(name for name in family if name != split))


def names_split(file_name: str, split: str) -> bool:
    """Tell whether a file name carries the split as a word, in any case.

    No letter stands beside a word: ``x-train-01.tar``, ``Train_3.tar`` and ``train0000.tar`` carry
    ``train``; ``trainval.tar`` and ``latest.tar`` carry neither ``train`` nor ``test``.
    """
    before = r"(?<!\d)" if split[:1].isdigit() else ""
    after = r"(?!\d)" if split[-1:].isdigit() else ""
    word = rf"(?<![^\W\d_]){before}{re.escape(split)}{after}(?![^\W\d_])"
    return re.search(word, file_name, re.IGNORECASE) is not None


def last_part(path: str) -> str:
    """Return the last component of a path."""
    return path.rsplit("/", 1)[-1]


def digest(*parts: object) -> str:
    """Return the sha256 (hex) of the parts, separated."""
    text = "\x00".join(map(str, parts))
    return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()


def shard_files(
    root: Root, files: Sequence[tuple[str, dict[str, Any]]]
) -> tuple[tuple[str, int], ...]:
    """Turn (path below the root, entry of ``Root.listing``) of shards into (path, bytes).

    Raises:
        ValueError: a name that is not UTF-8, which no id could hold.
    """
    for path, _ in files:
        if not is_text(path):
            raise ValueError(
                f"The {root.kind} root {root.url} holds {path!r}, whose name is not UTF-8; rename "
                "this file."
            )
    return tuple((path, int(entry["size"])) for path, entry in files)


def is_text(name: str) -> bool:
    """Tell whether a file name is UTF-8; other bytes reach Python as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def is_folder(entry: dict[str, Any]) -> bool:
    """Tell whether an entry of ``Root.listing`` is a folder."""
    return bool(entry["type"] == "directory")
