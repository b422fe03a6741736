"""The documentation's site shows every page, and every name that the package exports."""

import re
import tomllib

import openrouter_keys
from openrouter_keys import emulator, errors
from tests.processes import ROOT

DOCS = ROOT / "docs"
REFERENCE = {
    path.name: re.findall(r"^::: openrouter_keys\.(\S+)$", path.read_text("utf-8"), re.MULTILINE)
    for path in (DOCS / "reference").glob("*.md")
}
#: What is made when the site is built.
MADE = {"index.md", "changelog.md", "contributing.md", "security-policy.md", "reference/command.md"}


def test_the_navigation_leads_to_every_page() -> None:
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    tomllib.loads(text)
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert sorted(re.findall(r'"([\w/-]+\.md)"', text)) == sorted(pages | MADE)


def test_the_reference_has_every_exported_name_once() -> None:
    shown = [name for names in REFERENCE.values() for name in names]
    own = {name for name in openrouter_keys.__all__ if not hasattr(errors, name)}
    modules = {"components", "converter", "errors", "models", "operations", "utils", "__version__"}
    expected = own - modules | {f"emulator.{name}" for name in emulator.__all__}
    expected |= {"errors", "otel.OpenTelemetry"}
    assert sorted(shown) == sorted(expected)


def test_the_index_of_decisions_names_every_decision() -> None:
    index = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    pages = {path.name for path in (DOCS / "decisions").glob("*.md")} - {"index.md"}
    assert sorted(re.findall(r"\]\((.*?)\)", index)) == sorted(pages)
