"""Rotations for tests: old keys, who takes their twins, and what must hold at any time."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import define, field

from openrouter_keys import ProvisionResult, Rotation
from openrouter_keys.emulator import Emulator, StoredKey
from openrouter_keys.rotation import rotations


def old_keys(emulator: Emulator, count: int, **attributes: Any) -> list[StoredKey]:
    """Put keys in place, of which 3 of 10 US dollars are spent."""
    given: dict[str, Any] = {"limit": 10, "usage": 3, **attributes}
    return [emulator.account.add(f"customer-{number}", **given) for number in range(count)]


def hashes(keys: Iterable[StoredKey]) -> list[str]:
    return [key.hash for key in keys]


@define
class Taker:
    """Whoever takes the twins' secrets.

    Attributes:
        taken: what was handed over, in this order.
        after: how many requests had come when the last secret for an old key was handed over.
    """

    emulator: Emulator
    taken: list[ProvisionResult] = field(factory=list[ProvisionResult])
    after: dict[str, int] = field(factory=dict[str, int])

    def __call__(self, result: ProvisionResult) -> None:
        self.taken.append(result)
        self.after.setdefault(result.ref, len(self.emulator.requests))

    @property
    def secrets(self) -> dict[str, str]:
        """The last secret for each old key."""
        return {result.ref: result.key for result in self.taken}


def assert_none_retired_too_early(emulator: Emulator, old: Iterable[str], taker: Taker) -> None:
    """No old key was changed before somebody had its twin's secret."""
    for hash in old:
        touched = [
            request.number
            for request in emulator.requests
            if request.hash == hash and request.operation in ("update", "delete")
        ]
        assert not touched or taker.after[hash] < touched[0]


def assert_one_twin_each(emulator: Emulator, old: Iterable[StoredKey], taker: Taker) -> None:
    """Each old key has one live twin of its name, whose secret was handed over; no other is left.

    Old keys that are retired are gone.
    """
    gone = {*hashes(old)}
    twins = {key.secret: key for key in emulator.account.keys.values() if key.hash not in gone}
    assert {*taker.secrets} == gone
    assert {*taker.secrets.values()} == {*twins}
    named = {hash: twins[secret].name for hash, secret in taker.secrets.items()}
    assert named == {key.hash: key.name for key in old}
    assert not any(key.disabled for key in twins.values())


def live(emulator: Emulator, old: Iterable[StoredKey]) -> list[bool]:
    """Whether each old key still works."""
    return [key.hash in emulator.account.keys and not key.disabled for key in old]


def twin_of(emulator: Emulator, key: StoredKey) -> StoredKey:
    (twin,) = (
        each
        for each in emulator.account.keys.values()
        if each.name == key.name and each.hash != key.hash
    )
    return twin


async def told(path: Path) -> dict[str, Rotation]:
    """The rotations of a journal, by the old key's hash."""
    return {rotation.hash: rotation async for rotation in rotations(path)}


async def states(path: Path) -> list[str]:
    return [rotation.state.value for rotation in (await told(path)).values()]
