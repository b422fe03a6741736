"""The command for tests: in this process, in one of its own, and at a terminal."""

import io
import logging
import sys
from pathlib import Path

import pytest
from attrs import define, frozen

from openrouter_keys.__main__ import main
from openrouter_keys.emulator import Emulator
from tests.processes import Process, environment
from tests.terminals import Terminal

MODULE = ("-m", "openrouter_keys")


@frozen
class Ran:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


@define
class Command:
    """`openrouter-keys` against an emulator; called, it runs in this process.

    Args:
        emulator: the service.
        folder: where it runs.
    """

    emulator: Emulator
    folder: Path
    _monkeypatch: pytest.MonkeyPatch
    _capsys: pytest.CaptureFixture[str]

    @property
    def settings(self) -> dict[str, str]:
        """What the environment tells the command."""
        return {
            "OPENROUTER_API_KEY": self.emulator.api_key,
            "OPENROUTER_BASE_URL": self.emulator.base_url,
        }

    def __call__(self, *words: str, stdin: str = "", **settings: str) -> Ran:
        """Run it with no terminal."""
        for name, value in {**self.settings, **settings}.items():
            self._monkeypatch.setenv(name, value)
        source = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
        self._monkeypatch.setattr(sys, "stdin", source)
        self._monkeypatch.chdir(self.folder)
        log = logging.getLogger("openrouter_keys")  # OPENROUTER_DEBUG changes it for good
        self._monkeypatch.setattr(log, "handlers", [*log.handlers])
        self._monkeypatch.setattr(log, "level", log.level)
        self._capsys.readouterr()
        code = main(words)
        told = self._capsys.readouterr()
        return Ran(code, told.out, told.err)

    def process(
        self,
        *words: str,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        **settings: str,
    ) -> Process:
        """Start it as a process of its own."""
        return Process(
            *MODULE,
            *words,
            folder=self.folder,
            environment=self.environment(**settings),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )

    def terminal(
        self, *words: str, columns: int = 100, rows: int = 50, **settings: str
    ) -> Terminal:
        """Start it at a terminal."""
        return Terminal(
            *MODULE,
            *words,
            folder=self.folder,
            environment=self.environment(**{"TERM": "xterm-256color", **settings}),
            columns=columns,
            rows=rows,
        )

    def at_a_terminal(self, *words: str, columns: int = 100, **settings: str) -> Ran:
        """Run it at a terminal, where both outputs are one."""
        shown = self.terminal(*words, columns=columns, rows=50, **settings)
        code = shown.wait()
        return Ran(code, shown.before or "", "")

    def environment(self, **settings: str) -> dict[str, str]:
        """What a process of its own finds in its environment."""
        return environment(**{**self.settings, **settings})
