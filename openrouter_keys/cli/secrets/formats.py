"""How a key is written for other programs: .env, CSV, lines of JSON, the bare secret. No I/O."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TypeAlias

from attrs import asdict, field, frozen

from openrouter_keys._base.masking import mask, scrub
from openrouter_keys.cli.exit_codes import CommandError
from openrouter_keys.cli.terminal.csv_cells import csv_row
from openrouter_keys.cli.terminal.text import as_json, printable
from openrouter_keys.journal.encryption import is_armored
from openrouter_keys.models import HoldsSecret

#: `raw`: nothing but the secrets, one a line.
SecretFormat: TypeAlias = Literal["env", "csv", "jsonl", "raw"]

COLUMNS: Final = ("ref", "name", "hash", "key", "state")
_BY_EXTENSION: Final[dict[str, SecretFormat]] = {
    ".env": "env",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
# RFC 4180's.
_CSV_END: Final = "\r\n"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_BARE: Final = "OPENROUTER_API_KEY"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/+=@%-]+")


@frozen(kw_only=True)
class Handed(HoldsSecret):
    """A key on its way to a sink.

    Attributes:
        ref: the caller's own id for it; empty: it is the only key.
        name: its name.
        hash: its hash.
        key: the secret; masked in `repr`, never pickled.
        state: its state in the journal; empty: there is no journal.
    """

    ref: str
    name: str
    hash: str
    key: str = field(repr=mask)
    state: str = ""


def format_of(file: str, default: SecretFormat) -> SecretFormat:
    """Return the format that a file's name asks for: `.env`, `.csv`, `.jsonl`."""
    name = Path(file).name
    return "env" if name == ".env" else _BY_EXTENSION.get(Path(name).suffix.lower(), default)


def writer(
    format: SecretFormat, write: Callable[[str], object], *, named: bool = False
) -> Callable[[Handed], object]:
    """Return a function that writes a key.

    Args:
        format: the format.
        write: writes a line.
        named: whether a comment above each variable of `env` has its key's name.
    """
    if format == "raw":
        return lambda handed: write(f"{_alone(handed.key)}\n")
    if format == "jsonl":
        return lambda handed: write(as_json(asdict(handed)) + "\n")
    if format == "env":
        variables = _Variables()

        def assign(handed: Handed) -> object:
            above = _comment(handed) if named else ""
            return write(f"{above}{variables.name(handed)}={_assigned(handed.key)}\n")

        return assign
    write(csv_row(COLUMNS, _CSV_END))
    return lambda handed: write(csv_row(_cells(handed), _CSV_END))


def _comment(handed: Handed) -> str:
    name, ref = (printable(scrub(text)) for text in (handed.name, _ref(handed)))
    both = f"{name} ({ref})" if ref and ref != name else name
    return f"# {both}\n" if both else ""


def _ref(handed: Handed) -> str:
    """Return the ref; of a rotation, whose ref is the old key's hash, the name, which says more."""
    return handed.name if handed.name and _HASH.fullmatch(handed.ref) else handed.ref


def _cells(handed: Handed) -> list[str]:
    encodable(handed.key)
    return [*asdict(handed).values()]


def encodable(key: str) -> str:
    """Return a secret that can be written as it is.

    Raises:
        CommandError: half a surrogate pair is in it.
    """
    try:
        key.encode()
    except UnicodeEncodeError:
        problem = "the secret cannot be written as text: give --secret-format jsonl"
    else:
        return key
    raise CommandError(problem)


def _alone(key: str) -> str:
    """Return a secret that fits in one line, or one that is encrypted."""
    if not (key.isprintable() or is_armored(key)):
        problem = "has characters that end or break a line: give --secret-format jsonl"
        raise CommandError(f"the secret {problem}")
    return key


def _assigned(key: str) -> str:
    """Return a secret as a variable's value, which shells and readers of `.env` files read alike.

    A plain value has no quotes, since some readers would keep them.
    """
    if _PLAIN.fullmatch(key):
        return key
    if "'" in _alone(key) or "\\" in key:
        problem = "has quotes or backslashes, which readers of .env files read differently"
        raise CommandError(f"the secret {problem}: give --secret-format jsonl")
    return f"'{key}'"


class _Variables:
    """Names of environment variables, each once: `OPENROUTER_API_KEY_` and a key's ref."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def name(self, handed: Handed) -> str:
        """Return a key's variable; only a key without a ref has the management key's own name.

        If another key has the same, or no letter of the ref fits, the hash is added.
        """
        words = re.sub(r"[^A-Z0-9]+", "_", _ref(handed).upper()).strip("_")
        hash = re.sub(r"[^A-Z0-9]", "", handed.hash[:12].upper())
        name = "_".join(filter(None, (_BARE, words or (handed.ref and hash))))
        if name in self._given:
            name = f"{name}_{hash}"
        number, free = 1, name
        while free in self._given or (handed.ref and free == _BARE):
            number += 1
            free = f"{name}_{number}"
        self._given.add(free)
        return free
