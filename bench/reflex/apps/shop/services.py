"""Redis, the mail system behind its queue, and the old stock system (MariaDB)."""

from urllib.parse import urlsplit

import celery
import pymysql
import redis

from shop import settings

carts = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=None)
mails = celery.Celery("shop", broker=settings.QUEUE_URL, backend=settings.QUEUE_URL)


@mails.task(name="mails.confirm")
def confirm(order):
    return f"confirmed {order}"


def cart_size(customer):
    return int(carts.get(f"cart:{customer}") or 0)


def confirmation(order):
    """The customer sees that the mail is out."""
    return confirm.delay(order).get()


def _stock():
    url = urlsplit(settings.STOCK_URL)
    return pymysql.connect(
        host=url.hostname, port=url.port, user=url.username, password=url.password, database=url.path.lstrip("/"),
        autocommit=True,
    )


def shelf_movements(aisles):
    """How often each shelf of the first aisles was used."""
    with _stock() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.id, (SELECT count(*) FROM movements m WHERE m.shelf_id = s.id AND m.pieces > 0) FROM shelves s"
            " WHERE s.id <= %s",
            (aisles * 10,),
        )
        return [list(row) for row in cursor.fetchall()]


def take_from_shelf(shelf):
    with _stock() as connection, connection.cursor() as cursor:
        return cursor.execute("UPDATE shelves SET pieces = pieces - 1 WHERE id = %s", (shelf,))
