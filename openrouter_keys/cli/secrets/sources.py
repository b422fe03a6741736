"""Reads secrets: from a file, from standard input, or typed at a terminal without an echo."""

import getpass
import os
import re
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from openrouter_keys._base.masking import SECRET
from openrouter_keys.cli.exit_codes import AUTHENTICATION, USAGE, CommandError, UsageError
from openrouter_keys.cli.terminal.interrupts import asking
from openrouter_keys.cli.terminal.messages import write

#: In place of a file: standard input, or standard output.
STANDARD: Final = "-"

_MOST: Final = 1_000_000
# A line of a `.env` file.
_ASSIGNED: Final = re.compile(r"(?:export\s+)?\w+=(.*)")


def read_api_key(file: str, warn: Callable[[str], object]) -> str:
    """Read a management key: the one word in a file, or the value of the one variable.

    Args:
        file: its path; `-`: standard input.
        warn: called if every user of this machine can read the file.

    Raises:
        CommandError: it cannot be read, or has anything else in it.
    """
    key = _alone(_text(file, "The management key (not shown): "), file, AUTHENTICATION)
    if file != STANDARD and _readable_by_all(file):
        warn("every user of this machine can read the management key's file: chmod 600 it")
    return key


def _readable_by_all(file: str) -> bool:
    with suppress(OSError):
        mode = Path(file).stat().st_mode
        return os.name == "posix" and stat.S_ISREG(mode) and bool(mode & stat.S_IROTH)
    return False


def read_secret(file: str) -> str:
    """Read any secret: the one word in a file.

    Raises:
        CommandError: as `read_api_key` does.
    """
    return _alone(_text(file, "The secret (not shown): "), file, USAGE)


def find_secrets(file: str) -> list[str]:
    """Find the OpenRouter keys in a text, each once.

    Raises:
        CommandError: it cannot be read, or holds none.
    """
    found = [*dict.fromkeys(SECRET.findall(_text(file, "The secret (not shown): ")))]
    if found:
        return found
    raise UsageError("there is no OpenRouter key (sk-or-...) in the input: give the whole secret")


def _text(file: str, prompt: str) -> str:
    read: bytes
    try:
        if file != STANDARD:
            with Path(file).open("rb") as source:
                read = source.read(_MOST + 1)
        elif sys.stdin.isatty():
            with asking():
                return getpass.getpass(prompt, stream=sys.stderr)
        else:
            read = sys.stdin.buffer.read(_MOST + 1)
    except OSError as error:
        # Without the path: it may be the secret that was given in place of its file.
        raise UsageError(f"cannot read the key's file: {error.strerror}") from None
    except EOFError:  # Ctrl-D
        write("\n")
        return ""
    if len(read) > _MOST:
        raise UsageError("the key's file is too large to be one: give another")
    try:
        return read.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("the key's file is no text: give another") from None


def _alone(text: str, file: str, code: int) -> str:
    assigned = _ASSIGNED.fullmatch(text.strip())
    words = (assigned[1] if assigned else text).split()
    if len(words) == 1:
        return words[0].strip("\"'")
    problem = "holds more than one word" if words else "is empty"
    where = "standard input" if file == STANDARD else "the key's file"
    raise CommandError(f"{where} {problem}: give the key alone", code)
