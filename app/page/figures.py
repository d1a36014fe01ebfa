"""Numbers as people read them: parameters, bytes, times."""

from __future__ import annotations

_BILLION, _MILLION = 10**9, 10**6


def count(number: int) -> str:
    """Parameters in a few digits: 3.2 B, 361.8 M, 0."""
    if number >= _BILLION:
        return f"{number / _BILLION:.1f} B"
    return f"{number / _MILLION:.1f} M" if number >= _MILLION // 10 else f"{number:,}"


def size(num_bytes: int) -> str:
    """Bytes as GB or MB, as disks are sold."""
    gigabytes = num_bytes / _BILLION
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{num_bytes / _MILLION:.1f} MB"


def time_left(seconds: float) -> str:
    """A time to wait for: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
