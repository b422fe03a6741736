"""What the README tells is true: its code runs, its commands are those of CI."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from openrouter_keys.emulator import Emulator, Fault

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code.strip() for language, code in BLOCKS if language == "sh"]


FAULTS = {"all well": [], "a create without an answer": [Fault("create", "closed", phase="after")]}
MISHAPS = [
    *((code, "all well") for code in PYTHON),
    *((code, "a create without an answer") for code in PYTHON if "except errors" in code),
]


@pytest.mark.parametrize(("code", "mishap"), MISHAPS, ids=range(len(MISHAPS)))
def test_the_code_runs(code: str, mishap: str, tmp_path: Path) -> None:
    script = tmp_path / "test_script.py"
    script.write_text(code)
    command = [str(script)]
    if "\ndef test_" in code:
        command = ["-m", "pytest", "-q", "-p", "openrouter_keys.emulator.plugin", *command]
    with Emulator(faults=FAULTS[mishap]) as emulator:
        run = subprocess.run(
            [sys.executable, "-W", "error", *command],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "OPENROUTER_API_KEY": emulator.api_key,
                "OPENROUTER_BASE_URL": emulator.base_url,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (run.stderr, run.returncode) == ("", 0)


def test_every_block_is_known() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "sh", "text"}
    assert len(PYTHON) == 5


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in script if line and not line.startswith(("#", "set ", "cd "))]
    browser, *newer, last = commands  # what the page is looked at with, where there is none
    assert browser.startswith("command -v chromium ")
    assert newer[0].startswith("newer=")  # and Pythons that the system lacks, on the path
    assert [line.split()[0] for line in newer[1:]] == ["if", "for", "fi"]
    assert last == SHELL[1]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 230


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
