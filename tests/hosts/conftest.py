"""Three servers that are three hosts to each other, a NATS between them, and what cuts one of them off."""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import nats
import pytest

from harness import ctl, wait_until
from harness.postgres import connected, parts
from harness.server import free_port

HERE = Path(__file__).parent
NATS = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/bin")


class Bus:
    """A NATS with JetStream, that can be stopped and started again with what it has kept."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_port(), None

    @property
    def address(self):
        return "127.0.0.1", self.port

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def start(self):
        command = [NATS, "--addr", "127.0.0.1", "--port", self.port, "--jetstream", "--store_dir", self.folder / "bus"]
        log = (self.folder / "nats.log").open("a")
        self.process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        wait_until(self.accepts, what="NATS")
        return self

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def accepts(self):
        with contextlib.suppress(OSError):
            socket.create_connection(self.address, 1).close()
            return True
        return False

    def publish(self, subject, payload):
        async def send():
            client = await nats.connect(self.url)
            await client.jetstream().publish(subject, payload)
            await client.close()

        asyncio.run(send())

    def events(self):
        """All that is in the stream, the oldest first."""
        return asyncio.run(self._events())

    async def _events(self):
        client = await nats.connect(self.url)
        try:
            stream = client.jetstream()
            state = (await stream.stream_info("FERRICORN")).state
            found = []
            if not state.messages:
                return found
            for number in range(state.first_seq, state.last_seq + 1):
                message = await stream.get_msg("FERRICORN", seq=number)
                found.append((message.subject, json.loads(message.data)))
            return found
        finally:
            await client.close()


class Cable:
    """One host's way to the bus. Cut, it is as if a switch had lost its power: nothing is said, and nothing comes."""

    def __init__(self, target):
        self.target, self.whole, self.open = target, threading.Event(), True
        self.whole.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        self.whole.clear()

    def mend(self):
        self.whole.set()

    def end(self):
        self.open = False
        self.whole.set()
        for one in [self.listener, *self.sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while self.open:
                near = self.listener.accept()[0]
                self.sockets.append(near)
                threading.Thread(target=self._join, args=[near], daemon=True).start()

    def _join(self, near):
        self.whole.wait()
        try:
            far = socket.create_connection(self.target, 5)
        except OSError:
            near.close()
            return
        self.sockets.append(far)
        threading.Thread(target=self._carry, args=[far, near], daemon=True).start()
        self._carry(near, far)

    def _carry(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self.whole.wait()
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Host:
    """A server, what its observer keeps, and its way to the others."""

    def __init__(self, name, server, state, cable):
        self.name, self.server, self.state, self.cable = name, server, state, cable

    def get(self, path, **words):
        return self.server.get(path, **words)

    def incidents(self):
        done = ctl("incidents", "--all", "--json", "--state-dir", self.state)
        return json.loads(done.stdout) if done.returncode == 0 else []

    def incident(self, route):
        return next((one for one in self.incidents() if one["route"] == route and one["opened_at"]), None)

    def told(self):
        """Its incidents in a few words, for who reads that a test has failed."""
        said = [(one["route"], one["cause"], one["state"], one.get("hosts")) for one in self.incidents()]
        return f"{self.name} has {said} and hears {self.hears()}"

    def actions(self):
        return [action for incident in self.incidents() for action in incident.get("actions", ())]

    def begun(self):
        """When each action was begun, by the audit."""
        rows = json.loads(ctl("actions", "--json", "--state-dir", self.state).stdout)["actions"]
        return [row["at"] for row in rows if " begun" in row["what"]]

    def mark(self, name):
        done = ctl("deploy", name, "--state-dir", self.state)
        assert done.returncode == 0, done.stderr

    def hears(self):
        done = ctl("hosts", "--json", "--state-dir", self.state)
        return json.loads(done.stdout) if done.returncode == 0 else {"here": False, "servers": []}

    def hears_all(self, count):
        heard = self.hears()
        return heard["here"] and len({one["host"] for one in heard["servers"]}) == count


@pytest.fixture
def bus(tmp_path):
    if not NATS:
        pytest.skip("NATS is not installed")
    bus = Bus(tmp_path)
    yield bus.start()
    bus.stop()


class History:
    """A PostgreSQL to which observers write."""

    def __init__(self, dsn, connection):
        words = parts(dsn)
        self.url = f"postgresql://{words['user']}@{words['host']}:{words['port']}/{words['dbname']}"
        self.connection = connection

    def rows(self, query):
        with self.connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()


@pytest.fixture
def history(dsn):
    with contextlib.closing(wait_until(lambda: connected(dsn), what="a session")) as connection:
        connection.autocommit = True
        yield History(dsn, connection)


@pytest.fixture
def hosts(server, tmp_path, bus):
    """Factory: ``hosts(3, policy=text)`` starts servers that hear of each other."""
    cables = []

    def start(count, *args, policy, mode=None):
        (tmp_path / "policy.toml").write_text(policy)
        found = []
        for number in range(1, count + 1):
            name, state, cable = f"web-{number}", tmp_path / f"state-{number}", Cable(bus.address)
            cables.append(cable)
            words = ["--reflex-fleet", f"nats://127.0.0.1:{cable.port}", "--reflex-host", name]
            words += ["--state-dir", state, "--reflex-policy", tmp_path / "policy.toml", "--name", "shop"]
            words += ["--reflex-mode", mode] if mode else []
            one = server("--workers", 2, "--threads", 8, "--timeout", 2, *words, *args, app="shop:app", path=[HERE])
            found.append(Host(name, one, state, cable))
        for host in found:
            wait_until(lambda host=host: host.hears_all(count), 40, f"{host.name} hears of all")
        return found

    yield start
    for cable in cables:
        cable.end()
