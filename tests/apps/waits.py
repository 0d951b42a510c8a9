"""An application that waits as long as the query says (``?wait=0.5``), on any path."""

import time
from urllib.parse import parse_qs


def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    time.sleep(float(query.get("wait", ["0"])[0]))
    status = query.get("status", ["200"])[0]
    start_response(f"{status} So", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
