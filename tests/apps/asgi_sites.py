"""Small sites of frameworks that have an endpoint, a stream, an upload and a WebSocket each; and pieces of asgiref.

``SITE`` says which: each needs only its own framework.
"""

import asyncio
import os

SITE = os.environ.get("SITE", "wsgi")


def lines():
    return [f"line {number}\n".encode() for number in range(50)]


def litestar():
    from litestar import Litestar, Request, WebSocket, get, post, websocket
    from litestar.response import Stream

    @get("/")
    async def home() -> dict[str, str]:
        return {"site": "litestar"}

    @get("/sync", sync_to_thread=True)
    def sync() -> dict[str, str]:
        return {"site": "litestar"}

    @get("/stream")
    async def stream() -> Stream:
        async def pieces():
            for line in lines():
                yield line
                await asyncio.sleep(0)

        return Stream(pieces(), media_type="text/plain")

    @post("/size")
    async def size(request: Request) -> dict[str, int]:
        return {"size": len(await request.body())}

    @get("/crash")
    async def crash() -> None:
        raise RuntimeError("of the endpoint")

    @websocket("/socket")
    async def socket(socket: WebSocket) -> None:
        await socket.accept()
        while True:
            await socket.send_text((await socket.receive_text()).upper())

    return Litestar([home, sync, stream, size, crash, socket], openapi_config=None)


def quart():
    from quart import Quart, request, websocket

    app = Quart(__name__)

    @app.get("/")
    async def home():
        return {"site": "quart"}

    @app.get("/sync")
    def sync():
        return {"site": "quart"}

    @app.get("/stream")
    async def stream():
        async def pieces():
            for line in lines():
                yield line
                await asyncio.sleep(0)

        return pieces(), {"Content-Type": "text/plain"}

    @app.post("/size")
    async def size():
        return {"size": len(await request.get_data())}

    @app.get("/crash")
    async def crash():
        raise RuntimeError("of the endpoint")

    @app.websocket("/socket")
    async def socket():
        while True:
            await websocket.send((await websocket.receive()).upper())

    return app


def blacksheep():
    from blacksheep import Application, Request, Response, StreamedContent, WebSocket, get, json, post, ws

    app = Application()

    @get("/")
    async def home():
        return json({"site": "blacksheep"})

    @get("/sync")
    def sync():
        return json({"site": "blacksheep"})

    @get("/stream")
    async def stream():
        async def pieces():
            for line in lines():
                yield line
                await asyncio.sleep(0)

        return Response(200, content=StreamedContent(b"text/plain", pieces))

    @post("/size")
    async def size(request: Request):
        return json({"size": len(await request.read() or b"")})

    @get("/crash")
    async def crash():
        raise RuntimeError("of the endpoint")

    @ws("/socket")
    async def socket(websocket: WebSocket):
        await websocket.accept()
        while True:
            await websocket.send_text((await websocket.receive_text()).upper())

    return app


def wsgi():
    """An application of WSGI behind asgiref's adapter, which runs it in threads."""
    from asgiref.wsgi import WsgiToAsgi

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/crash":
            raise RuntimeError("of the endpoint")
        start_response("200 OK", [("Content-Type", "application/json" if path != "/stream" else "text/plain")])
        if path == "/stream":
            return lines()
        if path == "/size":
            return [b'{"size": %d}' % len(environ["wsgi.input"].read())]
        return [b'{"site": "wsgi"}']

    adapted = WsgiToAsgi(application)

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        await adapted(scope, receive, send)

    return app


def old():
    """ASGI 2 by asgiref's guarantee of one callable."""
    from asgiref.compatibility import guarantee_single_callable

    class Application:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            if self.scope["type"] == "lifespan":
                raise RuntimeError("no lifespan")
            path, size, more = self.scope["path"], 0, self.scope["type"] == "http"
            while more:
                message = await receive()
                size, more = size + len(message["body"]), message["more_body"]
            if path == "/crash":
                raise RuntimeError("of the endpoint")
            bodies = {"/stream": lines(), "/size": [b'{"size": %d}' % size]}.get(path, [b'{"site": "old"}'])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for body in bodies:
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body"})

    return guarantee_single_callable(Application)


app = globals()[SITE]()
