"""Which keys a command is about: the options of `list` and `usage`."""

import shlex
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from fnmatch import fnmatchcase
from typing import Annotated

from attrs import frozen
from cyclopts import Parameter

from openrouter_keys._transport.pages import PREFETCH
from openrouter_keys.cli.terminal.messages import keys, named, say
from openrouter_keys.cli.values import Flag, InWorkspace, Pattern
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.models import Key


@Parameter(name="*")
@frozen(kw_only=True)
class Selection:
    """Which keys; without any of these, those of the default workspace that work."""

    name: Pattern = None
    all: Annotated[Flag, Parameter(alias="-a", help="Disabled and expired keys, too.")] = False
    workspace_id: InWorkspace = None

    async def keys(
        self, client: AsyncOpenRouter, *, disabled: bool = False, expired: bool = False
    ) -> AsyncGenerator[Key, None]:
        """Go through the keys, newest first.

        Args:
            client: what asks for them.
            disabled: disabled ones, too, without `--all`.
            expired: expired ones, too, without `--all`.
        """
        found, alike = False, list[str]()
        every = client.api_keys.iterate(
            include_disabled=disabled or self.all,
            include_expired=expired or self.all,
            workspace_id=self.workspace_id,
        )
        async with aclosing(every):
            async for key in every:
                if self.matches(key):
                    found = True
                    yield key
                elif not found and self._is_like(key):
                    alike.append(key.name)
        if self.name is not None and not found:
            say(self._nothing(alike))

    def _is_like(self, key: Key) -> bool:
        """Whether a key has the name but for its case, or more of it on a side."""
        return fnmatchcase(key.name.casefold(), f"*{(self.name or '').casefold()}*")

    def _nothing(self, alike: Sequence[str]) -> str:
        """Say that no name matches, and what would find those that are like it."""
        nothing = f"no key's name matches {self.name!r}"

        def finds(pattern: str) -> int:
            return sum(fnmatchcase(name, pattern) for name in alike)

        # Of those that find as many, the first.
        wider = max((f"{self.name}*", f"*{self.name}", f"*{self.name}*"), key=finds)
        if finds(wider):
            return f"{nothing}, whole: --name {shlex.quote(wider)} finds {keys(finds(wider))}"
        return f"{nothing}: capitals count, and there is {named(alike)}" if alike else nothing

    async def every(
        self, client: AsyncOpenRouter, *, prefetch: int = PREFETCH
    ) -> AsyncGenerator[Key, None]:
        """Go through all keys of the workspace, whatever their names are, newest first.

        Args:
            client: what asks for them.
            prefetch: how many pages are requested at once.
        """
        every = client.api_keys.iterate(
            include_disabled=True,
            include_expired=True,
            workspace_id=self.workspace_id,
            prefetch=prefetch,
        )
        async with aclosing(every):
            async for key in every:
                yield key

    def matches(self, key: Key) -> bool:
        """Whether a key has a name that was asked for."""
        return self.name is None or fnmatchcase(key.name, self.name)

    def __str__(self) -> str:
        words = [f"names like {self.name}"] if self.name else []
        words += [f"workspace {self.workspace_id}"] if self.workspace_id else []
        return ", ".join([*words, "disabled and expired ones, too"] if self.all else words)
