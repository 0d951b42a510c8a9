"""Lets a process write where its main thread is, at a signal: also while C code keeps the interpreter.

The handler is C code of ``faulthandler``; it reads the frames of whatever thread the signal has hit, which for a signal
to a process is the main one. Not for: asking, or reading what is written (Rust).
"""

import faulthandler


def arm(fd: int) -> None:
    """Has the stack written into this descriptor at the signal; it must stay open until ``disarm``."""
    from ferricorn import _native

    faulthandler.register(_native.STACK_SIGNAL, file=fd, all_threads=False, chain=False)


def disarm() -> None:
    """Puts the signal back to what it was before ``arm``."""
    from ferricorn import _native

    faulthandler.unregister(_native.STACK_SIGNAL)
