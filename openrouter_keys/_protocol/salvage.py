"""Finds the secret in a create's answer that is cut short, garbled, or of another shape. Pure.

A text counts as the secret only with a proof. The proof is its SHA-256, if the answer has it as the
key's hash; otherwise its place, `key` or `data.key`, if only one text is there, which is neither
redacted nor the key's label. Beside another text's SHA-256, only the documented form counts: a tool
that redacts secrets may write anything. In an answer that is no JSON, the text must also look like
a secret.
"""

import json
import re
from collections.abc import Generator, Iterable
from typing import Final, TypeAlias

from attrs import define, field, frozen

from openrouter_keys._base.masking import hash_of
from openrouter_keys._base.scrubbing import text_of, without
from openrouter_keys.converter import parse
from openrouter_keys.errors import MalformedBodyError

#: The most characters of an answer that are searched; an ordinary one has a thousand.
MOST: Final = 200_000

_MARKS = frozenset("{}[]:,")
# A string, maybe cut at its end; a mark; or anything else up to the next of these.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[{}\[\]:,]|[^\s"{}\[\]:,]++', re.DOTALL)
_HASH = re.compile(r"[0-9A-Fa-f]{64}")
# A created secret in the documented form, and in any later form.
_DOCUMENTED = re.compile(r"sk-or-v1-[0-9a-f]{64}")
_PLAUSIBLE = re.compile(r"[!-~]{16,}")
# Texts with which a proxy or a tool replaces a secret, or a label.
_REDACTED = re.compile(
    r"\.\.|[*\u2022\u2026\u25cf\u2588<>\[\]]|(.)\1{7}|redact|filtered|masked|hidden|removed|omitted"
    r"|sha\d+[:-]|vault:|^[!-/:-@\[-`{-~]*$",
    re.IGNORECASE,
)
_FILLED = re.compile(r"(.)\1{63}")
_MEMBER = re.compile(rf'"key"\s*:\s*"({_DOCUMENTED.pattern})"')

#: The names of the members around a value, from the outside in; 0: a list; None: a name is missing.
_Path: TypeAlias = tuple[str | int | None, ...]
_SECRETS: tuple[_Path, ...] = (("key",), ("data", "key"))
_HASHES: tuple[_Path, ...] = (("data", "hash"),)
_LABEL: _Path = ("data", "label")


@frozen
class Salvage:
    """The contents of an answer.

    Attributes:
        secret: the secret; None: there is none, or no proof which text it is.
        hash: the key's hash; None: the answer has none.
        rest: the answer with the secret masked everywhere; None: it is no JSON.
        doubtful: how many texts may be the secret, without a proof which.
        redacted: whether the text in the secret's place looks redacted.
    """

    secret: str | None = field(repr=False)
    hash: str | None
    rest: bytes | None = field(repr=False)
    doubtful: int = 0
    redacted: bool = False


def salvage(body: bytes) -> Salvage:
    """Search a create's answer for the secret and the hash.

    Args:
        body: the received part of the answer.
    """
    whole = _is_json(body)
    found = _salvaged(text_of(body)[:MOST], whole=whole)
    if found.secret is None and not whole and body.startswith(b"\0"):
        # An answer with leading zeros looks like UTF-16.
        behind = _salvaged(text_of(body.lstrip(b"\0"))[:MOST], whole=False)
        return found if behind.secret is None else behind
    return found


def _salvaged(text: str, *, whole: bool) -> Salvage:
    scan = _Scan()
    strings = [*scan.strings(text)]
    hashes = {each.value.lower() for each in strings if _HASH.fullmatch(each.value)}
    candidates = {each.value for each in strings if each.value and hash_of(each.value) in hashes}
    proven = bool(candidates)
    candidates = candidates or _placed(strings, whole=whole)
    if not candidates and scan.garbled:
        candidates = {found[1] for found in _MEMBER.finditer(text)}
    if len(candidates) != 1:
        hash, redacted = _hash_in(strings, whole=whole), any(map(_in_place, strings))
        return Salvage(None, hash, None, len(candidates), redacted=redacted)
    (secret,) = candidates
    hash = hash_of(secret) if proven else _hash_in(strings, whole=whole)
    return Salvage(secret, hash, without(text, [secret]) if whole else None)


def documented(body: bytes) -> Salvage:
    """Search only for one secret of the documented form after its name."""
    found = {each[1] for each in _MEMBER.finditer(body[:MOST].decode(errors="replace"))}
    return Salvage(found.pop() if len(found) == 1 else None, None, None, len(found))


def _is_json(body: bytes) -> bool:
    try:
        parse(body)
    except MalformedBodyError:
        return False
    return len(body) <= MOST


def _placed(strings: Iterable["_String"], *, whole: bool) -> set[str]:
    """Return the texts in a secret's place; in what is no JSON, they must look like secrets."""
    labels = {each.value for each in strings if each.path == _LABEL}
    found = {each.value for each in strings if _in_place(each)} - labels
    hashed = any(each.path in _HASHES and _HASH.fullmatch(each.value) for each in strings)
    found = {value for value in found if not _redacted(value, hashed=hashed)}
    if not whole:
        found = {value for value in found if _PLAUSIBLE.fullmatch(value)}
    documented = set(filter(_is_documented, found))
    return documented if len(documented) == 1 else found


def _in_place(string: "_String") -> bool:
    return string.path in _SECRETS and string.value != ""


def _is_documented(value: str) -> bool:
    return _DOCUMENTED.fullmatch(value) is not None


def _redacted(value: str, *, hashed: bool) -> bool:
    """Whether a text is no secret; beside another text's hash, only the documented form is one."""
    if _is_documented(value):
        return hashed and _FILLED.search(value) is not None
    return hashed or _REDACTED.search(value) is not None


def _hash_in(strings: Iterable["_String"], *, whole: bool) -> str | None:
    found = {each.value for each in strings if each.path in _HASHES}
    found = {value for value in found if whole or _HASH.fullmatch(value)}
    return found.pop() if len(found) == 1 else None


@frozen
class _String:
    path: _Path
    value: str = field(repr=False)


@define
class _Scan:
    """Reads JSON that may be cut anywhere, and continues after garbled parts.

    Attributes:
        garbled: whether anything but a cut is wrong with it.
    """

    garbled: bool = False
    _path: list[str | int | None] = field(factory=list["str | int | None"])
    _name: str | None = None
    _between: bool = True

    def strings(self, text: str) -> Generator[_String, None, None]:
        """Yield each closed string with its path, members' names too."""
        for token in _TOKEN.finditer(text):
            mark = token[0]
            if mark in _MARKS:
                self._take(mark)
                continue
            value = _string(mark)
            self.garbled |= not self._between
            self._name, self._between = value, False
            if value is not None:
                yield _String(tuple(self._path[:3]), value)

    def _take(self, mark: str) -> None:
        path = self._path
        if mark in "{[":
            self.garbled |= not self._between or (bool(path) and path[-1] is None)
            path.append(None if mark == "{" else 0)
        elif mark in "}]":
            if not path or (mark == "]") != (path[-1] == 0):
                self.garbled = True
            del path[-1:]
        elif not path or (path[-1] is not None and mark == ":") or path[-1] == 0:
            self.garbled |= mark == ":" or not path
        else:
            path[-1] = self._name if mark == ":" else None
            self.garbled |= mark == ":" and self._name is None
        self._name, self._between = None, mark not in "}]"


def _string(token: str) -> str | None:
    """Return a string's text; None: it is no string, or is not closed."""
    if token[0] != '"':
        return None
    if "\\" not in token:
        return token[1:-1] if len(token) > 1 and token[-1] == '"' else None
    try:
        value: str = json.loads(token, strict=False)
    except Exception:  # noqa: BLE001 - it is unreadable
        return None
    return value
