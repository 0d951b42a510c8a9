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
    """Keeps the timeout of a socket at what is left, as long as nobody else has set it."""

    __slots__ = ("_budget", "_ours")

    def __init__(self, budget: Budget, ours: float | None = None) -> None:
        self._budget = budget
        self._ours = ours

    def keep(self, sock: Any) -> None:
        """Sets the timeout anew."""
        now = sock.gettimeout()
        if now is not None and (self._ours is None or not math.isclose(now, self._ours, abs_tol=1e-6)):
            return
        left = self._budget.left()
        if left is not None or now is not None:
            sock.settimeout(left)
            self._ours = sock.gettimeout()


def mark_spent(error: BaseException) -> None:
    """Notes that a call ended because its budget was spent: to repeat it is no use."""
    error._ferricorn_spent = True  # type: ignore[attr-defined]


def is_spent(error: object) -> bool:
    """Tells whether a call ended because its budget was spent."""
    return getattr(error, "_ferricorn_spent", False) is True
