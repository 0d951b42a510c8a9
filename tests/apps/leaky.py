"""``/leak`` keeps 20 kB of each request, ``/flat`` nothing."""

import probe

KEPT = []


def app(environ, start_response):
    if environ["PATH_INFO"] == "/leak":
        KEPT.append(bytearray(b"x" * 20_000))
    return probe.reply(start_response, b"ok")
