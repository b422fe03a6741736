"""An account, a journal, and what `apply` makes of them, for tests."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from openrouter_keys import (
    ApplyReport,
    AsyncOpenRouter,
    Change,
    KeySpec,
    Plan,
    ProvisionResult,
)
from openrouter_keys.emulator import Emulator, StoredKey
from openrouter_keys.journal.journal import Journal
from tests.ensuring.rows import Rows


@frozen
class Site:
    """A client, its service, and an open journal.

    Attributes:
        taken: the keys that were handed over.
    """

    client: AsyncOpenRouter
    emulator: Emulator
    journal: Journal
    taken: list[ProvisionResult] = field(init=False, factory=list[ProvisionResult])

    async def plan(self, specs: Sequence[KeySpec], **given: Any) -> Plan:
        return await self.client.plan_apply(specs, journal=self.journal, **given)

    async def apply(self, specs: Sequence[KeySpec], **given: Any) -> ApplyReport:
        given = {"on_result": self.taken.append, **given}
        return await self.client.apply(specs, journal=self.journal, **given)

    async def bring(self, state: str, asked: KeySpec) -> None:
        """Bring a ref into a state, by a run that has ended then."""
        async with self.journal.begin() as run:
            await Rows(run, self.client, self.emulator).bring(state, asked)
        self.emulator.requests.clear()

    async def applied(self, specs: Sequence[KeySpec]) -> None:
        """Have an account as the specs say."""
        report = await self.apply(specs)
        assert (report.ok, report.created) == (True, len(specs))
        self.emulator.requests.clear()

    def key(self, name: str) -> StoredKey:
        """The one key of a name."""
        (found,) = [key for key in self.emulator.account.keys.values() if key.name == name]
        return found

    def gone(self, name: str) -> None:
        """Somebody deletes a key by hand."""
        del self.emulator.account.keys[self.key(name).hash]

    @property
    def sent(self) -> Counter[str]:
        """How often each operation was asked for."""
        return Counter(request.operation for request in self.emulator.requests)

    @property
    def writes(self) -> Counter[str]:
        """How often each operation that changes the account was asked for."""
        return Counter({name: n for name, n in self.sent.items() if name not in ("list", "get")})

    async def assert_as(self, specs: Sequence[KeySpec], **given: Any) -> None:
        """Nothing is left to do: another call sends no change, and the secrets are those taken."""
        self.emulator.requests.clear()
        report = await self.apply(specs, **given)
        assert (report.ok, report.plan.changes, report.changed) == (True, (), 0)
        assert not self.writes
        for spec in specs:
            key = self.key(spec.name)
            assert (await self.journal.succession(spec.ref))[-1].hash == key.hash
            assert key.disabled == spec.disabled
            if isinstance(spec.limit, int | float):
                assert key.limit == spec.limit


def told(changes: Sequence[Change]) -> list[tuple[str, str, list[tuple[object, ...]]]]:
    """Changes, short enough to compare."""
    return [
        (each.ref, each.action, [(one.name, one.before, one.after) for one in each.fields])
        for each in changes
    ]
