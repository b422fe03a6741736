"""The options that choose many keys: a file that names them, or a pattern of their names."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Final

from attrs import frozen
from cyclopts import Parameter

from openrouter_keys.cli.exit_codes import CommandError, UsageError
from openrouter_keys.cli.keys.given import Given
from openrouter_keys.cli.keys.hashes import WAYS, hashes_given, keys_in, whole_hashes
from openrouter_keys.cli.keys.many import Target
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.terminal.messages import say
from openrouter_keys.cli.values import File
from openrouter_keys.client import AsyncOpenRouter

#: The argument HASH of a command that takes many keys.
Hashes = Annotated[
    tuple[str, ...],
    Parameter(
        name="HASH",
        negative="",
        allow_leading_hyphen=True,
        show_default=False,
        help=f"The keys: {WAYS}; - reads them from standard input, one a line.",
    ),
]
_FILE: Final = Parameter(
    help="A file that names the keys: one a line, or in a column `hash` or `name`; - for standard "
    "input."
)
_PATTERN: Final = "All keys whose name matches, such as `trial-*`, disabled and expired ones, too."


@Parameter(name="*")
@frozen(kw_only=True)
class Chosen:
    """Which keys, if they are not given one by one."""

    file: Annotated[File | None, _FILE] = None
    match: Annotated[
        str | None, Parameter(metavar="PATTERN", help=f"{_PATTERN} Of the default workspace.")
    ] = None

    @property
    def pattern(self) -> str | None:
        """The pattern of names."""
        return self.match

    @property
    def workspace(self) -> str | None:
        """The workspace whose keys are matched; None: the default one."""
        return None

    @property
    def is_given(self) -> bool:
        """Whether it chooses keys."""
        return not (self.file is None and self.pattern is None)

    def read(self, given: Sequence[str], connection: Connection) -> list[Given]:
        """Return the keys that were given one by one, or by a file; a pattern names none.

        Args:
            given: those that were given one by one.
            connection: where the management key comes from.

        Raises:
            UsageError: keys are chosen in two ways, or in none, or a file cannot be read.
        """
        ways = [bool(given), self.file is not None, self.pattern is not None]
        if sum(ways) != 1:
            problem = "give one of HASH" if any(ways) else "give HASH"
            raise UsageError(f"{problem}, --file FILE or {self._option} PATTERN")
        if self.file is not None:
            return keys_in(self.file, connection)
        return hashes_given(given, connection)

    async def targets(
        self, client: AsyncOpenRouter, read: Sequence[Given], *, missing_ok: bool = False
    ) -> list[Target]:
        """Return the keys, each once.

        Args:
            client: what asks for them.
            read: what `read` returned.
            missing_ok: whether a key that is not there is no error.

        Raises:
            CommandError: one is not clear, or none is chosen.
        """
        if self.pattern is not None:
            return await self._matching(client, self.pattern, missing_ok=missing_ok)
        whole = await whole_hashes(client, read, missing_ok=missing_ok)
        return [Target(hash) for hash in dict.fromkeys(whole)]

    @property
    def _option(self) -> str:
        return "--match"

    async def _matching(
        self, client: AsyncOpenRouter, pattern: str, *, missing_ok: bool
    ) -> list[Target]:
        every = client.api_keys.iterate(
            include_disabled=True, include_expired=True, workspace_id=self.workspace
        )
        found = [Target(key.hash, key) async for key in every if fnmatchcase(key.name, pattern)]
        if not found:
            problem = f"no key has a name like {pattern!r}"
            if not missing_ok:
                raise CommandError(problem)
            say(problem)
        return found


@Parameter(name="*")
@frozen(kw_only=True)
class ChosenByName(Chosen):
    """The same, where `--name` is not the new name of a key."""

    match: Annotated[
        str | None, Parameter(name=("--name", "--match"), metavar="PATTERN", help=_PATTERN)
    ] = None
    workspace_id: Annotated[
        str | None,
        Parameter(metavar="UUID", help="With --name: in this workspace; else in the default one."),
    ] = None

    @property
    def workspace(self) -> str | None:
        """The workspace whose keys are matched; None: the default one."""
        return self.workspace_id

    @property
    def _option(self) -> str:
        return "--name"
