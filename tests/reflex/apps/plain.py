"""A plain WSGI application with all kinds of trouble."""

import os
import time


def app(environ, start_response):
    secret = "s3cret"
    path = environ["PATH_INFO"]
    if path.startswith("/sleep/"):
        time.sleep(float(path.split("/")[2]))
    elif path.startswith("/eat/"):
        time.sleep(1.5)
        bytearray(int(path.split("/")[2]) << 20)
    elif path == "/exit":
        time.sleep(1.5)
        os._exit(7)
    elif path == "/fail":
        raise ValueError(secret)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
