"""What an application sees of greenlets; one path for each question."""

import contextvars
import json
import os
import queue
import select
import socket
import ssl
import subprocess
import sys
import threading
import time

# Bound when this module is imported: patched functions, if that came first.
from time import sleep as sleep_of_import

import gevent
import probe
from gevent import monkey

AT_IMPORT = {name: monkey.is_module_patched(name) for name in ("socket", "ssl", "subprocess", "threading", "time")}
LOCAL = threading.local()
CONTEXT = contextvars.ContextVar("CONTEXT", default=None)
BUSY = []
PEAK = 0
NOTES = os.environ.get("NOTES_PATH", "")


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/").split("/")[0]
    return PATHS.get(name, probe.app)(environ, start_response)


def answer(start_response, seen):
    return probe.reply(start_response, json.dumps(seen).encode())


def patched(environ, start_response):
    """What was patched when this module was imported, what is now, and what objects made at its import are."""
    now = {name: monkey.is_module_patched(name) for name in AT_IMPORT}
    kinds = {
        "sleep": sleep_of_import.__module__,
        "local": type(LOCAL).__module__,
        "socket": socket.socket.__module__,
        "tls": ssl.SSLSocket.__module__,
        "process": subprocess.Popen.__module__,
    }
    return answer(start_response, {"import": AT_IMPORT, "now": now, "kinds": kinds})


def greenlet(environ, start_response):
    """Which greenlet this is, and in which thread, after others had time to come."""
    time.sleep(float(environ["QUERY_STRING"] or 0))
    current = gevent.getcurrent()
    thread = monkey.get_original("threading", "get_ident")()
    seen = {"id": id(current), "greenlet": isinstance(current, gevent.Greenlet), "thread": thread}
    return answer(start_response, {**seen, "ident": threading.get_ident()})


def local(environ, start_response):
    """Keeps what the query says while others keep theirs; tells also what was there before."""
    before = getattr(LOCAL, "value", None), CONTEXT.get()
    LOCAL.value = environ["QUERY_STRING"]
    CONTEXT.set(environ["QUERY_STRING"])
    time.sleep(0.3)
    return answer(start_response, [*before, LOCAL.value, CONTEXT.get()])


def peak(environ, start_response):
    """Takes as long as the query says; tells how many have ever been here at the same time."""
    global PEAK
    BUSY.append(None)
    PEAK = max(PEAK, len(BUSY))
    try:
        time.sleep(float(environ["QUERY_STRING"]))
    finally:
        BUSY.pop()
    return probe.reply(start_response, b"%d" % PEAK)


def sleeping():
    time.sleep(1)


def bound():
    sleep_of_import(1)


def receiving():
    """Waits for a peer that speaks late, in this process."""
    listener = socket.create_server(("127.0.0.1", 0))

    def speak():
        peer, _ = listener.accept()
        gevent.sleep(1)
        peer.sendall(b"x")

    gevent.spawn(speak)
    with socket.create_connection(listener.getsockname()) as client:
        assert client.recv(1) == b"x"


def queued():
    things = queue.Queue()
    gevent.spawn_later(1, things.put, None)
    things.get()


def locked():
    lock = threading.Lock()
    lock.acquire()
    gevent.spawn_later(1, lock.release)
    lock.acquire()


def joined():
    thread = threading.Thread(target=time.sleep, args=(1,))
    thread.start()
    thread.join()


def selecting():
    quiet, other = socket.socketpair()
    select.select([quiet], [], [], 1)
    other.close()


def child():
    assert subprocess.run([sys.executable, "-SIc", "import time; time.sleep(1)"], check=True).returncode == 0


WAITS = {wait.__name__: wait for wait in (sleeping, bound, receiving, queued, locked, joined, selecting, child)}


def wait(environ, start_response):
    """``/wait/KIND``: a second, by one of the ways to wait."""
    WAITS[environ["PATH_INFO"].split("/")[2]]()
    return probe.reply(start_response, b"waited")


def after(environ, start_response):
    """Leaves work behind that goes on after the response."""
    gevent.spawn_later(0.5, note, environ["QUERY_STRING"])
    return probe.reply(start_response, b"spawned")


def note(text):
    with open(NOTES, "a") as notes:
        notes.write(f"{os.getpid()} {text}\n")


def fail(environ, start_response):
    """Raises after others had time to come."""
    time.sleep(0.2)
    raise {"error": ValueError, "exit": SystemExit, "kill": gevent.GreenletExit}[environ["QUERY_STRING"]]("on purpose")


def drip(environ, start_response):
    """A stream whose pieces come one by one."""

    def pieces():
        for number in range(5):
            yield b"%d" % number
            time.sleep(0.2)

    start_response("200 OK", [("Content-Type", "text/plain")])
    return pieces()


def query2(environ, start_response):
    """A query that takes the database as long as the query string says."""
    import psycopg2

    with psycopg2.connect(os.environ["TEST_DSN"]) as connection, connection.cursor() as cursor:
        cursor.execute("select pg_sleep(%s)", [float(environ["QUERY_STRING"])])
    return probe.reply(start_response, b"done")


def query3(environ, start_response):
    import psycopg

    with psycopg.connect(os.environ["TEST_DSN"]) as connection:
        connection.execute("select pg_sleep(%s)", [float(environ["QUERY_STRING"])])
    return probe.reply(start_response, b"done")


PATHS = {call.__name__: call for call in (patched, greenlet, local, peak, wait, after, fail, drip, query2, query3)}
