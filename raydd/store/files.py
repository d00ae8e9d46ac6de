"""Where runs and stages are kept: a local folder or an object-store URI."""

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pyarrow.fs import FSSpecHandler, PyFileSystem
from upath import UPath

import raydd
from raydd.errors import FULL, Refused


def differing_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the keys whose values differ between two nested dictionaries."""
    keys: list[str] = []
    for key in sorted({*old, *new}):
        ours, theirs = old.get(key), new.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            keys += differing_keys(ours, theirs, f"{prefix}{key}.")
        elif ours != theirs:
            keys.append(prefix + key)
    return keys


_CONFIG = "config.json"  # of a run: whose folder it is
_LOCK = "made-by-one.lock"  # of a folder that a process works in
_PACKAGES = ("ray", "torch", "torchvision", "timm", "pyarrow", "numpy")


def package_versions() -> dict[str, str]:
    """Versions of what decides numbers."""
    return {"raydd": raydd.__version__, **{name: version(name) for name in _PACKAGES}}


def write_atomic(path: UPath, content: bytes) -> None:
    """Write a file that is either absent or whole, whatever is killed meanwhile.

    A local file is renamed into place; an object store shows an object only when it is complete.
    """
    if is_local(path):
        partial = f"{path.path}.{uuid.uuid4().hex[:12]}.partial"
        try:
            with open(partial, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path.path)
        except OSError as error:  # of a full disk it would keep a part
            Path(partial).unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, path.path) from error
    else:
        path.write_bytes(content)


@contextmanager
def alone(folder: UPath, waits: Callable[[], None]) -> Iterator[None]:
    """Make a folder and be the only process of this machine that works in it.

    A process that dies gives it up. In an object store nobody is kept out: two runs then do the
    same work twice, and write the same bytes.

    Args:
        folder: to be made.
        waits: called once where another process works in it now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not is_local(folder):
        yield
        return
    lock = FileLock(str(folder / _LOCK))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waits()
        lock.acquire()
    except NotImplementedError:  # a disk that knows no locks
        yield
        return
    try:
        yield
    finally:
        lock.release()


def is_local(path: UPath) -> bool:
    """Whether the path lies on a disk, where files can be renamed and appended to."""
    return path.protocol in ("", "file")


def uncached(path: UPath) -> UPath:
    """The same path without fsspec's cache of listings.

    Workers write parts that this process counts meanwhile: a listing kept from then would hide the
    later ones for ever, and a product would be made of the others alone.
    """
    return path if is_local(path) else UPath(path, use_listings_cache=False)


def open_storage(uri: str) -> UPath:
    """Resolve a storage against the working folder of this process: workers have another.

    Raises:
        Refused: a file stands where the folder should be; an object store that cannot be reached,
            or without the bucket that is named: a typing error must not make one.
    """
    path = uncached(UPath(uri).absolute())
    if is_local(path):
        # by os: what may not be looked at is no file here, and said to be so where it is written
        if file := next(
            (place for place in (path, *path.parents) if os.path.isfile(place.path)), None
        ):
            raise Refused(f"storage={uri} cannot be written: {file} is a file, not a folder.")
        return path
    bucket = path.fs._strip_protocol(str(path)).split("/")[0]
    try:
        with _impatient():  # a client of its own: it remembers how often to ask
            client = type(path.fs)(**path.storage_options, skip_instance_cache=True)
            exists = client.exists(bucket)
    except Exception as error:  # every store has its own kinds
        raise Refused(f"storage={uri} cannot be reached: {error}.") from error
    if not exists:
        raise Refused(f"storage={uri} names the bucket {bucket!r}, which does not exist.")
    return path


@contextmanager
def _impatient() -> Iterator[None]:
    """Have an S3 client that is made inside give up at once: a wrong address is not an outage."""
    before = os.environ.get("AWS_MAX_ATTEMPTS")
    os.environ["AWS_MAX_ATTEMPTS"] = "1"
    try:
        yield
    finally:
        del os.environ["AWS_MAX_ATTEMPTS"]
        if before is not None:
            os.environ["AWS_MAX_ATTEMPTS"] = before


def storage_arguments(folder: UPath) -> dict[str, Any]:
    """Where Ray Train or Tune keeps its state, as arguments of its RunConfig.

    Of a URI it would make a client of pyarrow's, which knows fewer stores than fsspec and takes
    endpoint and credentials from other places than the client that writes everything else.
    """
    if is_local(folder):
        return {"storage_path": str(folder.absolute())}
    return {
        "storage_path": folder.path,
        "storage_filesystem": PyFileSystem(FSSpecHandler(folder.fs)),
    }


# May differ where a run is continued: it decides whether the run stops, not what it makes.
_TOLERANCES = ("data.max_rejected",)


def check_claim(folder: UPath, what: Mapping[str, Any]) -> None:
    """Refuse a run's folder that belongs to another configuration; see :func:`claim_folder`."""
    record = folder / _CONFIG
    if not record.exists():
        return
    found = differing_keys(json.loads(record.read_text()), dict(what))
    if keys := [key for key in found if key not in _TOLERANCES]:
        raise Refused(
            f"the run {folder.name!r} exists with another configuration; these keys "
            f"differ: {', '.join(keys)}. Choose another name=."
        )


def claim_folder(folder: UPath, what: Mapping[str, Any]) -> UPath:
    """Make a run's folder, or continue in it if it belongs to the same configuration.

    Args:
        folder: of the run; ``config.json`` in it says whose it is.
        what: everything that decides what the run makes, as json values.
    Raises:
        Refused: the folder belongs to another configuration, or cannot be written.
    """
    try:
        check_claim(folder, what)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / _CONFIG, json.dumps(what, indent=1).encode())
    except OSError as error:
        if error.errno in FULL:  # trouble on the way, not a wrong storage
            raise
        raise Refused(
            f"storage={folder.parent} cannot be written ({error.strerror or error}); choose a "
            "folder of yours with storage=."
        ) from error
    return folder
