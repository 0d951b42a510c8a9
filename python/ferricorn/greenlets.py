"""The gevent half of the worker class ``gevent``: patching, the hub, a greenlet for each request, and where those are.

The worker's own loop (Rust) runs nested in the hub: ``HubDriver.turn`` is called when its descriptors are readable. Not for:
HTTP and WSGI, which are Rust; deadlines, which Rust decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ferricorn import stacks
from ferricorn.errors import StartupError
from ferricorn.timeouts import REQUEST, RequestTimeout
from ferricorn.where import Call, calls_from, where

# What Gunicorn 27 asks for.
OLDEST = (24, 10, 1)
# Seconds that greenlets which were killed at the end get to come to theirs.
LAST_SECONDS = 1.0


def patch() -> None:
    """Patches the standard library, before the application is imported; raises ``StartupError`` without a gevent for it."""
    wanted = ".".join(map(str, OLDEST))
    advice = f"pip install 'gevent>={wanted}'"
    try:
        import gevent
    except ImportError as error:
        message = f"the worker class gevent needs gevent {wanted} or newer, which is not installed: {advice}"
        raise StartupError(message) from error
    if tuple(map(int, re.findall(r"\d+", gevent.__version__)[:3])) < OLDEST:
        raise StartupError(f"the worker class gevent needs gevent {wanted} or newer, this is {gevent.__version__}: {advice}")
    import gevent.hub
    import gevent.monkey

    gevent.monkey.patch_all()
    # The master may have had a hub (an application that was loaded there): its descriptors are the master's.
    gevent.hub.reinit()
    # While the application is loaded, this greenlet may wait, and its thread is in the hub.
    main = gevent.getcurrent()
    stacks.arm_aside(lambda: main.gr_frame)


class Hub:
    """The hub of one worker, and the greenlets of its requests."""

    def __init__(self) -> None:
        import gevent
        import gevent.event
        import gevent.monkey
        from greenlet import greenlet

        self._hub = gevent.get_hub()
        self._ident = gevent.monkey.get_original("_thread", "get_ident")()
        self._greenlet = greenlet
        self._spawn = gevent.spawn
        self._killall = gevent.killall
        self._done = gevent.event.Event()
        self._driver: Any = None
        self.event: Callable[[], Any] = gevent.event.Event
        self.call_soon: Callable[[Callable[[], None]], Any] = self._hub.loop.run_callback

    def run(self, driver: Any) -> None:
        """Serves until the worker's loop has ended, then ends the requests that are left."""
        self._driver = driver
        watchers = [self._hub.loop.io(descriptor, 1) for descriptor in driver.fds()]
        for watcher in watchers:
            watcher.start(driver.turn)
        self.call_soon(driver.turn)
        self._done.wait()
        for watcher in watchers:
            watcher.stop()
            watcher.close()
        self._killall(driver.greenlets(), block=True, timeout=LAST_SECONDS)

    def stop(self) -> None:
        """Ends ``run``."""
        self._done.set()

    def spawn(self, number: int, request: Any) -> Any:
        """Starts the greenlet of a request."""
        return self._spawn(self._work, number, request)

    def _work(self, number: int, request: Any) -> None:
        REQUEST.set(request)
        self._driver.serve(number)

    def kill(self, greenlet: Any) -> None:
        """Ends a greenlet whose request was answered in its place; does not wait for it."""
        greenlet.kill(RequestTimeout("the request was answered with 504 at its deadline"), block=False)

    def of_request(self, greenlet: Any) -> tuple[str | None, list[Call]]:
        """Tells where a request is: on which route, and the calls of its greenlet, the innermost first."""
        frame = greenlet.gr_frame
        if frame is None and self._is_active(greenlet):
            return where(self._ident)
        return calls_from(frame)

    def of_hub(self, greenlets: list[tuple[int, Any]]) -> tuple[int, str | None, list[Call]]:
        """Tells what holds the hub: the number of the request, 0 if it is none, its route, and the calls of the thread."""
        route, calls = where(self._ident)
        for number, greenlet in greenlets:
            if greenlet.gr_frame is None and self._is_active(greenlet):
                return number, route, calls
        return 0, route, calls

    def _is_active(self, greenlet: Any) -> bool:
        """Tells whether a greenlet has begun and not ended; gevent's own answer is about its start."""
        return bool(self._greenlet.__bool__(greenlet))
