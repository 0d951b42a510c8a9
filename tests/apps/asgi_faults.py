"""Misbehaving ASGI applications: each path breaks the specification in one way, or raises at one moment.

``/pid`` and ``/say?TEXT`` (into the error log) are well behaved.
"""

import asyncio
import os
import sys

from asgi_paths import TEXT, Paths, query, reply

app = Paths()
START = {"type": "http.response.start", "status": 200, "headers": TEXT}
# Nothing of a response has begun; a start was sent, but no piece of the body; a piece is out; all of it is out.
EARLY, STARTED, LATE, WHOLE = [], [], [], []


class Foreign(BaseException):
    """What ``except Exception`` does not catch."""


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("not even its text")

    __repr__ = __str__


def piece(body=b"sent", more=True):
    return {"type": "http.response.body", "body": body, "more_body": more}


def sized(length):
    return {**START, "headers": [(b"content-length", str(length).encode())]}


def serves(name, kind, steps):
    """A path that sends messages and raises errors, in order."""

    async def endpoint(scope, receive, send):
        for step in steps:
            if isinstance(step, BaseException):
                # A fresh one each time: tracebacks grow otherwise.
                raise type(step)(*step.args)
            await send(step)

    kind.append(name)
    app[name] = endpoint


ERRORS = {
    "error": RuntimeError("of the application"),
    "foreign": Foreign("not an Exception"),
    "unspeakable": Unspeakable(),
    "system_exit": SystemExit(3),
    "keyboard_interrupt": KeyboardInterrupt(),
    "generator_exit": GeneratorExit(),
    "cancelled": asyncio.CancelledError(),
    "os_error": OSError(5, "of the application's own"),
    "broken_pipe": BrokenPipeError("of the application's own"),
    "stop_async_iteration": StopAsyncIteration(),
}
for name, error in ERRORS.items():
    serves(name, EARLY, [error])
    serves(f"{name}_after_start", STARTED, [START, error])
    serves(f"{name}_after_piece", LATE, [START, piece(), error])
    serves(f"{name}_after_all", WHOLE, [START, piece(), piece(b"", False), error])

FIRST = {
    "body_first": piece(),
    "trailers_first": {"type": "http.response.trailers", "headers": []},
    "unknown_type": {"type": "http.response.nonsense"},
    "websocket_type": {"type": "websocket.accept"},
    "type_of_request": {"type": "http.request"},
    "type_bytes": {**START, "type": b"http.response.start"},
    "no_type": {"status": 200},
    "not_a_dict": None,
    "a_list": [],
    "a_string": "http.response.start",
}
for name, message in FIRST.items():
    serves(name, EARLY, [message])
# A start that cannot be sent.
BAD_START = {
    "no_status": {"status": ...},
    "status_none": {"status": None},
    "status_str": {"status": "200"},
    "status_line": {"status": "200 OK"},
    "status_0": {"status": 0},
    "status_99": {"status": 99},
    "status_1000": {"status": 1000},
    "status_negative": {"status": -200},
    "status_huge": {"status": 1 << 70},
    "headers_none": {"headers": None},
    "headers_int": {"headers": 1},
    "header_alone": {"headers": [(b"x-one",)]},
    "header_of_three": {"headers": [(b"x-one", b"1", b"2")]},
    "header_name_str": {"headers": [("x-one", b"1")]},
    "header_value_str": {"headers": [(b"x-one", "1")]},
    "header_value_int": {"headers": [(b"x-one", 1)]},
    "header_value_none": {"headers": [(b"x-one", None)]},
    "header_name_space": {"headers": [(b"x one", b"1")]},
    "header_name_colon": {"headers": [(b"x:one", b"1")]},
    "header_name_crlf": {"headers": [(b"x-one: 1\r\nx-injected", b"1")]},
    "header_value_crlf": {"headers": [(b"x-one", b"1\r\nx-injected: 1")]},
    "header_value_lf": {"headers": [(b"x-one", b"1\nx-injected: 1")]},
    "header_value_cr": {"headers": [(b"x-one", b"1\rx-injected: 1")]},
    "header_value_nul": {"headers": [(b"x-one", b"1\0")]},
    "header_value_head": {"headers": [(b"x-one", b"1\r\n\r\n<script>x-injected")]},
    "length_not_a_number": {"headers": [(b"content-length", b"four")]},
    "length_negative": {"headers": [(b"content-length", b"-4")]},
}
for name, change in BAD_START.items():
    message = {key: value for key, value in {**START, **change}.items() if value is not ...}
    serves(name, [], [message, piece(b"sent", False)])

SECOND = {
    "start_twice": START,
    "body_str": piece("text"),
    "body_int": piece(4),
    "body_list": piece([b"text"]),
    "no_body_type": {"body": b"text"},
    "unknown_type_for_body": {"type": "http.response.nonsense"},
    "websocket_type_for_body": {"type": "websocket.send", "text": "text"},
    "trailers_unannounced": {"type": "http.response.trailers", "headers": []},
    "none_for_body": None,
}
for name, message in SECOND.items():
    serves(name, STARTED, [START, message])
    serves(f"{name}_late", LATE, [START, piece(), message])
serves("returns_after_start", STARTED, [START])
serves("returns_after_piece", LATE, [START, piece()])
serves("too_long", STARTED, [sized(3), piece(b"toolong", False)])
serves("too_long_late", LATE, [sized(6), piece(), piece(b"toolong")])
serves("too_short_late", LATE, [sized(6), piece(), piece(b"", False)])
serves("returns_too_short", LATE, [sized(6), piece()])
serves("body_after_all", WHOLE, [START, piece(b"sent", False), piece(b"more", False)])
serves("start_after_all", WHOLE, [START, piece(b"sent", False), START])
serves("too_long_after_all", WHOLE, [sized(4), piece(b"sent", False), piece(b"more", False)])


@app.path
async def never_started(scope, receive, send):
    return


@app.path
async def never_started_slowly(scope, receive, send):
    await asyncio.sleep(0.01)


@app.path
async def only_receives(scope, receive, send):
    await receive()


@app.path
async def recovers_from_bad_header(scope, receive, send):
    """An error of send() is the application's to handle."""
    try:
        await send({**START, "headers": [(b"x-one", b"1\r\n")]})
    except Exception:
        await reply(send, b"recovered", 503)


@app.path
async def recovers_from_wrong_type(scope, receive, send):
    try:
        await send({"type": "http.response.nonsense"})
    except Exception:
        await reply(send, b"recovered", 503)


@app.path
async def recovers_from_second_start(scope, receive, send):
    await send(START)
    try:
        await send(START)
    except Exception:
        await send(piece(b"recovered", False))


@app.path
async def recovers_from_str(scope, receive, send):
    await send(START)
    try:
        await send(piece("text"))
    except Exception:
        await send(piece(b"recovered", False))


@app.path
async def error_in_child_task(scope, receive, send):
    """Nobody waits for the child: its error is no matter of the request's."""

    async def child():
        raise RuntimeError("of a child task")

    task = asyncio.create_task(child())
    await asyncio.sleep(0.01)
    await reply(send, b"sent")
    del task


@app.path
async def error_in_callback(scope, receive, send):
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)
    await reply(send, b"sent")


@app.path
async def awaits_nothing(scope, receive, send):
    """Coroutines that nobody awaits do nothing."""
    for forgotten in (receive(), send(START)):
        forgotten.close()
    await reply(send, b"sent")


@app.path
async def awaits_twice(scope, receive, send):
    first = send(START)
    await first
    try:
        await first
    except RuntimeError:
        await send(piece(b"RuntimeError", False))


@app.path
async def pid(scope, receive, send):
    await reply(send, b"%d" % os.getpid())


@app.path
async def say(scope, receive, send):
    print(f"said {query(scope)}", file=sys.stderr, flush=True)
    await reply(send, b"%d" % os.getpid())
