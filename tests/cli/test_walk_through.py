"""The walk-through of docs/apply.md: each command prints what stands there, and does it."""

import re
import shlex
from itertools import groupby
from pathlib import Path

import pytest

from openrouter_keys import KeySpec, OpenRouter
from tests.commands import Command
from tests.processes import ROOT

TEXT = (ROOT / "docs" / "apply.md").read_text(encoding="utf-8")
SESSIONS = re.findall(r"```text\n\$ openrouter-keys (.*?)\n(.*?)```", TEXT, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
LIMITS = {3: 80, 7: 80, 12: 20}


def write(folder: Path, limits: dict[int, int], gone: tuple[int, ...] = ()) -> None:
    rows = [f"customer-{n},{limits.get(n, 50)},monthly" for n in range(1, 51) if n not in gone]
    text = "\n".join(("name,limit,limit_reset", *rows, ""))
    (folder / "customers.csv").write_text(text, encoding="utf-8")


def says(told: str, expected: str) -> bool:
    """Whether a text is what stands there; `…` is any number of lines."""
    pattern = "".join(
        "(?:.*\n)*?" if is_gap else "".join(map(re.escape, lines))
        for is_gap, lines in groupby(expected.splitlines(keepends=True), lambda line: line == "…\n")
    )
    return re.fullmatch(pattern, told) is not None


@pytest.mark.slow
def test_the_walk_through(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = command.emulator.account.keys

    def key(name: str) -> str:
        (hash,) = [hash for hash, each in keys.items() if each.name == name]
        return hash

    first, plan, all_of_it, again = SESSIONS
    write(command.folder, {})
    ran = command(*shlex.split(first[0]), "--quiet-period", "0.2s")
    assert (ran.code, says(ran.out, first[1])) == (0, True), ran.out
    secrets = {hash: each.secret for hash, each in keys.items()}

    write(command.folder, LIMITS, gone=(41, 42))
    keys[key("customer-20")].limit = 500.0
    del keys[key("customer-31")]
    before = {hash: each.limit for hash, each in keys.items()}
    ran = command(*shlex.split(plan[0]))
    assert (ran.code, ran.out) == (0, plan[1])
    assert before == {hash: each.limit for hash, each in keys.items()}

    ran = command(*shlex.split(all_of_it[0]), "--quiet-period", "0.2s")
    assert (ran.code, says(ran.out, all_of_it[1])) == (0, True), ran.out
    names = [f"customer-{n}" for n in range(1, 51) if n not in (41, 42)]
    assert sorted(each.name for each in keys.values()) == sorted(names)
    for n in (n for n in range(1, 51) if n not in (41, 42)):
        assert keys[key(f"customer-{n}")].limit == LIMITS.get(n, 50)
    new = {hash: each.secret for hash, each in keys.items() if hash not in secrets}
    assert [*new] == [key("customer-31")]
    assert str(new[key("customer-31")]) in (command.folder / "new.csv").read_text(encoding="utf-8")

    command.emulator.requests.clear()
    ran = command(*shlex.split(again[0]))
    assert (ran.code, ran.out) == (0, again[1])
    assert {each.operation for each in command.emulator.requests} == {"list"}


def test_the_python(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """The program that stands there, with a journal of these keys."""
    (program,) = PYTHON
    for name, value in command.settings.items():
        command._monkeypatch.setenv(name, value)
    command._monkeypatch.chdir(command.folder)
    specs = [KeySpec(ref=f"customer-{n}", name=f"customer-{n}", limit=50) for n in range(1, 51)]
    with OpenRouter() as client:
        client.provision(specs, journal="customers.csv.journal")
    exec(compile(program, "docs/apply.md", "exec"), {})
    assert capsys.readouterr().out == "50 unchanged\n"
