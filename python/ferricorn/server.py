"""The Python half of a server: what the arbiter and its workers (Rust) ask of configuration, hooks and logs.

One ``Server`` lives in the master and, by the fork, in every worker. It holds no state of its own about processes:
Rust tells it what has happened, it tells the user's hooks. Not for: deciding, supervising, serving.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ferricorn import __version__, hooks, stacks
from ferricorn.app import Application, prepare_path
from ferricorn.config import DEFAULT_LOGGER, Config
from ferricorn.errors import AppImportError, StartupError
from ferricorn.glogging import Logger
from ferricorn.prevention import Facts, Prevention
from ferricorn.timeouts import catch_interrupts
from ferricorn.wsgi import FileWrapper, WSGIErrorsWrapper

BOOT_ERROR = 3
LOAD_ERROR = 4


class Server:
    """Configuration, logger and hooks of one server."""

    def __init__(self, values: Mapping[str, object], defaults: Mapping[str, object], app_uri: str | None) -> None:
        os.environ["SERVER_SOFTWARE"] = f"ferricorn/{__version__}"
        self.app_uri = app_uri
        self._raw_env: dict[str, str | None] = {}
        self.cfg = Config(values, defaults)
        self._export_env()
        prepare_path(self.cfg)
        self.log = self.cfg.logger_class(self.cfg)
        self.app = Application(self.cfg, app_uri)
        self.arbiter = hooks.Arbiter(self.cfg, self.log, self.app)
        self.hooks = hooks.Hooks(self.cfg, self.arbiter)
        self.worker: hooks.Worker | None = None
        self.loop: Any = None
        self._forking: hooks.Worker | None = None
        self._unfit: BaseException | None = None
        self._prevention: Prevention | None = None

    # ---- In the master ----

    def reconfigure(self, values: Mapping[str, object], defaults: Mapping[str, object]) -> None:
        """Takes over the configuration of a reload, which Rust has validated; a logger that refuses it is put back."""
        cfg = Config(values, defaults)
        try:
            self.log.setup(cfg)
        except Exception as error:
            self.log.setup(self.cfg)
            raise RuntimeError(f"the logger does not accept the new settings: {error}") from error
        self._restore_env()
        self.cfg = self.log.cfg = cfg
        self._export_env()
        prepare_path(cfg)
        kept = self.app.callable if self.cfg.preload_app else None
        self.app = Application(self.cfg, self.app_uri)
        self.app.callable = kept
        self.arbiter.app = self.app
        self.arbiter.setup(self.cfg)
        self.hooks.cfg = self.cfg

    def relay(self, settings: Mapping[str, Any]) -> None:
        """Puts what hands jobs to Celery in the place of the application."""

        def load() -> Any:
            from ferricorn.relay import Relay

            return Relay(**settings)

        self.app = Application(self.cfg, self.app_uri, loader=load)
        self.arbiter.app = self.app

    def prevent(self, facts: Mapping[str, Any]) -> None:
        """Takes what the settings say about calls of the application to others."""
        wanted = Facts(**facts)
        self._prevention = Prevention(wanted, self.log) if wanted.any else None

    def check(self) -> int:
        """Loads the application for ``--check-config``; returns the exit code."""
        try:
            prepare_path(self.cfg)
            self.app.load()
        except Exception:
            sys.stderr.write("\nError while loading the application:\n\n")
            traceback.print_exc()
            sys.stderr.flush()
            return 1
        return 0

    def preload(self) -> int:
        """Imports the application in the master (``preload_app``); returns 0, or the exit code."""
        try:
            self.app.wsgi()
        except Exception:
            self.log.exception("The application could not be loaded (preload_app)")
            return 1
        return 0

    def call_hook(self, name: str, *args: Any) -> None:
        """Calls a hook of the master; a failure is logged and stops nothing."""
        try:
            getattr(self.hooks, name)(*args)
        except Exception:
            self.log.exception("Exception in %s hook", name)

    def nworkers_changed(self, new: int, old: int | None) -> None:
        """Tells of the wanted number of workers."""
        self.arbiter.num_workers = new
        self.call_hook("nworkers_changed", new, old)

    def pre_fork(self, age: int) -> None:
        """Makes the ``worker`` of a worker about to be forked."""
        self.arbiter.worker_age = age
        facts = (age, os.getpid(), self.arbiter.LISTENERS, self.app, self.cfg.timeout / 2, self.cfg, self.log)
        worker_class = self.cfg.worker_class
        if not (isinstance(worker_class, type) and issubclass(worker_class, hooks.Worker)):
            worker_class = hooks.Worker
        try:
            self._forking = worker_class(*facts)
        except Exception:
            self.log.exception("Exception in worker class %s; the plain one takes its place", worker_class.__name__)
            self._forking = hooks.Worker(*facts)
        self.call_hook("pre_fork", self._forking)

    def forked(self, pid: int) -> None:
        """Says in the master that the fork has happened."""
        if self._forking is not None:
            self._forking.pid = pid
            self.arbiter.WORKERS[pid] = self._forking
        self._forking = None

    def child_exit(self, pid: int) -> None:
        """Tells of a worker that has been reaped."""
        worker = self.arbiter.WORKERS.pop(pid, None)
        if worker is not None:
            self.call_hook("child_exit", worker)

    def set_listeners(self, descriptors: list[int]) -> None:
        """Shows hooks the listening sockets."""
        self.arbiter.LISTENERS = [hooks.Listener(fd) for fd in descriptors]

    def count_workers(self, count: int) -> None:
        """Tells the logger how many workers there are; one that emits metrics makes a gauge of it."""
        self.log.debug("%s workers", count, extra={"metric": "gunicorn.workers", "value": count, "mtype": "gauge"})

    # ---- In a worker ----

    def post_fork(self, stack: int | None) -> None:
        """Takes up the life of a worker just forked, and calls the hook; its failure is told by ``boot``.

        ``stack`` is where the arbiter reads what this worker hangs in, until it has booted.
        """
        worker = self._forking
        assert worker is not None, "pre_fork comes first"
        self.worker, worker.pid, worker.ppid = worker, os.getpid(), os.getppid()
        random.seed()
        if stack is not None:
            stacks.arm(stack)
        try:
            self.hooks.post_fork(worker)
        except BaseException as error:
            self._unfit = error

    def boot(self, kind: str) -> int:
        """Loads the application for a class of workers; returns 0, or the worker's exit code."""
        worker = self.worker
        assert worker is not None, "post_fork comes first"
        try:
            if self._unfit is not None:
                raise self._unfit
            self._catch_abort(worker)
            os.environ.update(self.cfg.env)
            if kind == "gevent":
                from ferricorn import greenlets

                greenlets.patch()
                self.loop = greenlets.Hub()
            if self._prevention is not None:
                self._prevention.take_effect()
            worker.init_process()
            if kind == "asgi":
                self.start_loop(worker.wsgi)
            worker.booted = True
            self.hooks.post_worker_init(worker)
        except SystemExit as error:
            self.leave()
            return error.code if isinstance(error.code, int) else BOOT_ERROR
        except StartupError as error:
            self.log.error("Application startup failed: %s", error, exc_info=error.__cause__)
            self.leave()
            return BOOT_ERROR
        except AppImportError as error:
            self.log.debug("Exception while loading the application", exc_info=True)
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
            self.leave()
            return LOAD_ERROR
        except Exception:
            self.log.exception("Exception in worker process")
            self.leave()
            return BOOT_ERROR
        stacks.disarm()
        return 0

    def start_loop(self, app: Any) -> None:
        """Makes the event loop of a worker whose application is ASGI, and starts that up in it."""
        from ferricorn import asgi

        self.loop = asgi.Loop(self.cfg, self.log, app)
        self.loop.start()

    def max_requests(self) -> int:
        """Returns after how many requests this worker asks to be replaced; 0 for never."""
        limit = self.worker.max_requests if self.worker is not None else sys.maxsize
        return 0 if limit == sys.maxsize else limit

    def _catch_abort(self, worker: hooks.Worker) -> None:
        def aborted(_signal: int, _frame: Any) -> None:
            worker.alive = False
            worker.aborted = True
            self.hooks.worker_abort(worker)
            self.leave()
            # Not by SystemExit: whatever the thread is doing, the application's code or ours, would catch it.
            os._exit(1)

        signal.signal(signal.SIGABRT, aborted)
        catch_interrupts()
        # The loop reads TERM, INT, QUIT and USR1; Python must not turn INT into an exception.
        signal.signal(signal.SIGWINCH, signal.SIG_IGN)

    def notify(self, what: str) -> None:
        """Hears of INT, QUIT (``interrupted``) and USR1 (``reopen``)."""
        if what == "reopen":
            self.log.reopen_files()
        elif self.worker is not None:
            self.worker.alive = False
            self.hooks.worker_int(self.worker)

    def leave(self) -> None:
        """Ends a worker's Python half: the hook, exit handlers, buffers."""
        worker = self.worker
        self.log.info("Worker exiting (pid: %s)", os.getpid())
        if worker is not None:
            try:
                self.hooks.worker_exit(worker)
            except Exception:
                self.log.warning("Exception during worker exit:\n%s", traceback.format_exc())
        # In the order of the interpreter's own end, which a worker does not run.
        with contextlib.suppress(Exception):
            threading._shutdown()  # type: ignore[attr-defined]
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()

    def environs(self, names: list[tuple[str, str]], multithread: bool, multiprocess: bool) -> list[dict[str, Any]]:
        """Returns, per listener, the items of environ that do not change; ``names`` are SERVER_NAME and SERVER_PORT."""
        common = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": WSGIErrorsWrapper(self.cfg),
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
            "SERVER_SOFTWARE": f"ferricorn/{__version__}",
            "SCRIPT_NAME": os.environ.get("SCRIPT_NAME", ""),
        }
        return [{**common, "SERVER_NAME": name, "SERVER_PORT": port} for name, port in names]

    def observer(self, python_access: bool) -> Observer | None:
        """Returns who is told of each request, or None where nobody wants to be."""
        hooked = self.hooks.has("pre_request") or self.hooks.has("post_request")
        return Observer(self, python_access) if hooked or python_access else None

    def logs_in_python(self) -> bool:
        """Tells whether a logger of the user's writes the logs, so that Rust must not."""
        cfg = self.cfg
        custom = cfg.settings["logger_class"].value not in (None, "simple", DEFAULT_LOGGER)
        custom = custom or cfg.statsd_host is not None
        return bool(custom or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json or cfg.syslog)

    def tells_of_requests(self) -> bool:
        """Tells whether the logger in Python wants to hear of each request.

        It does for its access log, or to do something else with it: one that counts does so without a log.
        """
        own = getattr(type(self.log), "access", None) is not Logger.access
        return bool(own or getattr(self.log, "access_log_enabled", True))

    def _export_env(self) -> None:
        for name, value in self.cfg.env.items():
            self._raw_env[name] = os.environ.get(name)
            os.environ[name] = value

    def _restore_env(self) -> None:
        for name, value in self._raw_env.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._raw_env.clear()


class Observer:
    """Tells hooks, and a logger in Python, of each request."""

    def __init__(self, server: Server, python_access: bool) -> None:
        self._server = server
        self._python_access = python_access
        self._pre = server.hooks.has("pre_request")
        self._post = server.hooks.has("post_request")

    def begin(self, environ: Mapping[str, Any], headers: list[tuple[str, str]]) -> hooks.Request:
        """Before the application; returns the request, as ``end`` is to get it."""
        worker = self._server.worker
        assert worker is not None, "requests are served by workers"
        worker.nr += 1
        req = hooks.Request(environ, worker.nr, headers)
        if self._pre:
            self._server.hooks.pre_request(worker, req)
        return req

    def end(
        self,
        req: hooks.Request,
        status: int,
        line: str | None,
        headers: list[tuple[str, str]],
        sent: int,
        seconds: float,
    ) -> bool:
        """After the application; returns True if the access log has its line."""
        worker = self._server.worker
        assert worker is not None, "requests are served by workers"
        if line is None or not line.startswith(str(status)):
            # The response is ours, not the application's.
            line, headers = str(status), []
        resp = hooks.Response(line, headers, sent)
        if self._python_access:
            self._server.log.access(resp, req, req.environ, timedelta(seconds=seconds))
        if self._post:
            self._server.hooks.post_request(worker, req, req.environ, resp)
        return self._python_access
