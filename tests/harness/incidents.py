"""Incidents that are put into the store of a real server, for those who read them. Not for how they come about."""

import contextlib
import json
import sqlite3

FILE = "reflex.sqlite"


def incident(name, state, at, **more):
    return {
        "schema": 1,
        "id": name,
        "server": {"pid": 4700, "name": "shop", "version": "0.1.0", "started_ns": 1},
        "state": state,
        "trigger": None if state == "note" else "losses",
        "fingerprint": "db.lock",
        "cause": "db.lock",
        "confidence": 0.93,
        "verdict": "a statement waits for a lock that \x1b[31mbackend 25083\x1b[0m holds",
        "route": "GET /report",
        "routes": [["GET /report", 3]],
        "noted_at": at,
        "diagnosed_at": at,
        "opened_at": None if state == "note" else at,
        "last_at": at + 60,
        "mitigated_at": None,
        "closed_at": None,
        "requests_lost": 3,
        "requests_stuck": 5,
        "workers": [4711],
        "impact": [],
        "request": None,
        "worker": None,
        "source": "outside",
        "frames": [{"function": "totals", "file": "/srv/shop/queries.py", "line": 88, "locals": {"query": "'SELECT 1'"}}],
        "evidence": [{"source": "database", "text": "backend 25083 is idle in transaction", "weight": 3}],
        "ruled_out": ["a slow statement"],
        "not_visible": [],
        "causes": [],
        "subject": {},
        "timeline": [{"at": at, "text": "seen"}],
        "fixes": {"now": ["SELECT pg_terminate_backend(25083)"], "next": [], "proper": []},
        # What a later version may add.
        "novelty": True,
        **more,
    }


def keep(folder, *incidents):
    """Puts incidents into the store of the first server of a state folder."""
    with contextlib.closing(sqlite3.connect(folder / FILE, timeout=20)) as connection, connection:
        for each in incidents:
            connection.execute(
                "INSERT INTO incidents (id, server, state, cause, fingerprint, at, opened_at, last_at, body)"
                " VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?)",
                (each["id"], each["state"], each["cause"], each["fingerprint"], each["noted_at"], each["opened_at"])
                + (each["last_at"], json.dumps(each)),
            )
