"""Logger classes of a user's own, as projects write them against Gunicorn."""

import json

from gunicorn import glogging
from gunicorn.glogging import Logger


class Json(Logger):
    """Access lines as JSON, and other fields than Gunicorn's."""

    def access(self, resp, req, environ, request_time):
        self.access_log.info(
            json.dumps({
                "status": resp.status,
                "code": resp.status_code,
                "sent": resp.sent,
                "headers": sorted(map(list, resp.headers)),
                "path": environ["PATH_INFO"],
                "method": req.method,
                "uri": req.uri,
                "query": req.query,
                "version": list(req.version),
                "accept": dict(req.headers).get("ACCEPT"),
                "seconds": request_time.total_seconds(),
            })
        )  # fmt: skip


class NoHealth(glogging.Logger):
    """The most frequent of all: no lines about health checks."""

    def access(self, resp, req, environ, request_time):
        if req.path != "/health":
            super().access(resp, req, environ, request_time)


class Atoms(Logger):
    """An atom more, another clock."""

    def atoms(self, resp, req, environ, request_time):
        atoms = super().atoms(resp, req, environ, request_time)
        atoms["k"] = environ.get("HTTP_X_REQUEST_ID", "none")
        return atoms

    def now(self):
        return "[now]"


class Formats(Logger):
    """Other formats, by the class's own attributes."""

    error_fmt = "E %(levelname)s %(message)s"
    access_fmt = "A %(message)s"
    datefmt = ""


class Setup(Logger):
    """Handlers of its own beside Gunicorn's."""

    def setup(self, cfg):
        super().setup(cfg)
        self._set_handler(self.error_log, cfg.errorlog, glogging.logging.Formatter("S %(message)s"))

    def critical(self, msg, *args, **kwargs):
        super().critical("C " + msg, *args, **kwargs)

    def info(self, msg, *args, **kwargs):
        super().info("I " + msg, *args, **kwargs)

    def exception(self, msg, *args, **kwargs):
        super().exception("X " + msg, *args, **kwargs)


class Failing(Logger):
    """Its fault must not become the request's."""

    def access(self, resp, req, environ, request_time):
        raise RuntimeError("logger failed")
