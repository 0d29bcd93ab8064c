"""The documentation's site builds without a warning, has no dead link, and fetches nothing."""

import logging
import os
from dataclasses import fields, is_dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import unquote, urlsplit

import pytest

from agit_hub.data.config import DomainConfig
from agit_hub.training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
# Printed by Material at import, about its own future.
os.environ["NO_MKDOCS_2_WARNING"] = "1"
pytestmark = pytest.mark.slow
# Whose address is loaded when a page is shown.
LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}


class Links(HTMLParser):
    """Collects what a page links to, what it loads, and its anchors."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        self.targets += [value for name in ("href", "src") if (value := values.get(name))]
        if tag in LOADED and (value := values.get(LOADED[tag])):
            self.loaded.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    logging.getLogger("mkdocs").setLevel(logging.WARNING)
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}


def test_site_has_a_page_for_every_document(site: Path) -> None:
    for document in (ROOT / "docs").rglob("*.md"):
        page = site / document.relative_to(ROOT / "docs").with_suffix(".html")
        assert page.is_file(), f"{document} is not in the site"


def test_site_has_no_dead_link(site: Path, pages: dict[Path, Links]) -> None:
    dead = []
    for page, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
            path = path / "index.html" if path.is_dir() else path
            known = pages[path].anchors if path in pages else {parts.fragment}
            if not path.is_file() or (parts.fragment and unquote(parts.fragment) not in known):
                dead.append(f"{page.relative_to(site)}: {target}")
    assert len(pages) > 20 and not dead


def test_site_loads_nothing_from_elsewhere(pages: dict[Path, Links]) -> None:
    loaded = {address for links in pages.values() for address in links.loaded}
    assert loaded and not [each for each in loaded if urlsplit(each).netloc]


def test_site_describes_every_key_of_the_configuration(pages: dict[Path, Links]) -> None:
    (reference,) = (links for page, links in pages.items() if page.stem == "configuration")
    assert set(_keys(TrainConfig, "")) <= reference.anchors


def _keys(section: Any, prefix: str) -> list[str]:
    """Every key, of the four domains those of the first."""
    types, found = get_type_hints(section), []
    for field in fields(section):
        kind, name = types[field.name], prefix + field.name
        if not is_dataclass(kind):
            found.append(name)
        elif kind is not DomainConfig or name == "data.source":
            found += _keys(kind, f"{name}.")
    return found
