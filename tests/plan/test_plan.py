"""``plan=true`` at the number of classes that the engine exists for."""

import re

import pytest

from raydd.run import main
from small_sets import png, write_parquet

CLASSES = 10_450
OBSERVERS = "method.observers=[{name: convnet2, width: 8}, {name: resnet10_thin, width: 8}]"
SCALES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    root, image = tmp_path_factory.mktemp("many"), png(0)
    names = [f"n{number:08d}" for number in range(CLASSES)]
    for split in ("train", "test"):
        path = root / "data" / f"{split}-00000-of-00001.parquet"
        images = [image] * CLASSES
        write_parquet(path, range(CLASSES), images, names=names, row_group=2000)
    words = [f"dataset.root={root}", "dataset=in21k", "dataset.split_test=test", "method=edc"]
    words.append("cluster.plan_seconds=0")
    size = ["dataset.resolution=32", "dataset.resize=32", "method.ipc=1", "labels.form=seeded"]

    def rows(capsys) -> dict[str, list[float]]:
        capsys.readouterr()
        assert main(["plan=true", f"storage={root}/runs", OBSERVERS, *words, *size]) == 0
        return table(capsys.readouterr().out)

    return rows


def table(text: str) -> dict[str, list[float]]:
    """Units and bytes (read, written, in memory) of every stage."""
    found = {}
    for stage, units, sizes in re.findall(r"^(\S.*?) +(\d+) +((?:[\d.]+ \w+ *){3})$", text, re.M):
        values = re.findall(r"([\d.]+) (\w+)", sizes)
        found[stage] = [float(units), *(float(value) * SCALES[unit] for value, unit in values)]
    return found


def test_bytes_of_statistics_and_labels_are_those_of_many_classes(plan, capsys):
    rows = plan(capsys)
    # of convnet2: 3 channels and 8 x 8 tiles, 8 of a norm, 8 and 4 x 4 tiles, 8 of a norm
    width = 3 + 64 + 8 + 8 + 16 + 8
    one = CLASSES * 3 * width * 8 + (CLASSES + 1) * 2 * width * 4
    assert rows["statistics 2 observers"][2] > one  # the thin ResNet has its share, too
    head = (8 * 8 * 8 + 1) * CLASSES * 4  # of convnet2 alone
    assert rows["ensemble 2 observers"][2] > head
    assert rows["relabel distilled"][2] == pytest.approx(
        rows["ensemble 2 observers"][2] / 2, rel=0.01
    )


def test_a_synthesising_worker_does_not_hold_the_statistics(plan, capsys):
    rows = plan(capsys)
    units, _, _, memory = rows["synthesize curriculum 1"]
    assert units == -(-CLASSES // 100)
    assert memory < rows["statistics 2 observers"][3]
