"""How each server is started: one process with one thread for the application, no access log, keep-alive where it can.

Not here: what is measured, and on which core."""

from dataclasses import dataclass

from .environment import BENCH, VENV


@dataclass(frozen=True)
class Server:
    """`command(app, port, workers, threads)` is the argument list that serves `app` on that port of loopback."""

    name: str
    command: object
    # Parses and writes in Rust or C: may set the rate at which latencies are compared.
    native: bool = False
    # Processes with threads: can take part in `stuck`.
    threaded: bool = False
    # What it takes to hold 20,000 connections and to be gone within 10 s after SIGTERM, where the defaults differ.
    crowd: tuple = ()


def _ferricorn(*worker_class):
    def command(app, port, workers, threads, *more):
        options = ["--workers", workers, "--bind", f"127.0.0.1:{port}", "--log-level", "warning", *worker_class]
        if threads > 1:
            options += ["--threads", threads]
        return [VENV / "bin" / "ferricorn", *options, *more, app]

    return command


def _gunicorn(worker_class):
    def command(app, port, workers, threads, *more):
        options = ["--workers", workers, "--bind", f"127.0.0.1:{port}", "--log-level", "warning"]
        # The control socket would be left in the user's home.
        options += ["--worker-class", worker_class, "--threads", threads, "--no-control-socket"]
        return [VENV / "bin" / "gunicorn", *options, *more, app]

    return command


def _granian(interface, *interface_options):
    def command(app, port, workers, threads, *more):
        options = ["--interface", interface, "--http", "1", "--host", "127.0.0.1", "--port", port]
        options += ["--workers", workers, "--log-level", "warning", *interface_options]
        if interface == "wsgi":
            options += ["--blocking-threads", threads]
        return [VENV / "bin" / "granian", *options, *more, app]

    return command


def _embedded(name):
    def command(app, port, workers, threads):
        return [VENV / "bin" / "python", BENCH / "harness" / "embedded.py", name, app, port]

    return command


def _uvicorn(app, port, workers, threads, *more):
    options = ["--host", "127.0.0.1", "--port", port, "--loop", "uvloop", "--http", "httptools"]
    options += ["--workers", workers, "--no-access-log", "--log-level", "warning"]
    return [VENV / "bin" / "uvicorn", *options, *more, app]


def _hypercorn(app, port, workers, threads, *more):
    options = ["--bind", f"127.0.0.1:{port}", "--workers", workers, "--worker-class", "uvloop"]
    return [VENV / "bin" / "hypercorn", *options, "--log-level", "warning", *more, app]


def _by_name(*servers):
    return {server.name: server for server in servers}


WSGI = _by_name(
    Server("ferricorn", _ferricorn(), native=True, threaded=True),
    Server("granian", _granian("wsgi", "--no-ws"), native=True, threaded=True),
    Server("fastwsgi", _embedded("fastwsgi"), native=True),
    Server("bjoern", _embedded("bjoern"), native=True),
    Server("gunicorn", _gunicorn("sync")),
    Server("gthread", _gunicorn("gthread"), threaded=True),
)

_GUNICORN_CROWD = ("--worker-connections", 20_000, "--graceful-timeout", 10)

ASGI = _by_name(
    Server("ferricorn", _ferricorn("--worker-class", "asgi"), native=True, crowd=_GUNICORN_CROWD),
    Server(
        "granian", _granian("asgi", "--loop", "uvloop", "--runtime-threads", 1), native=True,
        crowd=("--backpressure", 20_000, "--workers-kill-timeout", 10),
    ),
    Server("uvicorn", _uvicorn, native=True, crowd=("--timeout-graceful-shutdown", 10)),
    Server("hypercorn", _hypercorn, crowd=("--graceful-timeout", 10)),
    Server("gunicorn-asgi", _gunicorn("asgi"), crowd=_GUNICORN_CROWD),
    Server("gunicorn-uvicorn", _gunicorn("uvicorn_worker.UvicornWorker"), crowd=_GUNICORN_CROWD),
)

GEVENT = _by_name(
    Server("ferricorn", _ferricorn("--worker-class", "gevent")),
    Server("gunicorn", _gunicorn("gevent")),
)
