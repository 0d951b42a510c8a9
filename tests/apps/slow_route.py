"""A Flask application with a route that takes long."""

import time

from flask import Flask

app = Flask(__name__)


@app.route("/reports/<int:number>")
def report(number):
    time.sleep(60)
    return f"{number}"
