"""Identifiers: sortable by time, unguessable, safe in URLs and file names."""

import re
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_PATTERN = re.compile(r"(job|worker|key|we|msg)_[0-9a-hjkmnp-tv-z]{26}")


def new_id(prefix: str) -> str:
    """Return `prefix_` + 26 characters: 48 bits of milliseconds, then 80 random bits (ULID layout)."""
    return _written(prefix, (int(time.time() * 1000) << 80) | secrets.randbits(80))


def first_at(prefix: str, seconds: float) -> str:
    """Return the smallest id that could be made at `seconds` since 1970; later ones are larger."""
    milliseconds = min(max(0, int(seconds * 1000)), 2**48 - 1)
    return _written(prefix, milliseconds << 80)


def is_id(text: str) -> bool:
    """Tell whether `text` has the form of an id, so that nothing else reaches a path or a query."""
    return _PATTERN.fullmatch(text) is not None


def made_at(identifier: str) -> float:
    """Return the seconds since 1970 that an id carries, by the clock of the machine that made it."""
    milliseconds = 0
    for digit in identifier.partition("_")[2][:10]:
        milliseconds = milliseconds * 32 + _ALPHABET.index(digit)
    return milliseconds / 1000


def _written(prefix: str, value: int) -> str:
    digits = (_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))
    return f"{prefix}_{''.join(digits)}"
