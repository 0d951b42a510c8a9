"""Flask: a text route and a small JSON route."""

from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
def hello():
    return "Hello, world!"


@app.get("/json")
def items():
    return jsonify(id=7, name="granite", tags=["igneous", "coarse"])
