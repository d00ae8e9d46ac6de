"""Every data-set config names all fields, a known kind and a preprocessing that exists."""

from pathlib import Path

import pytest
import yaml

from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import KINDS

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "dataset").glob("*.yaml"))
FIELDS = {
    "defaults", "name", "kind", "root", "split_train", "split_test", "num_classes", "classes_file",
    "image_column", "label_column", "resolution", "resize", "mean", "std", "flip", "licence",
    "gated", "holdout", "holdout_seed", "classes",
}  # fmt: skip
PUBLISHED = {"train_images", "test_images"}  # of sets that are planned without a copy


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_complete(path: Path) -> None:
    config = yaml.safe_load(path.read_text("utf-8"))
    assert set(config) - PUBLISHED == FIELDS
    assert config["name"] == path.stem
    assert config["kind"] in KINDS
    assert config["defaults"] == ["dataset_schema", "_self_"]
    assert 0.0 <= config["flip"] <= 1.0
    Preprocessing(config["resolution"], config["resize"], config["mean"], config["std"])


def test_the_named_data_sets_are_there() -> None:
    assert {path.stem for path in CONFIGS} >= {
        "digits", "cifar10", "cifar100", "tiny_imagenet", "imagenette", "imagewoof", "in1k",
        "in21k", "imagefolder", "parquet", "webdataset", "in1k_imagenette", "in1k_imagewoof",
        "in1k_imagenet100",
    }  # fmt: skip
