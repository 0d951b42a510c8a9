"""What an application can know and say about the deadline of the request it works on.

Works in every thread that the server runs the application on; elsewhere, and under another server, there is no
deadline and nothing happens.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

# Most calls of a stack that are told.
CALLS_MAX = 60


class RequestTimeout(BaseException):
    """Raised in a thread whose request was answered with 504 in its place, so that the thread comes free.

    Not an ``Exception``: code that retries or logs ``Exception`` should not swallow it. Clean up with ``finally`` and
    context managers; what the application still returns goes nowhere. It can be raised at any line of Python: code
    that must not be left half done belongs into ``with no_interrupt():``.
    """


def deadline() -> float | None:
    """Returns the seconds that are left to the request of this thread; ``None`` if there is no deadline."""
    from ferricorn import _native

    return _native.deadline()


def extend_deadline(seconds: float) -> float | None:
    """Gives the request of this thread so many seconds more; returns those that are left, like ``deadline``."""
    from ferricorn import _native

    return _native.extend_deadline(seconds)


class no_interrupt:  # noqa: N801 (it is written like the context managers of contextlib)
    """``with no_interrupt():`` puts off ``RequestTimeout`` until the block has ended. The client still gets its 504."""

    def __enter__(self) -> None:
        from ferricorn import _native

        _native.shield(True)

    def __exit__(self, *_raised: object) -> None:
        from ferricorn import _native

        _native.shield(False)


def catch_interrupts() -> None:
    """Makes the main thread of a worker one that can be interrupted in its waits."""
    import signal

    from ferricorn import _native

    def interrupt(_signal: int, _frame: object) -> None:
        if _native.interrupted():
            raise RequestTimeout("the request was answered with 504 at its deadline")

    signal.signal(_native.INTERRUPT_SIGNAL, interrupt)


def where(ident: int) -> tuple[str | None, list[tuple[str, str, int]]]:
    """Tells where a thread is: the pattern of its route, where the framework knows one, and its calls, the innermost
    first, as function, file and line."""
    import sys

    frame = sys._current_frames().get(ident)
    route = None
    calls = []
    while frame is not None and len(calls) < CALLS_MAX:
        code = frame.f_code
        calls.append((getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno or 0))
        route = route or _route(frame)
        frame = frame.f_back
    return route, calls


def _route(frame: "FrameType") -> str | None:
    """The pattern of the route, if this is the call in which Flask or Django hands a request to its view."""
    for end, function, pattern in _DISPATCHERS:
        if frame.f_code.co_name == function and frame.f_code.co_filename.endswith(end):
            try:
                found = pattern(frame.f_locals)
            except Exception:
                return None
            return found if isinstance(found, str) else None
    return None


# Where frameworks hold the route that they have chosen: end of the file, function, and how to get at it.
_DISPATCHERS = (
    ("/flask/app.py", "dispatch_request", lambda known: known["rule"].rule),
    ("/django/core/handlers/base.py", "_get_response", lambda known: known["request"].resolver_match.route),
)
