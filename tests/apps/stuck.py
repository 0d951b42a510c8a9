"""Requests that do not end by themselves, one path for each way; and what an application can say about its deadline."""

import ctypes
import os
import queue
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import probe

import ferricorn

LONG = 60
SEEN = []
QUIET, _listening = socket.socketpair()


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/").split("/")[0]
    try:
        return PATHS.get(name, probe.app)(environ, start_response)
    except ferricorn.RequestTimeout:
        SEEN.append(environ["PATH_INFO"])
        raise


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
    QUIET.recv(1)


def peer():
    listener = socket.create_server(("127.0.0.1", 0))
    silent = socket.create_connection(listener.getsockname())
    silent.recv(1)


def patient():
    """Waits for one silent peer after the other, whatever becomes of them."""
    while True:
        try:
            peer()
        except Exception:
            pass


def get():
    queue.Queue().get()


def hold():
    """C code that keeps the interpreter."""
    ctypes.PyDLL(None).usleep(LONG * 1_000_000 // 4)


def mutex():
    """The same, in a call that no signal ends."""
    lock = ctypes.create_string_buffer(64)
    libc = ctypes.PyDLL(None)
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)


def regex():
    re.match(r"(a+)+$", "a" * 64 + "b")


def exit():
    os._exit(1)


def segfault():
    ctypes.string_at(0)


def abort():
    os.abort()


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def children():
    """Leaves processes behind: one of another program, and one like itself, with all that it had open."""
    subprocess.Popen(["sleep", str(LONG)], close_fds=False)
    if os.fork() == 0:
        time.sleep(LONG)
        os._exit(0)
    time.sleep(LONG)


def orphaned():
    """Dies while a process like itself, with all that it had open, lives on."""
    if os.fork() == 0:
        time.sleep(LONG)
        os._exit(0)
    killed()


def memory():
    """Takes memory until the kernel has had enough: only for a server in a control group with a limit."""
    assert "LIMITED_GROUP" in os.environ
    hoard = []
    while len(hoard) < 1000:
        hoard.append(b"x" * 1_000_000)
    raise MemoryError("there is no limit")


def swallow():
    while True:
        try:
            time.sleep(0.05)
        except BaseException:
            pass


STUCK = {call.__name__: call for call in (sleep, loop, deadlock, recv, peer, patient, get, hold, mutex, regex, swallow, exit, segfault, abort, killed, children, orphaned, memory)}


def stuck(environ, start_response):
    """``/stuck/KIND``."""
    STUCK[environ["PATH_INFO"].split("/")[2]]()
    return probe.reply(start_response, b"never")


def closed(environ, start_response):
    """Waits for a silent peer, and says what it was told of its connection."""
    try:
        peer()
    finally:
        SEEN.append(f"/closed/{type(sys.exc_info()[1]).__name__}")
    return probe.reply(start_response, b"the other end has closed")


def client(environ, start_response):
    """Waits for its own client to say more."""
    waiting = select.poll()
    waiting.register(environ["gunicorn.socket"], select.POLLIN)
    waiting.poll()
    return probe.reply(start_response, b"never")


def seen(environ, start_response):
    """The paths of requests that were interrupted, of this worker."""
    return probe.reply(start_response, "\n".join(SEEN).encode())


def left(environ, start_response):
    return probe.reply(start_response, repr(ferricorn.deadline()).encode())


def extended(environ, start_response):
    """Sleeps past its first deadline, with leave."""
    before = ferricorn.deadline()
    after = ferricorn.extend_deadline(2)
    time.sleep(1.5)
    return probe.reply(start_response, f"{before:.1f} {after:.1f}".encode())


def shielded(environ, start_response):
    """Does not want to be interrupted before its work is done."""
    with ferricorn.no_interrupt():
        time.sleep(1.6)
        SEEN.append("/shielded/done")
    loop()


def drip(environ, start_response):
    """A stream that makes progress for longer than its deadline, and then none (``?stop``)."""

    def pieces():
        for _ in range(5):
            yield b"drop"
            time.sleep(0.4)
        if environ["QUERY_STRING"] == "stop":
            time.sleep(LONG)

    start_response("200 OK", [("Content-Type", "text/plain")])
    return pieces()


def edge(environ, start_response):
    """Ends just when its time does (0.1 s), now before and now after."""
    end = time.monotonic() + random.uniform(0.08, 0.12)
    while time.monotonic() < end:
        pass
    return probe.reply(start_response, b"edge")


PATHS = {call.__name__: call for call in (stuck, closed, client, seen, left, extended, shielded, drip, edge)}
