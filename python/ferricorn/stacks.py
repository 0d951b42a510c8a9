"""Lets a process write where its main thread is, at a signal: also while C code keeps the interpreter.

The handler is C code of ``faulthandler``; it reads the frames of whatever thread the signal has hit, which for a signal
to a process is the main one. Not for: asking, or reading what is written (Rust).
"""

import faulthandler
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

_fd = -1
# What was there before `arm_aside`.
_before: Any = None


def arm(fd: int) -> None:
    """Has the stack written into this descriptor at the signal; it must stay open until ``disarm``."""
    from ferricorn import _native

    global _fd
    _fd = fd
    faulthandler.register(_native.STACK_SIGNAL, file=fd, all_threads=False, chain=False)


def arm_aside(frame_of: Callable[[], FrameType | None]) -> None:
    """Has another stack written in its place, where there is one: of a greenlet that its thread is not at."""
    from ferricorn import _native

    global _before

    def write(_signal: int, _frame: object) -> None:
        frame = frame_of()
        if frame is None:
            return
        lines = ["Stack (most recent call first):"]
        while frame is not None:
            code = frame.f_code
            lines.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}')
            frame = frame.f_back
        os.ftruncate(_fd, 0)
        os.pwrite(_fd, "\n".join([*lines, ""]).encode(errors="backslashreplace"), 0)

    if _fd >= 0:
        faulthandler.unregister(_native.STACK_SIGNAL)
        _before = signal.signal(_native.STACK_SIGNAL, write)
        faulthandler.register(_native.STACK_SIGNAL, file=_fd, all_threads=False, chain=True)


def disarm() -> None:
    """Puts the signal back to what it was before ``arm``."""
    from ferricorn import _native

    global _fd, _before
    _fd = -1
    faulthandler.unregister(_native.STACK_SIGNAL)
    if _before is not None:
        signal.signal(_native.STACK_SIGNAL, _before)
        _before = None
