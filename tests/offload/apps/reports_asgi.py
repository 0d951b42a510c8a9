"""The same in FastAPI."""

import asyncio
import contextlib
import hashlib

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

import ferricorn


@contextlib.asynccontextmanager
async def lifespan(_app):
    yield {"greeting": "hello"}


app = FastAPI(lifespan=lifespan)


@app.api_route("/api/reports/{name}", methods=["GET", "POST", "PUT"])
async def report(name: str, request: Request, s: float = 0):
    data = await request.body()
    for part in range(4):
        await asyncio.sleep(s / 4)
        ferricorn.progress((part + 1) / 4, f"part {part + 1}")
    content = {
        "name": name,
        "bytes": len(data),
        "sha": hashlib.sha256(data).hexdigest(),
        "client": request.client.host,
        "url": str(request.url),
        "greeting": request.state.greeting,
        "agent": request.headers.get("user-agent"),
    }
    answer = JSONResponse(content, status_code=201, headers={"X-Report": name})
    answer.set_cookie("seen", name)
    return answer


@app.post("/api/about")
async def about(request: Request):
    return {"job": request.scope["extensions"].get("ferricorn.job"), "is_job": ferricorn.progress(0.5)}


@app.post("/api/broken/{name}")
async def broken(name: str):
    raise RuntimeError(f"{name} is broken")


@app.get("/")
async def index():
    return "here"
