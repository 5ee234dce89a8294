"""Sizes and durations as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

from .errors import error

LARGEST_SIZE: Final = 2**63 - 1
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])i?)?b?", re.IGNORECASE | re.ASCII)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)", re.IGNORECASE | re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_size(text: str) -> int:
    """Bytes of `64MB`, `1.5 GiB`, `4096`. Units are binary (1 MB = 1024 KB), as disks of machines are measured.

    Raises:
        UserError: `input.invalid`.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise error("input.invalid", f"{text[:80]!r} is not a size", do="Write it like 512MB, 20GB or 1.5TB.")
    size = Decimal(match[1]) * 1024 ** _POWERS[(match[2] or "").lower()]
    if size > LARGEST_SIZE:
        raise error("input.invalid", f"{text[:80]!r} is too large a size", why=f"{LARGEST_SIZE} bytes are the most")
    return int(size)


def format_size(size: float) -> str:
    """`size` in bytes, for people: `64.0 MB`."""
    for unit in ("B", "KB", "MB", "GB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def parse_duration(text: str) -> timedelta:
    """The time span of `90s`, `15m`, `12h`, `7d`, `2w`.

    Raises:
        UserError: `input.invalid`.
    """
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise error("input.invalid", f"{text[:80]!r} is not a duration", do="Write it like 90s, 15m, 12h, 7d or 2w.")
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2].lower()])
    except OverflowError:
        raise error("input.invalid", f"{text[:80]!r} is too long a duration") from None
