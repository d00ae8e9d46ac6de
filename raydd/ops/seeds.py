"""Seeds derived from names, so that a random draw never depends on the worker that makes it.

Every random draw of the engine comes from a generator seeded by (run seed, stage, unit or id,
step).
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch


def derive_seed(*parts: str | int) -> int:
    """Turn names and numbers into a seed that is the same on every machine and in every process.

    Args:
        parts: strings and integers, in order; 1 and "1" are different parts.

    Returns:
        An integer in [0, 2**63).

    Raises:
        TypeError: a part is neither a string nor an integer (a float has no unique spelling).
    """
    return int.from_bytes(hashlib.sha256(_spelling(parts)).digest()[:8], "big") >> 1


def generator(*parts: str | int) -> torch.Generator:
    """Return a fresh CPU generator seeded by `derive_seed(*parts)`."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def uniforms(count: int, *parts: str | int) -> np.ndarray:
    """Return `count` draws in [0, 1), float32, for one of very many names: a generator costs more.

    Args:
        count: how many.
        parts: as for `derive_seed`.
    """
    content = hashlib.shake_256(_spelling(parts)).digest(4 * count)
    return (np.frombuffer(content, "<u4") >> 8).astype(np.float32) * np.float32(2.0**-24)


def _spelling(parts: tuple[str | int, ...]) -> bytes:
    for part in parts:
        if not isinstance(part, str | int) or isinstance(part, bool):
            raise TypeError(f"a seed part must be a string or an integer, got {part!r}")
    return json.dumps(parts).encode()
