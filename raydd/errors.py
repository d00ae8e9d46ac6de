"""What the doors say in a sentence: input at fault, storage and memory that are full or gone."""

import errno
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import NoReturn, TextIO


class Refused(ValueError):
    """Work that cannot be done as asked; its text is one sentence for the user.

    The doors print the text and exit with code 2, without a traceback. Everything else
    that goes wrong keeps its traceback, but for what :func:`known_trouble` knows.
    """


FULL = (errno.ENOSPC, errno.EDQUOT)
_NETWORK = ("botocore", "aiohttp", "gcsfs", "azure")  # packages whose errors are the store's
_REACH = ("Connect", "Timeout", "Disconnected")
_KEPT = "What is finished is kept; run the same command to continue."
_MEMORY = "OutOfMemoryError"  # Ray's, of a worker that its node has ended, and torch's, of a GPU
# What torch says where a GPU's memory is full. Ray Data hands on the text of an error alone, as the
# traceback of its process.
_DEVICE_MEMORY = re.compile(
    r"^(?:torch\.)?(?:cuda\.)?OutOfMemoryError: (?P<torch>CUDA.*)"
    r"|(?P<library>CUDA out of memory.*|.*CU\w+_STATUS_ALLOC_FAILED.*|CUDA error: out of memory.*)",
    re.MULTILINE,
)


class Stopped(BaseException):
    """SIGTERM, as Ctrl-C is a KeyboardInterrupt: whatever runs is unwound."""


class ReaderLeft(BaseException):
    """Nobody reads any more what a run prints: ``head``, or another program that it is piped to."""


def stop_on_signals() -> None:
    """Have SIGTERM raise :class:`Stopped`, and Ctrl-C what it does by itself.

    Called again where Ray is joined: it installs handlers that print a C++ stack.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped


def exit_code(act: Callable[[], int | None]) -> int:
    """Exit code of a door that does something; what is known to go wrong is said in a sentence.

    2 is input at fault, nothing was begun; 1 is trouble on the way, the same command continues;
    130, 141 and 143 are Ctrl-C, a reader of the output who has left, and SIGTERM.
    """
    stop_on_signals()
    try:
        code = act() or 0
        sys.stdout.flush()  # a reader who has left is met here, not while Python ends
        return code
    except Refused as error:
        print(f"raydd: {error}", file=sys.stderr)
        return 2
    except ReaderLeft:
        with suppress(BrokenPipeError):  # stderr may have had the same reader
            print(f"raydd: nobody reads the output any more. {_KEPT}", file=sys.stderr, flush=True)
        return _unread()
    except (Exception, KeyboardInterrupt, Stopped) as error:
        # of a help: that was enough
        if isinstance(error, BrokenPipeError) and _is_unread(sys.stdout):
            return _unread()
        if number := _signal_of(error):
            print(f"raydd: stopped by {number.name}. {_KEPT}", file=sys.stderr)
            return 128 + number
        if not (sentence := known_trouble(error)):
            raise
        print(f"raydd: {sentence}", file=sys.stderr)
        return 1


def _is_unread(stream: TextIO) -> bool:
    """Whether this is a pipe that nobody reads: another pipe or socket may have broken as well."""
    poll = select.poll()
    try:
        poll.register(stream, 0)  # errors alone
    except ValueError:  # a notebook's, which is no file
        return False
    return bool(poll.poll(0))


def _unread() -> int:
    """The code of SIGPIPE; what is still to be printed goes nowhere, or Python would complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(_is_unread, (sys.stdout, sys.stderr)):
        os.dup2(nowhere, stream.fileno())
    return 128 + signal.SIGPIPE


def _signal_of(error: BaseException) -> signal.Signals | None:
    """What stopped the work, if it was a signal; Ray's C code makes a SystemError of ours."""
    for found in chain(error):
        if isinstance(found, Stopped):
            return signal.SIGTERM
        if isinstance(found, KeyboardInterrupt):
            return signal.SIGINT
    return None


def known_trouble(error: BaseException) -> str | None:
    """The sentence for a full disk or memory or a store out of reach; None for any other error."""
    for found in chain(error):
        kind = type(found)
        if isinstance(found, OSError) and found.errno in FULL:
            trouble = f"the disk is full ({found})"
        elif kind.__module__.split(".")[0] in _NETWORK and any(w in kind.__name__ for w in _REACH):
            trouble = f"the storage is out of reach ({found})"
        elif said := _full_memory(found):
            trouble = f"memory is full ({said}): use smaller batches, fewer workers or more memory"
        else:
            continue
        return f"{trouble}. {_KEPT.replace('run', 'mend it and run', 1)}"
    return None


def out_of_device_memory(error: BaseException) -> bool:
    """Whether the memory of a GPU was full."""
    return any(_DEVICE_MEMORY.search(str(found)) for found in chain(error))


def _full_memory(error: BaseException) -> str | None:
    """What an error says of a memory that is full, in a line; None of any other error."""
    if match := _DEVICE_MEMORY.search(str(error)):
        said = (match["torch"] or match["library"]).strip()
        return re.sub(r"^\w*Error: ", "", said)
    if type(error).__name__ != _MEMORY:
        return None
    return re.sub(r"\x1b\[\d*m", "", str(error).partition("\n")[0])


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it, in this process and in Ray's workers."""
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        causes = (found.__cause__, found.__context__, getattr(found, "cause", None))
        failures = getattr(found, "worker_failures", {})  # of Ray Train, by rank
        waiting += [e for e in (*causes, *failures.values()) if isinstance(e, BaseException)]
