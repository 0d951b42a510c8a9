"""Config: Gunicorn's names and derivations, compared with Gunicorn's own object where it is installed."""

from __future__ import annotations

import json
import os
import sys
import types

import pytest

from ferricorn import glogging, hook_table, hooks, statsd
from ferricorn.address import parse
from ferricorn.config import Config
from ferricorn.errors import ConfigError

DERIVED = """worker_class_str address uid gid user group proc_name is_ssl sendfile env paste_global_conf bind workers
timeout threads forwarded_allow_ips reuse_port keepalive max_requests statsd_host raw_env logconfig_dict""".split()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"workers": 4, "threads": 3},
        {"worker_class": "gunicorn.workers.sync.SyncWorker", "threads": 2},
        {"bind": ["unix:/run/x.sock", "[::1]:9", "fd://3", "tcp://a:1", "Host"]},
        {"bind": "127.0.0.1:1"},
        {"raw_env": ["A=1", "B=x=y"], "raw_paste_global_conf": [r"a\=b=c"]},
        {"proc_name": "p", "certfile": "/dev/null", "user": "0", "group": "root"},
        {"sendfile": False},
        {"forwarded_allow_ips": "10.0.0.0/8,*"},
        {"statsd_host": "localhost:99"},
        {"workers": "0x3", "timeout": "7"},
    ],
)
def test_same_as_gunicorn(values):
    theirs_module = pytest.importorskip("gunicorn.config")
    theirs = theirs_module.Config()
    for name, value in values.items():
        theirs.set(name, value)
    defaults = {name: setting.default for name, setting in theirs.settings.items()}
    ours = Config(values, {name: value for name, value in defaults.items() if not callable(value)})
    assert ours.settings.keys() == theirs.settings.keys()
    for name in DERIVED:
        expected = getattr(theirs, name)
        found = getattr(ours, name)
        assert bool(found) is bool(expected) if name == "is_ssl" else found == expected, name
    for name in ("forwarded_allow_networks", "proxy_allow_networks"):
        assert getattr(ours, name)() == getattr(theirs, name)()


def test_every_public_attribute_of_gunicorn_is_here(make_config):
    theirs = pytest.importorskip("gunicorn.config").Config
    # `parser` is the command line, which is parsed in Rust; `reuse_port` is a plain setting here.
    names = {name for name in dir(theirs) if not name.startswith("_")} - {"parser", "reuse_port"}
    assert names <= set(dir(make_config()))


def test_set_knows_the_names(make_config):
    cfg = make_config()
    cfg.set("workers", 8)
    assert (cfg.workers, cfg.settings["workers"].get(), cfg.settings["workers"].default) == (8, 8, 1)
    assert cfg.changed() == {"workers": 8}
    with pytest.raises(AttributeError, match=r"No configuration setting for: wrokers \(did you mean 'workers'\?\)"):
        cfg.set("wrokers", 8)
    with pytest.raises(AttributeError, match="No configuration setting for: nope"):
        _ = cfg.nope
    with pytest.raises(AttributeError, match="Invalid access!"):
        cfg.workers = 3
    cfg.own_attribute = 1
    assert cfg.own_attribute == 1


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("workers", "3", 3),
        ("workers", "0x10", 16),
        ("workers", True, 1),
        ("workers", -1, ValueError),
        ("workers", "many", ValueError),
        ("preload_app", "True", True),
        ("preload_app", "yes", ValueError),
        ("bind", "a:1", ["a:1"]),
        ("forwarded_allow_ips", "1.2.3.4, *", ["1.2.3.4", "*"]),
        ("logger_class", lambda: glogging.Logger, glogging.Logger),
        ("loglevel", "debug", "debug"),
    ],
)
def test_values_are_shaped(make_config, name, value, expected):
    cfg = make_config()
    if expected is ValueError:
        with pytest.raises(ValueError):
            cfg.set(name, value)
    else:
        cfg.set(name, value)
        assert cfg.settings[name].value == expected
        assert type(cfg.settings[name].value) is type(expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, glogging.Logger),
        ({"logger_class": "simple"}, glogging.Logger),
        ({"statsd_host": "h:1"}, statsd.Statsd),
        ({"logger_class": "simple", "statsd_host": "h:1"}, statsd.Statsd),
        ({"logger_class": "gunicorn.instrument.statsd.Statsd"}, statsd.Statsd),
        ({"logger_class": "ferricorn.glogging.Logger", "statsd_host": "h:1"}, glogging.Logger),
        ({"logger_class": int}, int),
    ],
)
def test_logger_class(make_config, values, expected):
    assert make_config(**values).logger_class is expected


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ({}, "sync", hooks.SyncWorker),
        ({"threads": 2}, "gthread", hooks.ThreadWorker),
        ({"worker_class": "gthread"}, "gthread", hooks.ThreadWorker),
        ({"worker_class": "gevent", "threads": 2}, "gevent", hooks.GeventWorker),
        ({"worker_class": "uvicorn.workers.UvicornWorker"}, "uvicorn.workers.UvicornWorker", hooks.UvicornWorker),
        ({"worker_class": "egg:gunicorn#sync"}, "egg:gunicorn#sync", hooks.SyncWorker),
        ({"worker_class": hooks.ThreadWorker}, "ThreadWorker", hooks.ThreadWorker),
    ],
)
def test_worker_class(make_config, values, name, expected):
    cfg = make_config(**values)
    assert (cfg.worker_class_str, cfg.worker_class) == (name, expected)


@pytest.mark.parametrize("uri", ["nonsense", "no.such.module.Class", "os.NoSuchClass"])
def test_a_class_that_is_not_there(make_config, uri):
    with pytest.raises(RuntimeError, match=f"class uri '{uri}' invalid or not found"):
        _ = make_config(worker_class=uri).worker_class


@pytest.mark.parametrize(
    "netloc",
    [
        "",
        *"127.0.0.1 127.0.0.1:80 :80 [::1] [::1]:80 unix:a unix:/a unix:///a fd://4 fd://x h:x".split(),
        *"tcp://H:1 tcp:// 0 [::1]: [::1]x h: :x".split(),
    ],
)
def test_addresses_parse_as_gunicorns(netloc):
    util = pytest.importorskip("gunicorn.util")
    try:
        expected = util.parse_address(netloc)
    except RuntimeError as error:
        with pytest.raises(RuntimeError) as caught:
            parse(netloc)
        assert str(caught.value) == str(error)
    else:
        assert parse(netloc) == expected


def test_sendfile_follows_the_environment(make_config, monkeypatch):
    for text, expected in {"1": True, "Yes": True, "0": False, "": False}.items():
        monkeypatch.setenv("SENDFILE", text)
        assert make_config().sendfile is expected


def test_ids_by_name(make_config):
    assert make_config().uid == os.geteuid()
    assert make_config(user="root", group="0").user == 0
    with pytest.raises(ConfigError, match="No such user: 'nobody-like-this'"):
        _ = make_config(user="nobody-like-this").uid


def test_bad_environment_settings(make_config):
    with pytest.raises(RuntimeError, match="environment setting 'A' invalid"):
        _ = make_config(raw_env=["A"]).env


def test_printed(make_config):
    def post_fork(server, worker):
        pass

    lines = str(make_config(workers=3, post_fork=post_fork)).splitlines()
    assert lines == sorted(lines)
    assert any(line.split() == ["workers", "=", "3"] for line in lines)
    assert any(line.startswith("post_fork ") and line.endswith(".post_fork()>") for line in lines)


def test_defaults_come_from_the_table(monkeypatch):
    native = types.ModuleType("ferricorn._native")
    native.settings_json = lambda: json.dumps([{"name": "workers", "default": 2}, {"name": "bind", "default": "a:1"}])
    monkeypatch.setitem(sys.modules, "ferricorn._native", native)
    monkeypatch.setattr(sys.modules["ferricorn"], "_native", native, raising=False)
    cfg = Config({"workers": 5})
    assert (cfg.workers, cfg.bind) == (5, ["a:1"])
    assert set(hook_table.ARITIES) <= cfg.settings.keys()
