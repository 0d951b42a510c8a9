"""Calls to a service that says nothing (``calls_out``), from tasks and from threads that have their context."""

import asyncio
import json
import time

import calls_out
import ferricorn

SEEN = []


async def thread():
    await asyncio.to_thread(calls_out.requests_default)


async def anyio():
    from anyio import to_thread

    await to_thread.run_sync(calls_out.urllib3_default)


async def redis():
    import redis.asyncio

    await redis.asyncio.Redis(host="127.0.0.1", port=calls_out.SILENT).ping()


async def redisnone():
    import redis.asyncio

    await redis.asyncio.Redis(host="127.0.0.1", port=calls_out.SILENT, socket_timeout=None).ping()


async def psycopg():
    import psycopg

    await psycopg.AsyncConnection.connect(f"host=127.0.0.1 port={calls_out.SILENT} user=nobody sslmode=disable")


async def background():
    """A task that outlives its request has no deadline any more."""

    async def work(over):
        SEEN.append(ferricorn.deadline() is not None)
        await over.wait()
        # The response is sent before its request is over.
        for _ in range(100):
            await asyncio.sleep(0.05)
            if ferricorn.deadline() is None:
                break
        SEEN.append(ferricorn.deadline())

    over = asyncio.Event()
    task = asyncio.create_task(work(over))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.1, over.set)
    SEEN.append(task)


async def seen():
    await SEEN[-1] if isinstance(SEEN[-1], asyncio.Task) else None
    return [each for each in SEEN if not isinstance(each, asyncio.Task)]


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    begun = time.monotonic()
    error = found = None
    try:
        found = await globals()[scope["path"].strip("/")]()
    except Exception as raised:
        error = f"{type(raised).__module__}.{type(raised).__name__}"
    body = {"error": error, "found": found, "seconds": time.monotonic() - begun, "left": ferricorn.deadline()}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
