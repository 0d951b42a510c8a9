"""Ferricorn: a drop-in replacement for Gunicorn in which one stuck request costs one request.

This package is the Python side of the server: what configuration files, hooks and loggers touch.
The server itself is the extension module ``ferricorn._native``; importing this package does not load it.
"""

from ferricorn.jobs import progress
from ferricorn.timeouts import RequestTimeout, deadline, extend_deadline, no_interrupt

__all__ = ["RequestTimeout", "deadline", "extend_deadline", "no_interrupt", "progress"]
__version__ = "0.1.0"
