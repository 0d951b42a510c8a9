"""An application that asks a service at the port of ``SILENT``, without a timeout."""

import os
import urllib.request


def rates():
    return urllib.request.urlopen(f"http://127.0.0.1:{os.environ['SILENT']}/").read()


def app(environ, start_response):
    body = rates()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
