"""ASGI without a framework: what is measured is the server."""

import asyncio
import time
from contextlib import suppress

HELLO = b"Hello, world!"
TEN_KILOBYTES = b"0123456789" * 1024
PIECE = TEN_KILOBYTES[:1024]
PIECES = 20
EVENT_EVERY = 1


def _application(serve):
    """`serve` for requests and WebSockets, with a lifespan that does nothing."""

    async def app(scope, receive, send):
        if scope["type"] != "lifespan":
            return await serve(receive, send)
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    return app


def _start(send, *headers, kind=b"text/plain"):
    headers = [(b"content-type", kind), *headers]
    return send({"type": "http.response.start", "status": 200, "headers": headers})


async def _answer(send, body):
    await _start(send, (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.body", "body": body})


@_application
async def hello(receive, send):
    await _answer(send, HELLO)


@_application
async def ten_kilobytes(receive, send):
    await _answer(send, TEN_KILOBYTES)


@_application
async def post(receive, send):
    """Reads the whole body and tells its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await _answer(send, b"%d" % length)


@_application
async def stream(receive, send):
    """20 KB in pieces of 1 KB: no Content-Length, hence chunked."""
    await _start(send)
    for _ in range(PIECES):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@_application
async def echo(receive, send):
    """A WebSocket that returns every text message."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


@_application
async def events(receive, send):
    """Server-sent events, one per second, each with the time at which it was sent; ends when the server says so."""
    await _start(send, (b"cache-control", b"no-store"), kind=b"text/event-stream")
    gone = asyncio.ensure_future(_disconnected(receive))
    while not gone.done():
        event = b"data: %.6f\n\n" % time.monotonic()
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.wait([gone], timeout=EVENT_EVERY)
    # A server may have closed the connection already.
    with suppress(OSError):
        await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive):
    while (await receive())["type"] != "http.disconnect":
        pass
