"""Moving goods between warehouses, converting prices, bundles: everything that takes locks or hands work to threads."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

_warehouses = {number: threading.Lock() for number in range(1, 5)}
_rates_lock = threading.Lock()
_rates = {"EUR": 1.0, "USD": 1.1, "CHF": 0.95, "of": "2026-01-01"}
_pricing = ThreadPoolExecutor(max_workers=2, thread_name_prefix="pricing")


def transfer(source, target, book):
    """Moves goods; `book` writes it down while both places are locked."""
    with _warehouses[source]:
        book("out", source)
        with _warehouses[target]:
            book("in", target)


def convert(amount, currency, updated):
    """A price in another currency. `updated` is the day of the newest rates."""
    with _rates_lock:
        if _rates["of"] != updated:
            _refresh(updated)
        return round(amount * _rates[currency], 2)


def _refresh(updated):
    with _rates_lock:
        _rates["of"] = updated


def bundle_price(prices):
    """The price of several products together."""
    return _pricing.submit(_bundle, prices).result()


def _bundle(prices):
    parts = [_pricing.submit(_with_tax, price) for price in prices]
    return sum(part.result() for part in parts)


def _with_tax(price):
    return round(price * 1.19, 2)


class Counts:
    """Stock counts, made one after the other by a thread of its own."""

    def __init__(self):
        self._asked = queue.Queue()
        self._made = queue.Queue()
        self._lock = threading.Lock()
        self._thread = None

    def count(self, pieces):
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="counts", daemon=True)
                self._thread.start()
            self._asked.put(pieces)
            return self._made.get()

    def _work(self):
        while True:
            self._made.put(100 * 1000 // self._asked.get())


counts = Counts()
