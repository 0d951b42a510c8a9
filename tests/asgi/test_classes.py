"""The names under which ASGI is served: those that people have in their command lines and configuration files."""

import ast

import pytest

from harness import ASGI
from harness.server import run_command

APP = "asgi_probe:app"
NAMES = [
    "uvicorn_worker.UvicornWorker",
    "uvicorn_worker.UvicornH11Worker",
    "uvicorn.workers.UvicornWorker",
    "uvicorn.workers.UvicornH11Worker",
    "asgi",
]
# Gone from Uvicorn itself meanwhile; and Gunicorn's own worker is another one.
GONE = NAMES[2:]


def served(running):
    assert running.get("/scope").status == 200
    assert b"'type': 'http'" in running.get("/scope").body
    assert running.stop() == 0


def marked(names):
    gone = pytest.mark.only_ferricorn("Uvicorn has no such class any more")
    return [pytest.param(name, marks=gone) if name in GONE else name for name in names]


@pytest.mark.parametrize("name", marked(NAMES))
def test_name_on_the_command_line(server, name):
    served(server("-k", name, app=APP))


@pytest.mark.parametrize("name", marked(NAMES[:3]))
def test_name_in_the_configuration(server, name):
    served(server(app=APP, config=f"worker_class = {name!r}\nworkers = 2\n"))


def test_class_in_the_configuration(server):
    """The class itself, imported."""
    served(server(app=APP, config="from uvicorn_worker import UvicornWorker\nworker_class = UvicornWorker\n"))


def test_name_in_the_environment(server):
    served(server(app=APP, env={"GUNICORN_CMD_ARGS": f"-k {NAMES[0]}"}))


def test_check_config(tmp_path):
    result = run_command(["-k", ASGI, "--check-config", APP], tmp_path)
    assert result.returncode == 0, result.stderr


def test_nothing_has_no_effect(server):
    """No warning that the worker class is not served."""
    running = server("-k", ASGI, "--keep-alive", "7", "--graceful-timeout", "5", app=APP)
    served(running)
    assert "has no effect" not in running.log() and "WARNING" not in running.log()


@pytest.mark.parametrize("flag", ["--threads", "--worker-connections"])
def test_settings_of_other_workers(server, flag):
    served(server("-k", ASGI, flag, "4", app=APP))


def test_factory(server):
    served(server("-k", ASGI, app="asgi_probe:make()"))


def test_application_that_is_missing(server):
    running = server("-k", ASGI, app="asgi_probe:missing", ready=False)
    assert running.wait() != 0
    assert "missing" in running.log()


@pytest.mark.only_ferricorn("they are Uvicorn's own")
def test_what_a_derived_class_asks_for(server):
    config = """
from uvicorn_worker import UvicornWorker

class UnusualUvicornWorker(UvicornWorker):
    CONFIG_KWARGS = {"loop": "asyncio", "http": "h11", "root_path": "/scope", "lifespan": "off", "limit_concurrency": 7}

worker_class = UnusualUvicornWorker
"""
    running = server(app=APP, config=config)
    assert ast.literal_eval(running.get("/x").body.decode())["root_path"] == "/scope"
    assert "Application startup" not in running.log() and "has no effect: only" not in running.log()
    running.wait_log("CONFIG_KWARGS of the worker class: limit_concurrency has no effect")
    assert "http has no effect" not in running.log()


@pytest.mark.only_ferricorn("they are Uvicorn's own")
def test_settings_win_over_what_a_derived_class_asks_for(server, tmp_path):
    module = "from uvicorn_worker import UvicornWorker\nclass MyUvicornWorker(UvicornWorker):\n    CONFIG_KWARGS = {'root_path': '/class'}\n"
    (tmp_path / "own_workers.py").write_text(module)
    running = server("-k", "own_workers.MyUvicornWorker", "--root-path", "/scope", app=APP, path=[tmp_path])
    assert ast.literal_eval(running.get("/x").body.decode())["root_path"] == "/scope"
