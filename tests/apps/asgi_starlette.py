"""A Starlette site: responses of every kind, middleware, lifespan state, WebSockets."""

import asyncio
import contextlib
import os

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect

FOLDER = os.environ["SITE_FOLDER"]
SEEN = {}


@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"greeting": "hello from the lifespan", "visits": []}
    with open(os.path.join(FOLDER, "stopped"), "w") as out:
        out.write("stopped")


async def home(request):
    request.state.visits.append(1)
    return JSONResponse({"greeting": request.state.greeting, "visits": len(request.state.visits)})


async def echo(request):
    return JSONResponse(
        {
            "method": request.method,
            "url": str(request.url),
            "path": request.path_params["rest"],
            "query": dict(request.query_params),
            "client": request.client.host,
            "cookies": request.cookies,
            "body": (await request.body()).decode(),
        }
    )


async def form(request):
    async with request.form() as form:
        files = {
            name: [file.filename, len(await file.read())] for name, file in form.items() if hasattr(file, "filename")
        }
        return JSONResponse({"files": files, "fields": {name: form[name] for name in form if name not in files}})


async def chunks(request):
    """Counts the body as it streams in."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return PlainTextResponse(str(size))


async def stream(request):
    async def numbers():
        for number in range(100):
            yield f"{number}\n"
            if number % 10 == 0:
                await asyncio.sleep(0.001)

    return StreamingResponse(numbers(), media_type="text/plain")


def sync_stream(request):
    """Both the endpoint and the iterator run in threads."""
    return StreamingResponse((f"{number}\n" for number in range(100)), media_type="text/plain")


async def endless(request):
    """Ends when the client goes."""
    name = request.query_params["name"]

    async def pieces():
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.01)
        finally:
            SEEN[name] = "ended"

    return StreamingResponse(pieces())


async def events(request):
    async def publish():
        for number in range(5):
            yield {"event": "tick", "id": str(number), "data": f"data {number}"}
            await asyncio.sleep(0.01)

    return EventSourceResponse(publish(), ping=60)


async def endless_events(request):
    name = request.query_params["name"]

    async def publish():
        try:
            while True:
                yield {"data": "tick"}
                await asyncio.sleep(0.01)
        finally:
            SEEN[name] = "ended"

    return EventSourceResponse(publish(), ping=60)


async def quiet_events(request):
    """The head of the response comes at once, though there is nothing to tell yet."""

    async def publish():
        await asyncio.sleep(0.6)
        yield {"data": "late"}

    return EventSourceResponse(publish(), ping=60)


async def disconnected(request):
    """Works until the client has gone."""
    name = request.query_params["name"]
    SEEN[name] = "still here" if not await request.is_disconnected() else "gone at once"
    for _ in range(500):
        if await request.is_disconnected():
            SEEN[name] = "gone"
            break
        await asyncio.sleep(0.01)
    return PlainTextResponse("nobody reads this")


async def background(request):
    name = request.query_params["name"]
    SEEN[name] = []

    async def work():
        await asyncio.sleep(0.3)
        SEEN[name].append("async")

    tasks = BackgroundTasks([BackgroundTask(work), BackgroundTask(SEEN[name].append, "thread")])
    return PlainTextResponse("at once", background=tasks)


async def seen(request):
    return JSONResponse(SEEN.get(request.query_params["name"]))


async def file(request):
    return FileResponse(os.path.join(FOLDER, "data.bin"), filename="data.bin")


async def redirect(request):
    return RedirectResponse("/?there")


async def cookies(request):
    response = Response(status_code=204)
    response.set_cookie("one", "1", httponly=True)
    response.set_cookie("two", "2")
    return response


async def teapot(request):
    raise HTTPException(418, "short and stout")


async def crash(request):
    raise RuntimeError("of the endpoint")


class Added(BaseHTTPMiddleware):
    """The kind of middleware that runs the rest of the application in a task of its own."""

    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["X-Added"] = request.method
        return response


async def socket_echo(socket):
    await socket.accept(subprotocol="chat" if "chat" in socket.scope["subprotocols"] else None)
    try:
        while True:
            message = await socket.receive_json()
            await socket.send_json({"echo": message, "greeting": socket.state.greeting})
    except WebSocketDisconnect as gone:
        SEEN["socket"] = [int(gone.code), gone.reason]


async def socket_refused(socket):
    await socket.send_denial_response(JSONResponse({"detail": "not today"}, status_code=401))


async def socket_iter(socket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text[::-1])


plain = [
    Route("/", home),
    Route("/echo/{rest:path}", echo, methods=["GET", "POST", "PUT"]),
    Route("/form", form, methods=["POST"]),
    Route("/chunks", chunks, methods=["POST"]),
    Route("/stream", stream),
    Route("/sync_stream", sync_stream),
    Route("/endless", endless),
    Route("/events", events),
    Route("/quiet_events", quiet_events),
    Route("/endless_events", endless_events),
    Route("/disconnected", disconnected),
    Route("/background", background),
    Route("/seen", seen),
    Route("/file", file),
    Route("/redirect", redirect),
    Route("/cookies", cookies),
    Route("/teapot", teapot),
    Route("/crash", crash),
    WebSocketRoute("/socket", socket_echo),
    WebSocketRoute("/refused", socket_refused),
    WebSocketRoute("/iter", socket_iter),
    Mount("/static", StaticFiles(directory=FOLDER)),
]
app = Starlette(routes=plain, lifespan=lifespan)
wrapped = Starlette(
    routes=plain,
    lifespan=lifespan,
    middleware=[
        Middleware(GZipMiddleware, minimum_size=100),
        Middleware(CORSMiddleware, allow_origins=["*"]),
        Middleware(Added),
    ],
)
