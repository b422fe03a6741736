"""Makes text from elsewhere safe for a terminal and for one line."""

import json
import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from openrouter_keys._base.masking import scrub
from openrouter_keys.cli.terminal.streams import speaks_unicode
from openrouter_keys.errors import JSON

#: A record as plain JSON values, by the API's names.
Record: TypeAlias = Mapping[str, JSON]

# Characters that JSON leaves unchanged, other than printable ASCII and JSON's own line ends.
_OTHERS: Final = re.compile(r"[^\n -~]+")


# Python calls these printable, but they are invisible: fillers, variation selectors.
_UNSEEN: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
) | frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))


def _is_seen(character: str) -> bool:
    return character.isprintable() and character not in _UNSEEN


def printable(text: str) -> str:
    """Return a text with escapes for line ends, control characters and invisible characters."""
    return "".join(
        each if _is_seen(each) else each.encode("unicode_escape", "replace").decode()
        for each in text
    )


def scrubbed(value: JSON) -> JSON:
    """Return a value with every text that looks like a secret masked."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, list):
        return [scrubbed(each) for each in value]
    if isinstance(value, dict):
        return {scrub(name): scrubbed(each) for name, each in value.items()}
    return value


def as_json(value: JSON, indent: int | None = None) -> str:
    """Return a value as JSON, with escapes for characters that control a terminal.

    Args:
        value: any value of JSON.
        indent: how many spaces each level is set in by; None: it is one line.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=not speaks_unicode())
    return _OTHERS.sub(lambda found: "".join(map(_in_json, found.group())), text)


def _in_json(character: str) -> str:
    if _is_seen(character):
        return character
    # DEL is ASCII, and JSON lets it be.
    return json.dumps(character)[1:-1].replace("\x7f", "\\u007f")
