"""An application of WebSockets: each path is one way to hold a conversation. /left?NAME tells what was kept of it."""

import asyncio

from asgi_paths import TEXT, Paths, lifespan, query, reply


class Sockets(Paths):
    """Serves paths of both protocols; the start-up leaves something in the state."""

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await lifespan(receive, send, lambda: scope["state"].update(number=1))
        return await super().__call__(scope, receive, send)


app = Sockets()
LEFT = {}
ACCEPT = {"type": "websocket.accept"}


def text(value):
    return {"type": "websocket.send", "text": value}


@app.path
async def left(scope, receive, send):
    """What a conversation has left; None if nothing."""
    await reply(send, LEFT.get(query(scope)))


async def connect(receive):
    message = await receive()
    assert message == {"type": "websocket.connect"}, message


@app.path
async def scope(scope, receive, send):
    await connect(receive)
    await send({**ACCEPT, "subprotocol": None, "headers": []})
    await send(text(repr(scope)))
    await receive()


@app.path
async def echo(scope, receive, send):
    await connect(receive)
    await send(ACCEPT)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            # Also where it is of an enumeration.
            LEFT[query(scope)] = {**message, "code": int(message["code"])}
            return
        if message.get("text") is not None:
            assert type(message["text"]) is str
            await send(text(message["text"]))
        else:
            assert type(message["bytes"]) is bytes
            await send({"type": "websocket.send", "bytes": message["bytes"]})


@app.path
async def messages(scope, receive, send):
    """Every message as Python writes it, until one says end."""
    await connect(receive)
    await send(ACCEPT)
    seen = []
    while True:
        message = await receive()
        seen.append(message)
        if message.get("text") == "end" or message["type"] == "websocket.disconnect":
            break
    await send(text(repr(seen)))
    await send({"type": "websocket.close"})


@app.path
async def both_keys(scope, receive, send):
    """Frameworks name both, one of them None."""
    await connect(receive)
    await send(ACCEPT)
    await send({"type": "websocket.send", "text": "one", "bytes": None})
    await send({"type": "websocket.send", "text": None, "bytes": b"two"})
    await send(text(""))
    await send({"type": "websocket.send", "bytes": b""})
    await send({"type": "websocket.close", "code": 1000, "reason": None})


@app.path
async def accept(scope, receive, send):
    """Takes the subprotocol that the query names, and adds fields."""
    await connect(receive)
    headers = [(b"x-one", b"1"), (b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2")]
    await send({**ACCEPT, "subprotocol": query(scope) or None, "headers": headers})
    await send({"type": "websocket.close"})


@app.path
async def close(scope, receive, send):
    """``code:reason``."""
    await connect(receive)
    await send(ACCEPT)
    code, _, reason = query(scope).partition(":")
    await send({"type": "websocket.close", "code": int(code), "reason": reason})
    LEFT[query(scope)] = await receive()


@app.path
async def close_after_message(scope, receive, send):
    await connect(receive)
    await send(ACCEPT)
    await receive()
    await send(text("goodbye"))
    await send({"type": "websocket.close", "code": 4001})


@app.path
async def reject(scope, receive, send):
    await connect(receive)
    await send({"type": "websocket.close", "code": 4000})
    LEFT[query(scope)] = await receive()


@app.path
async def reject_unheard(scope, receive, send):
    await send({"type": "websocket.close"})


@app.path
async def accept_unheard(scope, receive, send):
    """Without having waited for websocket.connect."""
    await send(ACCEPT)
    await send(text("hello"))
    await send({"type": "websocket.close"})


@app.path
async def deny(scope, receive, send):
    """A response of HTTP instead: the extension websocket.http.response."""
    await connect(receive)
    headers = [*TEXT, (b"x-one", b"1"), (b"www-authenticate", b"Basic")]
    await send({"type": "websocket.http.response.start", "status": int(query(scope)), "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"here"})
    LEFT["deny"] = await receive()


@app.path
async def returns(scope, receive, send):
    return


@app.path
async def raises(scope, receive, send):
    raise RuntimeError("before accept")


@app.path
async def accept_and_raise(scope, receive, send):
    await connect(receive)
    await send(ACCEPT)
    await send(text("hello"))
    raise RuntimeError("after accept")


@app.path
async def accept_and_return(scope, receive, send):
    await connect(receive)
    await send(ACCEPT)
    await send(text("hello"))


FAULTS = {
    "send_first": [text("x")],
    "http_first": [{"type": "http.response.start", "status": 200, "headers": []}],
    "accept_twice": [ACCEPT, ACCEPT],
    "http_after_accept": [ACCEPT, {"type": "http.response.start", "status": 200, "headers": []}],
    "denial_after_accept": [ACCEPT, {"type": "websocket.http.response.start", "status": 403, "headers": []}],
    "unknown": [ACCEPT, {"type": "websocket.nonsense"}],
    "send_after_close": [ACCEPT, {"type": "websocket.close"}, text("x")],
    "close_twice": [ACCEPT, {"type": "websocket.close"}, {"type": "websocket.close"}],
    "text_is_bytes": [ACCEPT, {"type": "websocket.send", "text": b"x"}],
    "bytes_is_str": [ACCEPT, {"type": "websocket.send", "bytes": "x"}],
    "header_crlf": [{**ACCEPT, "headers": [(b"x-one", b"1\r\nx-injected: 1")]}],
    "subprotocol_crlf": [{**ACCEPT, "subprotocol": "a\r\nx-injected: 1"}],
}


@app.path
async def fault(scope, receive, send):
    """Tells the type of the error that send() raises."""
    await connect(receive)
    LEFT[query(scope)] = "nothing"
    for message in FAULTS[query(scope)]:
        try:
            await send(message)
        except Exception as error:
            LEFT[query(scope)] = "error"
            raise error


@app.path
async def waits(scope, receive, send):
    """Keeps what ends the conversation, and what sending does then."""
    await connect(receive)
    await send(ACCEPT)
    await send(text("ready"))
    message = await receive()
    while message["type"] != "websocket.disconnect":
        message = await receive()
    try:
        await send(text("too late"))
        LEFT[query(scope)] = {**message, "send": "nothing"}
    except Exception as error:
        LEFT[query(scope)] = {**message, "send": "OSError" if isinstance(error, OSError) else repr(error)}


@app.path
async def waits_to_file(scope, receive, send):
    """Writes what ends the conversation to the file that the query names: it outlives the server."""
    await connect(receive)
    await send(ACCEPT)
    await send(text("ready"))
    message = await receive()
    with open(query(scope), "w") as out:
        out.write(repr(message))


@app.path
async def slow_reader(scope, receive, send):
    """Receives only when it is told to, by HTTP."""
    event = LEFT[query(scope)] = asyncio.Event()
    await connect(receive)
    await send(ACCEPT)
    await event.wait()
    size = 0
    while True:
        message = await receive()
        if message.get("text") == "end" or message["type"] == "websocket.disconnect":
            break
        size += len(message["bytes"])
    await send(text(str(size)))
    await send({"type": "websocket.close"})


@app.path
async def release(scope, receive, send):
    LEFT[query(scope)].set()
    await reply(send, b"released")


@app.path
async def endless(scope, receive, send):
    """Counts the bytes that it was let send."""
    await connect(receive)
    await send(ACCEPT)
    for number in range(2000):
        LEFT[query(scope)] = number * 100_000
        await send({"type": "websocket.send", "bytes": b"x" * 100_000})
    await send({"type": "websocket.close"})


@app.path
async def two_tasks(scope, receive, send):
    """One task receives, another sends; as chat servers do."""
    await connect(receive)
    await send(ACCEPT)
    queue = asyncio.Queue()

    async def reader():
        while (message := await receive())["type"] == "websocket.receive":
            await queue.put(message["text"])
        await queue.put(None)

    async def writer():
        while (item := await queue.get()) is not None:
            await send(text(item.upper()))

    await asyncio.gather(asyncio.create_task(reader()), asyncio.create_task(writer()))


@app.path
async def ticks(scope, receive, send):
    """Sends by itself while it waits to receive."""
    await connect(receive)
    await send(ACCEPT)
    pending = asyncio.ensure_future(receive())
    for number in range(5):
        await asyncio.wait([pending], timeout=0.01)
        await send(text(str(number)))
    message = await pending
    await send(text(message["text"]))
    await send({"type": "websocket.close"})
