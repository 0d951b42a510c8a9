"""A Flask application whose reports take their time, as it would be written without any thought of jobs."""

import hashlib
import os
import time

from flask import Flask, Response, jsonify, request

import ferricorn

app = Flask(__name__)


def mark(line):
    """Writes down what has happened, so that a test can count it."""
    if "MARKS" in os.environ:
        with open(os.environ["MARKS"], "a", encoding="utf-8") as file:
            file.write(line + "\n")


@app.route("/api/reports/<name>", methods=["GET", "POST", "PUT"])
def report(name):
    data = request.get_data()
    seconds = float(request.args.get("s", 0))
    mark(f"begin {name} {os.getpid()} {os.readlink('/proc/self/ns/net')}")
    if "die" in request.args:
        os.kill(os.getpid(), 9)
    for part in range(4):
        time.sleep(seconds / 4)
        ferricorn.progress((part + 1) / 4, f"part {part + 1}")
    mark(f"end {name} {os.getpid()}")
    digest = hashlib.sha256(data).hexdigest()
    answer = jsonify(name=name, bytes=len(data), sha=digest, client=request.remote_addr, url=request.url, agent=request.user_agent.string)
    answer.headers["X-Report"] = name
    answer.set_cookie("seen", name)
    if "after" in request.args:
        pause = float(request.args["after"])
        answer.call_on_close(lambda: (time.sleep(pause), mark(f"after {name}")))
    return answer, 201


@app.post("/api/lines/<int:count>")
def lines(count):
    return Response((b"%08d\n" % number for number in range(count)), mimetype="text/plain")


@app.route("/api/broken/<name>", methods=["POST", "PUT"])
def broken(name):
    mark(f"begin {name}")
    if os.path.exists(os.environ.get("MENDED", "")):
        return "mended\n"
    raise RuntimeError("it is broken")


@app.route("/api/about", methods=["GET", "POST"])
def about():
    known = ("ferricorn.offloaded", "ferricorn.job_id", "ferricorn.attempt")
    told = {key: request.environ.get(key) for key in known}
    return {**told, "is_job": ferricorn.progress(0.5), "pid": os.getpid()}


@app.route("/api/memory/<int:count>", methods=["GET", "POST"])
def memory(count):
    return str(len(bytes(count)))


@app.get("/")
def index():
    return "here\n"
