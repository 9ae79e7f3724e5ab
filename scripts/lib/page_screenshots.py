"""Takes the pictures of the search page for the documentation, with a headless browser.

page_screenshots.py PHOTOS TARGET: requires the index of the demo, built from PHOTOS.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from common.serving import serving  # scripts/screenshot puts the folder benchmarks on the path

INDEX = "deepterms-demo"
QUALITY = 88
WARM_UP = 8


def main(photos: Path, target: Path) -> None:
    """Search with the first photograph, and take the page in several modes."""
    query = sorted(photos.glob("*.jpg"))[0].name
    with serving(INDEX, "--photos", str(photos), "--read-only") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        shoot(browser, address, target / "search.jpg", query=query, width=1180, height=780)
        shoot(browser, address, target / "search-why.jpg", query=query, width=1180, height=780, dark=True, why=True)
        shoot(browser, address, target / "search-phone.jpg", query=query, width=390, height=780)
        browser.close()


def shoot(
    browser: Browser,
    address: str,
    file: Path,
    *,
    query: str,
    width: int,
    height: int,
    dark: bool = False,
    why: bool = False,
) -> None:
    """Write one picture of the page, or of the explanation of its first hit."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.goto(f"{address}/#id={query}")
    page.wait_for_selector(".score")
    for _ in range(WARM_UP):  # so that the times on the picture are those of a warm server
        page.reload()
        page.wait_for_selector(".score")
    if why:
        page.locator(".ask-why").first.click()
        page.wait_for_selector(".chart")
    page.wait_for_load_state("networkidle")
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled")))
    picture.convert("RGB").save(file, quality=QUALITY)
    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
