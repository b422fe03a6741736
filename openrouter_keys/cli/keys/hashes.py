"""Which keys are meant: by hashes, by first characters that no other has, or by names."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from openrouter_keys.cli.exit_codes import CommandError, UsageError
from openrouter_keys.cli.keys.given import BEGINNING, HASH, Given, keys_of, typed
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.secrets.sources import STANDARD
from openrouter_keys.cli.terminal.messages import keys, say
from openrouter_keys.cli.terminal.text import printable
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.models import Key

#: How a key is given.
WAYS: Final = "a hash, its first characters, as `list` shows them, or a name that one key has"

Hash: TypeAlias = Annotated[str, Parameter(help=f"The key: {WAYS}.")]

_PREFIX: Final = "sk-or-"
_LARGEST: Final = 100_000_000
_ELSEWHERE: Final = (
    "of another workspace, give the whole hash: `list --all --workspace-id UUID` shows it"
)


def hashes_given(given: Sequence[str], connection: Connection) -> list[Given]:
    """Return the keys that were given, or those on standard input for a `-`.

    Raises:
        CommandError: the management key is to come from there, too.
    """
    if [*given] != [STANDARD]:
        return [*map(typed, given)]
    return keys_in(STANDARD, connection)


def keys_in(file: str, connection: Connection) -> list[Given]:
    """Return the keys that a file names, one a line: what `list` prints does as well.

    Args:
        file: its path; `-`: standard input.
        connection: where the management key comes from.

    Raises:
        UsageError: it cannot be read, or it is not clear which keys it names.
    """
    name, encoding, errors = file, "utf-8-sig", "strict"
    try:
        if file == STANDARD:
            connection.refuse_two_from_standard_input("the hashes")
            # As `list` writes it to a pipe; a name may hold a line end of any kind.
            name, encoding, errors = (
                "standard input",
                sys.stdin.encoding,
                sys.stdin.errors or errors,
            )
            read = sys.stdin.buffer.read()
        else:
            if Path(file).stat().st_size > _LARGEST:
                raise UsageError(f"{file} is too large to be a list of keys")
            read = Path(file).read_bytes()
        return [*keys_of(read.decode(encoding, errors), name)]
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not {encoding.upper().removesuffix('-SIG')} text") from None


async def whole_hashes(
    client: AsyncOpenRouter, given: Sequence[Given], *, missing_ok: bool = False
) -> list[str]:
    """Return the whole hash for each key that was given.

    Keys are listed only if something else than a whole hash was given.

    Args:
        client: what lists them.
        given: hashes, their beginnings, or names.
        missing_ok: whether what no key has is said, and left out.

    Raises:
        CommandError: no key has it, or several have.
    """
    for each in given:
        if each.text.startswith(_PREFIX):
            # It stood on the command line, where others see it.
            hint = "replace the leaked key; `find` reads a secret from standard input"
            raise UsageError(f"a secret was given in place of a hash: {hint}")
    if not any(each.names for each in given):
        return [each.hash for each in given]
    every = client.api_keys.iterate(include_disabled=True, include_expired=True)
    known = _Known([key async for key in every])
    found: list[str] = []
    for each in given:
        if (hash := known.whole(each)) is not None:
            found.append(hash)
        elif missing_ok:
            say(known.missing(each))
        else:
            raise CommandError(known.missing(each))
    return found


class _Known:
    """The keys that there are.

    Args:
        every: all of them.
    """

    def __init__(self, every: Sequence[Key]) -> None:
        self._every = every
        self._named, self._shown = (defaultdict[str, list[Key]](list) for _ in range(2))
        for key in every:
            self._named[key.name].append(key)
            if (shown := printable(key.name)) != key.name:
                self._shown[shown].append(key)

    def whole(self, given: Given) -> str | None:
        """Return the hash of the one key that is meant; None: no key is.

        Raises:
            CommandError: it may be several keys.
        """
        if not given.names:
            return given.hash
        found = [*self._found(given)]
        if len(found) < 2:
            is_whole = HASH.fullmatch(given.hash)
            return found[0].hash if found else given.hash if is_whole else None
        text, names = given.text, {key.name for key in found}
        begins = [bool(given.hash) and key.hash.startswith(given.hash) for key in found]
        if all(begins):
            problem = f"{len(found)} keys' hashes begin with {given.hash}: give more of it"
        elif any(begins):
            problem = f"{text} is one key's name, and another's hash begins so: give more of a hash"
        elif len(names) == 1:
            problem = f"{keys(len(found))} have the name {text!r}: give the hash of one"
        else:
            problem = f"{text!r} may be the name of {keys(len(found))}: give the hash of one"
        raise CommandError(problem, more=[_line(key) for key in found])

    def _found(self, given: Given) -> Sequence[Key]:
        """Return each key that may be meant, once."""
        found = [key for name in given.names for key in self._named.get(name, ())]
        if given.is_shown:
            found += [key for name in given.names for key in self._shown.get(name, ())]
        if given.hash:
            found += [key for key in self._every if key.hash.startswith(given.hash)]
        return [*{key.hash: key for key in found}.values()]

    def missing(self, given: Given) -> str:
        """Return what to say of what no key has."""
        text = given.text
        wanted = text.strip().casefold()
        alike = [key.name for key in self._every if key.name.casefold() == wanted]
        hint = f"there is {alike[0]!r}; `list --all` shows all" if alike else _ELSEWHERE
        if any(sign in text for sign in "*?["):
            return f"no key has the name {text!r}: for a pattern, give --name"
        if BEGINNING.fullmatch(given.hash):
            has = "it" if text == given.hash else repr(text)
            return (
                f"no key's hash begins with {given.hash}, and none has {has} for its name: {hint}"
            )
        where = "" if alike else " in the default workspace"
        return f"no key has the name {text!r}{where}: {hint}"


def _line(key: Key) -> str:
    off = ", disabled" if key.disabled else ""
    return f"{key.hash}  {key.name!r}, created {key.created_at:%Y-%m-%d}{off}"
