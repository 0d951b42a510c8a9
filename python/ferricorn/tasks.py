"""Where requests are whose code runs in tasks of an event loop, and what holds such a loop.

Asked by the server about a late request or a blocked loop, on another thread than the loop's. Not for: threads that work on one
request (``where``).
"""

import asyncio
import gc
import sys
import threading
from contextvars import Context
from functools import partial
from types import FrameType
from typing import Any

from ferricorn.timeouts import REQUEST
from ferricorn.where import CALLS_MAX, Call, call_of, route_of, where


# Most tasks of a request that are looked at.
TASKS_MAX = 20


def of_request(
    loop: asyncio.AbstractEventLoop, ident: int, task: asyncio.Task[Any], scope: dict[str, Any]
) -> tuple[str | None, list[Call], int]:
    """Tells where a request is whose code runs in tasks: where its thread is if one of them runs, else what they wait for,
    and where a thread is that works for them, with the kernel's id of that (0 for none)."""
    route = _route_of(scope)
    current = asyncio.current_task(loop)
    if current is not None and _works_for(current, task, scope, _running(ident)):
        inner, calls = where(ident)
        return route or inner, calls, 0
    mine = _awaited(task)
    others = (other for other in asyncio.all_tasks(loop) if other is not current and other not in mine)
    mine += [other for other in others if _works_for(other, task, scope, _chain(other.get_coro()))]
    calls = []
    # Those that were made last wait for nobody else.
    for one in reversed(mine):
        frames = _chain(one.get_coro())
        calls += [call_of(frame) for frame in reversed(frames)]
        route = route or next(filter(None, map(route_of, frames)), None)
    inner_calls, executor = _executor(task)
    return route, (inner_calls + calls)[:CALLS_MAX], executor


def of_loop(
    loop: asyncio.AbstractEventLoop, ident: int, requests: list[tuple[int, asyncio.Task[Any], dict[str, Any]]]
) -> tuple[int, str | None, list[Call]]:
    """Tells what holds an event loop: the number of the request, 0 if it is none, its route, and the calls of the thread."""
    route, calls = where(ident)
    current = asyncio.current_task(loop)
    for number, task, scope in requests:
        if current is not None and _works_for(current, task, scope, _running(ident)):
            return number, _route_of(scope) or route, calls
    return 0, route, calls


def _awaited(task: asyncio.Task[Any]) -> list[asyncio.Task[Any]]:
    """The task and those that it waits for, in the order in which they do: awaited, gathered, or in a group."""
    found = [task]
    for one in found:
        waits = getattr(one, "_fut_waiter", None)
        inner = [waits, *getattr(waits, "_children", ())]
        for frame in _chain(one.get_coro()):
            group = frame.f_locals.get("self")
            members = getattr(group, "_tasks", ()) if frame.f_code.co_name == "__aexit__" else ()
            inner += members if isinstance(members, (set, list)) else ()
        found += [other for other in inner if isinstance(other, asyncio.Task) and other not in found]
        if len(found) > TASKS_MAX:
            break
    return found


def _chain(coroutine: Any) -> list[FrameType]:
    """The frames of a coroutine and of what it awaits, the outermost first."""
    frames = []
    while coroutine is not None and len(frames) < CALLS_MAX:
        for frame_of, next_of in (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await")):
            if hasattr(coroutine, frame_of):
                frame = getattr(coroutine, frame_of)
                if frame is not None:
                    frames.append(frame)
                coroutine = getattr(coroutine, next_of)
                break
        else:
            # A step of an async generator, or a wrapper round a coroutine: it refers to what it stands for.
            inner = (one for one in gc.get_referents(coroutine) if hasattr(one, "ag_frame") or hasattr(one, "cr_frame"))
            coroutine = next(inner, None)
    return frames


def _running(ident: int) -> list[FrameType]:
    """The frames of a thread, the innermost first."""
    frames = []
    frame = sys._current_frames().get(ident)
    while frame is not None and len(frames) < CALLS_MAX:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _works_for(
    task: asyncio.Task[Any], owner: asyncio.Task[Any], scope: dict[str, Any], frames: list[FrameType]
) -> bool:
    """Tells whether a task works on a request: it is its own, or has its context, or (before Python 3.12, where tasks do not
    show theirs) the request's scope is in the hands of one of its frames."""
    if task is owner:
        return True
    context = getattr(task, "get_context", None)
    if context is not None:
        mine = context().get(REQUEST)
        return mine is not None and mine is owner.get_context().get(REQUEST)
    headers = scope["headers"]
    for frame in frames:
        known = frame.f_locals.get("scope")
        if isinstance(known, dict) and known.get("headers") is headers:
            return True
    return False


def _executor(owner: asyncio.Task[Any]) -> tuple[list[Call], int]:
    """The calls of the threads that work in the context of a request (``to_thread``, anyio, asgiref), and the kernel's id of
    the first; 0 for none."""
    request = _request_of(owner)
    calls: list[Call] = []
    first = 0
    for ident, innermost in sys._current_frames().items():
        frame: FrameType | None = innermost
        while request is not None and frame is not None:
            if any(context.get(REQUEST) is request for context in _contexts(frame)):
                calls += where(ident)[1]
                first = first or _native_id(ident)
                break
            frame = frame.f_back
    return calls, first


def _native_id(ident: int) -> int:
    """The kernel's id of a thread, if ``threading`` knows it."""
    thread = threading._active.get(ident)  # type: ignore[attr-defined]
    return getattr(thread, "native_id", None) or 0


def _request_of(task: asyncio.Task[Any]) -> Any:
    context = getattr(task, "get_context", None)
    if context is not None:
        return context().get(REQUEST)
    frames = _chain(task.get_coro())
    return frames[0].f_locals.get("request") if frames else None


def _contexts(frame: FrameType) -> list[Context]:
    """The contexts that a thread of a pool works in, as far as one of its calls shows them."""
    if frame.f_code.co_name != "run":
        return []
    known = frame.f_locals
    found = known.get("context")
    call = getattr(known.get("self"), "fn", None)
    if isinstance(call, partial):
        found = getattr(call.func, "__self__", None)
    return [found] if isinstance(found, Context) else []


def _route_of(scope: dict[str, Any]) -> str | None:
    """The pattern of the route, where the framework leaves it in the scope (FastAPI)."""
    found = getattr(scope.get("route"), "path", None)
    return found if isinstance(found, str) else None
