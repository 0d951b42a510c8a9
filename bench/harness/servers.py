"""How each server is started: one process with one thread for the application, no access log, keep-alive where it can.

Not here: what is measured, and on which core."""

from dataclasses import dataclass

from .environment import BENCH, VENV


@dataclass(frozen=True)
class Server:
    """`command(app, port, workers, threads)` is the argument list that serves `app` on that port of loopback."""

    name: str
    command: object
    # Rust or C: may set the rate at which latencies are compared.
    native: bool = False
    # Processes with threads: can take part in `stuck`.
    threaded: bool = False


def _ferricorn(app, port, workers, threads, *more):
    options = ["--workers", workers, "--bind", f"127.0.0.1:{port}", "--log-level", "warning"]
    if threads > 1:
        options += ["--threads", threads]
    return [VENV / "bin" / "ferricorn", *options, *more, app]


def _gunicorn(worker_class):
    def command(app, port, workers, threads, *more):
        options = ["--workers", workers, "--bind", f"127.0.0.1:{port}", "--log-level", "warning"]
        # The control socket would be left in the user's home.
        options += ["--worker-class", worker_class, "--threads", threads, "--no-control-socket"]
        return [VENV / "bin" / "gunicorn", *options, *more, app]

    return command


def _granian(app, port, workers, threads, *more):
    options = ["--interface", "wsgi", "--http", "1", "--no-ws", "--host", "127.0.0.1", "--port", port]
    options += ["--workers", workers, "--blocking-threads", threads, "--log-level", "warning"]
    return [VENV / "bin" / "granian", *options, *more, app]


def _embedded(name):
    def command(app, port, workers, threads):
        return [VENV / "bin" / "python", BENCH / "harness" / "embedded.py", name, app, port]

    return command


ALL = {
    server.name: server
    for server in [
        Server("ferricorn", _ferricorn, native=True, threaded=True),
        Server("granian", _granian, native=True, threaded=True),
        Server("fastwsgi", _embedded("fastwsgi"), native=True),
        Server("bjoern", _embedded("bjoern"), native=True),
        Server("gunicorn", _gunicorn("sync")),
        Server("gthread", _gunicorn("gthread"), threaded=True),
    ]
}
