"""WSGI without a framework: what is measured is the server."""

HELLO = b"Hello, world!"
TEN_KILOBYTES = b"0123456789" * 1024


def _answer(start_response, body):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def hello(environ, start_response):
    return _answer(start_response, HELLO)


def ten_kilobytes(environ, start_response):
    return _answer(start_response, TEN_KILOBYTES)


def post(environ, start_response):
    """Reads the whole body and tells its length."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    return _answer(start_response, b"%d" % len(body))
