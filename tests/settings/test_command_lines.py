"""Command lines mean to Ferricorn's settings what they mean to Gunicorn: same values printed, same lines refused."""

from __future__ import annotations

import os
import pathlib
import shlex
import subprocess
import sys

import pytest
from settings_table import crate, rows

pytest.importorskip("gunicorn")

# The command line, and what the environment holds.
LINES: list[tuple[str, dict[str, str]]] = [
    ("", {}),
    ("-w 3", {}),
    ("-w3 -t5", {}),
    ("-w=3", {}),
    ("--workers=3 --threads ' 4 '", {}),
    ("-w -3", {}),
    ("-w abc", {}),
    ("-wx", {}),
    ("-w 0x10", {}),
    ("-w", {}),
    ("--workers=", {}),
    ("--workers=2=3", {}),
    ("--workers 1_0", {}),
    ("--workers 1__0", {}),
    ("--workers 2 -w 5", {}),
    ("--worker 3", {}),
    ("--workerz 3", {}),
    ("--thr 4", {}),
    ("--thr=4", {}),
    ("--time 5", {}),
    ("--log-conf=x", {}),
    ("--log-config=x", {}),
    ("--limit-request-field_s 5", {}),
    ("--limit-request-fields 5", {}),
    ("--no-send", {}),
    ("--no-sendfile", {}),
    ("-DR", {}),
    ("-Dw3", {}),
    ("-Dw 3", {}),
    ("-Dx", {}),
    ("--check-config=1", {}),
    ("--preload=", {}),
    ("--bind -x", {}),
    ("--bind=-x", {}),
    ("--bind -- x", {}),
    ("-D -b --daemon", {}),
    ("-b :1 -b:2 --bind=:3 -b ' [::1]:80 '", {}),
    ("-b :1", {"GUNICORN_CMD_ARGS": "-b :2 -b :3"}),
    ("-e '-a b'", {}),
    ("-eA=1 -e=B=2 --env C=3", {}),
    ("-m 022", {}),
    ("-m 0x12", {}),
    ("-m 0o22", {}),
    ("-m 089", {}),
    ("-m x", {}),
    ("--control-socket-mode 0660", {}),
    ("--cert-reqs 0x1", {}),
    ("--cert-reqs abc", {}),
    ("--ssl-version TLSv1", {}),
    ("--proxy-protocol", {}),
    ("--proxy-protocol -D", {}),
    ("--proxy-protocol=v2", {}),
    ("--proxy-protocol TRUE", {}),
    ("--proxy-protocol v3", {}),
    ("--http-protocols H1", {}),
    ("--http-protocols h1,h1", {}),
    ("--http2-cleartext both", {}),
    ("--http2-cleartext x", {}),
    ("--http2-max-frame-size 5", {}),
    ("--http2-max-concurrent-streams 0", {}),
    ("--http2-initial-window-size 2147483648", {}),
    ("--forwarded-allow-ips '*'", {}),
    ("--forwarded-allow-ips '10.0.0.0/8, ::1'", {}),
    ("--forwarded-allow-ips 10.0.0.0/255.0.0.0,10.0.0.0/0.255.255.255", {}),
    ("--forwarded-allow-ips 10.0.0.1/8", {}),
    ("--forwarded-allow-ips 010.0.0.1", {}),
    ("--forwarded-allow-ips localhost", {}),
    ("--forwarded-allow-ips fe80::1%eth0,::ffff:10.0.0.1,::/0,10.0.0.0/08", {}),
    ("--forwarded-allow-ips 10.0.0.1%eth0", {}),
    ("--forwarded-allow-ips 10/8", {}),
    ("--forwarded-allow-ips ''", {}),
    ("--forwarder-headers 'A, B,,C'", {}),
    ("--header-map REFUSE", {}),
    ("--header-map x", {}),
    ("--reload-engine bad", {}),
    ("--reload-engine poll", {}),
    ("--reload-extra-file gone.html", {}),
    ("--asgi-loop x", {}),
    ("--http-parser python", {}),
    ("--statsd-host Localhost", {}),
    ("--statsd-host [::1]:99", {}),
    ("--statsd-host unix:///s", {}),
    ("--statsd-host unix:99", {}),
    ("--statsd-host h:x", {}),
    ("--chdir ..", {}),
    ("--chdir ./gone", {}),
    ("-u 33 -g 0", {}),
    ("--pid ' /run/x.pid '", {}),
    ("-n \"it's\" -e \"it's\" -e 'a\"b'\"'\" -e 'back\\slash'", {}),
    ("--log-file - --access-logfile -", {}),
    ("--bogus", {}),
    ("--bogus 3 -q", {}),
    ("other -D second", {}),
    ("--keepalive 5", {}),
    ("", {"GUNICORN_CMD_ARGS": "-w 3 --name 'a b' ignored:app"}),
    ("-w 4", {"GUNICORN_CMD_ARGS": "--workers 3 --timeout 7"}),
    ("", {"GUNICORN_CMD_ARGS": "--name 'a"}),
    ("-w 4", {"GUNICORN_CMD_ARGS": "-w x"}),
    ("-w 4", {"GUNICORN_CMD_ARGS": "-w -1"}),
    ("", {"PORT": "5000"}),
    ("-b :1", {"PORT": "5000"}),
    ("", {"WEB_CONCURRENCY": "3"}),
    ("-w 2", {"WEB_CONCURRENCY": "3"}),
    ("", {"WEB_CONCURRENCY": "x"}),
    ("", {"FORWARDED_ALLOW_IPS": "*"}),
    ("", {"FORWARDED_ALLOW_IPS": "x"}),
    ("", {"SENDFILE": "0"}),
    ("", {"XDG_RUNTIME_DIR": "/"}),
    ("", {"XDG_RUNTIME_DIR": "/gone"}),
]


def environment(extra: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | extra


def values(text: str) -> dict[str, str]:
    pairs = (line.split(" = ", 1) for line in text.splitlines())
    return {pair[0].strip(): pair[1] for pair in pairs if len(pair) == 2}


@pytest.mark.parametrize(("line", "variables"), LINES, ids=[f"{line} {extra or ''}" for line, extra in LINES])
def test_a_line_means_the_same(line: str, variables: dict[str, str], tmp_path: pathlib.Path) -> None:
    env = environment(variables)
    words = ["--print-config", *shlex.split(line)]
    # What Gunicorn exits with tells a usage error (2) from anything else; the application is not there to be loaded.
    theirs = subprocess.run(
        [sys.executable, "-c", "from gunicorn.app.wsgiapp import run; run(prog='gunicorn')", *words, "no.such:app"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    ours = crate(["config", *words, "no.such:app"], env=env, cwd=tmp_path)
    assert (ours.returncode == 0) == bool(theirs.stdout), f"{ours.stderr}\n{theirs.stderr}"
    printed = values(ours.stdout)
    assert {name: value for name, value in printed.items() if rows()[name]["origin"] == "gunicorn"} == values(
        theirs.stdout
    )
    assert (ours.returncode == 2) == (theirs.returncode == 2)
    if theirs.returncode == 2:
        error = theirs.stderr.splitlines()[-1].replace("gunicorn", "ferricorn")
        # Ours may end in a hint, and knows flags that theirs does not.
        hintless = ours.stderr.splitlines()[-1].split(" (did you mean ")[0]
        assert hintless == error
