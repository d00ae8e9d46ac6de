"""The wheel: it carries the configs and runs outside the checkout."""

import os
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel as pip does, without network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return next(folder.glob("raydd-*.whl"))


def test_the_wheel_carries_every_config_module_and_page(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {
        f"raydd/configs/{p.relative_to(ROOT / 'configs')}"
        for p in (ROOT / "configs").rglob("*.yaml")
    }
    modules = {
        str(path.relative_to(ROOT))
        for suffix in ("py", "jinja", "css", "js")
        for path in (ROOT / "raydd").rglob(f"*.{suffix}")
    }
    assert "raydd/configs/config.yaml" in configs
    assert {"raydd/browser/browser.html.jinja", "raydd/report/page.css"} <= modules
    assert configs | modules <= names


def test_the_wheel_carries_nothing_else(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"raydd", "raydd-0.1.0.dist-info"}


def test_the_metadata_names_version_python_licence_and_the_ray_release(wheel):
    archive = zipfile.ZipFile(wheel)
    text = archive.read("raydd-0.1.0.dist-info/METADATA").decode()
    metadata = HeaderParser().parsestr(text)
    assert metadata["Version"] == "0.1.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    rays = [need for need in metadata.get_all("Requires-Dist") if need.startswith("ray[")]
    assert rays == ["ray[data,default,train,tune]==2.60.*"]
    assert "raydd-0.1.0.dist-info/licenses/LICENSE" in archive.namelist()


def test_an_unpacked_wheel_composes_its_own_configs(wheel, tmp_path):
    """What `pip install` lays down, without the checkout on the path."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "from raydd.config import compose, tree; print(compose.config_dir());"
        "print(tree.compose_config(['dataset=cifar10', 'dataset.root=/d']).dataset.num_classes)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},  # before an editable install
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.stdout.split() == [str(tmp_path / "site" / "raydd" / "configs"), "10"]
