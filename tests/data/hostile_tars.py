"""A webdataset of good samples with bad ones of every kind among them."""

import io
import tarfile
from pathlib import Path

import numpy as np

from hostile_images import IMAGE_KINDS, bad_image, decodes, good_image
from hostile_ledger import Ledger

TAR_KINDS = (
    *IMAGE_KINDS,
    "path traversal",
    "link or device",
    "duplicate key",
    "missing label",
    "bad label",
    "missing image",
    "damaged header",
    "giant member",
    "giant header",
    "non-UTF-8 name",
)
PER_SHARD = 400
NAMES = ("../{}.jpg", "/etc/{}.jpg", "a/../../{}.jpg", "..\\{}.jpg")
LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
LABELS = (
    ("cls", b"999"), ("cls", b"-1"), ("cls", b"wolf"), ("cls", b"\xff\xfe"), ("cls", b"9" * 5000),
    ("cls", b""), ("json", b"{broken"), ("json", b"[" * 100_000), ("json", b'{"label": NaN}'),
    ("json", b'{"label": "' + b"x" * 100_000 + b'"}'), ("json", b"[1]"), ("json", b"\xff"),
    ("json", b'{"label": "\\ud800"}'), ("cls", b"0" * ((1 << 20) + 1)),
)  # fmt: skip


def write_webdataset(root: Path, num_good: int, num_bad: int, seed: int = 0) -> Ledger:
    """Write ``train-*.tar`` with classes 0 to 2: good samples, bad ones, one archive that is cut.

    The cut archive was given an end mark, so that its last bytes do not tell.

    Of the bad kinds "duplicate key" and "non-UTF-8 name" bring further good samples.
    """
    rng, ledger = np.random.default_rng(seed), Ledger()
    kinds = ["good"] * num_good + [TAR_KINDS[i % len(TAR_KINDS)] for i in range(num_bad)]
    rng.shuffle(kinds)
    root.mkdir(parents=True)
    for begin in range(0, len(kinds), PER_SHARD):
        shard = Shard(root, f"train-{begin:06d}.tar", ledger, rng)
        for number, kind in enumerate(kinds[begin : begin + PER_SHARD]):
            shard.write(kind, f"{begin + number:06d}")
        shard.close()
    _write_cut_archive(root, ledger, rng)
    return ledger


def _write_cut_archive(root: Path, ledger: Ledger, rng: np.random.Generator) -> None:
    shard = Shard(root, "train-cut.tar", ledger, rng)
    # Each header in such a chain speaks for the next one; readers recurse.
    for _ in range(1500):
        shard.add("././@LongLink", b"chain.jpg\0", type=tarfile.GNUTYPE_LONGNAME)
    shard.ledger.good.add(shard.sample("chain", good_image(rng)))
    shard.write("good", "a")
    last = shard.add("b.jpg", good_image(rng) + bytes(4096))
    shard.close()
    ledger.add(shard.damage(last), "cut archive")
    with shard.path.open("r+b") as file:
        file.truncate(_offset(last) + 512)
        file.seek(0, 2)
        file.write(bytes(1024))


class Shard:
    """One archive being written; knows where its members lie."""

    def __init__(self, root: Path, name: str, ledger: Ledger, rng: np.random.Generator) -> None:
        self.path, self.name, self.ledger, self.rng = root / name, name, ledger, rng
        # Both ways to store long names and names that are not UTF-8.
        kind = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)[int(rng.integers(2))]
        self.archive = tarfile.TarFile(self.path, "w", format=kind, errors="surrogateescape")
        self.patches: list[tuple[int, bytes]] = []

    def write(self, kind: str, key: str) -> None:
        """Write a sample, "good" or one of ``TAR_KINDS``, and note its ids."""
        if kind == "good":
            long = "folder/" * 30 if self.rng.integers(8) == 0 else ""
            self.ledger.good.add(self.sample(long + key, good_image(self.rng)))
        elif kind in IMAGE_KINDS:
            image = bad_image(kind, self.rng)
            row_id = self.sample(key, image)
            self.ledger.add(row_id, kind, kind == "flipped" and decodes(image))
        elif kind in ("damaged header", "giant member"):
            self._damage_header(kind, key)
        else:
            self.ledger.add(self._bad_sample(kind, key, good_image(self.rng)), kind)

    def add(self, name: str, content: bytes, **attributes: object) -> str:
        """Write a member and return the id of its content."""
        info = tarfile.TarInfo(name)
        for key, value in {"size": len(content), **attributes}.items():
            setattr(info, key, value)
        self.archive.addfile(info, io.BytesIO(content))
        offset = self.archive.offset - -(-len(content) // 512) * 512
        return f"{self.name}#{offset}+{len(content)}"

    def sample(self, key: str, image: bytes) -> str:
        """Write an image and its label and return the image's id."""
        row_id = self.add(f"{key}.jpg", image)
        self.add(f"{key}.cls", str(self.rng.integers(3)).encode())
        return row_id

    def damage(self, row_id: str) -> str:
        """Id of the row that stands for an unusable header."""
        return f"{self.name}#{_offset(row_id) - 512}"

    def close(self) -> None:
        """Finish the archive, then spoil the headers that are to be spoiled."""
        self.archive.close()
        with self.path.open("r+b") as file:
            for position, content in self.patches:
                file.seek(position)
                file.write(content)

    def _bad_sample(self, kind: str, key: str, image: bytes) -> str:
        """Write a sample that is bad for another reason than its image's bytes."""
        rng = self.rng
        if kind == "path traversal":
            return self.add(NAMES[rng.integers(4)].format(key), image)
        if kind == "link or device":
            return self.add(f"{key}.jpg", b"", type=LINKS[rng.integers(4)], linkname="/etc/passwd")
        if kind == "missing image":
            return self.add(f"{key}.cls", b"0")
        if kind == "giant header":
            return self.add("x" * 100_000 + f"{key}.jpg", image)
        if kind == "duplicate key":
            self.ledger.good.add(self.sample(key, good_image(rng)))
            return self.sample(key, image)
        if kind == "non-UTF-8 name":  # of a good image too
            self.ledger.good.add(self.sample(f"\udcff\udcfe{key}", image))
            return self.sample(f"\udcfe\udcff{key}", b"GIF89a")
        row_id = self.add(f"{key}.jpg", image)
        if kind == "bad label":
            suffix, content = LABELS[rng.integers(len(LABELS))]
            self.add(f"{key}.{suffix}", content)
        return row_id

    def _damage_header(self, kind: str, key: str) -> None:
        """Write an image whose header will be unusable, so that its label is left alone."""
        row_id = self.add(f"{key}.jpg", good_image(self.rng))
        self.ledger.bad[self.add(f"{key}.cls", b"0")] = kind
        self.ledger.add(self.damage(row_id), kind)
        info = tarfile.TarInfo(f"{key}.jpg")
        info.size = (1 << 40, -512)[self.rng.integers(2)]
        spoiled = b"\xff" * 20 if kind == "damaged header" else info.tobuf(tarfile.GNU_FORMAT)
        self.patches.append((_offset(row_id) - 512, spoiled))


def _offset(row_id: str) -> int:
    return int(row_id.rpartition("#")[2].partition("+")[0])
