"""A real nginx of the tests' own: its configuration, its process, and the session that talks to it."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import requests

from harness import free_port, wait_until
from harness.wire import connect

BINARY = shutil.which("nginx") or "/usr/sbin/nginx"

CONFIG = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 200m;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    upstream app {{
        server {upstream};
        {keepalive}
    }}
    {version}
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} ssl;
        location / {{ proxy_pass http://app; }}
        location /direct/ {{
            proxy_pass http://app/;
            proxy_request_buffering off;
            proxy_buffering off;
        }}
    }}
}}
"""
# "Connection" is set at each level where another header is, so it stands beside them.
KEEP = 'proxy_http_version 1.1; proxy_set_header Connection "";'


class Nginx:
    """One nginx process before one server; to be stopped by whoever made it."""

    def __init__(self, folder, address, *, keepalive, certificate, key):
        self.folder = folder
        self.port, self.tls_port = free_port(), free_port()
        self.certificate = certificate
        upstream = f"unix:{address}" if isinstance(address, str) else "{}:{}".format(*address)
        (folder / "nginx.conf").write_text(
            CONFIG.format(
                # Workers of another user could not enter the folder of the test.
                user="user root;" if os.geteuid() == 0 else "",
                folder=folder,
                port=self.port,
                tls_port=self.tls_port,
                certificate=certificate,
                key=key,
                upstream=upstream,
                keepalive="keepalive 8;" if keepalive else "",
                version=KEEP if keepalive else "",
            )
        )
        self.process = None

    def start(self):
        assert Path(BINARY).exists(), "nginx is missing: install it (Debian and Ubuntu: apt-get install nginx-light)"
        command = [BINARY, "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", self.folder / "error.log"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        wait_until(self._ready, 10.0, "nginx ready")

    def _ready(self):
        assert self.process.poll() is None, self.process.stderr.read()
        try:
            connect(("127.0.0.1", self.port), 1.0).close()
        except OSError:
            return False
        return True

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5.0)
        self.process.stderr.close()

    def complaints(self):
        """What nginx says about the server behind it: such as that it closed prematurely, or sent no valid header."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "error.log").read_text(errors="replace").splitlines()
            return [line for line in lines if "[error]" in line or "[crit]" in line or "[alert]" in line]
        return []

    def url(self, path, tls=False):
        return f"https://127.0.0.1:{self.tls_port}{path}" if tls else f"http://127.0.0.1:{self.port}{path}"

    def session(self):
        """A browser, nearly: keeps cookies and connections."""
        session = requests.Session()
        session.trust_env = False
        session.verify = str(self.certificate)
        return session
