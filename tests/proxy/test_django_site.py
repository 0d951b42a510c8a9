"""A Django project behind nginx: admin, database, static files, large transfers."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import PASSWORD

MEGABYTE = 1 << 20
BLOCK = 1 << 16


def token(page):
    """The CSRF token of a page's form."""
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text).group(1)


def login(site, session, tls, password=PASSWORD):
    url = site.url("/admin/login/?next=/admin/", tls)
    page = session.get(url, timeout=30)
    assert page.status_code == 200
    form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token(page), "next": "/admin/"}
    # With TLS Django checks where the form came from, against the scheme and the host that it was told.
    return session.post(url, data=form, headers={"Referer": url}, timeout=30)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_admin(django_site, tls):
    """Log in, add something, find it, log out."""
    name = f"group {django_site.nginx.port} {tls} ü"
    with django_site.nginx.session() as session:
        page = login(django_site, session, tls)
        assert [answer.status_code for answer in (*page.history, page)] == [302, 200]
        assert page.url == django_site.url("/admin/", tls)
        assert "Site administration" in page.text
        add = django_site.url("/admin/auth/group/add/", tls)
        form = {"name": name, "csrfmiddlewaretoken": token(session.get(add, timeout=30))}
        page = session.post(add, data=form, headers={"Referer": add}, timeout=30)
        assert page.url == django_site.url("/admin/auth/group/", tls)
        assert "was added successfully" in page.text
        assert name in page.text
        form = {"csrfmiddlewaretoken": token(page)}
        headers = {"Referer": page.url}
        page = session.post(django_site.url("/admin/logout/", tls), data=form, headers=headers, timeout=30)
        assert page.status_code == 200
        page = session.get(add, timeout=30)
        assert "/admin/login/" in page.url


def test_wrong_password(django_site):
    with django_site.nginx.session() as session:
        page = login(django_site, session, False, "wrong")
        assert page.status_code == 200
        assert "Please enter the correct username and password" in page.text
        assert "sessionid" not in session.cookies


def test_without_csrf_token(django_site):
    response = django_site.post("/admin/login/", data={"username": "admin", "password": PASSWORD})
    assert response.status_code == 403


def style(site):
    """The path of the admin's style sheet."""
    page = site.get("/admin/login/")
    path = re.search(r'href="(/static/admin/css/base[^"]*\.css)"', page.text).group(1)
    assert re.search(r"base\.[0-9a-f]{12}\.css$", path), "the name holds a checksum"
    return path


def test_static_file(django_site, django_folder):
    path = style(django_site)
    content = (django_folder / path.removeprefix("/")).read_bytes()
    for encoding in ("identity", "gzip"):
        response = django_site.get(path, headers={"Accept-Encoding": encoding})
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/css")
        assert "immutable" in response.headers["Cache-Control"]
        assert response.headers.get("Content-Encoding") == (None if encoding == "identity" else "gzip")
        assert response.content == content


def test_static_file_in_part(django_site, django_folder):
    path = style(django_site)
    content = (django_folder / path.removeprefix("/")).read_bytes()
    plain = {"Accept-Encoding": "identity"}
    response = django_site.get(path, headers={"Range": "bytes=10-99", **plain})
    assert (response.status_code, response.content) == (206, content[10:100])
    head = django_site.request("HEAD", path, headers=plain)
    assert (head.content, head.headers["Content-Length"]) == (b"", str(len(content)))
    since = {"If-Modified-Since": head.headers["Last-Modified"], **plain}
    assert django_site.get(path, headers=since).status_code == 304
    assert django_site.get("/static/admin/css/missing.css").status_code == 404


@pytest.mark.parametrize("prefix", ["", "/direct"], ids=["buffered", "direct"])
def test_large_upload(django_site, prefix):
    """50 MB as a form with a file; then the same connection is good for another request."""
    content = b"".join(hashlib.sha256(b"up %d" % number).digest() * (MEGABYTE // 32) for number in range(50))
    with django_site.nginx.session() as session:
        files = {"film": ("film.mkv", content)}
        url = django_site.url(f"{prefix}/upload")
        response = session.post(url, files=files, data={"title": "Film"}, timeout=40)
        assert response.status_code == 200
        assert response.json() == {
            "files": {"film": ["film.mkv", len(content), hashlib.sha256(content).hexdigest()]},
            "form": {"title": "Film"},
        }
        assert session.get(django_site.url("/"), timeout=30).text == "<h1>Django</h1>"


@pytest.mark.parametrize("prefix", ["", "/direct"], ids=["buffered", "direct"])
def test_large_download(django_site, prefix):
    """100 MB from a generator."""
    blocks = 100 * MEGABYTE // BLOCK
    expected, got, size = hashlib.sha256(), hashlib.sha256(), 0
    for number in range(blocks):
        expected.update(hashlib.sha256(b"%d" % number).digest() * (BLOCK // 32))
    with django_site.nginx.session() as session:
        with session.get(django_site.url(f"{prefix}/download?blocks={blocks}"), stream=True, timeout=40) as response:
            assert response.status_code == 200
            for piece in response.iter_content(1 << 18):
                got.update(piece)
                size += len(piece)
    assert (size, got.hexdigest()) == (100 * MEGABYTE, expected.hexdigest())


def test_file_response(django_site, django_folder):
    """Through wsgi.file_wrapper."""
    response = django_site.get("/file")
    assert response.headers["Content-Disposition"] == 'attachment; filename="data.bin"'
    assert response.content == (django_folder / "data.bin").read_bytes()


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_scheme_and_host(django_site, tls):
    scheme, port = ("https", django_site.nginx.tls_port) if tls else ("http", django_site.nginx.port)
    base = f"{scheme}://127.0.0.1:{port}"
    moved = django_site.get("/moved", tls)
    assert (moved.status_code, moved.headers["Location"]) == (302, f"{base}/")
    seen = django_site.get("/where/gr%C3%BC%C3%9Fe/%2F?q=%E2%98%83", tls).json()
    assert (seen["scheme"], seen["secure"], seen["host"]) == (scheme, tls, f"127.0.0.1:{port}")
    assert (seen["path"], seen["rest"], seen["query"]) == ("/where/grüße//", "grüße//", {"q": "☃"})
    assert seen["url"].startswith(f"{base}/where/gr%C3%BC%C3%9Fe/")
    assert seen["forwarded"] == "127.0.0.1"


def test_append_slash(django_site):
    """A relative redirect of Django's own."""
    response = django_site.get("/admin/login")
    assert (response.status_code, response.headers["Location"]) == (302, "/admin/login/?next=/admin/login")


@pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/crash", 500), ("/visits", 405)])
def test_errors(django_site, path, status):
    assert django_site.get(path).status_code == status


def test_unknown_host(django_site):
    assert django_site.get("/where/x", headers={"Host": "evil.example"}).status_code == 400


def test_rows_written_at_once(django_site):
    """Each of the requests wrote one row, and saw another number."""

    def visit(_):
        return django_site.post("/visits").json()["count"]

    with ThreadPoolExecutor(8) as clients:
        counts = list(clients.map(visit, range(40)))
    assert len(set(counts)) == 40
