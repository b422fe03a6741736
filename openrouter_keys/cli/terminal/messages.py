"""Messages on standard error, and the words for counts and names in them."""

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from openrouter_keys._base.masking import scrub
from openrouter_keys.cli.terminal.streams import discard
from openrouter_keys.cli.terminal.text import printable, without_passwords

_NAMED: Final = 3
# Clears the line that the cursor is in.
_CLEAR: Final = "\r\x1b[2K"


def say(text: str) -> None:
    """Write one line on standard error; secrets in it are masked."""
    write(f"{_message(text)}\n")


def write(text: str) -> None:
    """Write a text on standard error unchanged, or discard it if that is full or closed.

    A command does the same whether people can read its messages or not.
    """
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        # The interpreter flushes once more at its end, and would exit with 120.
        with suppress(OSError):
            discard(sys.stderr.fileno())


def rewrite(text: str) -> None:
    """Replace the line that the cursor is in; empty: clear it."""
    write(f"{_CLEAR}{_message(text) if text else ''}")


def _message(text: str) -> str:
    return f"openrouter-keys: {printable(scrub(without_passwords(text)))}"


def redraws() -> bool:
    """Whether standard error is a terminal where a line can be written again."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def can_ask() -> bool:
    """Whether a person can answer: standard input and standard error are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def counted(count: int, noun: str) -> str:
    """Return how many in words: `1 key`, `1,000 keys`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def named(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more


def keys(count: int) -> str:
    """Return how many keys in words."""
    return counted(count, "key")


def command(*words: str) -> str:
    """Return a command line of this program, quoted for a shell."""
    return shlex.join(["openrouter-keys", *words])
