"""Walking a folder: links are followed, and what cannot be read is counted."""

import os
from pathlib import Path

import pytest

from agit_hub.data.config import DomainConfig
from agit_hub.data.listing import Skipped, walk
from agit_hub.data.load import load_domains
from agit_hub.errors import DataError
from tests.data.layouts import png, write_folder


def _pair(source: Path, target: Path) -> list[int | None]:
    loaded = load_domains(DomainConfig(str(source)), DomainConfig(str(target)), 16, 0)
    return [each.domain.length for each in loaded]


def _walk(root: Path) -> tuple[list[str], list[str]]:
    skipped = Skipped()
    return sorted(walk(root, skipped)), skipped.sentences()


def test_walk_follows_links_to_folders_and_files(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", "a.png", "deep/b.png")
    write_folder(tmp_path / "root", "c.png")
    (tmp_path / "root" / "trainA").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "d.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    files, skipped = _walk(tmp_path / "root")
    assert files == ["c.png", "d.png", "trainA/a.png", "trainA/deep/b.png"] and skipped == []


def test_walk_cycle_ends_and_is_counted(tmp_path: Path) -> None:
    write_folder(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(".")
    files, skipped = _walk(tmp_path)
    assert files == ["a/1.png", "b/2.png"]
    assert skipped[0].startswith("2 links to a folder skipped")


def test_walk_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    names = "abcdefg"
    write_folder(tmp_path, *(f"{name}/1.png" for name in names))
    for name in names:
        for other in names.replace(name, ""):
            (tmp_path / name / other).symlink_to(tmp_path / other)
    files, _ = _walk(tmp_path)
    assert len(files) < 7 * (1 + 6 + 6**2 + 6**3 + 6**4) and files[0] == "a/1.png"


def test_walk_counts_what_cannot_be_read(tmp_path: Path) -> None:
    write_folder(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to("gone.png")
    (tmp_path / "c.png").touch()
    os.mkfifo(tmp_path / "d.png")
    files, skipped = _walk(tmp_path)
    assert files == ["a.png"]
    assert skipped == [
        "1 broken link skipped (b.png)",
        "1 empty file skipped (c.png)",
        "1 device or pipe skipped: not a regular file (d.png)",
    ]


# Identical domains.


def test_load_domains_same_folder_by_a_link_or_another_spelling_raises(tmp_path: Path) -> None:
    write_folder(tmp_path / "horses", "1.png", "2.png")
    (tmp_path / "link").symlink_to("horses")
    for other in (tmp_path / "link", tmp_path / "horses" / ".." / "horses"):
        with pytest.raises(DataError, match="both source and target"):
            _pair(tmp_path / "horses", other)


def test_load_domains_links_to_the_same_images_raise(tmp_path: Path) -> None:
    write_folder(tmp_path / "horses", "1.png", "2.png")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for file in ("1.png", "2.png"):
            (tmp_path / name / file).symlink_to(tmp_path / "horses" / file)
    with pytest.raises(DataError, match="are the same 2 images"):
        _pair(tmp_path / "a", tmp_path / "b")


def test_load_domains_copies_of_the_same_images_raise(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_folder(tmp_path / name, f"{name}1.png", f"{name}2.png")
    with pytest.raises(DataError, match="are the same 2 images"):
        _pair(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "b3.png").write_bytes(png(9))
    assert _pair(tmp_path / "a", tmp_path / "b") == [2, 3]


def test_load_domains_shared_images_are_counted(tmp_path: Path) -> None:
    write_folder(tmp_path, "all/zebra/1.png", "all/horse/2.png")
    loaded, _ = load_domains(
        DomainConfig(str(tmp_path / "all")), DomainConfig(str(tmp_path / "all" / "zebra")), 16, 0
    )
    assert "1 images are in both domains" in loaded.notes


def test_load_domains_same_shapes_raise() -> None:
    plain = DomainConfig("shapes", "plain")
    with pytest.raises(DataError, match="same images, shapes plain"):
        load_domains(plain, plain, 16, 0)


def test_load_domains_shapes_configuration_with_own_folders_is_explained(tmp_path: Path) -> None:
    write_folder(tmp_path, "a/1.png", "b/1.png")
    own = [DomainConfig(str(tmp_path / n), s) for n, s in (("a", "plain"), ("b", "striped"))]
    with pytest.raises(
        DataError, match=r"'plain' belongs to the built-in shapes.*another --config"
    ):
        load_domains(*own, 16, 0)
