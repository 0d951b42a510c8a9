"""Calls a function when a module has been imported, or at once if it was already.

For adapting libraries that the application uses, without importing one that it does not. Not for: what is adapted
(``outbound``, ``outbound_redis``, ``postgres``).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Adapt = Callable[[Any], None]
Fail = Callable[[str, Exception], None]


class OnImport(MetaPathFinder):
    """Finds modules by the other finders, and has those that are waited for adapted when they have run."""

    def __init__(self, fail: Fail) -> None:
        self._waiting: dict[str, list[Adapt]] = {}
        self._finding: set[str] = set()
        self._fail = fail

    def install(self) -> None:
        """Takes part in imports from now on."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def call(self, name: str, adapt: Adapt) -> None:
        """Has ``adapt(module)`` called once for the module of this name; its failure is told and stops no import."""
        module = sys.modules.get(name)
        if module is not None:
            self._adapt(name, module, adapt)
        else:
            self._waiting.setdefault(name, []).append(adapt)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Finds a module that is waited for, and none else."""
        if fullname not in self._waiting or fullname in self._finding:
            return None
        # The finders behind this one are asked as well when it is asked again.
        self._finding.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._finding.discard(fullname)
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return None
        spec.loader = _Told(spec.loader, self)
        return spec

    def imported(self, module: ModuleType) -> None:
        """Adapts a module that has just run."""
        for adapt in self._waiting.pop(module.__name__, []):
            self._adapt(module.__name__, module, adapt)

    def _adapt(self, name: str, module: Any, adapt: Adapt) -> None:
        try:
            adapt(module)
        except Exception as error:
            # Another version of the library than those that are known: it works as it does without us.
            self._fail(name, error)


class _Told(Loader):
    """A module's loader, which tells when it is done; the module keeps its own."""

    def __init__(self, loader: Any, finder: OnImport) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._finder.imported(module)
