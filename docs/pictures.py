"""The pictures of the README: a distilled set, and the result browser in a Chromium.

Makes a small sweep of the embedded digits first, unless the storage has it already (minutes on a
CPU). RAYDD_CHROMIUM names the browser; otherwise one of the machine is taken.

    python docs/pictures.py [STORAGE]
"""

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from raydd import browse, run
from raydd.data.distilled import read_distilled

PICTURES = Path(__file__).parent / "pictures"
NAME = "digits"
SWEEP = (f"name={NAME}", "sweep.space.method.ipc=[2,5,10]")
SLOTS, SIDE, GAP = 6, 48, 4
MOST_BYTES = 150_000


def draw_set(folder: Path) -> Image.Image:
    """The first images of every class, a column per class, each pixel as a square."""
    pixels, classes, *_ = read_distilled(folder).arrays()
    names = np.unique(classes)
    step = SIDE + GAP
    sheet = Image.new("RGB", (len(names) * step - GAP, SLOTS * step - GAP), "white")
    for column, name in enumerate(names):
        for row, image in enumerate(pixels[classes == name][:SLOTS]):
            shown = Image.fromarray(image.transpose(1, 2, 0)).resize(
                (SIDE, SIDE), Image.Resampling.NEAREST
            )
            sheet.paste(shown, (column * step, row * step))
    return sheet


def photograph(page: Path) -> Image.Image:
    """The upper part of the browser's page."""
    chromium = os.environ.get("RAYDD_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1100, "height": 960})
        opened.goto(page.as_uri())
        opened.wait_for_selector(".scatterlayer")
        picture = opened.screenshot(animations="disabled")
        browser.close()
    return Image.open(io.BytesIO(picture)).convert("RGB")


def save(picture: Image.Image, name: str) -> None:
    """Write a PNG of few colours, small enough for a README."""
    path = PICTURES / name
    picture.quantize(128).save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES, f"{path} has {path.stat().st_size} bytes"
    print(path, path.stat().st_size)


def main() -> None:
    """Make both pictures."""
    storage = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
    folder = Path(storage) / NAME
    assert run.main([f"storage={storage}", *SWEEP]) == 0
    page = Path(storage) / "browse.html"
    assert browse.main([str(folder), "--out", str(page)]) == 0
    largest = max(
        folder.glob("trials/*/distilled"), key=lambda one: len(read_distilled(one).arrays()[1])
    )
    save(draw_set(largest), "distilled.png")
    save(photograph(page), "browser.png")


if __name__ == "__main__":
    main()
