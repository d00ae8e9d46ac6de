"""One progress line per stage on the driver; plain lines where there is no terminal."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text
from upath import UPath

from raydd.errors import ReaderLeft
from raydd.store.meter import Meter, measuring
from raydd.store.tail import JournalTail

_POLL_SECONDS = 1.0
_PLAIN_SECONDS = 30.0


class _Console(Console):
    """Has a reader who leaves end the run as a signal does; rich would end it without a word."""

    def on_broken_pipe(self) -> None:
        raise ReaderLeft


class Progress:
    """Writes what the driver is doing, for people.

    Args:
        verbose: also say which stages were found finished, and print plain lines more often.
    """

    def __init__(self, verbose: bool = False) -> None:
        self.console = _Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.verbose = verbose
        self.tail: JournalTail | None = None

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Print one line.

        Args:
            parts: of it: as they are, or with one of rich's styles, ``("cifar10", "bold")``.
                Brackets are no markup: names and reasons may hold any.
        """
        self.console.print(Text.assemble(*parts))

    def note(self, text: str) -> None:
        """Print one line of less weight."""
        self.say((text, "dim"))

    def cached(self, label: str) -> None:
        """Say that a stage was found finished."""
        self.note(f"{label:<34} found finished")

    def waiting(self, label: str) -> None:
        """Say that another run makes a stage, which is waited for."""
        self.note(f"{label:<34} waits for another run that makes it")

    def follow(self, folder: UPath) -> None:
        """Read of trainings and long units in the journal of a run.

        Args:
            folder: of the run.
        """
        self.tail = JournalTail(folder)

    @contextmanager
    def stage(
        self,
        label: str,
        units: int,
        finished: int = 0,
        count: Callable[[], int] | None = None,
        doing: Callable[[], str] | None = None,
    ) -> Iterator[None]:
        """Show a stage while it runs, and its wall time when it ends.

        Args:
            label: name of the stage.
            units: how many units it has; 0 if it cannot be counted.
            finished: how many of them were found done.
            count: counts finished units, where nobody tells :func:`raydd.store.meter.advance`.
            doing: says how far those in work are, after they were counted.
        """
        started, stop = time.perf_counter(), threading.Event()
        watch = _Watch(label, Meter(units, finished), self.tail, count, doing)
        show = self._bars if self.console.is_terminal else self._lines
        watcher = threading.Thread(target=show, args=(watch, stop), daemon=True)
        watcher.start()
        try:
            with measuring(watch.meter):
                yield
        finally:
            stop.set()
            watcher.join()
        told = f"{units} units, " if units else ""
        self.say(f"{label:<34} {told}{time.perf_counter() - started:.1f} s")

    def _bars(self, watch: "_Watch", stop: threading.Event) -> None:
        said = TextColumn("{task.description}", markup=False)
        with Bars(
            SpinnerColumn(), said, TimeElapsedColumn(), console=self.console, transient=True
        ) as bars:
            task = bars.add_task(watch.label)
            while not stop.wait(_POLL_SECONDS):
                bars.update(task, description=f"{watch.label:<34} {watch.look()}")

    def _lines(self, watch: "_Watch", stop: threading.Event) -> None:
        with suppress(ReaderLeft):  # the run itself meets it where the stage ends
            if self.verbose:
                self.say(f"{watch.label:<34} started")
            while not stop.wait(_PLAIN_SECONDS):
                self.say(f"{watch.label:<34} {watch.look() or 'at work'}")


class _Watch:
    """Looks how far a stage is."""

    def __init__(
        self,
        label: str,
        meter: Meter,
        tail: JournalTail | None,
        count: Callable[[], int] | None,
        doing: Callable[[], str] | None,
    ) -> None:
        self.label, self.meter, self.tail, self.count, self.doing = label, meter, tail, count, doing
        self.started = self.looked = time.monotonic()
        self.begun = round(time.time(), 3)  # as a journal rounds what it is compared with

    def look(self) -> str:
        """What is to be said now; what cannot be read is left out: the work itself will say why."""
        if self.count:
            with suppress(Exception):
                self.meter.finished = self.count()
        if self.tail and time.monotonic() - self.looked >= self.tail.seconds:
            with suppress(Exception):
                for event in self.tail.events():  # a stage of that name may have ended before
                    if event["stage"] == self.label.split()[0] and event["time"] >= self.begun:
                        self.meter.hear(event)
            self.looked = time.monotonic()
        told = self.meter.describe(time.monotonic() - self.started)
        return ": ".join(filter(None, [told, self.doing() if self.doing else ""]))
