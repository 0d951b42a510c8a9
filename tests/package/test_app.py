"""Finding the application: what each spec loads, and which failure belongs to which family."""

from __future__ import annotations

import os
import sys
import types

import pytest

from ferricorn import app

pytestmark = pytest.mark.usefixtures("_restored_path")

MODULE = """
def application(environ, start_response): return "application"
def other(environ, start_response): return "other"
def factory(*args, **kwargs): return lambda e, s: (args, kwargs)
def two(a, b): return application
def nothing(): return None
def seven(): return 7
def inner(): return len(5)
class Site:
    def __init__(self, name): self.name = name
    def __call__(self, environ, start_response): return self.name
number = 3
empty = None
"""


@pytest.fixture(autouse=True)
def _module(tmp_path, monkeypatch):
    (tmp_path / "spec_mod.py").write_text(MODULE)
    (tmp_path / "broken_mod.py").write_text("import no_such_dependency")
    (tmp_path / "raising_mod.py").write_text("raise RuntimeError('at import')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("spec_mod", "application"),
        ("spec_mod:application", "application"),
        ("spec_mod:other", "other"),
        ("spec_mod:factory()", ((), {})),
        ("spec_mod:factory(1, 'x', [2], k={'a': None})", ((1, "x", [2]), {"k": {"a": None}})),
        ("spec_mod:Site('s')", "s"),
    ],
)
def test_specs(spec, expected):
    assert app.load_app(spec)(None, None) == expected


SPECS_THAT_FAIL = """spec_mod:nope spec_mod:nothing() spec_mod:seven() spec_mod:number spec_mod:empty spec_mod:a.b
spec_mod:1 spec_mod:x( spec_mod: spec_mod:two(1) spec_mod:factory(other) spec_mod:a.b()
spec_mod:inner() broken_mod raising_mod spec_mod.py no_such_mod spec_mod.py:other
spec_mod:two(1,2,c=3) spec_mod:factory(x=y)
""".split()


@pytest.mark.parametrize("spec", SPECS_THAT_FAIL)
def test_failures_are_gunicorns(spec):
    util = pytest.importorskip("gunicorn.util")
    try:
        util.import_app(spec)
    except Exception as error:
        expected = error
    with pytest.raises(Exception) as caught:
        app.load_app(spec)
    assert str(caught.value) == str(expected)
    assert type(caught.value).__name__ == type(expected).__name__


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("spec_mod:nope", app.AppImportError, "Failed to find attribute 'nope' in 'spec_mod'."),
        ("spec_mod:seven()", app.AppImportError, "Application object must be callable."),
        ("spec_mod:nothing()", app.AppImportError, "Failed to find application object: 'nothing()'"),
        ("spec_mod:a.b", app.AppImportError, "Failed to parse 'a.b' as an attribute name or function call."),
        ("spec_mod:a.b()", app.AppImportError, "Function reference must be a simple name: 'a.b()'"),
        ("spec_mod:factory(x)", app.AppImportError, "Failed to parse arguments as literal values: 'factory(x)'"),
        ("spec_mod:factory(**{'a': 1})", app.AppImportError, "Failed to parse arguments as literal values: "),
        ("spec_mod:two(1)", app.AppImportError, "TypeError: two() missing 1 required positional argument: 'b'"),
        # Gunicorn fails on a class that refuses its arguments: it looks for the code of a function.
        ("spec_mod:Site()", app.AppImportError, "missing 1 required positional argument: 'name'"),
        ("spec_mod:inner()", TypeError, "object of type 'int' has no len()"),
        ("spec_mod.py", ImportError, "Failed to find application, did you mean 'spec_mod:application'?"),
        ("broken_mod", ModuleNotFoundError, "No module named 'no_such_dependency'"),
        ("raising_mod", RuntimeError, "at import"),
    ],
)
def test_families_of_failure(spec, kind, message):
    with pytest.raises(kind) as caught:
        app.load_app(spec)
    assert type(caught.value) is kind
    assert message in str(caught.value)


def test_prepare_path(make_config, tmp_path):
    (tmp_path / "lib").mkdir()
    app.prepare_path(make_config(chdir=str(tmp_path), pythonpath="lib,/abs"))
    assert os.getcwd() == str(tmp_path)
    assert sys.path[:2] == ["/abs", str(tmp_path / "lib")]
    assert str(tmp_path) in sys.path
    before = list(sys.path)
    app.prepare_path(make_config(chdir=str(tmp_path), pythonpath="lib,/abs"))
    assert sys.path == before


def test_application_loads_once(make_config):
    loaded = []
    application = app.Application(make_config(), loader=lambda: loaded.append(1) or "callable")
    assert [application.wsgi(), application.wsgi(), application.callable] == ["callable"] * 3
    assert loaded == [1]


@pytest.mark.parametrize(
    ("uri", "values"),
    [("spec_mod:other", {}), (None, {"wsgi_app": "spec_mod:other"}), ("spec_mod:other", {"wsgi_app": "x"})],
)
def test_application_by_name(make_config, uri, values):
    assert app.Application(make_config(**values), uri).wsgi()(None, None) == "other"


def test_paste(make_config, monkeypatch, tmp_path):
    deploy = types.ModuleType("paste.deploy")
    deploy.loadapp = lambda uri, **kwargs: (uri, kwargs)
    monkeypatch.setitem(sys.modules, "paste", types.ModuleType("paste"))
    monkeypatch.setitem(sys.modules, "paste.deploy", deploy)
    cfg = make_config(paste="site.ini#main", raw_paste_global_conf=["a=b"])
    assert app.Application(cfg).wsgi() == (
        f"config:{tmp_path}/site.ini#main",
        {"name": None, "relative_to": str(tmp_path), "global_conf": {"a": "b"}},
    )
