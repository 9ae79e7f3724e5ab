"""The files of the page: what they load, and what their headers allow a browser to do."""

from __future__ import annotations

import re
from importlib import resources

from starlette.testclient import TestClient

STATIC = resources.files("deepterms.web") / "static"


def test_page_and_its_files_are_served(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    files = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text))
    assert files == {"/static/icon.svg", "/static/page.css", "/static/page.js"}
    for file in files:
        response = client.get(file)
        assert response.status_code == 200
        again = client.get(file, headers={"If-None-Match": response.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.get("/favicon.ico").headers["Content-Type"] == "image/svg+xml"


def test_no_other_file_is_served(client: TestClient) -> None:
    for path in ("/static/", "/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/a%00b"):
        assert client.get(path).status_code == 404, path


def test_policy_allows_only_own_scripts(client: TestClient) -> None:
    for path in ("/", "/static/page.js", "/v1/status", "/nowhere"):
        headers = client.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers


def test_files_have_no_other_host_and_no_inline_script() -> None:
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}, file.name
        assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval)\b", text), file.name
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style", page)
