"""The page in a real browser: upload, navigation, filters, keyboard, console errors and contrast."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

import deepterms as dt
from deepterms.errors import ClusterUnreachable
from deepterms.results import Hits
from deepterms.web import create_app
from deepterms.web.access import Access
from tests.unit.web.conftest import COUNT, GridExtractor, fill, name_of
from tests.unit.web.servers import running

pytestmark = pytest.mark.slow

TOKEN = "a token of sufficient length"
PATIENCE = 20_000  # milliseconds; the test machine may be busy


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's chromium, headless."""
    program = os.environ.get("DEEPTERMS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no browser: chromium is not installed")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        except Error as error:
            pytest.skip(f"no browser: {error.message.splitlines()[0]}")
        yield browser
        browser.close()


class Fragile:
    """An index that can be made to fail."""

    def __init__(self, index: dt.MemoryIndex) -> None:
        self._index, self.broken = index, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def search_by_id(self, *arguments: Any, **options: Any) -> Hits:
        if self.broken:
            raise ClusterUnreachable("down")
        return self._index.search_by_id(*arguments, **options)


@pytest.fixture(scope="module")
def index(photos: Path, features: NDArray[np.float32]) -> Fragile:
    memory = dt.MemoryIndex(dt.DeepPermutation(features.shape[1], top_k=20))
    fill(memory, photos, features)
    return Fragile(memory)


@pytest.fixture(scope="module")
def address(index: Fragile, photos: Path) -> Iterator[str]:
    with running(create_app(index, describer=GridExtractor(), photographs=[photos])) as address:
        yield address


Opened = Callable[..., Page]


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Opened]:
    """Opens pages, and checks afterwards that none of them logged an error or contacted another host."""
    contexts, complaints = [], list[str]()

    def open(url: str, **options: Any) -> Page:
        context = chromium.new_context(**options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url) if not _here(asked.url, url) else None)
        page.goto(url)
        return page

    yield open
    for context in contexts:
        context.close()
    assert complaints == []


def _here(asked: str, url: str) -> bool:
    return asked.startswith(("/".join(url.split("/")[:3]) + "/", "blob:"))


def hits(page: Page) -> list[str]:
    """The ids on the page, once a search is done."""
    expect(page.locator("#hits")).to_have_attribute("aria-busy", "false", timeout=PATIENCE)
    return [str(item.get_attribute("data-id")) for item in page.locator("#hits > li").all()]


def headline(page: Page, text: str) -> None:
    expect(page.locator("#headline")).to_contain_text(re.compile(text), timeout=PATIENCE)


def test_upload_then_click_through_and_back(opened: Opened, address: str, photos: Path) -> None:
    page = opened(address)
    headline(page, "A few photos to start with")
    page.set_input_files("#file", photos / name_of(4))
    headline(page, r"24 results in")
    first = hits(page)
    assert first[0] == name_of(4)
    expect(page.locator("#hits .score").first).to_have_text("1.000")
    expect(page.locator("#preview")).to_be_visible()
    for step in ("decoding", "descriptor", "search", "re-ranking"):
        expect(page.locator("#legend")).to_contain_text(step)
    page.locator("#hits .more").nth(1).click()
    expect(page.locator("#query-name")).to_have_text(f"More like {first[1]}")
    second = hits(page)
    assert first[1] not in second
    assert page.evaluate("[...document.querySelectorAll('#hits img')].slice(0, 3).every((image) => image.naturalWidth)")
    page.go_back()
    expect(page.locator("#hits .score").first).to_have_text("1.000")
    assert hits(page)[0] == first[0]
    expect(page.locator("#query-name")).to_have_text("Your photo")


def test_query_is_shared_by_its_url(opened: Opened, address: str, photos: Path) -> None:
    page = opened(address)
    headline(page, "to start with")
    page.set_input_files("#file", photos / name_of(7))
    headline(page, "24 results")
    page.locator("#rerank").uncheck()
    expect(page.locator("#hits .score").first).to_have_text(re.compile(r"^[\d,]{3,}$"))
    found = hits(page)
    other = opened(page.url)
    headline(other, "24 results")
    assert hits(other)[:5] == found[:5]
    expect(other.locator("#rerank")).not_to_be_checked()
    expect(other.locator("#query-name")).to_contain_text("is not part of the link")


def test_filters_have_counts(opened: Opened, address: str) -> None:
    page = opened(f"{address}/#id={name_of(1)}")
    headline(page, "24 results")
    red = page.locator("label", has_text="red")
    expect(red.locator("small")).to_have_text("6")
    red.locator("input").check()
    headline(page, "^6 results")
    assert {int(id.rpartition("/")[2][:2]) % 5 for id in hits(page)} == {0}
    page.locator("label", has_text="2016").locator("input").check()
    headline(page, "^(1 result|2 results)")
    page.reload()  # the URL has the filters
    headline(page, "^(1 result|2 results)")
    expect(page.locator("label", has_text="red").locator("input")).to_be_checked()
    page.get_by_label("from").fill("1000")
    page.get_by_label("from").press("Enter")
    expect(page.locator("#state")).to_contain_text("No document matches these filters")
    page.locator("#clear").click()
    headline(page, "24 results")


def test_why_shows_the_common_codewords(
    opened: Opened, address: str, index: Fragile, features: NDArray[np.float32]
) -> None:
    page = opened(f"{address}/#id={name_of(2)}")
    headline(page, "24 results")
    page.locator(".ask-why").first.click()
    expected = index.explain(hits(page)[0], features[2])
    expect(page.locator("#why")).to_contain_text(f"{len(expected.matches)} of {expected.query_codewords} codewords")
    expect(page.locator("#why tbody tr").first).to_contain_text(expected.matches[0].codeword)
    widths = page.evaluate("[...document.querySelectorAll('.fill')].map((bar) => bar.offsetWidth)")
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 100
    page.keyboard.press("Escape")
    expect(page.locator("#why")).not_to_be_visible()


def test_why_says_that_no_codewords_were_used(opened: Opened) -> None:
    vectors = np.random.default_rng(3).normal(size=(40, 8)).astype(np.float32)
    memory = dt.MemoryIndex(dt.PivotPermutation(dt.Pivots(vectors), top_k=4, query_top_k=6))
    memory.add([str(row) for row in range(40)], vectors, [{"part": row % 2} for row in range(40)])
    with running(create_app(memory)) as address:
        page = opened(f'{address}/#id=3&filter={{"part":[1]}}')
        headline(page, "19 results")
        page.locator(".ask-why").first.click()
        expect(page.locator("#why")).to_contain_text("No codewords were used", timeout=PATIENCE)
        page.close()


def test_dates_and_decimals_are_filters(opened: Opened) -> None:
    vectors = np.random.default_rng(3).normal(size=(30, 8)).astype(np.float32)
    memory = dt.MemoryIndex(dt.DeepPermutation(8, top_k=8))
    metadata = [{"taken": f"2024-01-{row + 1:02}T12:00:00Z", "size": [40, 40.5][row % 2]} for row in range(30)]
    assert memory.add([str(row) for row in range(30)], vectors, metadata).failed == ()
    with running(create_app(memory)) as address:
        page = opened(f"{address}/#id=3")
        page.evaluate("document.querySelector('#facets').closest('details').open = true")
        sizes = page.locator("fieldset", has_text="size").locator("span")
        expect(sizes).to_have_text(["40", "40.5"], timeout=PATIENCE)
        start = page.locator('[data-facet="taken gte"]')
        expect(start).to_have_attribute("type", "date")
        expect(start).to_have_attribute("min", "2024-01-01")
        start.fill("2024-01-21")
        start.press("Enter")
        headline(page, "10 results")
        page.locator('[data-facet="taken lte"]').fill("2024-01-22")
        headline(page, "2 results")
        page.locator("#clear").click()
        headline(page, "24 results")
        page.close()


def test_page_is_usable_by_keyboard_alone(opened: Opened, address: str) -> None:
    page = opened(f"{address}/#id={name_of(2)}")
    headline(page, "24 results")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # the button next to the headline
    page.keyboard.press("Tab")
    expect(page.locator("#hits .more").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#hits .more").nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    columns = page.evaluate("getComputedStyle(document.querySelector('#hits')).gridTemplateColumns.split(' ').length")
    expect(page.locator("#hits .more").nth(1 + columns)).to_be_focused()
    chosen = hits(page)[1 + columns]
    page.keyboard.press("Enter")
    expect(page.locator("#query-name")).to_have_text(f"More like {chosen}")
    expect(page.locator("#results")).to_be_focused()
    expect(page.locator("#live")).to_contain_text("24 results. The first is")


def test_controls_have_accessible_names(opened: Opened, address: str) -> None:
    page = opened(f"{address}/#id={name_of(2)}")
    headline(page, "24 results")
    first = page.locator("#hits .more").first
    expect(first).to_have_accessible_name(re.compile(r"^Rank 1, cosine 0\.\d{3}: .*\. More like this$"))
    for role, name in (
        ("slider", "Effort"), ("switch", "Exact re-ranking"), ("combobox", "Candidates"), ("combobox", "Results"),
    ):  # fmt: skip
        expect(page.get_by_role(role, name=name, exact=True)).to_be_visible()  # type: ignore[arg-type]
    expect(page.locator("#times")).to_have_attribute("aria-label", re.compile(r"search .* ms"))
    widths = page.evaluate("[...document.querySelectorAll('#times span')].map((part) => part.offsetWidth)")
    assert sum(widths) > 0.97 * page.evaluate("document.querySelector('#times').offsetWidth")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select, a')].filter((e) => e.checkVisibility() && "
        "!(e.innerText || e.ariaLabel || e.labels?.length)).map((e) => e.outerHTML)"
    )
    assert unnamed == []


def test_search_recovers_from_a_failure(opened: Opened, address: str, index: Fragile, chromium: Browser) -> None:
    context = chromium.new_context()  # its console may log the 503
    page = context.new_page()
    try:
        index.broken = True
        page.goto(f"{address}/#id={name_of(2)}")
        expect(page.locator("#state")).to_contain_text("the cluster does not respond", timeout=PATIENCE)
        expect(page.locator("#state")).to_contain_text("request ")
        index.broken = False
        page.get_by_role("button", name="Try again").click()
        headline(page, "24 results")
    finally:
        index.broken = False
        context.close()


def test_deleted_photo_is_replaced_by_text(
    features: NDArray[np.float32], photos: Path, tmp_path: Path, chromium: Browser
) -> None:
    """It is still in the index, so it is a query and a hit, shown as text or not at all."""
    memory = dt.MemoryIndex(dt.DeepPermutation(features.shape[1], top_k=20))
    memory.add(
        ["here", "gone"], features[:2], [{"path": str(photos / name_of(0))}, {"path": str(tmp_path / "gone.jpg")}]
    )
    context = chromium.new_context()  # its console may log the 404
    with running(create_app(memory, photographs=[photos, tmp_path])) as address:
        page = context.new_page()
        page.goto(f"{address}/#id=gone")
        headline(page, "1 result in")
        expect(page.locator("#preview")).not_to_be_visible(timeout=PATIENCE)
        expect(page.locator("#query-name")).to_have_text("More like gone")
        page.goto(f"{address}/#id=here")
        expect(page.locator("#hits li")).to_contain_text("photo not available", timeout=PATIENCE)
        expect(page.locator("#preview")).to_be_visible()
        page.locator(".ask-why").click()
        expect(page.locator(".chart")).to_be_visible(timeout=PATIENCE)
        expect(page.locator("#why .gone")).to_have_text("gone", timeout=PATIENCE)
        broken = "[...document.images].filter((i) => i.checkVisibility() && i.complete && !i.naturalWidth).length"
        assert page.evaluate(broken) == 0
        context.close()


def test_upload_must_be_an_image(opened: Opened, address: str, tmp_path: Path) -> None:
    page = opened(address)
    headline(page, "to start with")
    (tmp_path / "notes.txt").write_text("x")
    page.set_input_files("#file", tmp_path / "notes.txt")
    expect(page.locator("#state")).to_contain_text("notes.txt is not an image file")


def test_page_asks_for_the_token(index: Fragile, chromium: Browser) -> None:
    context = chromium.new_context()  # its console may log the 401
    with running(create_app(index, access=Access(token=TOKEN, hosts=None))) as address:
        page = context.new_page()
        page.goto(address)
        expect(page.locator("#token")).to_be_visible(timeout=PATIENCE)
        page.fill("#token-value", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-wrong")).to_contain_text("invalid token", timeout=PATIENCE)
        page.fill("#token-value", TOKEN)
        page.keyboard.press("Enter")
        headline(page, "to start with")
        assert TOKEN not in page.evaluate("document.cookie + JSON.stringify(localStorage) + location.href")
        context.close()


def test_empty_index_explains_how_to_fill_it(opened: Opened) -> None:
    with running(create_app(dt.MemoryIndex(dt.DeepPermutation(8, top_k=3)))) as address:
        page = opened(address)
        expect(page.locator("#state")).to_contain_text("The index is empty", timeout=PATIENCE)
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(opened: Opened, address: str, scheme: str) -> None:
    """WCAG 2.2 level AA: a ratio of 4.5 for text against the nearest opaque background."""
    page = opened(f"{address}/#id={name_of(2)}", color_scheme=scheme)
    headline(page, "24 results")
    page.wait_for_timeout(600)  # transitions
    too_pale = page.evaluate(CONTRAST)
    assert too_pale == []
    page.locator(".ask-why").first.click()
    expect(page.locator(".chart")).to_be_visible()
    assert page.evaluate(CONTRAST) == []


def test_layout_fits_a_phone(opened: Opened, address: str) -> None:
    page = opened(f"{address}/#id={name_of(2)}", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    headline(page, "24 results")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.evaluate(
        "[...document.querySelectorAll('button, select, summary')].filter((e) => e.checkVisibility() && "
        "e.getBoundingClientRect().height < 24).map((e) => e.outerHTML)"
    )
    assert small == []
    expect(page.locator("#controls")).not_to_be_visible()
    page.get_by_text("Options and filters").click()
    expect(page.locator("#effort")).to_be_visible()


def test_effort_is_sent_with_the_search(opened: Opened, address: str) -> None:
    page = opened(f"{address}/#id={name_of(2)}")
    headline(page, "24 results")
    with page.expect_request("**/v1/search/id") as asked:
        page.locator("#effort").fill("50")
        page.locator("#effort").dispatch_event("change")
    assert json.loads(asked.value.post_data or "")["effort"] == 0.5
    expect(page.locator("#effort-out")).to_have_text("50 %")
    assert "effort=50" in page.url
    assert COUNT > len(hits(page)) > 0


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return rgba(getComputedStyle(document.body).backgroundColor);
  };
  return [...document.querySelectorAll("body *")].filter((element) =>
    element.checkVisibility({ opacityProperty: true, visibilityProperty: true })
    && !element.closest(".hint, .hidden, .skip")
    && [...element.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())
  ).map((element) => {
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))];
    return [element.outerHTML.slice(0, 80), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  }).filter(([, ratio]) => ratio < 4.5);
}"""
