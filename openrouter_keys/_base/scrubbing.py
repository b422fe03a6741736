"""Removes the secrets that an answer repeats, before it becomes a record. Pure: no I/O."""

import json
import re
from collections.abc import Collection
from typing import Final

from openrouter_keys._base.masking import known_mask

#: A shorter text is no secret: it may be any word.
LEAST: Final = 16

_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udbff]")
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|(["\\/]))')


def masked(body: bytes, secrets: Collection[str]) -> bytes:
    """Return an answer's body with secrets masked; nearly always, the same body.

    Args:
        body: the body, maybe cut short or no JSON.
        secrets: those that were sent. Another form of a secret, such as base64, stays.
    """
    if _is_plain(body):
        for each in secrets:
            if body.find(each.encode("utf-8", "surrogatepass")) >= 0:
                break
        else:
            return body  # nearly always
    text = text_of(body)
    shown = unescaped(text)
    found = [each for each in secrets if len(each) >= LEAST and each in shown]
    return without(text, found) if found else body


def without(text: str, secrets: Collection[str]) -> bytes:
    """Return JSON with secrets masked, also in names and within longer texts.

    Args:
        text: the JSON.
        secrets: the secrets; a short one is only masked where it is the whole string.
    """

    def shown(found: re.Match[str]) -> str:
        token = value = found[0]
        try:
            value = json.loads(token, strict=False) if "\\" in token else token[1:-1]
        except ValueError:
            return token  # the body is no JSON, so it becomes no record
        text = value
        for secret in secrets:
            if len(secret) >= LEAST or secret == text:
                text = text.replace(secret, known_mask(secret))
        return token if text == value else json.dumps(text)

    return _STRING.sub(shown, text).encode(errors="surrogatepass")


def count(body: bytes, secret: str) -> int:
    """Return how often a secret stands in an answer's body, escaped or not."""
    if _is_plain(body):
        return body.count(secret.encode())
    return unescaped(text_of(body)).count(secret)


def text_of(body: bytes) -> str:
    """Return a body's text, decoded from any of JSON's encodings."""
    encoding = json.detect_encoding(body)
    try:
        return body.decode(encoding, "surrogatepass")
    except UnicodeDecodeError:
        return body.decode(encoding, "replace")


def _is_plain(body: bytes) -> bool:
    """Whether no escape and no two- or four-byte encoding can hide a text."""
    # `in` first takes the text for a number, which costs as much as the search.
    return body.find(b"\\") < 0 and body.find(b"\0") < 0


def unescaped(text: str) -> str:
    """Return a text with JSON's escapes decoded, also if it is no JSON."""
    plain = _ESCAPE.sub(_character, text)
    if _SURROGATE.search(plain):  # two escapes stand for one character
        plain = plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return plain


def _character(escape: re.Match[str]) -> str:
    return escape[2] or chr(int(escape[1], 16))
