"""An ASGI application that waits, or holds its loop."""

import asyncio
import time


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path.startswith("/sleep/"):
        await asyncio.sleep(float(path.split("/")[2]))
    elif path.startswith("/block/"):
        time.sleep(float(path.split("/")[2]))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"ok\n"})
