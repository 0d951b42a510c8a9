"""FastAPI: a JSON route."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def items():
    return {"id": 7, "name": "granite", "tags": ["igneous", "coarse"]}
