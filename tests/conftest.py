"""Fixtures of the contract tests, which run the installed command; see ``harness`` for what they are made of."""

import os

import pytest

from harness import FERRICORN, NAME, Server
from harness.postgres import dsn  # noqa: F401 (a fixture)

TIMEOUT_SECONDS = 60
CONTRACTS = ("act", "arbiter", "asgi", "changes", "ctl", "deadlines", "gevent", "http", "logs", "prevent", "proxy", "reflex", "slow", "wsgi")


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "only_ferricorn(reason): Gunicorn is known to be weaker here; not run against it",
    )


@pytest.fixture(scope="session", autouse=True)
def records_of_the_session(tmp_path_factory):
    """No test writes into the folder where this user's servers keep their records."""
    os.environ["STATE_DIRECTORY"] = str(tmp_path_factory.mktemp("state"))


def pytest_report_header():
    return f"server under test: {NAME}"


def pytest_collection_modifyitems(items):
    for item in items:
        if not any(f"/tests/{folder}/" in str(item.path) for folder in CONTRACTS):
            continue
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))
        mark = item.get_closest_marker("only_ferricorn")
        if mark and not FERRICORN:
            assert mark.args, f"{item.nodeid}: only_ferricorn needs a reason"
            item.add_marker(pytest.mark.skip(reason=f"gunicorn: {mark.args[0]}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for server in getattr(item, "servers", []) + getattr(item.getparent(pytest.Module), "servers", []):
            report.sections.append((f"server log of {server.folder.name}", server.log()[-6000:]))
    return report


@pytest.fixture
def server(request, tmp_path):
    """Factory: ``server(*args, app="probe:app", bind="tcp"|"unix"|address, config=text, env={}, ready=True)``."""
    yield from _factory(request.node, tmp_path)


@pytest.fixture(scope="module")
def module_server(request, tmp_path_factory):
    """The same factory for servers that the tests of one module share."""
    module = request.node
    yield from _factory(module, tmp_path_factory.mktemp(module.path.stem))


def _factory(node, folder):
    servers = node.servers = []

    def start(*args, app="probe:app", ready=True, **options):
        place = folder / f"server{len(servers)}"
        place.mkdir()
        server = Server(place, app, args, **options)
        servers.append(server)
        return server.start(ready)

    try:
        yield start
    finally:
        for server in servers:
            server.end()
