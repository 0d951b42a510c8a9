"""Requests that do not end by themselves in tasks, one path for each way, and what they can say about their deadlines.

``/seen`` tells by what those that were ended here have ended; every other path answers at once."""

import asyncio
import contextvars
import ctypes
import os
import re
import signal
import socket
import time

import anyio
import httpx
from asgi_paths import Paths, query, reply

import ferricorn

LONG = 60
SEEN = []
NAME = contextvars.ContextVar("NAME", default="")


class Late(Paths):
    """Keeps by what each request has ended, if it was ended."""

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)
        try:
            return await super().__call__(scope, receive, send)
        except BaseException as error:
            SEEN.append(f"{scope['path']} {type(error).__name__}")
            raise


app = Late()


@app.path
async def seen(scope, receive, send):
    await reply(send, "\n".join(SEEN).encode())


@app.path
async def hello(scope, receive, send):
    await reply(send, b"hello")


@app.path
async def pid(scope, receive, send):
    await reply(send, b"%d" % os.getpid())


@app.path
async def nap(scope, receive, send):
    """Sleeps as the query says."""
    await asyncio.sleep(float(query(scope)))
    await reply(send, b"slept")


# --- /stuck/KIND -----------------------------------------------------------------------------------------------------------


async def sleep():
    await asyncio.sleep(LONG)


async def event():
    await asyncio.Event().wait()


async def recv():
    quiet, other = socket.socketpair()
    quiet.setblocking(False)
    await asyncio.get_running_loop().sock_recv(quiet, 1)
    other.close()


async def group():
    """Waits for a task of its own, in a group of asyncio's where there is one (Python 3.11)."""
    if hasattr(asyncio, "TaskGroup"):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sleep())
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleep)


async def limited():
    with anyio.move_on_after(LONG):
        await anyio.sleep(LONG)


async def thread():
    """Waits for a thread that sleeps a little longer than the deadline."""
    await asyncio.to_thread(napping)


def napping():
    time.sleep(2.5)


async def swallow():
    while True:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            pass


async def blocking():
    time.sleep(LONG)


async def loop():
    while True:
        pass


async def regex():
    """C code that looks for signals, and keeps the interpreter."""
    re.match(r"(a+)+$", "a" * 64 + "b")


async def mutex():
    """A call that no signal ends, and that keeps the interpreter."""
    lock = ctypes.create_string_buffer(64)
    libc = ctypes.PyDLL(None)
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)


async def kill():
    os.kill(os.getpid(), signal.SIGKILL)


async def asks():
    """Asks a service that takes connections and says nothing, with a limit of two minutes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with httpx.AsyncClient(timeout=120) as client:
            await client.get(f"http://127.0.0.1:{silent.getsockname()[1]}/rates")


KINDS = (sleep, event, recv, group, limited, thread, swallow, blocking, loop, regex, mutex, kill, asks)
STUCK = {call.__name__: call for call in KINDS}


@app.path
async def stuck(scope, receive, send):
    await STUCK[scope["path"].split("/")[2]]()
    await reply(send, b"never")


@app.path
async def block(scope, receive, send):
    """Blocks the loop as long as the query says."""
    time.sleep(float(query(scope)))
    await reply(send, b"blocked")


@app.path
async def cleans(scope, receive, send):
    """Takes its time to clean up."""
    try:
        await asyncio.sleep(LONG)
    finally:
        SEEN.append("/cleans begins")
        await asyncio.sleep(0.5)
        SEEN.append("/cleans ends")


@app.path
async def extended(scope, receive, send):
    """Sleeps past its first deadline, with leave."""
    before = ferricorn.deadline()
    after = ferricorn.extend_deadline(2)
    await asyncio.sleep(1.5)
    await reply(send, f"{before:.1f} {after:.1f}".encode())


@app.path
async def left_in_a_thread(scope, receive, send):
    await reply(send, f"{await asyncio.to_thread(ferricorn.deadline):.1f}".encode())


@app.path
async def shielded(scope, receive, send):
    """Does not want to be ended before its work is done."""
    with ferricorn.no_interrupt():
        await asyncio.sleep(1.6)
        SEEN.append("/shielded done")
    await asyncio.sleep(LONG)


@app.path
async def drip(scope, receive, send):
    """A stream that makes progress for longer than its deadline, and then none (``?stop``)."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(5):
        await send({"type": "http.response.body", "body": b"drop", "more_body": True})
        await asyncio.sleep(0.4)
    if query(scope) == "stop":
        await asyncio.sleep(LONG)
    await send({"type": "http.response.body", "body": b""})


@app.path
async def echo(scope, receive, send):
    """A WebSocket that says again what it hears."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
