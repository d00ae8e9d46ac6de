"""Seeds derived from names, so that a random draw never depends on the worker that makes it.

Every random draw of the engine comes from a generator seeded by (run seed, stage, unit or id,
step).
"""

from __future__ import annotations

import hashlib
import json

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
    for part in parts:
        if not isinstance(part, str | int) or isinstance(part, bool):
            raise TypeError(f"a seed part must be a string or an integer, got {part!r}")
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: str | int) -> torch.Generator:
    """Return a fresh CPU generator seeded by `derive_seed(*parts)`."""
    return torch.Generator().manual_seed(derive_seed(*parts))
