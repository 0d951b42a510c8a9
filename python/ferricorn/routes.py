"""Where frameworks leave the route that they have chosen for a request.

Asked once for each worker, when its application is loaded; Rust reads the places after that. Only Django has none: there the
method that resolves a path is wrapped. Not for: requests that are stuck, whose stack tells the route (``where``).
"""

import sys
from collections.abc import Callable
from typing import Any

# The key under which Django's routes are left.
KEY = "ferricorn.route"

# Module that must be loaded, interface, key of environ or scope, attributes from there to the pattern.
_PLACES = (
    ("django.core.handlers.base", "wsgi", KEY, ()),
    ("django.core.handlers.base", "asgi", KEY, ()),
    ("flask", "wsgi", "werkzeug.request", ("url_rule", "rule")),
    ("bottle", "wsgi", "bottle.route", ("rule",)),
    ("starlette.routing", "asgi", "route", ("path",)),
    ("litestar", "asgi", "path_template", ()),
)


def places(kind: str) -> list[tuple[str, list[str]]]:
    """Returns the places to look at for an interface (``wsgi`` or ``asgi``), of the frameworks that are loaded."""
    wrap_django()
    return [
        (sys.intern(key), [sys.intern(name) for name in attributes])
        for module, interface, key, attributes in _PLACES
        if interface == kind and module in sys.modules
    ]


def wrap_django() -> None:
    """Has Django leave the pattern of the route in ``environ`` or ``scope``."""
    module = sys.modules.get("django.core.handlers.base")
    handler: Any = getattr(module, "BaseHandler", None)
    resolve: Callable[..., Any] | None = getattr(handler, "resolve_request", None)
    if resolve is None or hasattr(resolve, "_ferricorn"):
        return

    def resolve_request(self: Any, request: Any) -> Any:
        match = resolve(self, request)
        route = getattr(match, "route", None)
        # ASGIRequest has META as well, but of its own.
        left = getattr(request, "scope", None) or request.META
        if isinstance(route, str) and isinstance(left, dict):
            left[KEY] = route
        return match

    resolve_request.__doc__ = resolve.__doc__
    resolve_request.__wrapped__ = resolve  # type: ignore[attr-defined]
    resolve_request._ferricorn = True  # type: ignore[attr-defined]
    handler.resolve_request = resolve_request
