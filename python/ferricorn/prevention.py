"""Keeps calls of the application to databases and services within the deadline of its request, without changing its code.

What is done is decided by the settings ``db_statement_timeout``, ``outbound_timeout`` and ``deadline_header``; nothing without
them. Not for: the times (``budget``, and ``core::prevention`` in Rust), nor for libraries (``postgres``, ``outbound``,
``outbound_redis``).
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from typing import Any

from ferricorn import outbound, outbound_redis, postgres
from ferricorn.budget import Budget
from ferricorn.on_import import OnImport

# How many things there are that are said once.
NOTICES_MAX = 16


@dataclass(frozen=True)
class Facts:
    """What the settings come to."""

    statement_ms: int | None
    check_ms: int | None
    outbound: bool
    outbound_most: float | None
    header: str | None

    @property
    def any(self) -> bool:
        """Tells whether there is anything to do."""
        return self.statement_ms is not None or self.outbound


class Prevention:
    """Made in the master for each configuration that wants any; takes effect in workers."""

    def __init__(self, facts: Facts, log: Any) -> None:
        self.facts = facts
        self._log = log
        # Shared by the workers, so that one of them says for all what all find.
        self._said = mmap.mmap(-1, NOTICES_MAX)

    def take_effect(self) -> None:
        """Prepares this worker, before the application is loaded in it; whatever goes wrong is told and changes nothing."""
        facts = self.facts
        on_import = OnImport(self._failed)
        options = None
        if facts.statement_ms is not None:
            options = postgres.Options(facts.statement_ms, facts.check_ms, os.environ.get("PGOPTIONS", "").strip(), self.say)
            postgres.export(options)
            self._log.debug("PGOPTIONS=%s", options.text())
        budget = Budget(facts.outbound_most) if facts.outbound else None
        postgres.adapt(on_import, options, budget, self.say)
        if budget is not None:
            outbound.adapt(on_import, budget, facts.header)
            outbound_redis.adapt(on_import, budget)
        on_import.install()

    def say(self, number: int, text: str) -> None:
        """Says something that other workers find as well, once."""
        if self._said[number] == 0:
            self._said[number] = 1
            self._log.warning("%s", text)

    def _failed(self, module: str, error: Exception) -> None:
        self._log.warning("%s is left as it is, this version of it is not known: %r", module, error)
