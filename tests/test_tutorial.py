"""The tutorial, step after step, prints what stands there."""

import re
from pathlib import Path

import pytest

from openrouter_keys.emulator import Emulator
from tests.processes import ROOT, environment, run

pytestmark = pytest.mark.slow

TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|text)\n(.*?)```", TEXT, re.DOTALL)


def is_shown(printed: str, expected: str) -> bool:
    """Whether a text is what stands there; `…` at a line's end is anything."""
    pattern = "".join(
        re.escape(line[:-2]) + ".*\n" if line.endswith("…\n") else re.escape(line)
        for line in expected.splitlines(keepends=True)
    )
    return re.fullmatch(pattern, printed) is not None


def test_each_step_prints_what_stands_there(tmp_path: Path) -> None:
    program, steps = "", 0
    with Emulator() as emulator:
        settings = environment(
            OPENROUTER_API_KEY=emulator.api_key,
            OPENROUTER_BASE_URL=emulator.base_url,
            PYTEST_ADDOPTS="-p openrouter_keys.emulator.plugin",
            PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        )
        for language, block in BLOCKS:
            if language == "python":
                program = block
            elif not block.startswith("$ "):
                (tmp_path / "trials.csv").write_text(block, encoding="utf-8")
            else:
                command, _, expected = block[2:].partition("\n")
                name, *words = command.split()
                if name == "pytest":
                    (tmp_path / words[-1]).write_text(program, encoding="utf-8")
                module = ("-m", "pytest" if name == "pytest" else "openrouter_keys", *words)
                ran = ("-c", program) if name == "python" else module
                done = run(*ran, folder=tmp_path, environment=settings)
                assert done.returncode == 0, done.stderr
                shown = (done.stderr + done.stdout).splitlines(keepends=True)
                if name == "pytest":
                    shown = shown[-1:]
                assert is_shown("".join(shown), expected), shown
                steps += 1
    assert steps == 6
