"""The parts of prevention that need no server: hooks on imports, a socket's pace, the words of ``PGOPTIONS``."""

import contextlib
import socket
import sys

import pytest

from ferricorn import budget, postgres
from ferricorn.on_import import OnImport


@pytest.fixture
def on_import():
    failed = []
    hook = OnImport(lambda name, error: failed.append((name, str(error))))
    hook.failed = failed
    hook.install()
    yield hook
    sys.meta_path.remove(hook)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of this name that nobody has imported."""
    folder = tmp_path / "adaptable"
    folder.mkdir()
    (folder / "__init__.py").write_text("VALUE = 1\n")
    (folder / "inner.py").write_text("VALUE = 2\n")
    (folder / "broken.py").write_text("raise ImportError('broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "adaptable"
    for name in [name for name in sys.modules if name.partition(".")[0] == "adaptable"]:
        del sys.modules[name]


def test_a_module_is_adapted_when_it_has_run(on_import, package):
    seen = []
    on_import.call(f"{package}.inner", lambda module: seen.append(module.VALUE))
    import adaptable

    assert seen == []
    import adaptable.inner

    assert seen == [2]
    # It is what it would be without us.
    assert adaptable.inner.__spec__.loader is adaptable.inner.__loader__
    assert type(adaptable.inner.__loader__) is type(adaptable.__loader__)


def test_a_module_that_is_there_is_adapted_at_once(on_import, package):
    import adaptable

    seen = []
    for _ in range(2):
        on_import.call(package, lambda module: seen.append(module is adaptable))
    assert seen == [True, True]


def test_an_import_fails_as_it_would(on_import, package):
    seen = []
    on_import.call(f"{package}.broken", seen.append)
    on_import.call(f"{package}.missing", seen.append)
    for name, message in (("broken", "broken"), ("missing", "No module named 'adaptable.missing'")):
        with pytest.raises(ImportError, match=message):
            __import__(f"{package}.{name}")
    assert seen == []


def test_what_cannot_be_adapted_is_told_and_imported(on_import, package):
    on_import.call(package, lambda module: module.nothing)
    import adaptable

    assert adaptable.VALUE == 1
    [(name, text)] = on_import.failed
    assert name == package and "has no attribute 'nothing'" in text


def test_a_budget_is_what_is_left_less_a_little(monkeypatch):
    table = [(None, None, None), (30, None, 28.5), (2, None, 1.75), (0.2, None, 0.1), (-5, None, 0.1), (30, 3.0, 3.0), (2, 3.0, 1.75)]
    for remaining, most, wanted in table:
        monkeypatch.setattr(budget, "deadline", lambda remaining=remaining: remaining)
        assert budget.Budget(most).left() == wanted, (remaining, most)
    assert budget.Budget().milliseconds() == "1750"


def test_a_pace_gives_way_to_who_sets_a_timeout(monkeypatch):
    remaining = [8.0]
    monkeypatch.setattr(budget, "deadline", lambda: remaining[0])
    near, far = socket.socketpair()
    with contextlib.closing(near), contextlib.closing(far):
        pace = budget.Pace(budget.Budget())
        pace.keep(near)
        assert near.gettimeout() == 7.6
        remaining[0] = 4.0
        pace.keep(near)
        assert near.gettimeout() == 3.75
        remaining[0] = None
        pace.keep(near)
        assert near.gettimeout() is None
        remaining[0] = 4.0
        near.settimeout(60)
        pace.keep(near)
        assert near.gettimeout() == 60
        # Up to a library's own.
        near.settimeout(5)
        own = budget.Pace(budget.Budget(), most=5)
        for left, wanted in ((8.0, 5), (4.0, 3.75), (None, 5)):
            remaining[0] = left
            own.keep(near)
            assert near.gettimeout() == wanted


def test_names_in_pgoptions():
    table = {
        "": set(),
        "-c statement_timeout=5s": {"statement_timeout"},
        "-cstatement_timeout=5s --lock-timeout=4": {"statement_timeout", "lock_timeout"},
        "-c  Statement-Timeout = 5": {"statement_timeout"},
        "-c search_path=a\\ -c\\ b -c my.own=1": {"search_path", "my.own"},
    }
    for text, wanted in table.items():
        assert postgres.names(text) == wanted, text


def options(own="", check=1000):
    said = []
    found = postgres.Options(1750, check, own, lambda number, text: said.append(text))
    found.said = said
    return found


def test_pgoptions_are_merged():
    assert options().text() == "-c statement_timeout=1750 -c client_connection_check_interval=1000"
    assert options(check=None).text() == "-c statement_timeout=1750"
    assert options("-c work_mem=7MB", None).text() == "-c statement_timeout=1750 -c work_mem=7MB"
    both = options("-c statement_timeout=0")
    assert both.text() == "-c client_connection_check_interval=1000 -c statement_timeout=0"
    assert both.said == ["PGOPTIONS has its own statement_timeout, which counts"]


# What real servers say: PgBouncer 1.18, PgBouncer 1.20 and newer, RDS Proxy, PostgreSQL 13, PostgreSQL on a system without POLLRDHUP.
BOUNCER = 'connection to server at "127.0.0.1", port 6432 failed: FATAL:  unsupported startup parameter: options'
NEWER_BOUNCER = "FATAL:  unsupported startup parameter in options: {}"
RDS = "FATAL:  Feature not supported: RDS Proxy currently doesn't support command-line options."
OLDER = 'FATAL:  unrecognized configuration parameter "client_connection_check_interval"'
ELSEWHERE = 'FATAL:  invalid value for parameter "client_connection_check_interval": 1000'
REFUSALS = [
    ([BOUNCER], "-c work_mem=7MB"),
    ([RDS], "-c work_mem=7MB"),
    ([NEWER_BOUNCER.format("statement_timeout")], "-c work_mem=7MB"),
    ([NEWER_BOUNCER.format(name) for name in (postgres.CHECK, postgres.STATEMENT)], "-c work_mem=7MB"),
    ([OLDER], "-c statement_timeout=1750 -c work_mem=7MB"),
    ([ELSEWHERE], "-c statement_timeout=1750 -c work_mem=7MB"),
]


@pytest.mark.parametrize(("errors", "text"), REFUSALS)
def test_what_is_refused_is_left_out(errors, text):
    found = options("-c work_mem=7MB")
    for error in errors:
        without = found.refused(1, error)
    assert found.text(without) == found.text(found.without(1)) == text
    assert found.without(2) == frozenset()
    assert len(found.said) == len(errors)


def test_other_errors_are_no_refusal():
    found = options()
    for error in ("FATAL:  password authentication failed", "Connection refused", "FATAL:  too many connections"):
        assert found.refused(1, error) is None
    # Nor is the same once there is nothing left to leave out.
    found.refused(1, BOUNCER)
    assert found.refused(1, BOUNCER) is None


def test_only_so_many_servers_are_remembered():
    found = options()
    for target in range(2 * postgres.TARGETS_MAX):
        assert found.refused(target, BOUNCER) == {postgres.STATEMENT, postgres.CHECK}
    assert len(found._refused) == postgres.TARGETS_MAX
