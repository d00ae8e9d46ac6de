"""Where runs and stages are kept: a local folder or an object-store URI."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyarrow.fs import FSSpecHandler, PyFileSystem
from upath import UPath

from raydd.engine.errors import Refused
from raydd.engine.stages import is_local, uncached


def open_storage(uri: str) -> UPath:
    """Resolve a storage against the working folder of this process: workers have another.

    Raises:
        Refused: an object store that cannot be reached, or without the bucket that is named: a
            typing error must not make one.
    """
    path = uncached(UPath(uri).absolute())
    if is_local(path):
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
