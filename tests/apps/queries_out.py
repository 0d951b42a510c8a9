"""Queries that take too long, by several drivers, on the database of ``TEST_DSN``; ``TEST_OPTIONS`` are the application's own.

``/LIBRARY/stuck`` runs one and answers with the name of what it raised and how long that took, ``/LIBRARY/show`` with what the
server says of two parameters.
"""

import asyncio
import json
import os

from calls_out import timed

DSN = os.environ["TEST_DSN"]
PARTS = dict(part.split("=", 1) for part in DSN.split())
OWN = os.environ.get("TEST_OPTIONS")
STUCK = "select pg_sleep(20)"
SHOW = "select current_setting('statement_timeout'), current_setting('client_connection_check_interval')"
MORE = {"options": OWN} if OWN else {}


def psycopg2(query):
    import psycopg2

    connection = psycopg2.connect(DSN, **MORE)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()
    finally:
        connection.close()


def psycopg(query):
    import psycopg

    with psycopg.connect(DSN, **MORE) as connection:
        return connection.execute(query).fetchone()


def psycopgasync(query):
    async def ask():
        import psycopg

        async with await psycopg.AsyncConnection.connect(DSN, **MORE) as connection:
            return await (await connection.execute(query)).fetchone()

    return asyncio.run(ask())


def pool(query):
    import psycopg_pool

    with psycopg_pool.ConnectionPool(DSN, min_size=1, kwargs=MORE) as connections, connections.connection() as connection:
        return connection.execute(query).fetchone()


def sqlalchemy2(query):
    return _sqlalchemy("psycopg2", query)


def sqlalchemy3(query):
    return _sqlalchemy("psycopg", query)


def _sqlalchemy(driver, query):
    from sqlalchemy import create_engine, text

    url = f"postgresql+{driver}://{PARTS['user']}@{PARTS['host']}:{PARTS['port']}/{PARTS['dbname']}"
    engine = create_engine(url, connect_args=MORE)
    try:
        with engine.connect() as connection:
            return tuple(connection.execute(text(query)).one())
    finally:
        engine.dispose()


def django(query):
    import django.conf
    import django.db

    if not django.conf.settings.configured:
        database = {"ENGINE": "django.db.backends.postgresql", "NAME": PARTS["dbname"], "USER": PARTS["user"]}
        database |= {"HOST": PARTS["host"], "PORT": PARTS["port"], "OPTIONS": MORE}
        django.conf.settings.configure(DATABASES={"default": database})
    try:
        with django.db.connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()
    finally:
        django.db.connection.close()


def asyncpg(query):
    async def ask():
        import asyncpg

        settings = {"server_settings": {"statement_timeout": "700"}} if OWN else {}
        connection = await asyncpg.connect(
            host=PARTS["host"], port=int(PARTS["port"]), user=PARTS["user"], database=PARTS["dbname"], **settings
        )
        try:
            return tuple(await connection.fetchrow(query))
        finally:
            await connection.close()

    return asyncio.run(ask())


def psql(query):
    """A program that the application starts inherits the variable."""
    import subprocess

    words = ["psql", "-XqAt", "-h", PARTS["host"], "-p", PARTS["port"], "-U", PARTS["user"], PARTS["dbname"], "-c", query]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().split("|")


def app(environ, start_response):
    _, library, what = environ["PATH_INFO"].split("/")
    query = {"stuck": STUCK, "show": SHOW}[what]
    body = json.dumps(timed(lambda: globals()[library](query)), default=str).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
