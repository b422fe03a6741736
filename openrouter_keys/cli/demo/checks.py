"""Checks of what the demo did against the emulator's own state, and never what a client says."""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from hashlib import sha256
from typing import Final

from attrs import fields_dict, frozen

from openrouter_keys._base.unset import UNSET, OptionalNullable
from openrouter_keys.cli.demo.transcript import Transcript
from openrouter_keys.emulator import Account, Emulator, StoredKey
from openrouter_keys.errors import OpenRouterError
from openrouter_keys.models import CreateKeysRequest, CreateKeysResponse, CurrentKey, Key

# They change by themselves.
_CLOCKWORK: Final = {"updated_at", "counted_at"}


@frozen
class Checks:
    """Compares what a client returned with what the emulator holds, and writes the result.

    Args:
        emulator: whose state counts.
        transcript: where to write.
    """

    emulator: Emulator
    transcript: Transcript

    def stored(self, hash: str) -> StoredKey:
        """Return a copy of a key as it is held now."""
        return copy(self.emulator.account.keys[hash])

    def created(
        self, rows: Sequence[CreateKeysRequest], created: Sequence[CreateKeysResponse]
    ) -> None:
        """Check keys against the rows that they were made for."""
        keys, count = self.emulator.account.keys, len(rows)
        pairs = [*zip(rows, created, strict=True)]
        held = sum(answer.data.hash in keys for answer in created)
        asked = sum(self._as_asked(row, keys.get(answer.data.hash)) for row, answer in pairs)
        own = sum(_hash_of(answer.key) == answer.data.hash for answer in created)
        self._check(held == count, f"the emulator holds {held} of {count}")
        self._check(asked == count, f"{asked} of {count} are as their rows ask")
        self._check(own == count, f"{own} of {count} secrets have their key's hash as SHA-256")

    def listed(self, listed: Sequence[Key]) -> None:
        """Check a complete list."""
        held, hashes = self.emulator.account.keys.keys(), {key.hash for key in listed}
        self._check(hashes == held, f"{len(hashes & held)} of the emulator's {len(held)} keys")
        self._check(len(hashes) == len(listed), f"{len(listed) - len(hashes)} of them twice")

    def newest(self, listed: Sequence[Key], hash: str) -> None:
        """Check that a page begins with the key made last."""
        first = listed[0].hash if listed else None
        self._check(first == hash, f"the newest of {len(listed)} is the one made last")

    def at_once(self, count: int) -> None:
        """Check that creates did not wait for each other: a connection each."""
        creates = [seen for seen in self.emulator.requests if seen.operation == "create"]
        connections = len({seen.connection for seen in creates})
        self._check(connections > 1 or count == 1, f"{connections} connections side by side")

    def got(self, key: Key) -> None:
        """Check one record."""
        held = self.stored(key.hash)
        names = [name for name in fields_dict(StoredKey) if name in fields_dict(Key)]
        same = [name for name in names if getattr(key, name) == getattr(held, name)]
        text = f"{len(same)} of {len(names)} fields are the emulator's"
        self._check(len(same) == len(names), text)

    def current(self, key: CurrentKey, hash: str) -> None:
        """Check the record that a key gets of itself."""
        held = self.stored(hash)
        same = (key.label, key.limit) == (held.label, held.limit)
        self._check(same, "label and limit are the emulator's")
        self._check(not key.is_management_key, "it is no management key")

    def unlimited(self, before: StoredKey) -> None:
        """Check an update of `limit=None`: sent as null, alone."""
        body = self.emulator.requests[-1].body
        self._check(json.loads(body) == {"limit": None}, f"sent {body.decode()}, nothing else")
        self.changed(before, "limit")
        limit = self.stored(before.hash).limit
        self._check(limit is None, f"the emulator's limit is {limit}, and was {before.limit}")

    def changed(self, before: StoredKey, *names: str) -> None:
        """Check that these fields differ from before, and no other."""
        now = self.stored(before.hash)
        known = [name for name in fields_dict(StoredKey) if name not in _CLOCKWORK]
        changed = [name for name in known if getattr(now, name) != getattr(before, name)]
        text = f"changed: {', '.join(changed) or 'nothing'}"
        kept = f"as before: {len(known) - len(changed)} other fields"
        self._check({*changed} == {*names}, f"{text}; {kept}")

    def deleted(self, hash: str, before: int) -> None:
        """Check that a key is gone, and only that."""
        keys = self.emulator.account.keys
        gone = hash not in keys and len(keys) == before - 1
        self._check(gone, f"the emulator holds {len(keys)} keys, and held {before}")

    @contextmanager
    def nothing_sent(self, calls: int) -> Generator[None, None, None]:
        """Check that no request arrives meanwhile."""
        before = len(self.emulator.requests)
        yield
        sent = len(self.emulator.requests) - before
        self._check(sent == 0, f"{sent} requests were sent by these {calls} calls")

    @contextmanager
    def no_error(self) -> Generator[None, None, None]:
        """Count an unexpected error as a failed check."""
        try:
            yield
        except OpenRouterError as error:
            self._check(False, f"no error: {error}")

    def _check(self, holds: bool, text: str) -> None:
        self.transcript.check(text, holds=holds)

    def _as_asked(self, row: CreateKeysRequest, held: StoredKey | None) -> bool:
        wanted = _wanted(row, self.emulator.account)
        return held is not None and all(getattr(held, name) == wanted[name] for name in wanted)


def _hash_of(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _wanted(row: CreateKeysRequest, account: Account) -> Mapping[str, object]:
    return {
        "name": row.name,
        "limit": _or_null(row.limit),
        "limit_reset": _or_null(row.limit_reset),
        "include_byok_in_limit": row.include_byok_in_limit or False,
        "expires_at": _or_null(row.expires_at),
        "creator_user_id": _or_null(row.creator_user_id),
        "workspace_id": row.workspace_id or account.default_workspace,
        "external_user": row.external.user if row.external else None,
    }


def _or_null(value: OptionalNullable[object]) -> object:
    return None if value is UNSET else value
