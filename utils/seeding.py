"""Seeds that are functions of what they are for, the same on every machine."""

import hashlib


def stable_seed(*parts: int | str) -> int:
    """Return the 63-bit seed that belongs to `parts`."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
