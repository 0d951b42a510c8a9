"""Jobs on Celery over several hosts, each of which has a network of its own: one can be lost, or cut off from the others."""

import contextlib
import json
import time

import brokers
import pytest
from brokers import Fleet
from jobshop import PREFIX

from harness.network import Network, refusal

pytestmark = [pytest.mark.only_ferricorn("knows no jobs"), pytest.mark.timeout(120)]

# Who prefers no job is answered by the same server at once.
ROUTES = ("--offload-prefer", "/api/*")
PREFER = ("Prefer", "respond-async")
PORT = 8000
# How much longer than its time a relay waits to hear of a job: that is a minute, which is too long for a test.
HASTY = "from ferricorn import relay\nrelay._PATIENCE = 8\n"
# Half of the time after which RabbitMQ takes a worker for lost that says nothing.
HEARTBEAT = 2


@pytest.fixture(scope="module")
def net():
    reason = refusal()
    if reason:
        pytest.skip(reason)
    net = Network("broker", "front", "front2", "worker1", "worker2")
    try:
        yield net
    finally:
        net.close()


def started(net, broker, *args, **options):
    """What a fixture yields of a broker that runs on its own host."""
    with contextlib.ExitStack() as stack:
        with net["broker"].inside() as host:
            url = stack.enter_context(broker(*args, address=host.address, **options))
        yield url


@pytest.fixture(scope="module")
def redis(net, tmp_path_factory):
    yield from started(net, brokers.redis, tmp_path_factory.mktemp("redis"))


@pytest.fixture(scope="module")
def rabbit(net, tmp_path_factory):
    yield from started(net, brokers.rabbit, tmp_path_factory.mktemp("rabbit"), heartbeat=HEARTBEAT)


class Site:
    """``front`` and ``front2`` take requests, what runs on ``worker1`` and ``worker2`` works on them."""

    def __init__(self, net, fleet, stack):
        self.net, self.fleet, self.stack = net, fleet, stack

    def start(self, timeout=4):
        self.fleet.broker_args += ["--offload-timeout", timeout]
        self.front, self.front2 = self.serve("front"), self.serve("front2")
        waits = []
        for name in ("worker1", "worker2"):
            with self.net[name].inside():
                # Without the seconds in which they ask each other what was revoked.
                waits.append(self.fleet.start_work(self.stack, self.front, 4, "--without-mingle")[1])
        for wait in waits:
            wait()
        return self.front, self.front2

    def serve(self, name):
        with self.net[name].inside() as host:
            address = (host.address, PORT)
            return self.fleet.shop(name, "--bind", "{}:{}".format(*address), routes=ROUTES, bind=address, config=HASTY)

    def send(self, name, method="POST", seconds=0.0, shop=None, headers=(), **options):
        return (shop or self.front).send(f"/api/reports/{name}?s={seconds}", method, headers=[PREFER, *headers], **options)

    def begun_on(self, name):
        """The names of the hosts on which this report was begun, one after the other."""
        names = {host.identity: name for name, host in self.net.hosts.items()}
        return [names[line.split()[3]] for line in self.front.marked() if line.startswith(f"begin {name} ")]

    def begin(self, name, method, host=None, keyed=False):
        """Sends requests until one is begun on this host, or on any; returns the job and the name of its report."""
        for number in range(4):
            report = f"{name}{number}"
            job = self.send(report, method, 2, headers=[("Idempotency-Key", report)] if keyed else ())
            self.front.wait_begun(report)
            if host in (None, *self.begun_on(report)):
                return job, report
        raise AssertionError(f"{host} begins nothing: {self.front.marked()}")


@pytest.fixture(params=["redis", "rabbit"])
def site(request, net, server, tmp_path):
    results = request.getfixturevalue("redis")
    broker = f"{results}/0" if request.param == "redis" else request.getfixturevalue("rabbit")
    fleet = Fleet(server, tmp_path, broker, f"{results}/1")
    with net.switch.inside(), contextlib.ExitStack() as stack:
        try:
            yield Site(net, fleet, stack)
        finally:
            for name in net.hosts:
                if name != "broker":
                    net[name].kill()
                net.mend(name)


def content(response):
    """What the application has made of a response; the rest is the connection's."""
    others = ("date", "server", "connection", "content-length", "transfer-encoding")
    return response.status, [(name, value) for name, value in response.headers if name.lower() not in others], response.body


def test_both_hosts_work_and_answer_as_the_server_itself_does(site):
    front, _ = site.start()
    body = bytes(range(256)) * 400
    jobs = {f"job{number}": site.send(f"job{number}", "POST", 0.2, body=body) for number in range(6)}
    lines = front.send("/api/lines/20000", headers=[PREFER])
    assert {front.over(job)["state"] for job in [*jobs.values(), lines]} == {"done"}
    assert {host for name in jobs for host in site.begun_on(name)} == {"worker1", "worker2"}
    for name, job in jobs.items():
        assert content(front.result(job)) == content(front.target.get(f"/api/reports/{name}?s=0.2", "POST", body=body))
        assert site.begun_on(name)[1:] == ["front"]
    assert content(front.result(lines)) == content(front.target.get("/api/lines/20000", "POST"))


def test_a_host_is_lost_with_its_jobs(site):
    """RabbitMQ notices, and gives what may be begun again to the other host. A Redis would do so after an hour: the relay does not wait for
    that, and makes another attempt. Of a POST nothing is heard."""
    front, _ = site.start()
    put, name = site.begin("put", "PUT")
    [lost] = site.begun_on(name)
    [other] = {"worker1", "worker2"} - {lost}
    keyed, keyed_name = site.begin("keyed", "POST", lost, keyed=True)
    once, once_name = site.begin("once", "POST", lost)
    site.net.lose(lost)
    for job, report in ((put, name), (keyed, keyed_name)):
        told = front.over(job)
        assert told["state"] == "done" and json.loads(front.result(job).body)["name"] == report, told
        assert site.begun_on(report) == [lost, other] and told["attempts"] == (1 if "amqp" in site.fleet.broker else 2)
    told = front.over(once)
    assert (told["state"], told["error"]["cause"]) == ("failed", "worker_died"), told
    assert site.begun_on(once_name) == [lost]
    assert front.over(site.send("after"))["state"] == "done" and site.begun_on("after") == [other]


def test_the_host_that_has_taken_a_job_is_lost(site):
    (front, front2), net = site.start(), site.net
    job = site.send("kept", seconds=2, body=b"x" * 5000)
    front.wait_begun("kept")
    net.lose("front")
    told = front2.status(job)
    assert told["state"] == "running" and told["attempts"] == 1
    assert front2.target.get(PREFIX + job, "DELETE").status == front2.target.get(PREFIX + "0" * 32).status == 404
    told = front2.over(job)
    assert (told["state"], told["status"], told["method"]) == ("done", 201, "")
    result = content(front2.result(job))
    assert result == content(front2.target.get("/api/reports/kept?s=2", "POST", body=b"x" * 5000))
    # It comes back with what it has kept on its disk.
    net.mend("front")
    front = site.serve("front")
    assert front.over(job)["state"] == "done" and content(front.result(job)) == result
    assert len(site.begun_on("kept")) == 1


def test_the_broker_is_cut_off_for_a_while(site):
    # Who is at a job then has to hand in its result.
    (front, front2), net = site.start(timeout=30), site.net
    # This one knows the broker and has connections; the other has none yet.
    assert front.over(site.send("before"))["state"] == "done"
    running = site.send("running", "POST", 3)
    front.wait_begun("running")
    net.cut("broker")
    taken = []
    for shop in (front, front2):
        for method in ("POST", "PUT"):
            for number in range(2):
                name = f"{shop.folder.name}-{method}{number}"
                taken.append((shop, name, site.send(name, method, shop=shop)))
    time.sleep(3 * HEARTBEAT)
    for shop, name, job in taken:
        assert shop.status(job)["state"] in ("queued", "running") and not site.begun_on(name)
    assert any(line.startswith("end running ") for line in front.marked()), "an application is not held up by its progress"
    net.mend("broker")
    for shop, name, job in [*taken, (front, "running", running)]:
        told = shop.over(job)
        assert told["state"] == "done" and json.loads(shop.result(job).body)["name"] == name, told
        assert len(site.begun_on(name)) == 1 or "PUT" in name
