"""The command lines of the README and of docs/ do what they say, as they stand there."""

import os
import re
import shlex
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from pexpect import EOF

from tests.commands import Command
from tests.processes import ROOT
from tests.terminals import Terminal

pytestmark = pytest.mark.slow

#: These two have tests of their own, since one line needs what the lines before it left.
STORIES = ("apply.md", "tutorial.md")
DOCUMENTS = [
    ROOT / "README.md",
    *(page for page in (ROOT / "docs").rglob("*.md") if page.name not in STORIES),
]
CONSOLES = [
    block
    for document in DOCUMENTS
    for block in re.findall(
        r"```(?:console|text)\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL
    )
]
LINES = sorted({line[2:] for block in CONSOLES for line in block.splitlines() if line[:2] == "$ "})
#: The key that the documents speak of.
BEGINNING = "3f9a1c07"
LEAKED = "sk-or-v1-" + "5" * 64
# Programs of other people, which take a secret as theirs would.
STAND_INS = {"vault": "cat > taken", "pytest": 'test "$OPENROUTER_KEY_NAME" = "ci 7"'}
SHELL = "import os, sys; os.execvp('bash', ['bash', '-o', 'pipefail', '-c', sys.argv[1]])"


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def key(command: Command, hash: str) -> None:
    account = command.emulator.account
    made = account.create({"name": "trial-1", "limit": 50, "limit_reset": "monthly"})
    del account.keys[made.hash]
    made.hash = hash
    account.keys[hash] = made


@pytest.fixture
def folder(command: Command) -> Path:
    """Where the documents' files are."""
    bin = command.folder / "bin"
    bin.mkdir()
    program(bin, "openrouter-keys", f'exec {sys.executable} -W error -m openrouter_keys "$@"')
    for name, script in STAND_INS.items():
        program(bin, name, script)
    (command.folder / "leaked.txt").write_text(LEAKED)
    shutil.copy(ROOT / "openrouter_keys" / "cli" / "demo" / "customers.csv", command.folder)
    key(command, BEGINNING + "5" * 56)
    key(command, sha256(LEAKED.encode()).hexdigest())
    return command.folder


def runs(line: str) -> list[tuple[str, ...]]:
    """What Python is to run for a line; a shell starts one for each command, which takes long."""
    if re.search(r"[|<>$]", line):
        return [("-c", SHELL, line)]
    return [("-m", "openrouter_keys", *shlex.split(part)[1:]) for part in line.split(" && ")]


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_of_the_documents_works(command: Command, folder: Path, line: str) -> None:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    for words in runs(line):
        shown = Terminal(
            *words, folder=folder, environment=command.environment(PATH=path, RUN_ID="7")
        )
        while shown.expect([r"\[y/N\] ", EOF]) == 0:
            shown.sendline("y")
        assert shown.wait() == 0, shown.before
