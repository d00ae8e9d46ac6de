"""Which keys of an archive were met before."""

import hashlib

REMEMBERED_KEYS = 1 << 18  # about 20 MB


class Keys:
    """The latest keys of an archive; an older one is forgotten, so that memory stays bounded."""

    def __init__(self) -> None:
        self.parts: dict[int, tuple[bool, bool]] = {}

    def met(self, key: str, parts: tuple[bool, bool]) -> tuple[bool, bool] | None:
        """Remember the parts of a key, image and label; None or those it had before."""
        content = key.encode("utf-8", errors="surrogateescape")
        digest = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
        before = self.parts.get(digest)
        self.parts[digest] = parts
        if len(self.parts) > REMEMBERED_KEYS:
            del self.parts[next(iter(self.parts))]
        return before
