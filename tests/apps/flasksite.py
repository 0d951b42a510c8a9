"""A Flask application as people write them: JSON, forms, cookies, sessions, streams, files, errors."""

import hashlib
import os
import time
from pathlib import Path

from flask import (
    Flask,
    abort,
    jsonify,
    make_response,
    redirect,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)

FOLDER = Path(os.environ.get("FLASKSITE_FOLDER", "."))

app = Flask(__name__)
app.secret_key = "only for tests"


@app.get("/")
def index():
    return "<h1>Flask</h1>"


@app.route("/json", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
def json():
    sent = request.get_json() if request.method in ("POST", "PUT", "PATCH") else None
    return jsonify(method=request.method, query=request.args.to_dict(flat=False), sent=sent)


@app.post("/form")
def form():
    return jsonify(request.form.to_dict(flat=False))


@app.get("/where/<path:rest>")
def where(rest):
    return jsonify(
        rest=rest,
        scheme=request.scheme,
        secure=request.is_secure,
        host=request.host,
        url=request.url,
        forwarded=request.headers.get("X-Forwarded-For"),
        remote=request.remote_addr,
        port=request.environ.get("REMOTE_PORT"),
        pid=os.getpid(),
    )


@app.get("/moved")
def moved():
    return redirect(url_for("index", _external=True))


@app.get("/cookies")
def cookies():
    return jsonify(request.cookies.to_dict())


@app.post("/cookies")
def set_cookies():
    response = make_response(jsonify(list(request.form)))
    for name, value in request.form.items():
        response.set_cookie(name, value, httponly=True, samesite="Lax", max_age=3600)
    return response


@app.post("/count")
def count():
    session["count"] = session.get("count", 0) + 1
    return jsonify(session["count"])


@app.get("/stream")
def stream():
    """Numbered lines, with the length unknown."""
    lines = int(request.args["lines"])

    @stream_with_context
    def pieces():
        for number in range(lines):
            yield f"{number} {request.args['lines']}\n"

    return app.response_class(pieces(), mimetype="text/plain")


@app.get("/events")
def events():
    """Server-sent events, a while apart; nginx is asked not to hold them back."""
    pause = float(request.args["pause"])

    def pieces():
        for number in range(3):
            yield f"data: {number}\n\n"
            time.sleep(pause)

    return app.response_class(pieces(), mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})


@app.post("/upload")
def upload():
    described = {}
    for field, file in request.files.items(multi=True):
        content = file.stream.read()
        described.setdefault(field, []).append([file.filename, len(content), hashlib.sha256(content).hexdigest()])
    return jsonify(files=described, form=request.form.to_dict())


@app.route("/body", methods=["POST", "PUT"])
def body():
    """Reads in pieces what came, whatever it is."""
    digest, size = hashlib.sha256(), 0
    while piece := request.stream.read(50_000):
        digest.update(piece)
        size += len(piece)
    return jsonify(size=size, digest=digest.hexdigest())


@app.get("/file")
def file():
    return send_file(FOLDER / "data.bin", conditional=True, etag=True)


@app.get("/attachment")
def attachment():
    return send_file(FOLDER / "data.bin", as_attachment=True, download_name="grüße.bin")


@app.get("/nothing")
def nothing():
    return "", 204


@app.get("/abort/<int:status>")
def aborted(status):
    abort(status)


@app.get("/crash")
def crash():
    raise RuntimeError("this page always fails")


@app.errorhandler(418)
def teapot(error):
    return jsonify(error=error.name), 418
