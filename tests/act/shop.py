"""An application with ordinary trouble: a slow statement, a lock, a service that does not answer, a leak, a loop. Its database is
DSN, the silent service PEER."""

import os
import socket
import threading
import time
from pathlib import Path

import psycopg2
from flask import Flask

app = Flask(__name__)
LOCAL = threading.local()
VERSION = os.environ.get("VERSION_FILE")
# As on disk when this worker was born.
CODE = Path(VERSION).read_text().strip() if VERSION else "good"
if CODE == "broken":
    raise RuntimeError("this version does not even load")
if CODE == "slow":
    time.sleep(4)


def session():
    if not hasattr(LOCAL, "connection"):
        LOCAL.connection = psycopg2.connect(os.environ["DSN"])
        LOCAL.connection.autocommit = True
    return LOCAL.connection.cursor()


def fetched(query):
    try:
        with session() as cursor:
            cursor.execute(query)
            return str(cursor.fetchall())
    except psycopg2.OperationalError:
        del LOCAL.connection
        raise


@app.get("/")
def calm():
    return "calm"


@app.get("/orders/<int:number>")
def order(number):
    return fetched(f"select {number}")


@app.get("/report")
def report():
    return fetched("select pg_sleep(60)")


@app.get("/slowly")
def slowly():
    return fetched("select pg_sleep(2)")


# What was read before; nobody asks for it again.
KEPT = []


@app.get("/feed")
def feed():
    KEPT.append(fetched("select body from feeds, pg_sleep(0.5)"))
    return "fed"


@app.get("/stock")
def stock():
    return fetched("update stock set count = count - 1 where id = 1 returning count")


@app.get("/rates")
def rates():
    host, port = os.environ["PEER"].split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /rates HTTP/1.0\r\n\r\n")
        return connection.recv(1000) or ("nothing", 502)


@app.get("/waits")
def waits():
    time.sleep(2)
    return "waited"


@app.get("/stuck")
def stuck():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
