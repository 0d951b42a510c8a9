"""Code that computes: too much, in a regular expression, or without end."""

import urllib.parse
from dataclasses import dataclass

from .base import Fault, Flow

_LETTERS = "a" * 48 + "!"


@dataclass(frozen=True, kw_only=True)
class Computes(Fault):
    """More data, a setting, or a nasty text, and the code computes for minutes."""

    sql: str = ""
    then: Flow | None = None
    alone: bool = True

    def inject(self, stage):
        if self.sql:
            stage.sql(self.sql)
        if self.then:
            stage.visit(flow=self.then)

    def prove(self, view):
        return view.computing()


def _products(count, category):
    return (
        "INSERT INTO products (name, category_id, price, stock, weight, description)"
        f" SELECT 'Imported product ' || n, {category}, 1 + n % 97, 5, 100 + n % 311, 'Imported.'"
        f" FROM generate_series(1, {count}) n"
    )


def _search(text):
    return Flow((f"/search?q={urllib.parse.quote(text)}",))


def _post(path, **values):
    return Flow((path,), method="POST", bodies=(values,))


def _setting(name, value):
    return f"UPDATE settings SET value = '{value}' WHERE name = '{name}'"


FAULTS = [
    Computes(cause="cpu.bound", variant="python", flow=Flow(("/products/39/similar",), rate=0.6), sql=_products(9000, 40)),
    Computes(cause="cpu.bound", variant="difflib", flow=Flow(("/categories/30/duplicates",), rate=0.4), held_out=True,
             sql=_products(4000, 30)),
    Computes(cause="cpu.bound", variant="pbkdf2", flow=_post("/login", password="correct horse"), held_out=True,
             sql=_setting("password_rounds", 150_000_000)),
    Computes(cause="cpu.regex", variant="match", flow=_search("garden chair"), then=_search(_LETTERS)),
    Computes(cause="cpu.regex", variant="fullmatch", flow=_post("/newsletter", email="someone@example.com"),
             then=_post("/newsletter", email="a" * 48), held_out=True),
    Computes(cause="cpu.regex", variant="sub", flow=_post("/reviews", text="<b>Fine</b>"),
             then=_post("/reviews", text="Fine " + "<b>" * 40 + "."), held_out=True),
    Computes(cause="infinite_loop", variant="cycle", flow=Flow(("/categories/12/path", "/categories/13/path"), rate=0.8),
             sql="UPDATE categories SET parent_id = 12 WHERE id = 6"),
    Computes(cause="infinite_loop", variant="step", flow=Flow(("/delivery",), rate=0.8), held_out=True,
             sql=_setting("delivery_interval_days", 0)),
]
