"""Queries that take long, by both drivers; ``/seen`` tells by what they ended in this worker."""

import os

import probe

SEEN = []


def psycopg3():
    import psycopg

    with psycopg.connect(os.environ["TEST_DSN"]) as connection:
        connection.execute("select pg_sleep(60)")


def psycopg2():
    import psycopg2

    with psycopg2.connect(os.environ["TEST_DSN"]) as connection, connection.cursor() as cursor:
        cursor.execute("select pg_sleep(60)")


def app(environ, start_response):
    query = {"/psycopg": psycopg3, "/psycopg2": psycopg2}.get(environ["PATH_INFO"])
    if query is None:
        return probe.reply(start_response, " ".join(SEEN).encode())
    try:
        query()
    except BaseException as error:
        SEEN.append(type(error).__name__)
        raise
    return probe.reply(start_response, b"done")
