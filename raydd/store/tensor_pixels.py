"""What are a tensor's numbers: pixels, normalised pixels, or whitened ones?

Sets of DC, DM and MTT are optimised without bounds, so no range is exact. Three figures tell the
kinds apart where they can be told apart at all (in brackets those of CIFAR-10, and
with noise of 0.4 added):

- pixels lie in [0, 1], but for a few;
- normalised pixels lie there when mean and std are undone, spread by one std (0.99; 1.1), and
  neighbours are alike (correlation 0.93; 0.8);
- ZCA-whitened pixels (``--zca`` of MTT and DATM, eps 0.1) spread by 0.25 (0.47), and neighbours
  are less alike (0.64; 0.18). With a smaller eps they spread more and are even less alike.

What fits none of the first two is not guessed at.
"""

import numpy as np
import torch
from torch import Tensor

from raydd.data.preprocessing import Preprocessing

PIXELS = ("auto", "unit", "normalised", "zca")
_NEAR = 0.02  # of the range: rounding and a last step over the edge
_SHARE = 0.9  # of the values that must lie in the range
_LEAST_SPREAD = 0.75
_LEAST_LIKENESS = 0.45
_SAMPLE = 1000  # images that the figures are taken of


def to_bytes(
    images: Tensor, preprocessing: Preprocessing, pixels: str, what: str
) -> tuple[np.ndarray, list[str]]:
    """Images as 8-bit pixels.

    Args:
        images: [N, 3, R, R], [N, R, R, 3] or grey [N, 1, R, R], of any number type.
        preprocessing: mean and std that a normalisation was made with.
        pixels: "unit" (in [0, 1]), "normalised", "zca", or "auto": whole numbers are 0..255, others
            are looked at.
        what: the set in words; begins the message.
    Returns:
        uint8 [N, R, R, 3], rounded, and what was done to them, in words.
    Raises:
        ValueError: another shape, values that are not finite, whitened ones or ones that could be
            either.
    """
    if pixels not in PIXELS:
        raise ValueError(f"judge.pixels must be one of {', '.join(PIXELS)}, got {pixels!r}.")
    channels_first = _channels_first(images, what)
    if not images.is_floating_point():
        return _whole_numbers(channels_first, what), []
    values = channels_first.float()
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{what} holds values that are no numbers (NaN or infinite).")
    kind = _kind(values, preprocessing, what) if pixels == "auto" else pixels
    if kind == "zca":
        raise ValueError(
            f"{what} is said to be ZCA-whitened (judge.pixels=zca), which cannot be judged without "
            "its whitening: undo it and save pixels (images_zca_*.pt of MTT are such)."
        )
    if kind == "bytes":
        return _rounded(values / 255), ["pixels in 0..255"]
    if kind == "normalised":
        values = _undone(values, preprocessing)
    outside = float(((values < -0.5 / 255) | (values > 1 + 0.5 / 255)).float().mean())
    done = ["dataset.mean and dataset.std undone"] if kind == "normalised" else []
    return _rounded(values), done + ([f"{outside:.1%} of the values cut"] if outside else [])


def _channels_first(images: Tensor, what: str) -> Tensor:
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images.expand(-1, 3, -1, -1)
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
    raise ValueError(f"{what} has the shape {list(images.shape)}, not [N, 3, R, R].")


def _whole_numbers(images: Tensor, what: str) -> np.ndarray:
    if images.numel() and not 0 <= int(images.min()) <= int(images.max()) <= 255:
        raise ValueError(f"{what} holds whole numbers outside 0..255, which are no pixels.")
    return images.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def _kind(images: Tensor, preprocessing: Preprocessing, what: str) -> str:
    """What the numbers are, by a sample of images."""
    sample = images[:: max(1, len(images) // _SAMPLE)]
    if _share(sample, 1) >= _SHARE and float(sample.mean()) > _NEAR:
        return "unit"
    if float(sample.min()) >= 0 and _share(sample, 255) == 1 and float(sample.max()) > 10:
        return "bytes"
    undone = _share(_undone(sample, preprocessing), 1)
    spread, likeness = float(sample.std()), _likeness(sample)
    if undone >= _SHARE and spread >= _LEAST_SPREAD and likeness >= _LEAST_LIKENESS:
        return "normalised"
    raise ValueError(
        f"{what} holds values from {float(sample.min()):.2f} to {float(sample.max()):.2f} that are "
        "neither pixels in [0, 1] nor plainly normalised ones (whitened, perhaps): say "
        "judge.pixels=unit, or judge.pixels=normalised to undo dataset.mean and dataset.std; a "
        "ZCA-whitened set cannot be judged, save it with the whitening undone (images_zca_*.pt of "
        "MTT)."
    )


def _share(values: Tensor, top: float) -> float:
    """How many values lie in [0, top], or nearly."""
    near = _NEAR * top
    return float(((values >= -near) & (values <= top + near)).float().mean())


def _likeness(images: Tensor) -> float:
    """Correlation of horizontal neighbours over all images and channels; 0 for constant ones."""
    left, right = images[..., :-1].flatten(), images[..., 1:].flatten()
    spread = float(left.std() * right.std())
    return float(((left - left.mean()) * (right - right.mean())).mean()) / spread if spread else 0.0


def _undone(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    return images * std + mean


def _rounded(images: Tensor) -> np.ndarray:
    """Pixels in [0, 1], [N, 3, R, R], as uint8 [N, R, R, 3]."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
