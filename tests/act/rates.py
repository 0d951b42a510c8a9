"""The shop's page of rates as a task of an event loop: it asks the silent service, PEER. Not for: what else a shop has (`shop`)."""

import asyncio
import os

from fastapi import FastAPI, Response

app = FastAPI()


@app.get("/")
async def calm():
    return "calm"


@app.get("/rates")
async def rates():
    host, port = os.environ["PEER"].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /rates HTTP/1.0\r\n\r\n")
    return Response(await reader.read(1000) or "nothing", 502)
