"""Asks before something is destroyed."""

import sys
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from openrouter_keys._base.masking import scrub
from openrouter_keys.cli.exit_codes import CommandError, UsageError
from openrouter_keys.cli.terminal.interrupts import asking
from openrouter_keys.cli.terminal.messages import can_ask, write
from openrouter_keys.cli.terminal.text import printable
from openrouter_keys.cli.values import Flag

Yes: TypeAlias = Annotated[Flag, Parameter(alias="-y", help="Do not ask first.")]
DryRun: TypeAlias = Annotated[
    Flag, Parameter(alias="-n", help="Show what would be done, and change nothing.")
]
#: The same of a command whose plan is a view of its own.
PlanOnly: TypeAlias = Annotated[
    Flag,
    Parameter(
        name=("--plan", "--dry-run", "-n"), help="Show what would be done, and change nothing."
    ),
]


def confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal, and go on only if the answer is yes.

    Args:
        question: what would be done, such as `delete 3 keys`.
        yes: the answer is `--yes`, from the command line.

    Raises:
        CommandError: the answer is no, or there is no terminal to ask at.
    """
    if yes:
        return
    if not can_ask():
        raise UsageError(f"would {question}, and there is no terminal to ask at: give --yes")
    answer = _answered(printable(scrub(f"{question[:1].upper()}{question[1:]}? [y/N] ")))
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was done")


def _answered(question: str) -> str:
    with asking():
        write(question)
        answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # Ctrl-D
        write("\n")
    return answer
