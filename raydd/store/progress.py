"""One progress line per stage on the driver; plain lines where there is no terminal."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars

_POLL_SECONDS = 1.0
_PLAIN_SECONDS = 30.0
_SHARE = 20  # a pause is at least so many times longer than the count before it


class Progress:
    """Writes what the driver is doing, for people.

    Args:
        verbose: also say which stages were found finished, and print plain lines more often.
    """

    def __init__(self, verbose: bool = False) -> None:
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.verbose = verbose

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text)

    def note(self, text: str) -> None:
        """Print one line of less weight."""
        self.say(f"[dim]{text}[/dim]")

    def cached(self, label: str) -> None:
        """Say that a stage was found finished."""
        self.say(f"[dim]{label:<34} found finished[/dim]")

    def waiting(self, label: str) -> None:
        """Say that another run makes a stage, which is waited for."""
        self.say(f"[dim]{label:<34} waits for another run that makes it[/dim]")

    @contextmanager
    def stage(self, label: str, units: int, done: Callable[[], int] | None) -> Iterator[None]:
        """Show a stage while it runs, and its wall time when it ends.

        Args:
            label: name of the stage.
            units: how many units it has; 0 if it cannot be counted.
            done: counts finished units; polled once a second from a thread.
        """
        started = time.perf_counter()
        stop = threading.Event()
        show = self._bars if self.console.is_terminal else self._lines
        watcher = threading.Thread(target=show, args=(label, units, done, stop), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
        count = f"{units} units, " if units else ""
        self.say(f"{label:<34} {count}{time.perf_counter() - started:.1f} s")

    def _bars(
        self, label: str, units: int, done: Callable[[], int] | None, stop: threading.Event
    ) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn(label),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=self.console, transient=True) as bars:
            task = bars.add_task(label, total=units or None)
            for count in _counts(done, _POLL_SECONDS, stop):
                bars.update(task, completed=count)

    def _lines(
        self, label: str, units: int, done: Callable[[], int] | None, stop: threading.Event
    ) -> None:
        if self.verbose:
            self.say(f"{label:<34} started")
        for count in _counts(done if units else None, _PLAIN_SECONDS, stop):
            self.say(f"{label:<34} {count} of {units}")


def _counts(done: Callable[[], int] | None, seconds: float, stop: threading.Event) -> Iterator[int]:
    """Count again and again until told to stop; less often where counting takes long.

    A count that fails is left out: the work itself will say what is wrong with the storage.
    """
    pause = seconds
    while done and not stop.wait(pause):
        started = time.perf_counter()
        with suppress(Exception):
            yield done()
        pause = max(seconds, _SHARE * (time.perf_counter() - started))
