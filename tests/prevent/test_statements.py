"""``db_statement_timeout``: the database ends what is stuck, and the application hears it before its deadline; who cannot take it
connects without it, and the log says what to do."""

import contextlib
import json
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import wait_until
from harness.pgbouncer import pgbouncer

pytestmark = pytest.mark.only_ferricorn("has no such setting")

TIMEOUT = 2
STATEMENT = "1750ms"
LIBPQ = ["psycopg2", "psycopg", "psycopgasync", "pool", "sqlalchemy2", "sqlalchemy3", "django"]
CANCELED = {
    "psycopg2": "psycopg2.errors.QueryCanceled",
    "psycopg": "psycopg.errors.QueryCanceled",
    "psycopgasync": "psycopg.errors.QueryCanceled",
    "pool": "psycopg.errors.QueryCanceled",
    "sqlalchemy2": "sqlalchemy.exc.OperationalError",
    "sqlalchemy3": "sqlalchemy.exc.OperationalError",
    "django": "django.db.utils.OperationalError",
}


def start(factory, dsn, *args, env=None, timeout=TIMEOUT, **options):
    args = ["--timeout", timeout, "--no-reflex", *args]
    return factory(*args, app="queries_out:app", env={"TEST_DSN": dsn, **(env or {})}, **options)


def ask(target, path):
    response = target.get(path)
    assert response.status == 200, target.log()
    return json.loads(response.body)


@pytest.fixture(scope="module")
def auto(module_server, dsn):
    return start(module_server, dsn, "--db-statement-timeout", "auto", "--threads", "2")


def test_stuck_queries_end_before_the_deadline(server, dsn):
    # 0.4 s are left then; what a busy machine adds must fit in there.
    target = start(server, dsn, "--db-statement-timeout", "auto", "--threads", len(LIBPQ), timeout=8)
    # The time counts from the statement's begin: what is imported for it comes before.
    for library in LIBPQ:
        ask(target, f"/{library}/show")
    with ThreadPoolExecutor(len(LIBPQ)) as pool:
        answers = list(pool.map(lambda library: ask(target, f"/{library}/stuck"), LIBPQ))
    for library, found in zip(LIBPQ, answers, strict=True):
        assert found["error"] == CANCELED[library] and "statement timeout" in found["text"], found
        assert 7.5 <= found["seconds"] < 8 and 0 < found["left"] < 8, found


@pytest.mark.parametrize("library", [*LIBPQ, "psql"])
def test_auto_is_under_the_deadline_and_notices_dead_workers(auto, library):
    assert ask(auto, f"/{library}/show")["found"] == [STATEMENT, "1s"]


def test_a_number_of_seconds_is_just_that(server, dsn):
    target = start(server, dsn, "--db-statement-timeout", "1.5")
    assert ask(target, "/psycopg2/show")["found"] == ["1500ms", "0"]


def test_the_longest_route_counts(server, dsn):
    config = "route_timeouts = {'GET /report': 120}\ndb_statement_timeout = 'auto'\n"
    target = start(server, dsn, config=config)
    assert ask(target, "/psycopg2/show")["found"] == ["114s", "1s"]


def test_without_a_deadline_there_is_nothing_to_follow(server, dsn):
    target = start(server, dsn, "--timeout", "0", "--db-statement-timeout", "auto")
    target.wait_log(r"\[WARNING\] db_statement_timeout = 'auto' has no effect: some requests have no deadline")
    assert ask(target, "/psycopg2/show")["found"] == ["0", "0"]


def test_off_changes_nothing(server, dsn):
    target = start(server, dsn)
    assert ask(target, "/psycopg2/show")["found"] == ["0", "0"]


def test_what_the_user_has_said_counts(server, dsn):
    env = {"PGOPTIONS": "--statement-timeout=77s -c client_connection_check_interval=9000 -c application_name=shop"}
    target = start(server, dsn, "--db-statement-timeout", "auto", env=env)
    assert ask(target, "/psycopg2/show")["found"] == ["77s", "9s"]
    target.wait_log(r"\[WARNING\] PGOPTIONS has its own statement_timeout and client_connection_check_interval, which counts")


def test_other_words_of_the_user_stay(server, dsn):
    target = start(server, dsn, "--db-statement-timeout", "auto", "-e", "PGOPTIONS=-c work_mem=7MB -c lock_timeout=4s")
    assert ask(target, "/psycopg2/show")["found"] == [STATEMENT, "1s"]


@pytest.mark.parametrize("library", LIBPQ)
def test_options_of_the_application_take_its_place(server, dsn, library):
    target = start(server, dsn, "--db-statement-timeout", "auto", env={"TEST_OPTIONS": "-c lock_timeout=4s"})
    assert ask(target, f"/{library}/show")["found"] == ["0", "0"]
    target.wait_log(r"is given options of its own \('-c lock_timeout=4s'\).*: add `-c statement_timeout=1750` to them")


def test_asyncpg_has_to_be_told_itself(server, dsn):
    target = start(server, dsn, "--db-statement-timeout", "auto", "-w", "2")
    assert ask(target, "/asyncpg/show")["found"] == ["0", "0"]
    target.wait_log(r"asyncpg does not read PGOPTIONS.*`server_settings=\{'statement_timeout': '1750'\}`")


def test_asyncpg_that_is_told_itself(server, dsn):
    target = start(server, dsn, env={"TEST_OPTIONS": "its own"})
    found = ask(target, "/asyncpg/stuck")
    assert found["error"] == "asyncpg.exceptions.QueryCanceledError" and found["seconds"] < TIMEOUT


@pytest.mark.parametrize("library", LIBPQ)
def test_pgbouncer_refuses_it_and_is_connected_to_without(server, dsn, library):
    with pgbouncer(dsn) as through:
        target = start(server, through, "--db-statement-timeout", "auto")
        for _ in range(2):
            assert ask(target, f"/{library}/show")["found"] == ["0", "0"]
        target.wait_log(
            r"statement_timeout in PGOPTIONS is refused \(.*unsupported startup parameter: options\), and connections go without "
            r"it: `ALTER ROLE the_role SET statement_timeout = 1750`"
        )


def test_pgbouncer_is_served_by_the_role(server, dsn):
    """What the log says to do."""
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create role limited login")
        connection.execute("alter role limited set statement_timeout = 1750")
    with pgbouncer(dsn.replace("user=tests", "user=limited")) as through:
        target = start(server, through, "--db-statement-timeout", "auto")
        assert ask(target, "/psycopg2/stuck")["error"] == CANCELED["psycopg2"]


def test_a_pgbouncer_that_ignores_options_takes_no_notice(server, dsn):
    with pgbouncer(dsn, ignore_startup_parameters="options") as through:
        target = start(server, through, "--db-statement-timeout", "auto")
        assert ask(target, "/psycopg2/show")["found"] == ["0", "0"]
        assert "is refused" not in target.log()


@pytest.mark.parametrize("library", LIBPQ)
def test_an_older_server_gets_what_it_knows(server, dsn, library):
    with older(dsn) as through:
        target = start(server, through, "--db-statement-timeout", "auto")
        found = ask(target, f"/{library}/show")["found"]
        assert found == [STATEMENT, "0"]
        target.wait_log(r"client_connection_check_interval is refused \(.*unrecognized configuration parameter")


@contextlib.contextmanager
def older(dsn):
    """A server that does not know one of the parameters: the real one, which is asked for it by a name that nobody knows."""
    known, unknown = b"client_connection_check_interval", b"client_connection_chuck_interval"
    parts = dict(part.split("=", 1) for part in dsn.split())
    listener = socket.create_server(("127.0.0.1", 0))

    def pass_on(source, target, old, new, first):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                # Only as it connects: a query may name it.
                target.sendall(data.replace(old, new) if first() else data)
            target.shutdown(socket.SHUT_WR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                upstream = socket.create_connection((parts["host"], int(parts["port"])))
                # The startup message names the user; what libpq asks before that does not.
                begun = []

                def outgoing(begun=begun):
                    begun.append(None)
                    return len(begun) <= 3

                threading.Thread(target=pass_on, args=(client, upstream, known, unknown, outgoing), daemon=True).start()
                back = (upstream, client, unknown, known, lambda: True)
                threading.Thread(target=pass_on, args=back, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        port = listener.getsockname()[1]
        yield f"host=127.0.0.1 port={port} user={parts['user']} dbname={parts['dbname']}"
    finally:
        listener.close()


def test_a_preloaded_application_and_a_reload(server, dsn):
    """What the master has imported is adapted too; new workers follow new settings."""
    config = "import psycopg2, psycopg\ndb_statement_timeout = 'auto'\n"
    with pgbouncer(dsn) as through:
        target = start(server, through, "--preload", config=config)
        for library in ("psycopg2", "psycopg"):
            assert ask(target, f"/{library}/show")["found"] == ["0", "0"]
        target.wait_log(r"statement_timeout in PGOPTIONS is refused")
    target = start(server, dsn, config=config)
    assert ask(target, "/psycopg2/show")["found"] == [STATEMENT, "1s"]
    before = target.workers()
    (target.folder / "settings.py").write_text("db_statement_timeout = 1.25\n")
    target.kill(signal.SIGHUP)
    wait_until(lambda: target.workers() and not set(before) & set(target.workers()), 20, "new workers")
    assert ask(target, "/psycopg2/show")["found"] == ["1250ms", "0"]
