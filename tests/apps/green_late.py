"""What greenlets do once they are late."""

import sys
import time

import gevent
import probe

TOLD = []


def app(environ, start_response):
    return PATHS.get(environ["PATH_INFO"], probe.app)(environ, start_response)


def finally_(environ, start_response):
    """Waits for a second more while it cleans up."""
    try:
        time.sleep(60)
    finally:
        TOLD.append(type(sys.exc_info()[1]).__name__)
        time.sleep(1)
        TOLD.append("cleaned")


def spawner(environ, start_response):
    """Waits for what it has spawned, which takes longer than its own time."""

    def work():
        time.sleep(1.5)
        TOLD.append("spawned")

    gevent.spawn(work).join()
    return probe.reply(start_response, b"joined")


def told(environ, start_response):
    return probe.reply(start_response, " ".join(TOLD).encode())


PATHS = {"/finally": finally_, "/spawner": spawner, "/told": told}
