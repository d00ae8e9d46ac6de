"""How real images are read."""

from dataclasses import dataclass


@dataclass
class DataConfig:
    """How real images are read; no value here changes which images are chosen."""

    max_rejected: float = 0.01
    """Highest fraction of broken images, in [0, 1]; above it the run stops."""
    max_pixels: int = 50_000_000
    """An image with more pixels is quarantined instead of decoded."""
    memory_limit_mb: int = 1000
    """Decoded sets up to this size are kept as one tensor; larger ones are streamed. MiB."""
    score_batch: int = 256
    """Images per forward pass of the score stage."""
