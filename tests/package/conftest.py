"""What the tests of the Python package share: a configuration without the extension module, and clean logging."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("ferricorn") is None:
    # Nothing here needs the extension module, so the sources do where the wheel is not installed.
    sys.path.insert(0, str(Path(__file__).parents[2] / "python"))

from ferricorn.config import Config

DEFAULTS = {
    "access_log_format": '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
    "accesslog": None,
    "bind": ["127.0.0.1:8000"],
    "capture_output": False,
    "certfile": None,
    "chdir": "/",
    "default_proc_name": "demo:app",
    "disable_redirect_access_to_syslog": False,
    "dogstatsd_tags": "",
    "errorlog": "-",
    "forwarded_allow_ips": "127.0.0.1,::1",
    "group": None,
    "keyfile": None,
    "logconfig": None,
    "logconfig_dict": {},
    "logconfig_json": None,
    "logger_class": "gunicorn.glogging.Logger",
    "loglevel": "info",
    "max_requests": 0,
    "max_requests_jitter": 0,
    "paste": None,
    "pre_request": None,
    "preload_app": False,
    "proc_name": None,
    "proxy_allow_ips": "127.0.0.1,::1",
    "pythonpath": None,
    "raw_env": [],
    "raw_paste_global_conf": [],
    "sendfile": None,
    "statsd_host": None,
    "statsd_prefix": "",
    "syslog": False,
    "syslog_addr": "udp://localhost:514",
    "syslog_facility": "user",
    "syslog_prefix": None,
    "threads": 1,
    "timeout": 30,
    "user": None,
    "worker_class": "sync",
    "workers": 1,
    "wsgi_app": None,
}


@pytest.fixture
def make_config():
    """Returns a function that builds a Config with the given settings."""
    return lambda **values: Config(values, DEFAULTS)


@pytest.fixture(autouse=True)
def _clean_logging():
    root = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:], logging.root.level = root
    for name in ("gunicorn.error", "gunicorn.access"):
        log = logging.getLogger(name)
        for handler in list(log.handlers):
            log.removeHandler(handler)
            handler.close()
        log.propagate = True
        log.setLevel(logging.NOTSET)


@pytest.fixture
def _restored_path():
    saved, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = saved
    for name in set(sys.modules) - modules:
        del sys.modules[name]
