"""The extension module, written in Rust."""

def run(argv: list[str]) -> int:
    """Runs the server; ``argv[0]`` is the program's name. Returns the exit code."""

def ctl(argv: list[str]) -> int:
    """Runs ``ferricornctl``; ``argv[0]`` is the program's name. Returns the exit code."""

def settings_json() -> str:
    """Returns the settings table: a JSON list of objects with at least ``name`` and ``default``."""
