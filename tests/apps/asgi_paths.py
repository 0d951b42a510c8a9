"""What the ASGI applications beside this file share: coroutines by path, short answers. Not an application itself."""

TEXT = [(b"content-type", b"text/plain")]


class Paths(dict):
    """An application whose paths are coroutine functions; its lifespan has nothing to do."""

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await lifespan(receive, send)
        name = scope["path"].strip("/").split("/")[0]
        return await self[name](scope, receive, send)

    def path(self, function):
        """Serves a function under its name."""
        self[function.__name__.strip("_")] = function
        return function


async def lifespan(receive, send, start=None, stop=None):
    """Starts and stops as the server says; ``start`` and ``stop`` are called meanwhile."""
    assert (await receive())["type"] == "lifespan.startup"
    if start:
        start()
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    if stop:
        stop()
    await send({"type": "lifespan.shutdown.complete"})


async def reply(send, body, status=200, headers=()):
    """One whole response of known length."""
    if not isinstance(body, bytes):
        body = repr(body).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*TEXT, length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def read(receive):
    """The whole body."""
    body = bytearray()
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


def query(scope):
    """The query as text."""
    return scope["query_string"].decode("latin-1")
