"""How much of a prompt is read at a time: as much as others can wait for.

Rows that write get their next token after the chunk, so a chunk is bounded by time, whatever the
machine and the model: a large one on a processor reads 30 tokens a second, a small one 30,000.
Where weights are expanded for a chunk, whatever its size, small ones would take most of the time
for that; so there is a least size, even if others wait longer for it.
"""

from __future__ import annotations

STALL_SECONDS = 0.5  # that rows may wait for a token because somebody's prompt is read
LEAST_TIMED = 32  # tokens; shorter chunks say little about reading
_FIRST = 128  # before anything was measured
_LEAST = 64
_SMOOTHING = 0.3


class Chunks:
    """Sizes of chunks, by the rate of those before. Owned by the compute thread."""

    def __init__(self, alone: int, shared: int, width: int = 0) -> None:
        """`alone` tokens at most if nobody waits, `shared` if rows write, `width` in any case."""
        self._alone, self._shared, self._width = alone, shared, width
        self._seconds = 0.0  # for a token

    def num(self, pending: int, *, alone: bool) -> int:
        """How many of `pending` tokens to read now; `alone`: no row writes meanwhile."""
        most = self._alone if alone else min(self._shared, self._in_time())
        return min(pending, most, self._width or most)

    def record(self, num: int, seconds: float) -> None:
        """A chunk of `num` tokens took so long; short ones say little and do not count."""
        if num >= LEAST_TIMED:
            each = seconds / num
            self._seconds += (each - self._seconds) * (_SMOOTHING if self._seconds else 1.0)

    def _in_time(self) -> int:
        if not self._seconds:
            return _FIRST
        return max(_LEAST, int(STALL_SECONDS / self._seconds))
