"""Sites of these tests: an application behind the server under test behind nginx."""

import subprocess
from dataclasses import dataclass

import pytest
from nginx import Nginx

from harness import Server
from harness.server import APPS, PYTHON, environment

PASSWORD = "correct horse"

# Each way to reach the server, and each way to run it, at least once; not the whole product.
WAYS = {
    "tcp-keep-gthread": ("tcp", True, ("-k", "gthread", "--threads", "4", "--keep-alive", "75")),
    "tcp-close-sync": ("tcp", False, ("-k", "sync", "-w", "2")),
    "unix-keep-sync": ("unix", True, ("-k", "sync", "-w", "2", "--keep-alive", "75")),
    "unix-close-gthread": ("unix", False, ("-k", "gthread", "--threads", "4")),
}


@dataclass
class Site:
    """nginx and the server behind it."""

    server: Server
    nginx: Nginx
    keepalive: bool

    def url(self, path, tls=False):
        return self.nginx.url(path, tls)

    def get(self, path, tls=False, **options):
        return self.request("GET", path, tls, **options)

    def post(self, path, tls=False, **options):
        return self.request("POST", path, tls, **options)

    def request(self, method, path, tls=False, **options):
        """One request of a client of its own; redirects are shown, not followed."""
        with self.nginx.session() as session:
            options.setdefault("allow_redirects", False)
            return session.request(method, self.url(path, tls), timeout=30, **options)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        + ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        + ["-out", certificate, "-keyout", key],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return certificate, key


@pytest.fixture(scope="module")
def make_site(module_server, tmp_path_factory, certificate):
    """Factory: ``make_site(*server_args, app=..., bind=..., keepalive=True, **options of the server)``."""
    sites = []

    def make(*args, keepalive=True, **options):
        server = module_server(*args, **options)
        folder = tmp_path_factory.mktemp("nginx")
        nginx = Nginx(folder, server.address, keepalive=keepalive, certificate=certificate[0], key=certificate[1])
        sites.append(Site(server, nginx, keepalive))
        nginx.start()
        return sites[-1]

    yield make
    for site in sites:
        site.nginx.stop()
    assert [line for site in sites for line in site.nginx.complaints()] == []


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS)
def flask_site(request, make_site, tmp_path_factory):
    bind, keepalive, args = request.param
    folder = tmp_path_factory.mktemp("flask")
    (folder / "data.bin").write_bytes(bytes(range(256)) * 4000)
    env = {"FLASKSITE_FOLDER": str(folder)}
    return make_site(*args, app="flasksite:app", bind=bind, keepalive=keepalive, env=env)


@pytest.fixture(scope="session")
def django_folder(tmp_path_factory):
    """Database with an administrator, static files and a file to download; the database is one for all sites."""
    folder = tmp_path_factory.mktemp("django")
    (folder / "data.bin").write_bytes(bytes(range(256)) * 20_000)
    env = environment(
        {
            "DJANGOSITE_FOLDER": str(folder),
            "DJANGO_SETTINGS_MODULE": "djangosite.settings",
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        },
        [APPS],
    )
    for command in (
        ["migrate", "--verbosity", "0"],
        ["createsuperuser", "--noinput", "--username", "admin", "--email", "admin@example.org"],
        ["collectstatic", "--noinput", "--verbosity", "0"],
    ):
        done = subprocess.run([PYTHON, "-m", "django", *command], env=env, capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS)
def django_site(request, make_site, django_folder):
    bind, keepalive, args = request.param
    env = {"DJANGOSITE_FOLDER": str(django_folder)}
    return make_site(*args, app="djangosite.wsgi:application", bind=bind, keepalive=keepalive, env=env)
