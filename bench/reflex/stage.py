"""What stands round the server in one cell: its database, its partners, its files, and who else is there. Made anew for each.

Not here: the server (`hosts`), and what goes wrong (`faults`)."""

import contextlib
import fcntl
import json
import os
import random
import signal
import tempfile
import threading
import urllib.parse
from pathlib import Path

from harness.process import MeasurementError

from . import children, databases, partners
from .faults import Impossible
from .load import Visitors

PARTNERS = ("carrier", "payments", "reviews", "supplier", "flags")
# Visits to the shop beside those that are hit, per second.
BACKGROUND = {
    "home": (2, ["/"]),
    "list": (3, [f"/products?before={n}" for n in range(1000, 2000, 50)]),
    "product": (4, [f"/products/{n}" for n in range(900, 1400, 7)]),
    "order": (3, [f"/orders/{n}" for n in range(1, 900, 7)]),
}
NAME = "shop.example"
PGBOUNCER_SIZE = 3


class Stage:
    """Of one cell. As context manager: ends what it started."""

    def __init__(self, shared, fault, framework, lane, seed, bare=False):
        self.shared, self.fault, self.framework = shared, fault, framework
        # Without an observer: the fault itself is looked at.
        self.bare = bare
        self.postgres = shared.postgres
        self.database = f"shop{lane or ''}"
        self.random = random.Random(f"{seed} {fault.name} {framework}")
        self.lane = lane
        self.server = None
        self.visitors = None
        self.prefix = []
        self.extra = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-", ignore_cleanup_errors=True)))
            self.folder.chmod(0o755)
            self.postgres.fresh(self.database)
            stack.callback(self._drop)
            self.data = self.folder / "data"
            (self.data / "uploads").mkdir(parents=True)
            (self.data / "invoice.txt").write_text("Invoice for order {order}\n")
            (self.data / "template.lock").touch()
            self.uploads = self.data / "uploads"
            certificate = self.shared.certificate if "tls" in self.fault.needs else None
            self.partners = {
                name: stack.enter_context(partners.Partner(certificate if name != "flags" else None)) for name in PARTNERS
            }
            self._services(stack)
            # Healed first, whatever happens.
            stack.callback(self._heal)
            self._stack = stack.pop_all()
        return self

    def _services(self, stack):
        needs = self.fault.needs
        self.redis = self.bouncer = self.names = self.stock = None
        if needs & {"redis", "celery"}:
            self.redis = stack.enter_context(databases.Redis(self.folder))
        if "pgbouncer" in needs:
            self.bouncer = stack.enter_context(databases.PgBouncer(self.postgres, self.folder, PGBOUNCER_SIZE))
        if "mariadb" in needs:
            self.stock = self.shared.mariadb()
            self.stock.fresh(self.database)
            stack.callback(self.stock.drop, self.database)
        if "names" in needs:
            # Addresses that nobody has, one for each lane.
            try:
                self.names = stack.enter_context(partners.NameServer(f"127.53.{os.getpid() % 200}.{10 + self.lane}"))
            except MeasurementError as error:
                raise Impossible(str(error)) from error
            resolv = self.folder / "resolv.conf"
            resolv.write_text(f"nameserver {self.names.address}\n")
            mount = f'mount --bind {resolv} /etc/resolv.conf && exec "$@"'
            self.prefix = ["unshare", "--mount", "--", "sh", "-c", mount, "sh"]

    def _drop(self):
        with contextlib.suppress(Exception):
            self.postgres.drop(self.database)

    def _heal(self):
        self.fault.heal(self)
        for partner in self.partners.values():
            partner.heal()

    def __exit__(self, *_):
        self._stack.close()

    def on_exit(self, callback, *arguments):
        self._stack.callback(callback, *arguments)

    def enter(self, context):
        return self._stack.enter_context(context)

    def environment(self):
        """Of the application."""
        url = self.postgres.url(self.database, port=self.bouncer.port if self.bouncer else None)
        found = {"DATABASE_URL": url, "POOL_SIZE": str(self.fault.pool)}
        found |= {"SHOP_DATA": str(self.data), "SHOP_UPLOADS": str(self.uploads)}
        for name, partner in self.partners.items():
            host = f"{name}.{NAME}" if self.names and name != "flags" else "127.0.0.1"
            found[f"{name.upper()}_URL"] = partner.url(host)
        if self.redis:
            found["REDIS_URL"] = self.redis.url
        if self.stock:
            found["STOCK_URL"] = self.stock.url(self.database)
        if "tls" in self.fault.needs:
            found |= {"REQUESTS_CA_BUNDLE": str(self.shared.certificate), "SSL_CERT_FILE": str(self.shared.certificate)}
        return {**found, **self.extra}

    def observed(self, grade):
        """The databases that the observer may ask, as addresses."""
        if self.fault.blind or grade in ("C", "S"):
            return []
        user = "watch" if grade == "A" else "guest"
        found = [self.postgres.url(self.database, user)]
        if self.bouncer and grade == "A":
            found.append(self.bouncer.console())
        if self.stock and grade == "A":
            found.append(self.stock.url("", "watch"))
        return found

    # What faults do.

    def sql(self, text):
        """As the shop's administrator."""
        return self.postgres.run(text, self.database, user="shop")

    def session(self, command=None, echo=databases.Session.PSQL):
        """Somebody else's session."""
        command = command or self.postgres.command(self.database, "shop")
        session = databases.Session(command, self.folder / "session.log", echo)
        self._stack.callback(session.close)
        return session

    def lock_file(self, name):
        """Holds a file's lock; returns how to let it go."""
        file = open(self.data / name, "a+")
        fcntl.flock(file, fcntl.LOCK_EX)
        self._stack.callback(file.close)
        return file.close

    def stop_process(self, pid):
        os.kill(pid, signal.SIGSTOP)
        self._stack.callback(_resume, pid)

    def later(self, seconds, call):
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()
        self._stack.callback(timer.cancel)

    def seconds_per_scan(self):
        return self.shared.scan_seconds

    # Visitors.

    def body(self, values):
        """As the framework's pages take it; bytes stay as they are."""
        if isinstance(values, str):
            return values, "application/octet-stream"
        if self.framework == "fastapi":
            return json.dumps(values), "application/json"
        return urllib.parse.urlencode(values), "application/x-www-form-urlencoded"

    def begin_visits(self, seed):
        flows = [{"flow": name, "rate": rate, "paths": paths} for name, (rate, paths) in BACKGROUND.items()]
        # For a decoy: a dependency that is slow and well.
        flows.append({"flow": "rating", "rate": 0, "paths": ["/products/77/rating"]})
        if self.fault.flow:
            flows.append({"flow": "victim", "rate": self.fault.flow.rate, **self.requests(self.fault.flow)})
        self.visitors = self.enter(Visitors(self.server.port, flows, self.folder, seed))
        return self.visitors

    def requests(self, flow):
        found = {"method": flow.method, "paths": list(flow.paths), "bodies": []}
        for values in flow.bodies:
            body, kind = self.body(values)
            found["bodies"].append(body)
            found["type"] = kind
        return found

    def visit(self, rate=None, flow=None):
        """Changes what the victims do."""
        change = {"rate": flow.rate, **self.requests(flow)} if flow else {}
        if rate is not None:
            change["rate"] = rate
        self.visitors.change("victim", **change)

    def burst(self, requests):
        """Sends requests at once: (method, path, values of the body or None)."""
        sent = []
        for method, path, values in requests:
            one = {"flow": "victim", "method": method, "path": path}
            if values is not None:
                one["body"], one["type"] = self.body(values)
            sent.append(one)
        self.visitors.burst(sent)

    def celery(self):
        """The mail system's worker."""
        command = [Path(self.shared.venv, "bin", "celery"), "-A", "shop.services:mails", "worker"]
        command += ["--pool", "solo", "--loglevel", "info"]
        log = self.folder / "mails.log"
        python = {"PYTHONPATH": str(databases.APPS), "PYTHONDONTWRITEBYTECODE": "1"}
        environment = {**os.environ, **self.environment(), **python}
        process = children.started(
            command, log, env=environment, cwd=self.folder, until=lambda: " ready." in log.read_text(), what="celery"
        )
        self._stack.callback(children.ended, process)
        return process


def _resume(pid):
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGCONT)
