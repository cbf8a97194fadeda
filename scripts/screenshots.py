"""Take the README's pictures of the Dagster UI, from a home into which all sources were synced.

    revrec demo && revrec dev &
    python scripts/screenshots.py http://127.0.0.1:3000

Needs Chromium from the system's packages; Playwright's own download is not used.
"""

import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "images"
OPEN = ",".join(f"global@global:{name}" for name in ("salesforce", "delivery"))
# As the superuser, without a GPU, and in a container's small /dev/shm.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
# The UI draws after its data has come, and never falls silent: it holds a websocket open.
SETTLE_MS = 4_000


def asset_graph(page: Page) -> None:
    """All sources, one of them open."""
    page.set_viewport_size({"width": 1650, "height": 2400})
    page.goto(f"/asset-groups?expanded={OPEN}", wait_until="domcontentloaded")
    page.get_by_text("conversion_file").first.wait_for(timeout=60_000)
    page.get_by_text("fetching statuses").last.wait_for(state="detached", timeout=60_000)
    page.get_by_text("Loading…").last.wait_for(state="detached", timeout=60_000)
    page.wait_for_timeout(SETTLE_MS)
    shoot(page, "asset_graph", {"x": 612, "y": 250, "width": 948, "height": 1990})


def red_check(page: Page, month: str = "2025-05") -> None:
    """A check by month, with the rows of a month that fails."""
    page.set_viewport_size({"width": 1900, "height": 1000})
    page.goto(
        "/assets/stripe/invoices?view=checks&checkDetail=required_fields",
        wait_until="domcontentloaded",
    )
    # The asset has a tab of that name, too; that one is a link.
    page.locator("button#partitions").click(timeout=60_000)
    page.get_by_placeholder("Filter by partition").fill(month)
    page.wait_for_timeout(SETTLE_MS)
    page.get_by_text(month, exact=True).locator("visible=true").last.click()
    page.get_by_text("failing_rows").first.wait_for()
    page.wait_for_timeout(SETTLE_MS)
    shoot(page, "red_check", {"x": 240, "y": 110, "width": 1660, "height": 790})


def shoot(page: Page, name: str, clip: Any) -> None:
    """Save a part of the page."""
    page.screenshot(path=IMAGES / f"{name}.png", clip=clip)


def main() -> None:
    """Take all pictures; requests that leave this machine are refused."""
    (url,) = sys.argv[1:]
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        context = browser.new_context(base_url=url)
        context.route(lambda asked: "127.0.0.1" not in asked, lambda route: route.abort())
        for picture in (asset_graph, red_check):
            page = context.new_page()
            picture(page)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
