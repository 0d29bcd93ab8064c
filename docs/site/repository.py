"""A hook of MkDocs: files of the repository outside of docs/ that pages link to become part of the site.

Documents keep their text, source files are shown as code, and a link to a folder leads to a list of its
files. In the repository the same links lead to the files themselves.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Documents with a place in the navigation.
PLACES = {
    "CHANGELOG.md": "development/changelog.md",
    "CONTRIBUTING.md": "development/contributing.md",
    "SECURITY.md": "development/security.md",
}
ASSETS = {".gif", ".ipynb", ".jpg", ".json", ".jsonl", ".png", ".svg", ".webp"}
LANGUAGES = {".py": "python", ".sh": "bash", ".yaml": "yaml", ".yml": "yaml"}
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
# Of `[text](target#anchor)`, without addresses, anchors of the same page and absolute paths.
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/])([^)\s#]+)(#[^)\s]*)?(?=\))")
SHORT_CODE = re.compile(r"<code((?: id=\"[^\"]*\")?)>([^<\n]{1,28})</code>")

_origins: dict[str, Path] = {}
"""The file in the repository of each page of this hook."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that pages link to, and the files that these link to."""
    _origins.clear()
    waiting = [DOCS / page.src_uri for page in files.documentation_pages()]
    linked = [ROOT / name for name in PLACES]
    while waiting or linked:
        for target in linked:
            place = _place(target)
            if place not in files.src_uris:
                _add(files, config, target, place)
                waiting.append(target)
        linked = _targets(waiting.pop()) if waiting else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the pages that stand for files."""
    here = page.file.src_uri
    origin = _origins.get(here, DOCS / here)
    if origin.suffix != ".md":
        page.meta["search"] = {"exclude": True}
        return markdown
    if here.startswith("repository/"):  # a model's card, whose metadata are the Hub's
        page.meta = {"search": {"boost": 0.1}}

    def point(link: re.Match[str]) -> str:
        place = _place(_resolve(origin, link[1]))
        return posixpath.relpath(place, posixpath.dirname(here) or ".") + (link[2] or "")

    return _outside_code(markdown, lambda text: LINK.sub(point, text))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep short code on one line: browsers break lines after hyphens, such as those of options."""
    return SHORT_CODE.sub(r'<code class="short"\1>\2</code>', html)


def _targets(document: Path) -> list[Path]:
    """Return the files and folders to which a document links."""
    if document.suffix != ".md" or not document.is_file():
        return []
    found: list[Path] = []

    def collect(text: str) -> str:
        found.extend(_resolve(document, link[1]) for link in LINK.finditer(text))
        return text

    _outside_code(document.read_text("utf-8"), collect)
    return found


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    parts = FENCED.split(markdown)
    return "".join(part if number % 2 else change(part) for number, part in enumerate(parts))


def _resolve(document: Path, link: str) -> Path:
    target = Path(posixpath.normpath(document.parent / link))
    if not target.is_relative_to(ROOT):
        raise PluginError(f"{document.relative_to(ROOT)} links to {link}, outside the repository.")
    return target


def _place(target: Path) -> str:
    """Return the source path in the site of a file or folder."""
    name = target.relative_to(ROOT).as_posix()
    if name in PLACES:
        return PLACES[name]
    place = name.removeprefix("docs/") if target.is_relative_to(DOCS) else f"repository/{name}"
    if target.is_dir():
        return f"{place}/index.md"
    return place if target.suffix in ASSETS | {".md"} else f"{place}.md"


def _add(files: Files, config: MkDocsConfig, target: Path, place: str) -> None:
    if target.suffix in ASSETS:
        files.append(File.generated(config, place, abs_src_path=str(target)))
        return
    if target.is_dir():
        text = _listing(target)
    elif target.is_file():
        text = target.read_text("utf-8")
    else:
        return  # MkDocs reports it
    name = target.relative_to(ROOT).as_posix()
    if target.is_file() and target.suffix != ".md":
        text = f"# {name}\n\n`````{LANGUAGES.get(target.suffix, 'text')}\n{text}`````\n"
    _origins[place] = target
    files.append(File.generated(config, place, content=text))


def _listing(folder: Path) -> str:
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    entries = (f"- [{name}]({name})" for name in names)
    return "\n".join([f"# {folder.relative_to(ROOT).as_posix()}", "", *entries, ""])
