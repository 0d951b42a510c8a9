"""PostgreSQL with the shop's data, sessions that get in its way, PgBouncer, Redis, MariaDB: real servers, in temporary
folders, on free ports of loopback.

Not here: what goes wrong in them (`faults`)."""

import contextlib
import glob
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from harness.process import MeasurementError, free_port

from . import children

APPS = Path(__file__).resolve().parent / "apps"
PASSWORD = "kept-by-nobody"
# An application of three processes with 20 connections each, twice, and those who look.
CONNECTIONS = 200


class Postgres:
    """One cluster for a run. Every cell gets a database of its own, copied from a template."""

    def __init__(self, folder):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
        if not found:
            raise MeasurementError("PostgreSQL is not installed (Debian: postgresql)")
        self._bin = Path(found[-1]).parent
        self.folder = Path(folder, "postgres")
        self.port = free_port()
        self._log = Path(folder, "postgres.log")

    def __enter__(self):
        self.folder.mkdir()
        children.give(self.folder, "postgres")
        user, data = children.as_user("postgres"), self.folder / "data"
        make = [self._bin / "initdb", "-D", data, "-U", "owner", "--no-sync", "--auth", "trust"]
        done = subprocess.run(make, cwd="/", capture_output=True, text=True, **user)
        if done.returncode != 0:
            raise MeasurementError(f"initdb: {done.stderr.strip()[-300:]}")
        # Of the network: with a password, so that rights mean something.
        hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (data / "pg_hba.conf").write_text(hba)
        options = {
            "listen_addresses": "127.0.0.1", "fsync": "off", "max_connections": CONNECTIONS,
            # Statements of workers that were killed end, as they do on a database that is cared for.
            "client_connection_check_interval": "1s", "max_parallel_workers_per_gather": 0, "autovacuum": "off",
        }
        command = ["nice", "-n", "5", self._bin / "postgres", "-D", data, "-p", self.port, "-k", self.folder]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._process = children.started(
            command, self._log, cwd="/", until=lambda: children.listens(self.port), what="PostgreSQL", **user
        )
        try:
            self._template()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _template(self):
        for role, rights in (("shop", ""), ("watch", "IN ROLE pg_monitor, pg_signal_backend"), ("guest", "")):
            self.run(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' {rights}", "postgres")
        self.run("CREATE DATABASE template_shop OWNER shop", "postgres")
        self.run((APPS / "schema.sql").read_text(), "template_shop", user="shop")
        self.run("VACUUM ANALYZE", "template_shop")

    def fresh(self, name):
        """A database with the shop's data as they were at the beginning."""
        self.drop(name)
        self.run(f"CREATE DATABASE {name} TEMPLATE template_shop OWNER shop", "postgres")

    def drop(self, name):
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", "postgres")

    def url(self, name, user="shop", port=None):
        return f"postgresql://{user}:{PASSWORD}@127.0.0.1:{port or self.port}/{name}"

    def command(self, database, user="owner"):
        return ["psql", "-h", str(self.folder), "-p", str(self.port), "-U", user, "-d", database, "-XqAt", "-v",
                "ON_ERROR_STOP=1"]

    def run(self, sql, database, user="owner"):
        """Rows as lists of strings."""
        done = subprocess.run(self.command(database, user), input=sql, capture_output=True, text=True, cwd="/")
        if done.returncode != 0:
            raise MeasurementError(f"PostgreSQL: {done.stderr.strip()[-300:]}")
        return [line.split("|") for line in done.stdout.splitlines()]

    def sessions(self, database):
        """What the application's sessions do: state, event that is waited for, statement."""
        return self.run(
            "SELECT state, coalesce(wait_event_type || '/' || wait_event, ''), translate(left(query, 60), E'\\n|', '  ')"
            " FROM pg_stat_activity"
            f" WHERE datname = '{database}' AND usename = 'shop' ORDER BY state",
            "postgres",
        )

    def seconds_of_scan(self):
        """How long this machine takes to go through all orders once."""
        self.fresh("trial")
        self.run("DROP INDEX orders_customer_id", "trial")
        query = "SELECT sum(total) FROM orders WHERE customer_id = 77;"
        self.run(query, "trial")
        begun = time.monotonic()
        self.run(query * 10, "trial")
        took = (time.monotonic() - begun) / 10
        self.drop("trial")
        return took

    def __exit__(self, *_):
        # At once: some backends will not be done soon.
        children.ended(self._process, signal.SIGINT, patience=20)


class Session:
    """Somebody else's session: an editor's open transaction, a nightly job."""

    # How the two clients are made to say that all before is done.
    PSQL, MARIADB = "\\echo done", "SELECT 'done';"

    def __init__(self, command, log, echo=PSQL):
        self._log, self._echo = log, echo
        self._process = children.started(command, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")

    def run(self, sql):
        """Returns when it is done. At most 20 s, then the session is ended."""
        watch = threading.Timer(20, self._process.kill)
        watch.start()
        try:
            self.tell(f"{sql}\n{self._echo}")
            for line in self._process.stdout:
                if line.strip() == "done":
                    return
        except BrokenPipeError:
            pass
        finally:
            watch.cancel()
        raise MeasurementError(f"a session of the database: {children.last_line(self._log)}")

    def tell(self, sql):
        """Without waiting for an end that may not come."""
        self._process.stdin.write(f"{sql}\n")
        self._process.stdin.flush()

    def close(self):
        children.ended(self._process)


class PgBouncer:
    """Before the cluster; hands few connections to many."""

    def __init__(self, postgres, folder, size):
        self.port = free_port()
        self._folder = Path(folder, "pgbouncer")
        self._folder.mkdir()
        users = self._folder / "users"
        users.write_text("".join(f'"{name}" "{PASSWORD}"\n' for name in ("shop", "watch")))
        config = self._folder / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nauth_type = plain\nauth_file = {users}\nadmin_users = watch\n"
            f"pool_mode = transaction\ndefault_pool_size = {size}\nmax_client_conn = {CONNECTIONS}\nunix_socket_dir =\n"
            "ignore_startup_parameters = extra_float_digits,options\n"
        )
        for path in (self._folder, users, config):
            children.give(path, "postgres")
        self._command = [shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", config]

    def __enter__(self):
        self._process = children.started(
            self._command, self._folder.parent / "pgbouncer.log", cwd="/",
            until=lambda: children.listens(self.port), what="PgBouncer", **children.as_user("postgres"),
        )
        return self

    def command(self, database):
        """Of somebody else who uses the pooler."""
        text = f"host=127.0.0.1 port={self.port} user=shop password={PASSWORD} dbname={database}"
        return ["psql", text, "-XqAt", "-v", "ON_ERROR_STOP=1"]

    def console(self):
        """Its administration, for the observer."""
        return f"pgbouncer://watch:{PASSWORD}@127.0.0.1:{self.port}/"

    def clients_waiting(self):
        text = f"host=127.0.0.1 port={self.port} user=watch password={PASSWORD} dbname=pgbouncer"
        done = subprocess.run(["psql", text, "-XqAt", "-c", "SHOW CLIENTS"], capture_output=True, text=True)
        return sum("|waiting|" in line for line in done.stdout.splitlines())

    def __exit__(self, *_):
        children.ended(self._process, signal.SIGINT)


class Redis:
    """A Redis of the cell's own."""

    def __init__(self, folder):
        self.port = free_port()
        self._folder = folder

    @property
    def pid(self):
        return self._process.pid

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self):
        binary = shutil.which("redis-server")
        if binary is None:
            raise MeasurementError("Redis is not installed (Debian: redis-server)")
        command = [binary, "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--dir", self._folder]
        self._process = children.started(
            command, Path(self._folder, "redis.log"), until=lambda: children.listens(self.port), what="Redis"
        )
        return self

    def __exit__(self, *_):
        children.ended(self._process)


class MariaDb:
    """The database of the stock system."""

    def __init__(self, folder):
        self.folder = Path(folder, "mariadb")
        self.port = free_port()
        self._log = Path(folder, "mariadb.log")

    def __enter__(self):
        binary, install = shutil.which("mariadbd") or "/usr/sbin/mariadbd", shutil.which("mariadb-install-db")
        if install is None:
            raise MeasurementError("MariaDB is not installed (Debian: mariadb-server)")
        self.folder.mkdir()
        children.give(self.folder, "mysql")
        user, data = children.as_user("mysql"), self.folder / "data"
        make = [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
        done = subprocess.run([*make, "--skip-test-db"], cwd="/", capture_output=True, text=True, **user)
        if done.returncode != 0:
            raise MeasurementError(f"mariadb-install-db: {(done.stderr or done.stdout).strip()[-300:]}")
        command = ["nice", "-n", "5", binary, "--no-defaults", f"--datadir={data}", f"--port={self.port}"]
        command += ["--bind-address=127.0.0.1", f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid"]
        command += ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", "--skip-name-resolve"]
        self._process = children.started(
            command, self._log, cwd="/", until=lambda: children.listens(self.port), what="MariaDB", **user
        )
        return self

    def drop(self, name):
        """With whoever is still in it: statements of workers that were killed go on here."""
        for row in self.run(f"SELECT id FROM information_schema.processlist WHERE db = '{name}'", "mysql"):
            with contextlib.suppress(MeasurementError):
                self.run(f"KILL {row[0]}", "mysql")
        self.run(f"DROP DATABASE IF EXISTS {name}", "mysql")

    def fresh(self, name):
        self.drop(name)
        shop, watch = (f"'{user}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'" for user in ("shop", "watch"))
        self.run(f"CREATE DATABASE {name}; GRANT ALL ON {name}.* TO {shop}", "mysql")
        self.run(f"GRANT PROCESS ON *.* TO {watch}", "mysql")
        self.run((APPS / "stock.sql").read_text(), name)

    def url(self, name, user="shop"):
        return f"mysql://{user}:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def command(self, database):
        return [shutil.which("mariadb") or "mysql", "--no-defaults", f"--socket={self.folder}/socket", "-u", "root",
                "--batch", "--skip-column-names", "--unbuffered", database]

    def run(self, sql, database):
        done = subprocess.run(self.command(database), input=sql, capture_output=True, text=True, cwd="/")
        if done.returncode != 0:
            raise MeasurementError(f"MariaDB: {done.stderr.strip()[-300:]}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def __exit__(self, *_):
        children.ended(self._process, patience=20)
