"""What a run leaves that failed: ``error.txt`` in its folder, which the result browser shows."""

import contextlib
import traceback
from collections.abc import Iterator

from upath import UPath

from raydd.errors import Refused, chain
from raydd.store.files import write_atomic

ERROR = "error.txt"


@contextlib.contextmanager
def kept_error(folder: UPath) -> Iterator[None]:
    """Leave ``error.txt`` in a run's folder, as long as its last attempt failed.

    It holds the sentence of what was refused, here or in one of Ray's workers, else the traceback.
    What a signal stopped has not failed.
    """
    (folder / ERROR).unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        refused = next((found for found in chain(error) if isinstance(found, Refused)), None)
        text = f"raydd: {refused}" if refused else "".join(traceback.format_exception(error))
        with contextlib.suppress(OSError):  # the error itself may be a store that is full or gone
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / ERROR, text.encode())
        raise
