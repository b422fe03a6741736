"""Rotation: replaces keys, and retires the old ones. Only `provisioning` creates keys.

`settings` checks what a caller sets, `context` holds what the phases share, and `run` runs the
phases: `planning` reads the old keys, `registration` writes the plans into the journal,
provisioning makes the replacements, `retirement` disables and deletes the old keys. `replacement`
computes what to request, `report` is the result.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from openrouter_keys.provisioning.settings import JournalOrPlace
from openrouter_keys.rotation.report import Rotation


async def rotations(journal: JournalOrPlace) -> AsyncGenerator[Rotation, None]:
    """Go through all rotations of a journal, in the order of planning; nothing is changed.

    Args:
        journal: an open `Journal`, the path of its file, or the URL of a PostgreSQL database.

    Raises:
        JournalError: it is being purged, not private, not there, or no journal.
    """
    # Loaded late, for SQLite comes with it.
    from openrouter_keys.journal.journal import Journal  # noqa: PLC0415
    from openrouter_keys.rotation.stored import stored  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        if isinstance(journal, str | os.PathLike):
            journal = await stack.enter_async_context(Journal.read(journal))
        async for rotation in stored(journal):
            yield rotation
