"""Pages that never come to an end, each at a place of its own."""

import time

from flask import Flask

app = Flask(__name__)


@app.get("/")
def calm():
    return "calm"


@app.get("/nap/north")
def nap_north():
    time.sleep(60)
    return "awake"


@app.get("/nap/east")
def nap_east():
    time.sleep(60)
    return "awake"


@app.get("/nap/south")
def nap_south():
    time.sleep(60)
    return "awake"


@app.get("/nap/west")
def nap_west():
    time.sleep(60)
    return "awake"
