"""Asking before something is destroyed."""

import signal
import sys
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from openrouter_keys.cli import USAGE, CommandError
from openrouter_keys.cli.terminal.text import printable
from openrouter_keys.cli.values import Flag

Yes: TypeAlias = Annotated[Flag, Parameter(alias="-y", help="Do not ask.")]
DryRun: TypeAlias = Annotated[
    Flag, Parameter(alias="-n", help="Show what would be done, and do nothing.")
]


def confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal, and go on only if the answer is yes.

    Args:
        question: what would be done, such as `delete 3 keys`.
        yes: it was answered on the command line.

    Raises:
        CommandError: the answer is no, or there is nobody to ask.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError(f"would {question}, and there is no terminal to ask: --yes", USAGE)
    answer = _answered(printable(f"{question[:1].upper()}{question[1:]}? [y/N] "))
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was done")


def _answered(question: str) -> str:
    # A running loop would hear of a Ctrl-C only once there is an answer.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.stderr.write(question)
        sys.stderr.flush()
        return sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, before)
