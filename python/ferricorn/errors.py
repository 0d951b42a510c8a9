"""Exceptions that cross the border between the server and Python code.

Each carries the meaning of one exit code; which code is the arbiter's business (Rust).
"""

from __future__ import annotations


class ConfigError(Exception):
    """A configuration that cannot be served."""


class ConfigFileError(ConfigError):
    """A configuration file that is missing or failed to run; the text is for the user's eyes."""


class AppImportError(Exception):
    """The module was imported, but the application in it was not found or is not usable."""


class StartupError(Exception):
    """The application was loaded, and its start-up (ASGI lifespan) has failed."""


class HaltServer(BaseException):
    """Stops the whole server, with a reason and an exit status.

    Not an ``Exception``, so that no application code swallows it.
    """

    def __init__(self, reason: str, exit_status: int = 1) -> None:
        super().__init__(reason, exit_status)
        self.reason = reason
        self.exit_status = exit_status

    def __str__(self) -> str:
        return f"<HaltServer {self.reason!r} {self.exit_status}>"
