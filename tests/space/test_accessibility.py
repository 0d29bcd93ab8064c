"""axe-core finds no violation of WCAG 2.2, level A or AA, on any tab, in light and in dark."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.space.videos import write_video

pytestmark = pytest.mark.slow

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]


def _violations(page: Page) -> list[str]:
    """Return each rule that is violated, and the elements."""
    found: list[dict[str, Any]] = Axe().run(page, options={"runOnly": WCAG}).response["violations"]
    return [
        f"{each['id']}: {node['html'][:300]} {node['failureSummary']}"
        for each in found
        for node in each["nodes"]
    ]


_SETTLED = """() => !document.querySelector(".pending") && document.getAnimations().every((each) =>
    each.playState !== "running" || each.effect.getTiming().iterations === Infinity)"""


def _share(page: Page) -> None:
    page.locator("#make-animation").click()
    page.locator("#make-share-card").click()
    page.locator("#save").click()
    for name in ("animation", "share-card"):
        page.locator(f"#{name} img").wait_for()
        page.locator(f"#download-{name}").wait_for()
    page.locator("#files a").first.wait_for()


def _open_mask(page: Page) -> None:
    page.get_by_role("button", name="Mask from a file").click()
    page.locator("#mask input[type=file]").wait_for(state="attached")


def _upload_mask(path: Path) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.locator("#mask input[type=file]").set_input_files(path)
        page.get_by_alt_text("Mask", exact=True).wait_for()

    return act


def _translate_video(path: Path) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.locator("#video input[type=file]").set_input_files(path)
        page.locator("#start-video").click()
        page.locator("#film-files a").first.wait_for()

    return act


def _translate_many(path: Path) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.locator("#many input[type=file]").set_input_files(path)
        page.locator("#start").click()
        page.locator("#gallery img").first.wait_for()

    return act


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_has_no_violation_on_any_tab(
    browser: Browser, space: str, scheme: Any, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "clip.mp4")
    image = next((Path(__file__).parents[2] / "space/examples/plain").glob("*.png"))
    steps: list[tuple[str, Callable[[Page], None] | None]] = [
        ("Translate", None),
        ("Translate", _open_mask),
        ("Translate", _upload_mask(image)),
        ("Paint", None),
        ("Share", _share),
        ("Many images", None),
        ("Many images", _translate_many(image)),
        ("Video", None),
        ("Video", _translate_video(video)),
        ("About", None),
    ]
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto(space)
    page.locator("#output img").wait_for()
    found = []
    for tab, act in steps:
        page.get_by_role("tab", name=tab, exact=True).click()
        if act is not None:
            act(page)
        # What Gradio fades in or out has no contrast until it stands.
        page.wait_for_function(_SETTLED)
        found += [f"{tab}: {each}" for each in _violations(page)]
    context.close()
    assert not found, "\n".join(found)
