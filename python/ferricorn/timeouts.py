"""What an application can know and say about the deadline of the request it works on.

Works in every thread that the server runs the application on, in every task and greenlet of a request, and in threads that
have its context (``asyncio.to_thread``, anyio, asgiref). Elsewhere, and under another server, there is no deadline and nothing
happens.
"""

from contextvars import ContextVar

# The request of a task or a greenlet (``_native.Request``); ``None`` in workers whose threads work on one request at a time.
REQUEST = ContextVar("ferricorn_request", default=None)


class RequestTimeout(BaseException):
    """Raised in a thread whose request was answered with 504 in its place, so that the thread comes free.

    Not an ``Exception``: code that retries or logs ``Exception`` should not swallow it. Clean up with ``finally`` and
    context managers; what the application still returns goes nowhere. It can be raised at any line of Python: code
    that must not be left half done belongs into ``with no_interrupt():``.
    """


def _request():
    """The request of this task or greenlet, else what knows that of this thread."""
    from ferricorn import _native

    return REQUEST.get() or _native


def deadline() -> float | None:
    """Returns the seconds that are left to the request at hand; ``None`` if there is no deadline."""
    return _request().deadline()


def extend_deadline(seconds: float) -> float | None:
    """Gives the request at hand so many seconds more; returns those that are left, like ``deadline``."""
    return _request().extend_deadline(seconds)


class no_interrupt:  # noqa: N801 (it is written like the context managers of contextlib)
    """``with no_interrupt():`` puts off ``RequestTimeout`` until the block has ended. The client still gets its 504."""

    def __enter__(self) -> None:
        _request().shield(True)

    def __exit__(self, *_raised: object) -> None:
        _request().shield(False)


def catch_interrupts() -> None:
    """Makes the main thread of a worker one that can be interrupted in its waits."""
    import signal

    # Now: when it is needed, a stuck thread may hold the lock of imports.
    import ferricorn.where  # noqa: F401
    from ferricorn import _native

    def interrupt(_signal: int, _frame: object) -> None:
        if _request().interrupted():
            raise RequestTimeout("the request was answered with 504 at its deadline")

    signal.signal(_native.INTERRUPT_SIGNAL, interrupt)
