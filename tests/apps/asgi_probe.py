"""An ASGI application that tells what it was given. Each path is one question."""

import asyncio
import hashlib
import os
import time

from asgi_paths import Paths, lifespan, query, read, reply


class Probe(Paths):
    """Its start-up leaves something in the state."""

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await lifespan(receive, send, lambda: scope["state"].update(number=1, shared=[]))
        return await super().__call__(scope, receive, send)


app = Probe()
# What requests have left here, by the name in their query.
LEFT = {}


@app.path
async def scope(scope, receive, send):
    """The scope as Python writes it: every type can be told."""
    await reply(send, scope)


@app.path
async def pid(scope, receive, send):
    await reply(send, b"%d" % os.getpid())


@app.path
async def state(scope, receive, send):
    """Changes what it was given, and tells what that was."""
    seen = repr(scope["state"])
    scope["state"]["number"] += 1
    scope["state"]["shared"].append(query(scope))
    scope["state"]["own"] = True
    scope["extensions" if "extensions" in scope else "asgi"]["changed"] = "yes"
    await reply(send, seen.encode())


@app.path
async def upload(scope, receive, send):
    """Length and checksum of the body, message by message."""
    digest, size, count = hashlib.sha256(), 0, 0
    more = True
    while more:
        message = await receive()
        assert set(message) == {"type", "body", "more_body"}, set(message)
        assert type(message["body"]) is bytes and type(message["more_body"]) is bool
        digest.update(message["body"])
        size, count, more = size + len(message["body"]), count + 1, message["more_body"]
    await reply(send, {"size": size, "sha256": digest.hexdigest(), "messages": count})


@app.path
async def echo(scope, receive, send):
    await reply(send, await read(receive))


@app.path
async def messages(scope, receive, send):
    """The first messages; so many as the query says."""
    await reply(send, [await receive() for _ in range(int(query(scope)))])


@app.path
async def pieces(scope, receive, send):
    """Sends back each piece of the body when it comes."""
    await send({"type": "http.response.start", "status": 200})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


@app.path
async def late_read(scope, receive, send):
    """Reads only after so many seconds."""
    await asyncio.sleep(float(query(scope)))
    await upload(scope, receive, send)


@app.path
async def noread(scope, receive, send):
    await reply(send, b"not read")


@app.path
async def respond_first(scope, receive, send):
    """Sends the head before it reads the body, which it then sends back."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"head first, ", "more_body": True})
    await send({"type": "http.response.body", "body": await read(receive)})


# how requests end


@app.path
async def after_body(scope, receive, send):
    """What receive() gives once the body has been read, while the client waits or goes."""
    body = await read(receive)
    LEFT[query(scope)] = "waiting"
    begun = time.monotonic()
    message = await receive()
    LEFT[query(scope)] = {"body": body, "message": message, "again": await receive()}
    LEFT[query(scope) + " seconds"] = time.monotonic() - begun


@app.path
async def after_response(scope, receive, send):
    """What receive() gives after the response; twice, as it stays so."""
    await read(receive)
    await reply(send, b"done")
    LEFT[query(scope)] = [await receive(), await receive()]


@app.path
async def during_body(scope, receive, send):
    """Every message until the body ends, or the client goes."""
    seen = LEFT[query(scope)] = []
    while True:
        message = await receive()
        seen.append(message["type"])
        if not message.get("more_body"):
            return


@app.path
async def send_when_gone(scope, receive, send):
    """Goes on sending after the client has gone; that is no error."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    try:
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        await send({"type": "http.response.body"})
        LEFT[query(scope)] = "sent"
    except OSError:
        LEFT[query(scope)] = "refused"


@app.path
async def left(scope, receive, send):
    """What another request has left; None if it has not yet."""
    await reply(send, LEFT.get(query(scope)))


# waiting for messages in every way


@app.path
async def in_task(scope, receive, send):
    await reply(send, (await asyncio.create_task(receive()))["body"])


@app.path
async def in_future(scope, receive, send):
    await reply(send, (await asyncio.ensure_future(receive()))["body"])


@app.path
async def in_shield(scope, receive, send):
    await reply(send, (await asyncio.shield(receive()))["body"])


@app.path
async def in_wait_for(scope, receive, send):
    """Gives up again and again; no byte gets lost by it."""
    body, timeouts, more = b"", 0, True
    while more:
        try:
            message = await asyncio.wait_for(receive(), 0.02)
        except asyncio.TimeoutError:
            timeouts += 1
            continue
        body += message["body"]
        more = message["more_body"]
    await reply(send, {"body": body, "waited": timeouts > 0})


@app.path
async def in_anyio(scope, receive, send):
    import anyio

    body, timeouts, more = b"", 0, True
    while more:
        with anyio.move_on_after(0.02) as moved:
            message = await receive()
        if moved.cancelled_caught:
            timeouts += 1
            continue
        body += message["body"]
        more = message["more_body"]
    await reply(send, {"body": body, "waited": timeouts > 0})


@app.path
async def in_two_tasks(scope, receive, send):
    """Two wait at once; together they and who comes later have the whole body in order."""
    first, second = asyncio.create_task(receive()), asyncio.create_task(receive())
    got = [await first]
    while got[-1]["more_body"]:
        got.append(await second if not second.done() else second.result())
        break
    while got[-1].get("more_body"):
        got.append(await receive())
    second.cancel()
    await reply(send, b"".join(message.get("body", b"") for message in got))


@app.path
async def never_awaited(scope, receive, send):
    """A receive() that nobody waits for takes nothing away."""
    receive().close()
    await reply(send, await read(receive))


@app.path
async def sends_in_tasks(scope, receive, send):
    await asyncio.create_task(send({"type": "http.response.start", "status": 200}))
    for piece in (b"one ", b"two "):
        await asyncio.wait_for(send({"type": "http.response.body", "body": piece, "more_body": True}), 5)
    await asyncio.shield(send({"type": "http.response.body", "body": b"three"}))


def make():
    return app


# Whatever the path is.
async def below(scope_, receive, send):
    await (app(scope_, receive, send) if scope_["type"] == "lifespan" else scope(scope_, receive, send))


FREE = {}


@app.path
async def ignores(scope, receive, send):
    """Works on whatever its client does, until it is set free or cancelled."""
    name = query(scope)
    FREE[name], LEFT[name] = asyncio.Event(), "waiting"
    try:
        await FREE[name].wait()
    except asyncio.CancelledError:
        LEFT[name] = "cancelled"
        raise
    LEFT[name] = "done"
    await reply(send, b"done")


@app.path
async def free(scope, receive, send):
    FREE[query(scope)].set()
    await reply(send, b"True")


@app.path
async def events(scope, receive, send):
    """A stream of events; ends with a last one when it hears that its client has left, unless it is deaf."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", b"text/event-stream")]})
    left = asyncio.Event()

    async def listen():
        await read(receive)
        await receive()
        left.set()

    listening = None if query(scope) == "deaf" else asyncio.create_task(listen())
    while not left.is_set():
        await send({"type": "http.response.body", "body": b"data: tick\n\n", "more_body": True})
        await asyncio.sleep(0.1)
    await listening
    await send({"type": "http.response.body", "body": b"data: bye\n\n"})
