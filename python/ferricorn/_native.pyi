"""The extension module, written in Rust."""

from types import FrameType

def run(argv: list[str]) -> int:
    """Runs the server; ``argv[0]`` is the program's name. Returns the exit code."""

def ctl(argv: list[str]) -> int:
    """Runs ``ferricornctl``; ``argv[0]`` is the program's name. Returns the exit code."""

def settings_json() -> str:
    """Returns the settings table: a JSON list of objects with at least ``name`` and ``default``."""

INTERRUPT_SIGNAL: int
"""The signal that frees a worker's main thread from a late request."""

STACK_SIGNAL: int
"""The signal at which a process writes down where it is."""

def interrupted() -> bool:
    """Tells whether the request of the main thread is to be interrupted."""

def deadline() -> float | None:
    """Returns the seconds that are left to the request of this thread."""

def extend_deadline(seconds: float) -> float | None:
    """Gives the request of this thread more time; returns the seconds that are left."""

def shield(up: bool) -> None:
    """Puts off interrupts of the request of this thread, or ends that."""

def variables(function: str, file: str, frame: FrameType) -> list[tuple[str, str]]:
    """Returns what may be shown of the variables of a library's call: timeouts, addresses, statements without their values."""
