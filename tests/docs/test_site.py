"""The documentation as a website: it builds without a warning, is complete, and loads nothing from other hosts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

import deepterms as dt

TOP = Path(__file__).parents[2]
LOADING = {  # element → attributes whose address a browser loads by itself
    "audio": ("src",), "embed": ("src",), "iframe": ("src",), "image": ("href", "xlink:href"), "img": ("src", "srcset"),
    "input": ("src",), "link": ("href",), "object": ("data",), "script": ("src",), "source": ("src", "srcset"),
    "use": ("href", "xlink:href"), "video": ("src", "poster"),
}  # fmt: skip
FOREIGN = re.compile(r"\s*(?:\w+:)?//")
FOREIGN_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?((?:\w+:)?//[^"')\s]*)""")


class PageParser(HTMLParser):
    """What a page loads, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.styles: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = {name: value or "" for name, value in attrs}
        for name in LOADING.get(tag, ()):
            self.addresses += held.get(name, "").split(", ") if name == "srcset" else [held.get(name, "")]
        self.styles.append(held.get("style", ""))

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(page: str) -> PageParser:
    parser = PageParser()
    parser.feed(page)
    parser.styles.append(parser.text)  # of <style> too
    return parser


def foreign_addresses(page: str) -> list[str]:
    """Return the addresses of other hosts that a page loads something from."""
    found = parse(page)
    in_styles = [address for style in found.styles for address in FOREIGN_STYLE.findall(style)]
    return [address for address in found.addresses if FOREIGN.match(address)] + in_styles


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The website, built as scripts/docs builds it."""
    folder = tmp_path_factory.mktemp("site")
    options = re.search(r"python -m sphinx (.*?)--doctree-dir", (TOP / "scripts" / "docs").read_text())
    assert options is not None
    assert "--fail-on-warning" in options[1].split()
    command = [sys.executable, "-m", "sphinx", *options[1].split(), "-d", folder / "doctrees", "-c", TOP / "docs"]
    done = subprocess.run([*command, TOP, folder / "html"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_foreign_addresses_are_found() -> None:
    page = (
        '<link href="//a.example/x.css"><a href="https://b.example">b</a>'
        '<img src="c.png" srcset="d.png, https://e.example 2x"><script src="https://f.example/f.js"></script>'
        '<style>@import "https://g.example/g.css"; b { color: red }</style>'
        '<p style="background: url(//h.example/h.png)">text</p><img src="data:image/png;base64,//8=">'
    )
    hosts = [re.findall(r"//(\w)\.example", address)[0] for address in foreign_addresses(page)]
    assert sorted(hosts) == ["a", "e", "f", "g", "h"]


@pytest.mark.slow
def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    pages, styles = list(site.rglob("*.html")), [*site.rglob("*.css"), *site.rglob("*.svg")]
    assert len(pages) > 15
    assert len(styles) > 5
    for page in pages:
        assert foreign_addresses(page.read_text(encoding="utf-8")) == [], page
    for style in styles:
        text = style.read_text(encoding="utf-8")
        assert FOREIGN_STYLE.findall(text) == [], style
        assert foreign_addresses(text) == [], style


@pytest.mark.slow
def test_every_page_and_public_name_is_included(site: Path) -> None:
    pages = [path.relative_to(TOP).with_suffix(".html") for path in (TOP / "docs").glob("*.md")]
    others = ("index", "CONTRIBUTING", "SECURITY", "index_templates/README", "benchmarks/README")
    for page in [*pages, *(Path(f"{name}.html") for name in others)]:
        assert (site / page).is_file(), page
    reference = (site / "docs" / "reference.html").read_text(encoding="utf-8")
    for module in (dt, dt.features, dt.evaluation):
        for name in module.__all__:
            if isinstance(getattr(module, name), type):
                assert re.search(rf'id="deepterms\.(\w+\.)?{name}"', reference), name


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(site: Path, scheme: str) -> None:
    """On a phone: no request leaves, the console is empty, and every picture is drawn and has a text."""
    program = os.environ.get("DEEPTERMS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no browser: chromium is not installed")
    messages: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(color_scheme=scheme, viewport={"width": 390, "height": 780}).new_page()  # type: ignore[arg-type]
        page.on("console", lambda message: messages.append(message.text))
        page.on("request", lambda sent: None if sent.url.startswith("file:") else messages.append(sent.url))
        for name, pictures in (("index.html", 1), ("docs/how-it-works.html", 5), ("docs/benchmarks.html", 4)):
            page.goto((site / name).as_uri())
            page.wait_for_load_state("networkidle")
            drawn = page.evaluate("[...document.images].filter((i) => i.naturalWidth && i.alt.length > 20).length")
            assert drawn == page.evaluate("document.images.length") == pictures, name
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((c) => c > 127)")
        browser.close()
    assert [message for message in messages if not message.startswith("data:")] == []
    assert light == (scheme == "light")
