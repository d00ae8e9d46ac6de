"""How encoded images become network input; travels with every checkpoint and distilled set.

Nobody writes a mean or a standard deviation twice: whoever needs them asks the object here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Geometry and normalisation of a network's input.

    Attributes:
        resolution: side of the square network input, pixels.
        resize: length of the shorter side before the centre crop, pixels; at least ``resolution``.
        mean: per RGB channel, for pixels scaled to [0, 1].
        std: per RGB channel, for pixels scaled to [0, 1]; above 0.
    Raises:
        ValueError: a size is not positive, ``resize`` is below ``resolution``, or mean and std are
            not three numbers each with std above 0.
    """

    resolution: int
    resize: int
    mean: Channels
    std: Channels

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.resolution < 1 or self.resize < self.resolution:
            raise ValueError(
                f"Preprocessing needs 1 <= resolution <= resize, got resolution={self.resolution} "
                f"and resize={self.resize}; set dataset.resolution and dataset.resize."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                "Preprocessing needs three channel means and three standard deviations above 0, "
                f"got mean={self.mean} and std={self.std}."
            )

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict that ``from_json`` reads back without loss."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build from the dict of ``to_json``.

        Raises:
            ValueError: a field is missing, unknown or out of range.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(
                "A preprocessing record has the fields resolution, resize, mean and std, "
                f"got {sorted(values)}."
            ) from error
