"""Answers without the secrets that they repeat, before a record is made of them. Pure: no I/O."""

import json
import re
from collections.abc import Collection
from typing import Final

from openrouter_keys._base.masking import known_mask

#: A shorter text than this is no secret; it may be a word that stands anywhere.
LEAST: Final = 16

_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udbff]")
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|(["\\/]))')


def masked(body: bytes, secrets: Collection[str]) -> bytes:
    """Return an answer's body in which no string holds a secret; nearly always it is the same one.

    Args:
        body: the body, maybe cut short or no JSON.
        secrets: what was sent. One that the answer has in another form, such as base64, stays.
    """
    if _is_plain(body) and not any(each.encode(errors="surrogatepass") in body for each in secrets):
        return body
    text = text_of(body)
    shown = unescaped(text)
    found = [each for each in secrets if len(each) >= LEAST and each in shown]
    return without(text, found) if found else body


def without(text: str, secrets: Collection[str]) -> bytes:
    """Return JSON with secrets masked: in names and in longer texts, too.

    Args:
        text: the JSON.
        secrets: what must not stand in it; a short one is only masked where it stands alone.
    """

    def shown(found: re.Match[str]) -> str:
        token = value = found[0]
        try:
            value = json.loads(token, strict=False) if "\\" in token else token[1:-1]
        except ValueError:
            return token  # so the body is no JSON, and no record is made of it
        told = value
        for secret in secrets:
            if len(secret) >= LEAST or secret == told:
                told = told.replace(secret, known_mask(secret))
        return token if told == value else json.dumps(told)

    return _STRING.sub(shown, text).encode(errors="surrogatepass")


def count(body: bytes, secret: str) -> int:
    """Return how often a secret stands in an answer's body, escaped or not."""
    if _is_plain(body):
        return body.count(secret.encode())
    return unescaped(text_of(body)).count(secret)


def text_of(body: bytes) -> str:
    """Return a body's text, in whichever of JSON's encodings it is."""
    encoding = json.detect_encoding(body)
    try:
        return body.decode(encoding, "surrogatepass")
    except UnicodeDecodeError:
        return body.decode(encoding, "replace")


def _is_plain(body: bytes) -> bool:
    """Whether no escape, and no encoding of two or four bytes, can hide a text."""
    return b"\\" not in body and b"\0" not in body


def unescaped(text: str) -> str:
    """Return a text in which JSON's escapes are what they stand for, also where it is no JSON."""
    plain = _ESCAPE.sub(_character, text)
    if _SURROGATE.search(plain):  # two escapes stand for one character
        plain = plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return plain


def _character(escape: re.Match[str]) -> str:
    return escape[2] or chr(int(escape[1], 16))
