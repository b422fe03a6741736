"""Makes text from elsewhere safe for a terminal and for one line."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

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


# What shows one picture: each part may have a selector of its coloured form, or a colour of skin,
# and joiners are between parts alone. Anywhere else, nothing is seen of these.
_PART: Final = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u27bf\u2934\u2935"
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff](?:\ufe0f|[\U0001f3fb-\U0001f3ff])?"
)
_EMOJI: Final = re.compile(f"{_PART}(?:\u200d{_PART})*|[0-9#*]\ufe0f\u20e3")
_JOINERS: Final = str.maketrans("", "", "\ufe0f\u200d")


# Of a URL; a password that is not escaped may hold anything but white space.
_PASSWORD: Final = re.compile(
    r"(?i)(?<=:)(?P<user>//[^\s:/?#]*):\S*@|(?<=[?&])(?P<name>(?:ssl)?password=)[^&\s]*"
)


def without_passwords(text: str) -> str:
    """Return a text in which no URL shows a password."""
    return _PASSWORD.sub(
        lambda found: f"{found['user']}@" if found["name"] is None else f"{found['name']}...", text
    )


def printable(text: str) -> str:
    """Return a text with escapes for line ends, control characters and invisible characters."""
    return "".join(
        piece if _is_picture(piece) else "".join(map(_escape, piece)) for piece in _pieces(text)
    )


def _pieces(text: str) -> Iterator[str]:
    at = 0
    for found in _EMOJI.finditer(text):
        yield text[at : found.start()]
        yield found[0]
        at = found.end()
    yield text[at:]


def _is_picture(piece: str) -> bool:
    return bool(_EMOJI.fullmatch(piece)) and piece.translate(_JOINERS).isprintable()


def _escape(character: str) -> str:
    if _is_seen(character):
        return character
    return character.encode("unicode_escape", "replace").decode()


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
