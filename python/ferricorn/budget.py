"""What a call to others may take: the time that is left to the request at hand, less a little.

Not for: handing it to libraries (``outbound``, ``outbound_redis``, ``postgres``).
"""

from __future__ import annotations

import math
from typing import Any

from ferricorn.timeouts import deadline

# The share of the time that is left which a call may take, and what it leaves at least, so that the application can still
# answer. A call gets ``FLOOR`` even where less is left.
SHARE = 0.95
RESERVE = 0.25
FLOOR = 0.1


class Left(float):
    """Seconds that were left: a timeout that is ours, and no caller's."""


class Budget:
    """The budget of calls in this worker; ``most`` limits it."""

    def __init__(self, most: float | None = None) -> None:
        self.most = most

    def left(self) -> Left | None:
        """Returns the seconds that a call may take; ``None`` outside of a request, and where that has no deadline."""
        remaining = deadline()
        if remaining is None:
            return None
        seconds = min(remaining * SHARE, remaining - RESERVE)
        return Left(max(FLOOR, seconds if self.most is None else min(seconds, self.most)))

    def milliseconds(self) -> str | None:
        """Returns what a call may take as the header of a request says it."""
        left = self.left()
        return None if left is None else str(max(1, math.floor(left * 1000)))


class Pace:
    """Keeps the timeout of a socket at what is left, and at most at ``most``, as long as nobody else has set it."""

    __slots__ = ("_budget", "_most", "_ours")

    def __init__(self, budget: Budget, most: float | None = None, ours: float | None = None) -> None:
        self._budget = budget
        self._most = most
        self._ours = ours

    def keep(self, sock: Any) -> None:
        """Sets the timeout anew."""
        now = sock.gettimeout()
        if not any(is_same(now, known) for known in (None, self._most, self._ours)):
            return
        left, most = self._budget.left(), self._most
        wanted = most if left is None else left if most is None else min(left, most)
        if not is_same(now, wanted):
            sock.settimeout(wanted)
        self._ours = sock.gettimeout()


def is_same(one: float | None, other: float | None) -> bool:
    """Tells whether a socket has this timeout, which it keeps in nanoseconds."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=0, abs_tol=1e-6)


def mark_spent(error: BaseException) -> None:
    """Notes that a call ended because its budget was spent: to repeat it is no use."""
    error._ferricorn_spent = True  # type: ignore[attr-defined]


def is_spent(error: object) -> bool:
    """Tells whether a call ended because its budget was spent."""
    return getattr(error, "_ferricorn_spent", False) is True
