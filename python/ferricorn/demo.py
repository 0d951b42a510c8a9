"""The demonstration application: one page about the server, and endpoints that behave well or badly on request.

``ferricorn ferricorn.demo:application``. Not a benchmark and not an example of how to write applications.
"""

from __future__ import annotations

import html
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Body = Iterable[bytes]

# What a stranger may ask of a demonstration that somebody left running.
_SECONDS_MAX = 600.0
_BLOCK_BYTES = 65536
_STREAM_LINES_MAX = 1000


def application(environ: Environ, start_response: StartResponse) -> Body:
    """Answers by path (PEP 3333)."""
    handler = _ROUTES.get(environ.get("PATH_INFO") or "/")
    if handler is None:
        return _text(start_response, "no such page; / lists them all\n", "404 Not Found")
    return handler(environ, start_response)


app = application


def _index(environ: Environ, start_response: StartResponse) -> Body:
    facts = "".join(f"<dt>{key}<dd>{html.escape(value)}" for key, value in _facts(environ).items())
    links = "".join(
        f'<li><a href="{html.escape(path)}"><code>{html.escape(path)}</code></a> {text}' for path, text in _LINKS
    )
    page = _PAGE.replace("{{facts}}", facts).replace("{{links}}", links)
    return _answer(start_response, page.encode(), "text/html; charset=utf-8")


def _sleep(environ: Environ, start_response: StartResponse) -> Body:
    """Waits without using the processor: what a stuck database call looks like."""
    seconds = _seconds(environ)
    time.sleep(seconds)
    return _text(start_response, f"slept {seconds:g} s in {_where()}\n")


def _burn(environ: Environ, start_response: StartResponse) -> Body:
    """Computes: what an endless loop looks like."""
    seconds = _seconds(environ)
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end:
        rounds += 1
    return _text(start_response, f"burned {seconds:g} s in {_where()}, {rounds} rounds\n")


def _stream(environ: Environ, start_response: StartResponse) -> Body:
    """Sends a line at a time, without knowing the length beforehand."""
    count = int(min(_number(environ, "n", 10), _STREAM_LINES_MAX))
    pause = min(_number(environ, "s", 0.2), _SECONDS_MAX)
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return _lines(count, pause)


def _lines(count: int, pause: float) -> Iterator[bytes]:
    for number in range(1, count + 1):
        yield f"line {number} of {count}\n".encode()
        if number < count:
            time.sleep(pause)


def _upload(environ: Environ, start_response: StartResponse) -> Body:
    """Counts the bytes of the request's body."""
    if environ["REQUEST_METHOD"] not in ("POST", "PUT"):
        return _text(start_response, "POST something here\n", "405 Method Not Allowed", [("Allow", "POST, PUT")])
    size = 0
    while block := environ["wsgi.input"].read(_BLOCK_BYTES):
        size += len(block)
    return _answer(start_response, json.dumps({"bytes": size}).encode() + b"\n", "application/json")


def _error(environ: Environ, start_response: StartResponse) -> Body:
    """Fails."""
    raise RuntimeError("the demonstration was asked to fail")


def _headers(environ: Environ, start_response: StartResponse) -> Body:
    """Shows the environ, as far as it is text."""
    shown = {key: value for key, value in sorted(environ.items()) if isinstance(value, str)}
    return _answer(start_response, json.dumps(shown, indent=2).encode() + b"\n", "application/json")


_ROUTES: dict[str, Callable[[Environ, StartResponse], Body]] = {
    "/": _index,
    "/sleep": _sleep,
    "/burn": _burn,
    "/stream": _stream,
    "/upload": _upload,
    "/error": _error,
    "/headers": _headers,
}

_LINKS = (
    ("/sleep?s=2", "waits two seconds, as a slow query would"),
    ("/sleep?s=120", "waits past any deadline: watch the log, and this page, meanwhile"),
    ("/burn?s=2", "computes for two seconds"),
    ("/stream", "sends ten lines, one at a time"),
    ("/error", "raises an exception"),
    ("/headers", "shows the request as the application sees it"),
)


def _facts(environ: Environ) -> dict[str, str]:
    return {
        "Process": str(os.getpid()),
        "Thread": threading.current_thread().name,
        "Request": f"{environ['REQUEST_METHOD']} {environ.get('RAW_URI', '/')} {environ.get('SERVER_PROTOCOL', '')}",
        "Client": environ.get("REMOTE_ADDR") or "a Unix socket",
        "Server": environ.get("SERVER_SOFTWARE", "unknown"),
        "Python": sys.version.split()[0],
        "Time": time.strftime("%H:%M:%S"),
    }


def _where() -> str:
    return f"process {os.getpid()}, thread {threading.current_thread().name}"


def _seconds(environ: Environ) -> float:
    return min(_number(environ, "s", 1.0), _SECONDS_MAX)


def _number(environ: Environ, name: str, default: float) -> float:
    """Returns a non-negative number from the query; anything else counts as not given."""
    try:
        value = float(parse_qs(environ.get("QUERY_STRING", ""))[name][0])
    except (KeyError, ValueError):
        return default
    return value if 0 <= value < float("inf") else default


def _text(
    start_response: StartResponse, text: str, status: str = "200 OK", headers: list[tuple[str, str]] | None = None
) -> Body:
    return _answer(start_response, text.encode(), "text/plain; charset=utf-8", status, headers)


def _answer(
    start_response: StartResponse,
    body: bytes,
    content_type: str,
    status: str = "200 OK",
    headers: list[tuple[str, str]] | None = None,
) -> Body:
    fields = [("Content-Type", content_type), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    start_response(status, fields + (headers or []))
    return [body]


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Ferricorn</title>
<style>
  :root { color-scheme: light dark;
          --ink: #23201d; --paper: #faf7f2; --rust: #b3431b; --line: #e2dacf; --soft: #6f665d }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #ece6df; --paper: #1b1816; --rust: #ee7f52; --line: #3a332e; --soft: #a2978c }
  }
  * { box-sizing: border-box }
  body { margin: 0; background: var(--paper); color: var(--ink); font: 17px/1.6 system-ui, sans-serif }
  main { max-width: 44rem; margin: 0 auto; padding: 12vh 1.5rem 4rem }
  h1 { margin: 0; font-size: 2.75rem; line-height: 1.1; letter-spacing: -.03em }
  h1::after { content: "."; color: var(--rust) }
  h2 { margin: 3rem 0 .75rem; font-size: .8rem; letter-spacing: .09em; text-transform: uppercase; color: var(--soft) }
  .lead { margin: .75rem 0 0; font-size: 1.2rem; color: var(--soft) }
  dl { display: grid; grid-template-columns: max-content 1fr; margin: 0; border-top: 1px solid var(--line) }
  dt, dd { margin: 0; padding: .45rem 0; border-bottom: 1px solid var(--line) }
  dt { padding-right: 2rem; color: var(--soft) }
  dd { font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
  ul { margin: 0; padding: 0; list-style: none }
  li { padding: .3rem 0; color: var(--soft) }
  a { color: var(--rust); text-underline-offset: .2em }
  code { font: .92em ui-monospace, monospace }
  li code { display: inline-block; min-width: 8.5rem }
  button { margin-left: .5rem; padding: .35rem .9rem; border: 1px solid var(--rust); border-radius: .4rem;
           background: none; color: var(--rust); font: inherit; cursor: pointer }
  button:hover { background: var(--rust); color: var(--paper) }
</style>
<main>
  <h1>Ferricorn</h1>
  <p class="lead">It works. One stuck request costs one request: make some, and see that this page still answers.</p>
  <h2>This request</h2>
  <dl>{{facts}}</dl>
  <h2>Try</h2>
  <ul>{{links}}</ul>
  <form action="/upload" method="post" enctype="multipart/form-data">
    <h2>Upload</h2>
    <input type="file" name="file" aria-label="A file to send"><button>Count its bytes</button>
  </form>
</main>
</html>
"""
