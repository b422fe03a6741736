"""Prepares the three standard streams for any text."""

import io
import os
import sys
from contextlib import suppress
from typing import Final

# In less there is no room for a hash and a name; for more, a table draws as much as is asked for.
_LEAST: Final = 24
_MOST: Final = 1_000
_USUAL: Final = (80, 25)


def ready() -> bool:
    """Make the streams ready; return whether there is a standard output.

    A character that a stream cannot encode is shown as an escape: one key's name must not break a
    list, nor lose a secret that stands beside it. Of what is closed, only the output is missed.
    """
    # Their types say that they are there; a shell's `>&-` says otherwise.
    stdin, stdout, stderr = vars(sys)["stdin"], vars(sys)["stdout"], vars(sys)["stderr"]
    if stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - for as long as we live
    if stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (stdout, stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return stdout is not None


def discard(descriptor: int) -> None:
    """Discard what is written to a descriptor from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def speaks_unicode() -> bool:
    """Whether standard output can be given any character."""
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf8")


def better_size() -> os.terminal_size | None:
    """Return a size to print for in place of `COLUMNS` and the terminal's; None: theirs will do.

    With `COLUMNS=0`, say, nothing would be shown of a new key, nor its secret.
    """
    given, (columns, lines) = os.environ.get("COLUMNS", ""), _of_terminal()
    if not given.isdigit():  # rich reads what is
        return None if columns >= _LEAST else os.terminal_size((_LEAST, lines))
    if given.isascii() and len(given) < len(str(_MOST)) and int(given) >= _LEAST:
        return None
    return os.terminal_size((min(max(columns, _LEAST), _MOST), lines))


def _of_terminal() -> tuple[int, int]:
    columns, lines = 0, 0
    for descriptor in (2, 1, 0):
        with suppress(OSError):
            columns, lines = os.get_terminal_size(descriptor)
    return columns or _USUAL[0], lines or _USUAL[1]
