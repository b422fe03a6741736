"""What journals know of an account's keys. They are only read."""

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from attrs import frozen

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._reconcile.matching import Names
from openrouter_keys.errors import AccountChangedError
from openrouter_keys.journal.journal import Journal
from openrouter_keys.models import Key
from openrouter_keys.provisioning.settings import JournalOrPlace


@frozen
class Journals:
    """Journals that are open."""

    journals: Sequence[Journal]

    async def belong_to(self, keys: Mapping[str, Key], *, are_default: bool) -> None:
        """Refuse journals of another account: they would know none of its keys.

        Args:
            keys: those of a workspace.
            are_default: whether that is the default one.

        Raises:
            AccountChangedError: a journal's keys were made in another default workspace.
        """
        found = {
            canonical(key.workspace_id): key.workspace_id
            for key in keys.values()
            if key.workspace_id
        }
        for journal in self.journals if are_default and found else ():
            known = await journal.default_workspace()
            if known is not None and canonical(known) not in found:
                raise AccountChangedError(known, min(found.values()))

    async def doubtful(self, keys: Mapping[str, Key]) -> dict[str, str]:
        """Return the refs of whose creates keys may be, by the hashes of the keys.

        To be called before `known`: what a create that ends meanwhile has made, that one knows.
        """
        found: dict[str, str] = {}
        for journal in self.journals:
            refs = await journal.unsettled_names()
            names = Names(refs, keys.values())
            for hash, key in keys.items() if refs else ():
                for name in names.meant_by(key.name):
                    found.setdefault(hash, refs[name])
        return found

    async def known(self, keys: Mapping[str, Key]) -> set[str]:
        """Return which of some keys' hashes the journals have."""
        found: set[str] = set()
        for journal in self.journals:
            found |= await journal.among(frozenset(keys))
        return found


@asynccontextmanager
async def opened(given: Sequence[JournalOrPlace], server_url: str) -> AsyncGenerator[Journals]:
    """Open journals to look at them; those that are open stay open.

    Args:
        given: the journals.
        server_url: the service that their keys must have been made at.

    Raises:
        JournalError: one is not there, or cannot be read, or is another service's.
    """
    async with AsyncExitStack() as stack:
        journals: list[Journal] = []
        for each in given:
            journal = (
                await stack.enter_async_context(Journal.read(each))
                if isinstance(each, str | os.PathLike)
                else each
            )
            await journal.refuse_other_service(server_url)
            journals.append(journal)
        yield Journals(journals)
