"""What an application can know and say about the deadline of the request it works on.

Works in every thread that the server runs the application on; elsewhere, and under another server, there is no
deadline and nothing happens.
"""


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


def where(ident: int) -> list[str]:
    """Tells where a thread is: the line of the application, who called it, and what it has called outside of it."""
    import linecache
    import sys

    frame = sys._current_frames().get(ident)
    # The server's own command stands below every main thread.
    last = sys.modules["__main__"].__dict__.get("__file__")
    own: list[str] = []
    outside = ""
    while frame is not None:
        code, line = frame.f_code, frame.f_lineno
        name = getattr(code, "co_qualname", code.co_name)
        place = f"{_short(code.co_filename)}:{line} in {name}"
        if _is_library(code.co_filename) or code.co_filename == last:
            outside = outside or place
        else:
            if not own:
                text = linecache.getline(code.co_filename, line).strip()
                own.append(f"at {place}: {text}" if text else f"at {place}")
                if outside:
                    own.append(f"inside {outside}")
            else:
                own.append(f"called from {place}")
        frame = frame.f_back
    return own or [f"at {outside}" if outside else "not in Python code"]


def _is_library(path: str) -> bool:
    """True for Python's own modules, installed packages, and ours."""
    import os
    import sysconfig

    if path.startswith("<"):
        return path.startswith("<frozen ")
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return path.startswith((*(folder + os.sep for folder in folders), os.path.dirname(__file__) + os.sep))


def _short(path: str) -> str:
    """The path as the working directory sees it, where it lies below."""
    import os

    folder = os.getcwd() + os.sep
    return path[len(folder) :] if path.startswith(folder) else path
