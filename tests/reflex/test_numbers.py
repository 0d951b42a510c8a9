"""One number, wherever it is read: the snapshot, the verbs in text and JSON, the metrics of Prometheus over TCP and over the
socket of the observer. Not for: whether the numbers are right (`test_routes`)."""

import http.client
import json
import re
import socket

import pytest

from harness import ctl, free_port, wait_until

pytestmark = pytest.mark.only_ferricorn("has none of these")


class Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("observer", timeout=10)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


def read(connection, path):
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    text = response.read().decode()
    connection.close()
    return text


def exposition(text):
    """The samples of an exposition, without those that move by themselves."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name] = float(value)
    return found


def of_routes(routes):
    """Requests and seconds in the application by route, method and class, of a snapshot's routes."""
    return {
        (each["route"], each["method"], each["class"]): (each["app"]["count"], round(each["app"]["sum_us"] / 1e6, 6))
        for each in routes
    }


def of_metrics(samples):
    labels = re.compile(r'route="(?P<route>[^"]*)",method="(?P<method>[^"]*)",class="(?P<class>[^"]*)"')
    found = {}
    for name, value in samples.items():
        if name.startswith("ferricorn_requests_total{"):
            key = tuple(labels.search(name).groups())
            seconds = samples["ferricorn_request_duration_seconds_sum{" + labels.search(name)[0] + ',phase="app"}']
            found[key] = (int(value), round(seconds, 6))
    return found


@pytest.fixture(scope="module")
def running(module_server, tmp_path_factory):
    port = free_port()
    state = tmp_path_factory.mktemp("state")
    args = ["-w", "2", "-k", "gthread", "--threads", "2", "--timeout", "1", "--state-dir", state]
    target = module_server(*args, "--admin-bind", f"127.0.0.1:{port}", app="stuck:app")
    for number in range(12):
        assert target.get(f"/orders/{number}").status == 200
    for _ in range(2):
        assert target.get("/stuck/sleep").status == 504
    target.admin, target.state = port, state
    # What becomes of a late request's thread is known a little later.
    wait_until(lambda: numbers(target)[("/stuck/sleep", "GET", "lost")][0] == 2, what="all that was lost")
    return target


def snapshot(target):
    return json.loads(ctl("snapshot", "--json", "--pid", target.pid).stdout)


def numbers(target):
    return {("/stuck/sleep", "GET", "lost"): (0, 0.0)} | of_routes(snapshot(target)["routes"])


def test_metrics_say_what_the_snapshot_says(running):
    expected = of_routes(snapshot(running)["routes"])
    assert expected[("/orders/:id", "GET", "2xx")][0] == 12
    by_tcp = http.client.HTTPConnection("127.0.0.1", running.admin, timeout=10)
    by_socket = Unix(running.state / f"{running.pid}.sock")
    for connection in (by_tcp, by_socket):
        samples = exposition(read(connection, "/metrics"))
        assert of_metrics(samples) == expected
        assert samples["ferricorn_requests_lost_total"] == 2
        assert samples["ferricorn_requests_completed_total"] == sum(count for count, _ in expected.values())
        assert samples["ferricorn_threads"] == 4 and samples["ferricorn_workers_serving"] == 2
    document = json.loads(read(Unix(running.state / f"{running.pid}.sock"), "/snapshot"))
    assert of_routes(document["routes"]) == expected


def test_verbs_say_what_the_snapshot_says(running):
    expected = of_routes(snapshot(running)["routes"])
    slow = json.loads(ctl("slow", "--json", "--pid", running.pid).stdout)["routes"]
    top = json.loads(ctl("top", "--json", "--interval", "0.2", "--pid", running.pid).stdout)
    for route in {key[:2] for key in expected}:
        count = sum(value[0] for key, value in expected.items() if key[:2] == route)
        seconds = sum(value[1] for key, value in expected.items() if key[:2] == route)
        lost = expected.get((*route, "lost"), (0, 0))[0]
        (row,) = [each for each in slow if (each["route"], each["method"]) == route]
        assert (row["count"], row["lost"], round(row["time_s"], 6)) == (count, lost, round(seconds, 6))
        (shown,) = [each for each in top["routes"] if (each["route"], each["method"]) == route]
        assert (shown["count"], shown["lost"], shown["time_share"]) == (count, lost, row["time_share"])
    assert top["sums"]["lost"] == 2 and top["sums"]["threads"] == 4
    workers = json.loads(ctl("workers", "--json", "--pid", running.pid).stdout)
    assert sum(worker["requests"] for worker in workers["workers"]) == sum(value[0] for value in expected.values())


def test_people_read_the_same_numbers(running):
    expected = of_routes(snapshot(running)["routes"])
    text = ctl("top", "--once", "--interval", "0.2", "--pid", running.pid).stdout
    # A thread that sleeps on may be busy still.
    assert "2 lost" in text and " of 4 threads busy" in text
    lines = {line.split()[-1]: line.split() for line in text.splitlines() if " GET " in line}
    for (route, method, kind), (count, _) in expected.items():
        assert str(count) in lines[route] and method in lines[route], (kind, text)
    slow = ctl("slow", "--pid", running.pid).stdout
    assert any("/orders/:id" in line and "12" in line.split() for line in slow.splitlines()), slow
