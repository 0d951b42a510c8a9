"""The application of `run.py faults` for ASGI servers: the faults of `fault_app` in an `async def`, and two of tasks' own."""

import asyncio

import fault_app

LONG = 60


async def forever():
    await asyncio.sleep(LONG)


async def swallow():
    while True:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            pass


async def nap():
    await asyncio.sleep(0.2)


TASKS = {"/" + call.__name__: call for call in (forever, swallow, nap)}


async def app(scope, receive, send):
    if scope["type"] != "http":
        # No lifespan: servers go on without it.
        raise NotImplementedError(scope["type"])
    path = scope["path"]
    if path in TASKS:
        await TASKS[path]()
    elif path in fault_app.PATHS:
        fault_app.PATHS[path]()
    await send({
        "type": "http.response.start", "status": 200,
        "headers": [(b"content-type", b"text/plain"), (b"content-length", b"4")],
    })
    await send({"type": "http.response.body", "body": b"done"})
