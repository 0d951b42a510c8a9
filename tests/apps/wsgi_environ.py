"""Tells all of the environ, whatever the path: plain values as they are, the type of the others."""

import json


def app(environ, start_response):
    plain = {key: value for key, value in environ.items() if isinstance(value, (str, int, bool, tuple))}
    types = {key: type(value).__name__ for key, value in environ.items() if key not in plain}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"plain": plain, "types": types}).encode()]
