"""Where runs and stages are kept: a local folder or an object-store URI."""

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
        exists = path.fs.exists(bucket)
    except Exception as error:  # every store has its own kinds
        raise Refused(f"storage={uri} cannot be reached: {error}.") from error
    if not exists:
        raise Refused(f"storage={uri} names the bucket {bucket!r}, which does not exist.")
    return path


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
