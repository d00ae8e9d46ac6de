"""Sets that are tensors: the right pixels of the right class, or one sentence that asks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from raydd.data.any_set import AnySet
from raydd.data.images import decode_rgb, encode_png
from raydd.data.preprocessing import Preprocessing
from raydd.store.tensor_set import open_given_set
from small_sets import CLASSES

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
PREPROCESSING = Preprocessing(16, 16, MEAN, STD)
COLOURS = [(220, 30, 30), (30, 200, 30), (30, 30, 220)]
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def bytes_of(count: int = 6) -> Tensor:
    """Coloured squares with a little noise, uint8 [N, 3, 16, 16]; the colour is the class."""
    rng = np.random.default_rng(0)
    colours = np.array([COLOURS[i % 3] for i in range(count)])[:, :, None, None]
    return torch.tensor(colours + rng.integers(-8, 9, (count, 3, 16, 16))).clamp(0, 255).byte()


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images / 255 - mean) / std


def whitened(images: Tensor, eps: float) -> Tensor:
    flat = images.flatten(1).double() / 255
    flat = flat - flat.mean(0)
    values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
    turned = flat @ (vectors / (values.clamp(min=0) + eps).sqrt()) @ vectors.T
    return turned.reshape(images.shape).float()


def save(folder: Path, images: Tensor, labels: Tensor = LABELS, stem: str = "best") -> Path:
    torch.save(images, folder / f"images_{stem}.pt")
    torch.save(labels, folder / f"labels_{stem}.pt")
    return folder


def look(path: Path, pixels: str = "auto", names=CLASSES) -> AnySet:
    return open_given_set(str(path), names, "image", "label", PREPROCESSING, pixels)


def pixels_of(given: AnySet) -> Tensor:
    decoded = [decode_rgb(image.image) for image in given.images()]
    return torch.tensor(np.stack(decoded)).permute(0, 3, 1, 2)


def labels_of(given: AnySet) -> list[int]:
    return [image.class_index for image in given.images()]


KINDS = {
    "whole numbers": (lambda x: x, "tensors"),
    "whole numbers, channels last": (lambda x: x.permute(0, 2, 3, 1), "tensors"),
    "whole numbers of another type": (lambda x: x.long(), "tensors"),
    "in [0, 1]": (lambda x: x / 255, "tensors"),
    "halves": (lambda x: (x / 255).half(), "tensors"),
    "0..255": (lambda x: x.float(), "tensors (pixels in 0..255)"),
    "normalised": (normalised, "tensors (dataset.mean and dataset.std undone)"),
    "leaf of an optimiser": (lambda x: (x / 255).requires_grad_(), "tensors"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_are_those_that_were_saved(tmp_path: Path, kind: str) -> None:
    make, layout = KINDS[kind]
    given = look(save(tmp_path, make(bytes_of())))
    assert given.layout == layout
    assert labels_of(given) == LABELS.tolist()
    assert torch.equal(pixels_of(given), bytes_of())


def test_grey_sets_have_three_equal_channels(tmp_path: Path) -> None:
    images = pixels_of(look(save(tmp_path, bytes_of()[:, :1] / 255)))
    assert torch.equal(images, bytes_of()[:, :1].expand(-1, 3, -1, -1))


@pytest.mark.parametrize("eps", [0.1, 1e-3, 1e-8])
def test_whitened_sets_are_never_taken_for_normalised_ones(tmp_path: Path, eps: float) -> None:
    noise = torch.randint(0, 256, (400, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(400) % 3
    for images in (bytes_of(400), noise):
        save(tmp_path, whitened(images, eps), labels)
        with pytest.raises(ValueError, match=r"say judge\.pixels=unit, or judge\.pixels=norm"):
            look(tmp_path)


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0, 3.0])
def test_random_numbers_are_not_guessed_at(tmp_path: Path, scale: float) -> None:
    torch.manual_seed(0)
    with pytest.raises(
        ValueError, match=r"values from -\d.* neither pixels in \[0, 1\] nor plainly"
    ):
        look(save(tmp_path, scale * torch.randn(6, 3, 16, 16)))


def test_a_key_says_what_they_are(tmp_path: Path) -> None:
    images = bytes_of() / 255
    spread = images + 0.2 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    given = look(save(tmp_path, spread), "unit")
    assert given.layout.endswith("% of the values cut)")
    assert torch.equal(pixels_of(given), (spread.clamp(0, 1) * 255).round().byte())
    faint = look(save(tmp_path, normalised(bytes_of()) / 4), "normalised")
    assert faint.fingerprint != given.fingerprint
    with pytest.raises(ValueError, match=r"is said to be ZCA-whitened .* cannot be judged"):
        look(tmp_path, "zca")
    with pytest.raises(ValueError, match=r"judge\.pixels must be one of auto, unit"):
        look(tmp_path, "raw")


def test_the_file_of_dc_and_dm_is_read(tmp_path: Path) -> None:
    sets = [[normalised(bytes_of()), LABELS], [normalised(bytes_of().flip(0)), LABELS.flip(0)]]
    content = {"data": sets, "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}
    torch.save(content, tmp_path / "res_DM_CIFAR10_ConvNet_2ipc.pt")
    for path in (tmp_path, tmp_path / "res_DM_CIFAR10_ConvNet_2ipc.pt"):
        given = look(path)
        assert given.layout.startswith("tensors (the first of 2 sets in the file, dataset.mean")
        assert labels_of(given) == LABELS.tolist()
        assert torch.equal(pixels_of(given), bytes_of())


@pytest.mark.parametrize("content", ["pair", "named"])
def test_a_pair_in_one_file_is_read(tmp_path: Path, content: str) -> None:
    pair = [bytes_of(), LABELS]
    torch.save(
        pair if content == "pair" else dict(zip(("images", "labels"), pair, strict=True)),
        tmp_path / "data.pt",
    )
    assert torch.equal(pixels_of(look(tmp_path)), bytes_of())


def test_soft_labels_are_read_as_their_largest(tmp_path: Path) -> None:
    soft = torch.nn.functional.one_hot(LABELS, 3) * 4.0 + torch.rand(6, 3)
    assert labels_of(look(save(tmp_path, bytes_of(), soft))) == LABELS.tolist()
    assert labels_of(look(save(tmp_path, bytes_of(), LABELS[:, None].float()))) == LABELS.tolist()


def test_the_best_of_several_is_taken_or_one_must_be_named(tmp_path: Path) -> None:
    save(tmp_path, bytes_of(), stem="0")
    save(tmp_path, bytes_of().flip(0), LABELS.flip(0), stem="100")
    torch.save(torch.tensor(0.01), tmp_path / "lr_best.pt")
    with pytest.raises(ValueError, match=r"several sets of tensors \(images_0\.pt, images_100\.pt"):
        look(tmp_path)
    assert labels_of(look(tmp_path / "images_100.pt")) == LABELS.flip(0).tolist()
    torch.save(bytes_of(), tmp_path / "images_zca_100.pt")
    assert labels_of(look(tmp_path / "images_zca_100.pt")) == LABELS.flip(0).tolist()
    save(tmp_path, bytes_of())
    assert labels_of(look(tmp_path)) == LABELS.tolist()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (LABELS[:5], r"6 images but labels of the shape \[5\]"),
        (LABELS + 1, "has the label 3, which is none of the data set's 3 classes, 0 and up"),
        (LABELS + 0.5, r"has the label 0\.5"),
        (torch.rand(6, 10), "soft labels of 10 classes, the data set has 3"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        look(save(tmp_path, bytes_of(), labels))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(6, 2, 4, 4), r"the shape \[6, 2, 4, 4\], not \[N, 3, R, R\]"),
        (torch.zeros(6, 48), r"the shape \[6, 48\]"),
        (torch.full((6, 3, 4, 4), torch.nan), "no numbers"),
        (torch.full((6, 3, 4, 4), 300), r"outside 0\.\.255"),
    ],
)
def test_images_that_are_none_are_refused(tmp_path: Path, images: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        look(save(tmp_path, images))


def test_a_file_without_labels_or_with_more_than_tensors_is_refused(tmp_path: Path) -> None:
    torch.save(bytes_of(), tmp_path / "images_1.pt")
    with pytest.raises(ValueError, match=r"images_1\.pt holds no images with labels"):
        look(tmp_path / "images_1.pt")
    (tmp_path / "data.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"data\.pt is no file of plain tensors: it is damaged"):
        look(tmp_path / "data.pt")


def test_every_other_layout_is_still_opened(tmp_path: Path) -> None:
    """A teacher beside the images does not make a set of tensors of them."""
    (tmp_path / "00001").mkdir()
    (tmp_path / "00001" / "0.png").write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8)))
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "teacher.pth")
    assert labels_of(look(tmp_path)) == [1]
    with pytest.raises(ValueError, match="does not exist"):
        look(tmp_path / "none")


def test_other_bytes_or_constants_are_another_set(tmp_path: Path) -> None:
    first = look(save(tmp_path, normalised(bytes_of()))).fingerprint
    assert look(tmp_path).fingerprint == first
    save(tmp_path, normalised(bytes_of()), LABELS.flip(0))
    assert look(tmp_path).fingerprint != first
