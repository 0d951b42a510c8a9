"""How the faults of `scenarios.toml` are caused and healed: from outside of the server, by what really brings them. Each is a context
manager over a `Stage`; its end heals it. Not for: what must be found and done about a fault."""

import contextlib
import http.server
import signal
import threading
import time

import pytest

from harness import wait_until
from harness.crowd import Visitors
from harness.memory import memory_limit
from harness.server import children

CUSTOMERS, ORDERS, REGIONS = 4_000, 400_000, 10
# Of six workers that keep long texts the first is too large after half a minute; new ones have that time again.
MEMORY_MB, TEXT = 520, 1_000_000
INDEX = "create index if not exists orders_customer on orders (customer, total)"


def fill(database):
    """Tables as a shop has them. Without their index a page that takes milliseconds takes longer than any deadline."""
    database.run("create table if not exists customers (id int primary key, region int)")
    database.run("create table if not exists orders (id int primary key, customer int, total int)")
    database.run("create table if not exists feeds (body text); insert into feeds values ('short')")
    database.run(f"insert into customers select n, n % {REGIONS} from generate_series(1, {CUSTOMERS}) n")
    database.run(f"insert into orders select n, n % {CUSTOMERS}, n % 997 from generate_series(1, {ORDERS}) n")
    database.run(INDEX)
    # A plan that used several processors would only hide it for a while.
    database.run("alter role shop set max_parallel_workers_per_gather = 0")
    database.run("grant select on customers, orders, feeds to shop")
    database.run("analyze customers; analyze orders")


class Partner:
    """A service of somebody else's: it answers, until it falls silent."""

    def __init__(self):
        self.answers = threading.Event()
        self.answers.set()
        answers = self.answers

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                answers.wait(60)
                with contextlib.suppress(OSError):
                    self.send_response(200)
                    self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = "127.0.0.1:{}".format(self.server.server_address[1])
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.answers.set()
        self.server.shutdown()
        self.server.server_close()


class Unhurried:
    """A server whose visitors look at a page for a moment before they ask for the next."""

    def __init__(self, server, pause=0.05):
        self.server, self.pause = server, pause

    def get(self, path, **options):
        time.sleep(self.pause)
        return self.server.get(path, **options)


class Stage:
    """What a fault can reach: the server, its code, its database, its partner, and who visits it."""

    def __init__(self, one, checkout, database, partner, row):
        self.one, self.checkout, self.database, self.partner, self.row = one, checkout, database, partner, row

    def release(self, name, old, new):
        """Writes a file as another version has it; returns what it was."""
        path = self.checkout / name
        text = path.read_text()
        assert old in text, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new))
        return text

    def reload(self):
        """HUP; waits until the deploy is noticed."""
        before = len(self.deploys())
        self.one.server.process.send_signal(signal.SIGHUP)
        return wait_until(lambda: len(self.deploys()) > before and self.deploys()[0], 30, "that the deploy is noticed")

    def deploys(self):
        return [change for change in self.one.changes() if change["kind"] in ("deploy", "rollback")]


@contextlib.contextmanager
def nothing(stage):
    """The server's visitors are trouble enough."""
    yield


@contextlib.contextmanager
def slow_query_deployed(stage):
    """A new version compares what it has made text of: no index serves that."""
    text = stage.release("pages.py", "orders.customer = customers.id", "orders.customer::text = customers.id::text")
    stage.reload()
    yield
    (stage.checkout / "pages.py").write_text(text)
    stage.reload()


@contextlib.contextmanager
def index_dropped(stage):
    """Somebody dropped an index."""
    stage.database.run("drop index orders_customer")
    try:
        yield
    finally:
        stage.database.run(INDEX)


@contextlib.contextmanager
def benign_deploy_after_index_dropped(stage):
    """Somebody dropped an index. A moment after the first request was seen to suffer, a version comes that has nothing to do with it."""
    with index_dropped(stage):
        wait_until(stage.one.incidents, 40, "the first sign")
        stage.release("shop.py", 'return "calm"', 'return "very calm"')
        stage.deploy = stage.reload()
        yield


@contextlib.contextmanager
def benign_deploy_long_after_index_dropped(stage):
    """Somebody dropped an index. Half a minute after the first request was seen to suffer, a version comes that has nothing to do
    with it."""
    with index_dropped(stage):
        noted = wait_until(stage.one.incidents, 40, "the first sign")[-1]["noted_at"]
        wait_until(lambda: time.time() > noted + 20, 40, "the time between the two")
        stage.release("shop.py", 'return "calm"', 'return "very calm"')
        stage.deploy = stage.reload()
        yield


@contextlib.contextmanager
def row_locked(stage):
    """An editor changed a row and went to lunch without a commit."""
    stage.database.run("begin; update stock set count = count + 1 where id = 1")
    try:
        yield
    finally:
        stage.database.run("rollback")


@contextlib.contextmanager
def long_texts_imported(stage):
    """Texts that a page keeps, which nobody has noticed as long as they were short, have become long; and memory has an end."""
    with memory_limit(MEMORY_MB) as group:
        if group is None:
            pytest.skip("needs the right to limit memory")
        arbiter = stage.one.server.pid
        group.take_in([arbiter, *children(arbiter)])
        stage.database.run(f"update feeds set body = repeat('x', {TEXT})")
        try:
            yield
        finally:
            stage.database.run("update feeds set body = 'short'")


@contextlib.contextmanager
def customers_who_never_confirm(stage):
    """Each keeps a connection of the pool."""
    for _ in range(3):
        assert stage.one.server.get("/reservations", "POST").status == 200
    yield
    if stage.one.host == "gunicorn":
        # New workers, as the person on call would have them.
        stage.one.server.process.send_signal(signal.SIGHUP)


@contextlib.contextmanager
def partner_silent(stage):
    """The partner takes connections and answers no more."""
    stage.partner.answers.clear()
    try:
        yield
    finally:
        stage.partner.answers.set()


@contextlib.contextmanager
def thrice_the_traffic(stage):
    """Twice as many visitors come besides."""
    crowd = Visitors(Unhurried(stage.one.server), stage.row["path"], 2 * stage.row["visitors"])
    yield
    crowd.leave()


@contextlib.contextmanager
def broken_page_deployed(stage):
    """A new version in which a page raises."""
    stage.release("pages.py", "def best():", "def best():\n    raise KeyError('region')")
    stage.one.server.process.send_signal(signal.SIGHUP)
    yield
