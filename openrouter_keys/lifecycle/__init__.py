"""What becomes of keys after they were made: rotation. No create but those of `provisioning`.

`engine` goes through the phases: `planning` looks at the old keys, provisioning makes their twins,
`retiring` disables and deletes the old ones. `twins` says what a twin is, `report` what is told.
"""

import os
from collections.abc import AsyncGenerator

from openrouter_keys.lifecycle.report import Rotation


async def rotations(journal: str | os.PathLike[str]) -> AsyncGenerator[Rotation, None]:
    """Go through all rotations of a journal, in the order of planning; nothing is changed.

    Args:
        journal: its file; it is locked meanwhile.

    Raises:
        JournalError: it is in use, not private, not there, or no journal.
    """
    # Loaded late, for SQLite comes with it.
    from openrouter_keys.lifecycle.stored import stored  # noqa: PLC0415
    from openrouter_keys.provisioning.journal import Journal  # noqa: PLC0415

    async with Journal.read(journal) as reading:
        async for rotation in stored(reading):
            yield rotation
