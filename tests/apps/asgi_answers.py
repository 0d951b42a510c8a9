"""Well-behaved ASGI responses, in every shape; the query chooses the details."""

import asyncio
import http
import os
from urllib.parse import unquote_to_bytes

from asgi_paths import TEXT, Paths, query, reply

app = Paths()
# How much of an endless response was given, by name.
GIVEN = {}
# What background work has done, by name.
DONE = {}
EVENTS = {}


def start(status=200, headers=TEXT, **more):
    return {"type": "http.response.start", "status": status, "headers": headers, **more}


def body(piece=b"", more=False):
    return {"type": "http.response.body", "body": piece, "more_body": more}


@app.path
async def pid(scope, receive, send):
    await reply(send, b"%d" % os.getpid())


@app.path
async def pieces(scope, receive, send):
    """So many pieces, without a length."""
    await send(start())
    for number in range(int(query(scope))):
        await send(body(b"piece %d;" % number, True))
    await send(body())


@app.path
async def single(scope, receive, send):
    """One piece, without a length."""
    await send(start())
    await send(body(b"single"))


@app.path
async def sleepy(scope, receive, send):
    """Lets the loop go round between everything."""
    await asyncio.sleep(0)
    await send(start())
    await asyncio.sleep(0.01)
    await send(body(b"one ", True))
    await asyncio.sleep(0.01)
    await send(body(b"two"))
    await asyncio.sleep(0)


@app.path
async def length(scope, receive, send):
    """``total:size,size``: a Content-Length, and pieces of these sizes."""
    total, _, sizes = query(scope).partition(":")
    await send(start(headers=[(b"Content-Length", total.encode())]))
    for size in sizes.split(",") if sizes else []:
        await send(body(b"x" * int(size), True))
    await send(body())


@app.path
async def status(scope, receive, send):
    """A status, with four bytes that some of them must not have."""
    await reply(send, b"body", int(query(scope)))


@app.path
async def status_without_length(scope, receive, send):
    await send(start(int(query(scope))))
    await send(body(b"body"))


@app.path
async def status_enum(scope, receive, send):
    await send(start(http.HTTPStatus.CREATED))
    await send(body(b"body"))


@app.path
async def header(scope, receive, send):
    """``name=value``, among others."""
    name, _, value = query(scope).partition("=")
    await reply(send, b"body", headers=[(name.encode(), unquote_to_bytes(value)), (b"x-last", b"yes")])


@app.path
async def defaults(scope, receive, send):
    """Messages with nothing but what they must have."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


async def more_body_is_truth(scope, receive, send):
    await send(start())
    await send(body(b"one ", 1))
    await send(body(b"two", 0))


app["truth"] = more_body_is_truth

HEADERS = {
    "tuples": [(b"x-one", b"1"), (b"x-two", b"2")],
    "lists": [[b"x-one", b"1"], [b"x-two", b"2"]],
    "tuple": ((b"x-one", b"1"), (b"x-two", b"2")),
    "upper": [(b"X-One", b"1"), (b"X-TWO", b"2")],
}
LAZY_HEADERS = {
    "generator": lambda: (pair for pair in HEADERS["tuples"]),
    "items": lambda: {b"x-one": b"1", b"x-two": b"2"}.items(),
}


@app.path
async def headers(scope, receive, send):
    kind = query(scope)
    await send(start(headers=LAZY_HEADERS[kind]() if kind in LAZY_HEADERS else HEADERS[kind]))
    await send(body(b"body"))


@app.path
async def same_message(scope, receive, send):
    """Changes the message once it was sent: what was sent stays."""
    head, piece = start(headers=[*TEXT, (b"x-one", b"1")]), body(b"one", True)
    await send(head)
    head["headers"].append((b"x-late", b"1"))
    await send(piece)
    piece.update(body=b"two", more_body=False)
    await send(piece)


BODIES = {"bytearray": bytearray, "memoryview": memoryview, "bytes_subclass": type("Bytes", (bytes,), {})}


@app.path
async def body_as(scope, receive, send):
    await send(start())
    await send(body(BODIES[query(scope)](b"body")))


@app.path
async def large(scope, receive, send):
    """So many bytes in one message."""
    await reply(send, b"x" * int(query(scope)))


@app.path
async def endless(scope, receive, send):
    """Counts the bytes that it was let give."""
    name = query(scope)
    GIVEN[name] = 0
    await send(start())
    for _ in range(20_000):
        await send(body(b"x" * 10_000, True))
        GIVEN[name] += 10_000
    await send(body())


@app.path
async def given(scope, receive, send):
    await reply(send, b"%d" % GIVEN[query(scope)])


@app.path
async def steps(scope, receive, send):
    """The second piece only once the file exists that the query names."""
    await send(start())
    await send(body(b"first", True))
    for _ in range(500):
        if os.path.exists(query(scope)):
            break
        await asyncio.sleep(0.01)
    await send(body(b"second" if os.path.exists(query(scope)) else b"too late"))


@app.path
async def head_only(scope, receive, send):
    """The body only once the file exists that the query names."""
    await send(start())
    while not os.path.exists(query(scope)):
        await asyncio.sleep(0.01)
    await send(body(b"second"))


# work after the response


@app.path
async def background(scope, receive, send):
    """Goes on until /release comes, with the connection free for others."""
    name = query(scope)
    DONE[name] = False
    event = EVENTS[name] = asyncio.Event()
    await reply(send, b"before")
    await asyncio.wait_for(event.wait(), 5)
    DONE[name] = True


@app.path
async def release(scope, receive, send):
    EVENTS[query(scope)].set()
    await asyncio.sleep(0.01)
    await reply(send, DONE[query(scope)])


@app.path
async def done(scope, receive, send):
    await reply(send, DONE[query(scope)])


@app.path
async def background_seconds(scope, receive, send):
    """Works on for so long, and writes the file that the query names."""
    seconds, _, file = query(scope).partition(":")
    await reply(send, b"before")
    await asyncio.sleep(float(seconds))
    with open(file, "w") as out:
        out.write("done")


@app.path
async def slow(scope, receive, send):
    seconds = query(scope)
    await asyncio.sleep(float(seconds))
    await reply(send, b"slept " + seconds.encode())


# extensions


@app.path
async def trailers(scope, receive, send):
    await send(start(trailers=True))
    await send(body(b"body"))
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True})
    await send({"type": "http.response.trailers", "headers": [(b"x-more", b"2")]})


@app.path
async def bad_trailer(scope, receive, send):
    await send(start(trailers=True))
    await send(body(b"body"))
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1\r\nx-evil: 2")]})


@app.path
async def pathsend(scope, receive, send):
    await send(start())
    await send({"type": "http.response.pathsend", "path": query(scope)})


@app.path
async def pathsend_with_length(scope, receive, send):
    length, _, path = query(scope).partition(":")
    await send(start(headers=[(b"content-length", length.encode())]))
    await send({"type": "http.response.pathsend", "path": path})


@app.path
async def early_hint(scope, receive, send):
    links = [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]
    await send({"type": "http.response.early_hint", "links": links})
    await reply(send, b"body")


@app.path
async def bad_hint(scope, receive, send):
    await send({"type": "http.response.early_hint", "links": [b"</a>\r\nx-evil: 1"]})
    await reply(send, b"body")
