"""A FastAPI site: endpoints in the loop and in threads, dependencies, forms, background tasks, WebSockets."""

import asyncio
import contextlib
import hashlib
import threading
from typing import Annotated

from fastapi import (
    BackgroundTasks,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Request,
    UploadFile,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

SEEN = {}


@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.ready = True
    yield {"from": "lifespan"}


app = FastAPI(lifespan=lifespan)


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


async def session(name: str = "none"):
    """Open while the endpoint runs, closed in any case."""
    SEEN.setdefault(name, []).append("open")
    try:
        yield {"name": name}
    except BaseException as error:
        SEEN[name].append(type(error).__name__)
        raise
    finally:
        SEEN[name].append("close")


def sync_session(name: str = "none"):
    SEEN.setdefault(name, []).append("sync open")
    yield name
    SEEN[name].append("sync close")


@app.get("/")
async def home(request: Request):
    return {"ready": app.state.ready, "from": request.state._state["from"], "main": is_main()}


@app.get("/sync")
def sync(request: Request):
    return {"path": request.url.path, "main": is_main()}


def is_main():
    return threading.current_thread() is threading.main_thread()


@app.post("/items/{number}")
async def items(number: int, item: Item, x_token: Annotated[str | None, Header()] = None):
    return {"number": number, "item": item, "token": x_token}


@app.get("/depends")
async def depends(one: Annotated[dict, Depends(session)], two: Annotated[str, Depends(sync_session)]):
    return {"one": one, "two": two}


@app.get("/depends_and_fails")
async def depends_and_fails(one: Annotated[dict, Depends(session)]):
    raise HTTPException(409, "conflict")


@app.get("/depends_and_crashes")
def depends_and_crashes(one: Annotated[dict, Depends(session)]):
    raise RuntimeError("of a sync endpoint")


@app.get("/background")
async def background(name: str, tasks: BackgroundTasks):
    async def work():
        await asyncio.sleep(0.05)
        SEEN[name] = ["done"]

    tasks.add_task(work)
    return {"started": name}


@app.get("/seen")
async def seen(name: str):
    return SEEN.get(name)


@app.post("/upload")
async def upload(files: Annotated[list[UploadFile], File()], note: Annotated[str, Form()]):
    answer = {}
    for file in files:
        digest, size = hashlib.sha256(), 0
        while chunk := await file.read(1 << 16):
            digest.update(chunk)
            size += len(chunk)
        answer[file.filename] = [size, digest.hexdigest()]
    return {"note": note, "files": answer}


@app.get("/stream")
async def stream(count: int):
    async def lines():
        for number in range(count):
            yield f"line {number}\n"

    return StreamingResponse(lines(), media_type="text/plain")


@app.websocket("/socket/{room}")
async def socket(websocket: WebSocket, room: str, name: Annotated[dict, Depends(session)]):
    await websocket.accept()
    try:
        while True:
            text = await websocket.receive_text()
            await websocket.send_json({"room": room, "text": text})
    except WebSocketDisconnect:
        SEEN[f"room {room}"] = ["left"]
