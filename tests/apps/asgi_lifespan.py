"""An application whose lifespan goes as the variable LIFESPAN says; it writes what happens into the file TRACE."""

import asyncio
import contextvars
import os
import threading

from asgi_paths import Paths, query, reply

HOW = os.environ.get("LIFESPAN", "good")
VARIABLE = contextvars.ContextVar("variable", default="unset")
http = Paths()
SEEN = {}


def trace(text):
    with open(os.environ["TRACE"], "a") as out:
        out.write(f"{text}\n")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        SEEN.update(scope=repr(scope), loop=asyncio.get_running_loop(), thread=threading.current_thread().name)
        SEEN["task"] = asyncio.current_task()
        return await LIFESPANS[how()](scope, receive, send)
    return await http(scope, receive, send)


def how():
    """The file beside the trace may change it while the server runs."""
    try:
        with open(os.environ["TRACE"] + ".how") as file:
            return file.read()
    except OSError:
        return HOW


def old(scope):
    """ASGI 2: called twice."""

    async def instance(receive, send):
        await app(scope, receive, send)

    return instance


LIFESPANS = {}


def way(function):
    LIFESPANS[function.__name__] = function
    return function


async def startup(receive, send):
    message = await receive()
    trace(message)
    await send({"type": "lifespan.startup.complete"})


async def shutdown(receive, send):
    message = await receive()
    trace(message)
    await send({"type": "lifespan.shutdown.complete"})


@way
async def good(scope, receive, send):
    VARIABLE.set("lifespan")
    scope["state"]["answer"] = 42
    await startup(receive, send)
    await shutdown(receive, send)
    trace("end")


@way
async def slow(scope, receive, send):
    """Takes its time for both; nothing is served before and after."""
    message = await receive()
    await asyncio.sleep(0.5)
    trace(message)
    await send({"type": "lifespan.startup.complete"})
    message = await receive()
    await asyncio.sleep(0.5)
    trace(message)
    await send({"type": "lifespan.shutdown.complete"})


@way
async def unsupported(scope, receive, send):
    raise RuntimeError("only http here")


@way
async def asserts(scope, receive, send):
    assert scope["type"] == "http"


@way
async def returns(scope, receive, send):
    """Neither complains nor answers."""


@way
async def failed(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database today"})


@way
async def failed_without_reason(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed"})


@way
async def raises_on_startup(scope, receive, send):
    await receive()
    raise RuntimeError("at startup")


@way
async def raises_after_startup(scope, receive, send):
    await startup(receive, send)
    raise RuntimeError("after startup")


@way
async def returns_after_startup(scope, receive, send):
    await startup(receive, send)


@way
async def raises_on_shutdown(scope, receive, send):
    await startup(receive, send)
    trace(await receive())
    raise RuntimeError("at shutdown")


@way
async def shutdown_failed(scope, receive, send):
    await startup(receive, send)
    trace(await receive())
    await send({"type": "lifespan.shutdown.failed", "message": "could not say goodbye"})


@way
async def works_beside(scope, receive, send):
    """A task of the application's own, from its start to its end."""

    async def work():
        try:
            while True:
                SEEN["beats"] = SEEN.get("beats", 0) + 1
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            trace("task cancelled")
            raise

    task = asyncio.create_task(work())
    await startup(receive, send)
    trace(await receive())
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    await send({"type": "lifespan.shutdown.complete"})


@http.path
async def scope(scope, receive, send):
    await reply(send, {"state": scope.get("state"), "lifespan": SEEN.get("scope"), "variable": VARIABLE.get()})


@http.path
async def same(scope, receive, send):
    """Lifespan and requests share a loop and a thread, not a task."""
    seen = {
        "loop": SEEN["loop"] is asyncio.get_running_loop(),
        "thread": SEEN["thread"] == threading.current_thread().name,
        "task": SEEN["task"] is asyncio.current_task(),
        "main": threading.current_thread() is threading.main_thread(),
    }
    await reply(send, seen)


@http.path
async def beats(scope, receive, send):
    await reply(send, SEEN["beats"])


@http.path
async def pid(scope, receive, send):
    await reply(send, os.getpid())


@http.path
async def sleep(scope, receive, send):
    await asyncio.sleep(float(query(scope)))
    trace("request ends")
    await reply(send, b"slept")
