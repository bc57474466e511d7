"""The pages in a real Chromium: nothing goes wrong in it, and nothing is asked of another host.

It needs the machine's `chromium`, as Debian has it, and the package `playwright`, which brings no
browser of its own: `make test-browser` fetches it.

`TANDEM_SCREENSHOTS` names a directory to leave pictures of the pages in.
"""

import importlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.console.served import Stack

pytestmark = pytest.mark.browser

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
PAGES = {
    "recommend": "/?user=ann&explain=1",
    "beam": "/beam?user=ann&filter=genre%3DDrama&k=8",
    "similar": "/similar?items=i3",
    "catalog": "/catalog",
    "item": "/catalog/item?id=i3",
    "bundles": "/bundles",
    "load": "/load",
    "sign_in": "/sign-in",
    "api": "/api",
}


@dataclass
class Window:
    """A window of the browser, and what went wrong in it."""

    page: Any
    address: str
    wrong: list[str] = field(default_factory=list)

    def watch(self) -> "Window":
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._requested)
        return self

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def _requested(self, request: Any) -> None:
        if not request.url.startswith(f"{self.address}/"):
            self.wrong.append(f"asked for {request.url}")

    def go(self, path: str) -> None:
        self.page.goto(self.address + path)
        self.page.wait_for_load_state("load")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("there is no playwright: run make test-browser")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    playwright = importlib.import_module("playwright.sync_api")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=SIZES)
def window(request: pytest.FixtureRequest, browser: Any, stack: Stack) -> Iterator[Window]:
    width, height = SIZES[request.param]
    context = browser.new_context(viewport={"width": width, "height": height})
    opened = Window(context.new_page(), stack.open).watch()
    yield opened
    context.close()
    assert opened.wrong == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_and_nothing_goes_wrong(
    window: Window, name: str, request: pytest.FixtureRequest
) -> None:
    window.go(PAGES[name])
    page = window.page
    inner = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= inner
    if folder := os.environ.get("TANDEM_SCREENSHOTS"):
        shot = Path(folder) / f"{request.node.callspec.id}.png"
        page.screenshot(path=shot, full_page=True)


def test_keys_lead_from_a_user_to_recommendations(window: Window) -> None:
    window.go("/")
    page = window.page
    page.keyboard.press("Escape")  # out of the field that the page begins in
    page.keyboard.press("/")
    page.keyboard.type("ann")
    page.keyboard.press("Enter")
    page.locator(".list .title").first.wait_for()
    assert "user=ann" in page.url
    assert "filter=" not in page.url  # fields that ask nothing stay out of the address
    page.get_by_role("link", name="Hide").first.click()
    page.wait_for_url("**exclude=**")
    page.go_back()
    page.wait_for_url(lambda url: "exclude" not in url)


def test_pages_work_without_scripts(browser: Any, stack: Stack) -> None:
    context = browser.new_context(java_script_enabled=False)
    window = Window(context.new_page(), stack.open).watch()
    window.go("/")
    window.page.get_by_label("User").fill("ann")
    window.page.get_by_role("button", name="Recommend").click()
    window.page.locator(".list .title").first.wait_for()
    context.close()
    assert window.wrong == []


def test_somebody_signs_in_and_out(browser: Any, stack: Stack) -> None:
    context = browser.new_context()
    window = Window(context.new_page(), stack.keyed).watch()
    page = window.page
    window.go("/sign-in")
    page.get_by_label("Key or token").fill(stack.keys["operator"])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()
    window.go("/load")
    with page.expect_response("**/load/now"):
        pass
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Sign in").wait_for()
    context.close()
    assert window.wrong == []
