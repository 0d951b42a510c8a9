"""An application that goes wrong in every way of `run.py faults`: one path for each; every other path answers at once.

Where a server can tell where a request was, it has to name the function of the fault and this file."""

import ctypes
import os
import re
import signal
import subprocess
import threading
import time

LONG = 60

if os.path.exists(os.environ.get("FAULT_FLAG", "")):

    def hang_at_import():
        time.sleep(LONG)

    hang_at_import()


def sleep():
    time.sleep(LONG)


def loop():
    while True:
        pass


def deadlock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def recv():
    import requests

    requests.get(f"http://127.0.0.1:{os.environ['FAULT_SILENT_PORT']}/")


def psycopg():
    import psycopg

    with psycopg.connect(os.environ["FAULT_DSN"]) as connection:
        connection.execute("select pg_sleep(%s)", [LONG])


def hold():
    # A mutex locked twice: a call that no signal ends, and that keeps the interpreter.
    lock = ctypes.create_string_buffer(64)
    libc = ctypes.PyDLL(None)
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)


def regex():
    re.match(r"(a+)+$", "a" * 64 + "b")


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def segfault():
    ctypes.string_at(0)


def exit():
    os._exit(1)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def children():
    subprocess.Popen(["sleep", str(LONG)], close_fds=False)
    if os.fork() == 0:
        time.sleep(LONG)
        os._exit(0)
    time.sleep(LONG)


def memory():
    hoard = []
    while len(hoard) < 1000:
        hoard.append(b"x" * 1_000_000)
    raise MemoryError("there is no limit")


def nap():
    time.sleep(0.2)


PATHS = {
    "/" + call.__name__: call
    for call in (
        sleep, loop, deadlock, recv, psycopg, hold, regex, stop, segfault, exit, kill, children, memory, nap
    )
}


def app(environ, start_response):
    fault = PATHS.get(environ["PATH_INFO"])
    if fault is not None:
        fault()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"done"]
