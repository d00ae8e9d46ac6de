"""Look at results: one self-contained HTML page of runs and sweeps, finished or not.

python -m raydd.browse runs                          # every run and sweep of a storage
python -m raydd.browse runs/ipc_alpha --out page.html
python -m raydd.browse runs/ipc_alpha --watch        # renews itself while a sweep runs
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence

from upath import UPath

from raydd.browser.model import page_model
from raydd.browser.page import render_browser
from raydd.browser.pictures import draw_sheets
from raydd.browser.trials import STATUSES, open_folder, read_trials
from raydd.errors import Refused, exit_code
from raydd.store.files import write_atomic

USAGE = """usage: python -m raydd.browse FOLDER... [--out FILE] [--watch]   also: raydd browse ...

A folder is a run, a sweep or a storage that holds them, local or a URI. The page, which loads
nothing from anywhere, is written to FILE, or to browse.html in the first folder. With --watch it
is written again, and loads itself again, until all trials have ended."""
_RENEW_SECONDS = 15


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (2 for input that cannot be read)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return exit_code(lambda: _carry_out(words))


def _carry_out(words: Sequence[str]) -> None:
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return
    folders, out = _parse([word for word in words if word != "--watch"])
    while browse(folders, out, watch="--watch" in words):
        time.sleep(_RENEW_SECONDS)


def browse(folders: Sequence[str], out: UPath, watch: bool = False) -> bool:
    """Write the page of some folders and say what is on it.

    Args:
        folders: runs, sweeps or storages.
        out: the page's file.
        watch: whether the page loads itself again from time to time while more is to be expected.
    Returns:
        Whether it does: it is watched, and a trial has not ended or has not begun.
    Raises:
        Refused: a folder that cannot be read, or a file that cannot be written.
    """
    trials, sweeps = read_trials(folders)
    pictures = draw_sheets([trial.folder / "distilled" for trial in trials])
    title = ", ".join(dict.fromkeys(UPath(name).absolute().name for name in folders))
    model = page_model(trials, sweeps, pictures, title, time.time())
    counts = Counter(trial.status for trial in trials)
    planned = sum(sweep.planned or 0 for sweep in sweeps)
    begun = sum(trial.sweep is not None for trial in trials)
    renew = watch and (bool(counts["unfinished"]) or begun < planned)
    page = render_browser(model, _RENEW_SECONDS if renew else None)
    try:
        write_atomic(out, page.encode())
    except OSError as error:
        raise Refused(f"{out} cannot be written: {error.strerror or error}.") from error
    parts = [f"{counts[status]} {status}" for status in STATUSES if counts[status]]
    print(f"{len(trials)} trials: {', '.join(parts) or 'none has begun'}")
    print(f"{out}  ({len(page) / 1e6:.1f} MB)", flush=True)
    return renew


def _parse(words: Sequence[str]) -> tuple[list[str], UPath]:
    """Folders and the page's file."""
    folders, out = list(words), None
    if "--out" in folders:
        place = folders.index("--out")
        if place + 1 == len(folders):
            raise Refused("--out needs a file.")
        out = UPath(folders.pop(place + 1))
        folders.pop(place)
    if unknown := [word for word in folders if word.startswith("-")]:
        raise Refused(f"there is no option {unknown[0]!r} (--help says what there is).")
    if not folders:
        raise Refused("name a folder: a run, a sweep or a storage (--help says more).")
    return folders, out or open_folder(folders[0]) / "browse.html"


if __name__ == "__main__":
    sys.exit(main())
