"""Walking folders: each once, links too, and loops end."""

import os
from pathlib import Path

from acetrain.data.folder import walk
from acetrain.data.songs import scan


def walked(root: Path) -> tuple[dict[str, set[str]], dict[str, str]]:
    """Files by prefix, and warnings by name."""
    warnings: dict[str, str] = {}
    listings = list(walk(root, warnings.__setitem__))
    found = {listing.prefix: set(listing.files) for listing in listings}
    assert len(found) == len(listings)
    return found, warnings


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")


def test_visible_files_by_folder(tmp_path: Path) -> None:
    touch(tmp_path / "a", tmp_path / "x" / "b", tmp_path / "x" / "y" / "c", tmp_path / ".h" / "d", tmp_path / ".e")
    assert walked(tmp_path) == ({"": {"a"}, "x/": {"b"}, "x/y/": {"c"}}, {})


def test_linked_folders_are_walked(tmp_path: Path) -> None:
    touch(tmp_path / "songs" / "a", tmp_path / "album" / "b", tmp_path / "album" / "sub" / "c")
    (tmp_path / "songs" / "linked").symlink_to(tmp_path / "album")
    found, warnings = walked(tmp_path / "songs")
    assert found == {"": {"a"}, "linked/": {"b"}, "linked/sub/": {"c"}} and not warnings
    (tmp_path / "root").symlink_to(tmp_path / "songs")
    assert walked(tmp_path / "root") == (found, {})


def test_a_folder_keeps_its_own_name(tmp_path: Path) -> None:
    touch(tmp_path / "real" / "deep" / "a")
    (tmp_path / "again").symlink_to("real")
    (tmp_path / "deeper").symlink_to("real/deep")
    found, warnings = walked(tmp_path)
    assert found == {"": set(), "real/": set(), "real/deep/": {"a"}}
    assert set(warnings) == {"again", "deeper"} and all("scanned already" in what for what in warnings.values())


def test_links_in_a_loop_end(tmp_path: Path) -> None:
    root = tmp_path / "songs"
    touch(root / "x" / "a.wav", tmp_path / "outside.wav")
    for name, target in {"me": ".", "up": "..", "x/back": "..", "x/self": "self", "b.wav": "b.wav"}.items():
        (root / name).symlink_to(target)
    (tmp_path / "other").mkdir()
    (root / "there").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "here").symlink_to(root)
    found, warnings = walked(root)
    assert found == {"": set(), "x/": {"a.wav"}, "there/": set()}
    assert set(warnings) == {"me", "up", "x/back", "there/here"}
    faults = {fault.file: fault.what for fault in scan(root).faults}
    assert faults["b.wav"] == "is no file; where it is a link, it leads nowhere" and set(faults) == {"b.wav", "x/a.wav"}
    assert {warning.file for warning in scan(root).warnings} == set(warnings)


def test_what_is_neither_file_nor_folder_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    (listing,) = walk(tmp_path, lambda *_: None)
    assert listing.dead == {"a.wav"} and not listing.files
