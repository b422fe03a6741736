"""Journals for tests, and processes that write to them."""

import subprocess
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.schema import State
from openrouter_keys.journal.specs import KeySpec
from tests.processes import Process, environment

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = AT + timedelta(minutes=5)
SECRET = "sk-or-v1-" + "c4" * 32
HASH = sha256(SECRET.encode()).hexdigest()


def spec(ref: str = "r", **given: Any) -> KeySpec:
    wanted: dict[str, Any] = {"ref": ref, "name": f"customer-{ref}", **given}
    return KeySpec(**wanted)


async def entries(journal: Journal, *states: State) -> dict[str, Entry]:
    return {entry.ref: entry async for entry in journal.unfinished(*states)}


async def state(journal: Journal, ref: str = "r") -> State | None:
    found = await entries(journal, *State)
    if ref in found:
        return found[ref].state
    return State.SETTLED if (await journal.counts())[State.SETTLED] else None


def written(path: Path) -> bytes:
    """Return every byte that the journal has on the disk."""
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


CHILD = """
import asyncio, sys
from datetime import UTC, datetime
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.specs import KeySpec
from tests.processes import Process, environment

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
"""


def child(script: str, *arguments: object) -> Process:
    words = ("-c", CHILD + script, *map(str, arguments))
    return Process(*words, environment=environment(), stdin=subprocess.PIPE)
