"""A request that takes as long as it is allowed to."""

import time


def app(environ, start_response):
    time.sleep(3600)
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
