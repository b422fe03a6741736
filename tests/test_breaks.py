"""Deliberate breaks: none is stale, and no folder is without. `nox -s breaks` makes them."""

from collections import Counter
from pathlib import Path

from tests.breaks import BREAKS, ROOT


def folder_of(file: str) -> str:
    return Path(file).parent.as_posix()


def test_each_break_has_its_text_and_its_test() -> None:
    assert not [f"{each.file}: {each.text!r}, {each.test}" for each in BREAKS if each.is_stale]


def test_no_break_is_there_twice() -> None:
    counts = Counter((each.file, each.text) for each in BREAKS)
    assert max(counts.values()) == 1


def test_each_folder_has_two_breaks_at_least() -> None:
    package = ROOT / "openrouter_keys"
    modules = [path for path in package.rglob("*.py") if path.name != "__init__.py"]
    folders = {folder_of(path.relative_to(package).as_posix()) for path in modules}
    counts = Counter(folder_of(each.file) for each in BREAKS)
    assert not {folder for folder in folders if counts[folder] < 2}
