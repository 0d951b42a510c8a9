"""The package itself: versions, entry points, and that importing it costs nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import ferricorn
from ferricorn import __main__ as entry

PACKAGE = Path(ferricorn.__file__).parent


def test_importing_the_package_loads_nothing_else():
    code = "import sys; old = set(sys.modules); import ferricorn; print(sorted(set(sys.modules) - old))"
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['_contextvars', 'contextvars', 'ferricorn', 'ferricorn.jobs', 'ferricorn.timeouts']"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_modules_do_no_work_at_import(path):
    """No statement at the top of a module but definitions, and the extension module is imported in functions only."""
    tree = ast.parse(path.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    definitions = (ast.Import, ast.ImportFrom, *functions, ast.ClassDef, ast.Assign, ast.AnnAssign)
    for node in tree.body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_main = isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        assert isinstance(node, definitions) or is_docstring or is_main, ast.unparse(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert "_native" not in ast.unparse(node)
    assert ast.get_docstring(tree)


def test_the_version_is_the_workspaces():
    manifest = (Path(__file__).parents[2] / "Cargo.toml").read_text()
    assert f'\nversion = "{ferricorn.__version__}"\n' in manifest


@pytest.mark.parametrize(("script", "function"), [("main", "run"), ("ctl_main", "ctl")])
def test_entry_points_exit_with_the_servers_code(monkeypatch, script, function):
    native = types.ModuleType("ferricorn._native")
    seen = []
    setattr(native, function, lambda argv: seen.append(argv) or 3)
    monkeypatch.setitem(sys.modules, "ferricorn._native", native)
    monkeypatch.setattr(ferricorn, "_native", native, raising=False)
    monkeypatch.setattr(sys, "argv", ["prog", "-w", "2"])
    with pytest.raises(SystemExit) as ended:
        getattr(entry, script)()
    assert (ended.value.code, seen) == (3, [["prog", "-w", "2"]])
