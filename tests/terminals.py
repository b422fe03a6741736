"""A Python process at a pseudo-terminal, started without a fork of this process.

`pexpect.spawn` forks; in a process with threads, such as the emulator's, a fork may deadlock, and
Python 3.15 warns of it.
"""

import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pexpect import EOF
from pexpect.fdpexpect import fdspawn

from tests.processes import PATIENCE, Process

# It is generic to type checkers only.
if TYPE_CHECKING:
    _Driver = fdspawn[str]
else:
    _Driver = fdspawn


class Terminal(_Driver):
    """A Python process, driven as `pexpect.spawn` drives one.

    Args:
        words: what follows `python`.
        folder: where it runs.
        environment: all of its environment.
        columns: how wide the terminal is, in characters.
        rows: how high it is.
    """

    def __init__(
        self,
        *words: str,
        folder: Path,
        environment: Mapping[str, str],
        columns: int = 80,
        rows: int = 24,
    ) -> None:
        ours, theirs = pty.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            self.process = Process(
                *words, folder=folder, environment=environment, terminal=True,
                stdin=theirs, stdout=theirs, stderr=theirs,
            )  # fmt: skip
        finally:
            os.close(theirs)
        super().__init__(ours, encoding="utf-8", timeout=PATIENCE)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.send("\x03")

    def kill(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Read until it ends; `before` is what it wrote since.

        Returns:
            Its exit code; below 0, a signal ended it.
        """
        self.expect(EOF)
        code = self.process.wait(PATIENCE)
        self.close()
        return code
