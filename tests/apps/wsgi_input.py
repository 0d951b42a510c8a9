"""Does to ``wsgi.input`` what the query lists, and tells what each step gave.

``read``, ``read:10``, ``readline:5``, ``readlines``, ``iter``, ``next``, ``read:None``, joined by ``,``.
"""

import hashlib
import json


def argument(text):
    return None if text == "None" else int(text)


def step(stream, name, arguments):
    if name == "iter":
        return list(stream)
    if name == "next":
        return next(stream, b"the end")
    if name == "each":
        # Line by line from a method of its own, as a parser of forms does.
        return list(iter(stream.readline, b""))
    return getattr(stream, name)(*arguments)


def digest(value):
    """Short enough for a log, and says of lists where they were cut."""
    if isinstance(value, list):
        return [len(value), digest(b"".join(value)), hashlib.sha256(repr([*map(len, value)]).encode()).hexdigest()[:8]]
    assert isinstance(value, bytes), type(value)
    return value.decode() if len(value) < 40 and value.isascii() else [len(value), hashlib.sha256(value).hexdigest()]


def perform(stream, steps):
    out = []
    for text in steps.split(","):
        name, *arguments = text.split(":")
        try:
            out.append(digest(step(stream, name, [argument(one) for one in arguments])))
        except TypeError:
            out.append("TypeError")
    return out


def app(environ, start_response):
    query = environ["QUERY_STRING"]
    answer = {
        "terminated": environ["wsgi.input_terminated"],
        "length": environ.get("CONTENT_LENGTH"),
        "steps": perform(environ["wsgi.input"], query) if query else [],
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
