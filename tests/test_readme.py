"""What the README and docs/ tell is true: their code runs, the commands are those of CI."""

import re
from pathlib import Path

import pytest

from openrouter_keys.emulator import Emulator, Fault
from tests.processes import ROOT, environment, run

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
DOCUMENTS = {
    path: path.read_text()
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
}
BLOCKS = [
    block
    for text in DOCUMENTS.values()
    for block in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
]
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code.strip() for code in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)]


# No time is spent on late commits, which the emulator has none of here.
IMPATIENT = ("reconcile(error)", "reconcile(error, quiet_period=0)")
# pytest-asyncio warns if it is not set.
SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")
FAULTS = {"all well": [], "a create without an answer": [Fault("create", "closed", phase="after")]}
MISHAPS = [
    *((code, "all well") for code in PYTHON),
    *((code, "a create without an answer") for code in PYTHON if "except errors" in code),
]


@pytest.mark.parametrize(("code", "mishap"), MISHAPS, ids=range(len(MISHAPS)))
def test_the_code_runs(code: str, mishap: str, tmp_path: Path) -> None:
    for module in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
        pytest.importorskip(module, reason=f"{module} is not here: it may have no wheel")
    words = ["-c", code.replace(*IMPATIENT)]
    if "def test_" in code:
        script = tmp_path / "test_script.py"
        script.write_text(code)
        plugins = ("-p", "openrouter_keys.testing.plugin", "-p", "pytest_asyncio.plugin", *SCOPE)
        words = ["-m", "pytest", "-q", *plugins, str(script)]
    with Emulator(faults=FAULTS[mishap]) as emulator:
        emulator.account.create({"name": "trial-1", "limit": 50})
        settings = environment(
            PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
            OPENROUTER_API_KEY=emulator.api_key,
            OPENROUTER_BASE_URL=emulator.base_url,
        )
        done = run(*words, folder=tmp_path, environment=settings)
    assert (done.stderr, done.returncode) == ("", 0), done.stdout


def test_every_block_is_known() -> None:
    assert {language for language, _ in BLOCKS} == {"console", "python", "sh", "text"}
    assert len(PYTHON) > 40


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in script if line and not line.startswith(("#", "set ", "cd "))]
    browser, *newer, last = commands  # what the page is looked at with, where there is none
    assert browser.startswith("command -v chromium ")
    assert newer[0].startswith("newer=")  # and Pythons that the system lacks, on the path
    assert [line.split()[0] for line in newer[1:]] == ["if", "for", "fi"]
    assert last == SHELL[1]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


def anchors(document: Path) -> set[str]:
    """Return what a link can name in a document: its headings, as web pages have them."""
    prose = re.sub(r"^```.*?^```$", "", DOCUMENTS[document], flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    for document, text in DOCUMENTS.items():
        for file, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
            target = (document.parent / file).resolve() if file else document
            assert target.exists(), (document, file)
            assert not anchor or anchor in anchors(target), (document, file, anchor)
