"""Searching and comparing products, categories, delivery days, passwords: everything that only computes."""

import difflib
import hashlib
import math
import re
from datetime import date, timedelta

# Words, each with at most one space behind it.
WORDS = re.compile(r"^(\w+\s?)*$")
EMAIL = re.compile(r"([a-zA-Z0-9_.+-]+)+@([a-zA-Z0-9-]+\.)+[a-zA-Z]{2,}")


def is_search(text):
    return WORDS.match(text) is not None


def is_email(text):
    return EMAIL.fullmatch(text) is not None


def without_tags(text):
    """A review's text as it is shown."""
    return re.sub(r"(<b>|</b>|<[^>]*>|\s+)*$", "", text)


def similar(product, others):
    """The products that go well with one and with each other. Each is (id, price, weight, stock)."""
    best, score = [], -1.0
    for first in others:
        for second in others:
            if first is second:
                continue
            dot = first[1] * second[1] + first[2] * second[2]
            length = math.sqrt(first[1] ** 2 + first[2] ** 2) * math.sqrt(second[1] ** 2 + second[2] ** 2)
            value = dot / length + 1 / (1 + abs(product[1] - first[1]))
            if value > score:
                best, score = [first[0], second[0]], value
    return best


def duplicates(names):
    """Names that look alike, for the editors."""
    found = []
    for index, name in enumerate(names):
        for other in names[index + 1:]:
            if difflib.SequenceMatcher(None, name, other).ratio() > 0.97:
                found.append((name, other))
    return found


def password_hash(password, rounds):
    return hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt of the shop", rounds).hex()


def category_path(category, parents):
    """From a category up to the root."""
    path = []
    while category is not None:
        path = [category, *path][:5]
        category = parents.get(category)
    return path


def delivery_days(start, weeks, interval):
    """How many delivery days there are in the next weeks."""
    day, end, days = start, start + timedelta(weeks=weeks), 0
    while day < end:
        days += 1
        day += timedelta(days=interval)
    return days


def today():
    return date(2026, 3, 2)
