"""Where a thread is in Python, and on which route of the application.

Asked by the server about a late request, on another thread than the one it is about. Not for: the words in the log, and not
for threads that keep the interpreter, which nobody in Python can see.
"""

import sys
from types import FrameType

# A call: its function, file, line, and what may be shown of its variables.
Call = tuple[str, str, int, list[tuple[str, str]]]

# Most calls of a stack that are told.
CALLS_MAX = 60


def where(ident: int) -> tuple[str | None, list[Call]]:
    """Tells where a thread is: the pattern of its route, where the framework knows one, and its calls, the innermost
    first."""
    return calls_from(sys._current_frames().get(ident))


def calls_from(frame: FrameType | None) -> tuple[str | None, list[Call]]:
    """The same of a stack whose innermost frame is given."""
    route = None
    calls = []
    while frame is not None and len(calls) < CALLS_MAX:
        calls.append(call_of(frame))
        route = route or route_of(frame)
        frame = frame.f_back
    return route, calls


def call_of(frame: FrameType) -> Call:
    """The call of a frame."""
    from ferricorn import _native

    code = frame.f_code
    function, file = getattr(code, "co_qualname", code.co_name), code.co_filename
    return function, file, frame.f_lineno or 0, _native.variables(function, file, frame)


def route_of(frame: FrameType) -> str | None:
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
    ("/django/core/handlers/base.py", "_get_response_async", lambda known: known["request"].resolver_match.route),
    ("/django/core/handlers/base.py", "_get_response", lambda known: known["request"].resolver_match.route),
)
