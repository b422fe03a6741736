"""Provisioning through every kind of fault, checked by what the emulator itself holds.

Time is virtual: what is late, silent or given up takes none.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from random import Random
from typing import Any, get_args
from zlib import crc32

import pytest
from attrs import Factory, define, evolve

from openrouter_keys import (
    AsyncOpenRouter,
    KeySpec,
    ProvisioningStoppedError,
    ProvisionReport,
    ProvisionResult,
)
from openrouter_keys._base import clock_skew as stamps
from openrouter_keys._base.clock import Clockwork
from openrouter_keys.emulator import Emulator, Fault, RateLimit, Workspace
from openrouter_keys.emulator.faults import Kind, OperationName, Phase
from tests.provisioners import (
    assert_handed_over,
    assert_journaled,
    assert_none_sent_blindly,
    assert_one_key_each,
    assert_sent_as_intended,
    audited,
    customers,
)
from tests.virtual_time import run

pytestmark = pytest.mark.slow

SHARE = 0.3  # of the creates that are struck
TIMEOUT = 30.0  # seconds after which a call is given up
LATE = 12.0  # seconds after that, in which a create still lands
QUIET = 20.0  # seconds to wait for it
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
OTHER = "11111111-2222-4333-8444-555555555555"

CASES: list[tuple[Kind, Phase]] = [
    (kind, phase) for kind in get_args(Kind) for phase in get_args(Phase)
]
# Those of the second line say that nothing was done: after it was, that would be a lie.
STATUSES: list[tuple[Phase, int]] = [
    *(("before", status) for status in (200, 408, 500, 502, 503, 504, 520, 524, 529)),
    *(("before", status) for status in (429, 521, 523)),
    *(("after", status) for status in (200, 202, 408, 500, 502, 503, 504, 520, 524, 529)),
]


def fault(operation: OperationName, kind: Kind, phase: Phase, **given: Any) -> Fault:
    """One that strikes without end; what is late lands after the client gave up."""
    body = b'{"data": {"label": "sk-or-v1-0e6...1c96"}}' if kind == "body" else None
    delay = TIMEOUT if kind == "slow" else LATE
    wanted: dict[str, Any] = {
        "times": None,
        "probability": SHARE,
        "body": body,
        "delay": delay,
        **given,
    }
    return Fault(operation, kind, phase=phase, **wanted)


def every_kind(operation: OperationName) -> list[Fault]:
    """Faults of every kind and phase and of many statuses, which strike `SHARE` in all."""
    kinds = [fault(operation, kind, phase) for kind, phase in CASES if kind != "status"]
    kinds += [fault(operation, "status", phase, status=status) for phase, status in STATUSES]
    # All but the end of the answer, so that the secret is there.
    kinds.append(fault(operation, "cut", "after", portion=0.999))
    # Each is asked whether it strikes if those before it did not.
    return [
        evolve(one, probability=SHARE / len(kinds) / (1 - SHARE * place / len(kinds)))
        for place, one in enumerate(kinds)
    ]


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in a loop whose time jumps."""

    @wraps(test)
    def ran(*args: Any, **given: Any) -> None:
        run(test(*args, **given))

    return ran


def now() -> datetime:
    """The time of day, which the loop's time moves on."""
    return NOON + timedelta(seconds=asyncio.get_running_loop().time())


def clockwork(now: Callable[[], datetime] = now, back_off: float = 0) -> Clockwork:
    """The time of the loop, and little back-off or none."""
    time = asyncio.get_running_loop().time
    return Clockwork(monotonic=time, now=now, random=lambda: back_off)


def tells_truth(fault: Fault) -> bool:
    """Whether no answer says that something was done when it was not."""
    unanswered = fault.kind in ("closed", "reset", "stalled", "garbage", "late", "slow")
    return fault.phase == "after" or unanswered or (fault.kind == "status" and fault.status >= 300)


@define
class Ordeal:
    """A run through faults, or several; the names are those of keys that others made long ago."""

    emulator: Emulator
    wanted: list[KeySpec]
    taken: list[tuple[str, str]] = Factory(list[tuple[str, str]])
    reports: list[ProvisionReport] = Factory(list[ProvisionReport])
    client: dict[str, Any] = Factory(lambda: {"timeout_ms": TIMEOUT * 1000})
    clockwork: Clockwork = Factory(clockwork)
    _others: list[str] = Factory(list[str])

    def __attrs_post_init__(self) -> None:
        account = self.emulator.account
        account.clock = now
        account.workspaces[OTHER] = Workspace(OTHER)
        long_ago = now() - timedelta(hours=1)
        names = [spec.name for spec in self.wanted[::10]]
        self._others = [account.add(name, created_at=long_ago).hash for name in names]

    async def go_through(self, *, most: int = 100, **given: Any) -> None:
        """Run until a run ends well, but no more than so often."""
        for _ in range(most):
            async with AsyncOpenRouter(
                self.emulator.api_key, server_url=self.emulator.base_url, **self.client
            ) as client:
                client._transport.clockwork = self.clockwork
                self.reports.append(await self._run(client, **given))
            if self.reports[-1].ok:
                break
        await self._landed()
        for hash in self._others:
            del self.emulator.account.keys[hash]  # they are there still

    async def _run(self, client: AsyncOpenRouter, **given: Any) -> ProvisionReport:
        wanted: dict[str, Any] = {"concurrency": 40, "quiet_period": QUIET, **given}
        wanted.setdefault("on_result", self._take)
        try:
            return await client.provision(self.wanted, **wanted)
        except ProvisioningStoppedError as stopped:
            return evolve(stopped.report, in_doubt=max(1, stopped.report.in_doubt))

    def _take(self, result: ProvisionResult) -> None:
        self.taken.append((result.ref, result.key))

    async def _landed(self) -> None:
        """Wait for what is on its way still."""
        while any(
            request.fault in ("late", "slow") and not request.applied
            for request in self.emulator.requests
            if request.operation == "create"
        ):
            await asyncio.sleep(1)

    def struck(self) -> float:
        """The share of the creates that a fault struck."""
        creates = [one for one in self.emulator.requests if one.operation == "create"]
        return sum(one.fault is not None for one in creates) / len(creates)

    def deleted(self) -> int:
        """How many keys were deleted."""
        requests = [one for one in self.emulator.requests if one.operation == "delete"]
        return len({request.hash for request in requests if request.applied})

    def assert_taken_once(self) -> None:
        assert_one_key_each(self.emulator, self.wanted)
        assert_handed_over(self.emulator, self.wanted, self.taken)
        assert {*Counter(ref for ref, _ in self.taken).values()} == {1}

    def assert_told(self) -> None:
        """What the reports tell is what the emulator saw."""
        last = self.reports[-1]
        assert last.ok
        assert last.created + last.resumed + last.settled_before == len(self.wanted)
        assert sum(one.created + one.resumed for one in self.reports) == len(self.wanted)
        assert not any(one.failed or one.mismatched or one.undelivered for one in self.reports)


def seed_of(text: str) -> int:
    return crc32(text.encode())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return asyncio.run(audited(tmp_path / "customers.journal"))


@pytest.mark.parametrize(("kind", "phase"), CASES)
@in_virtual_time
async def test_a_fault_of_any_kind_costs_no_key_and_leaves_none(
    path: Path, kind: Kind, phase: Phase
) -> None:
    seed = seed_of(f"{kind} {phase}")
    async with Emulator(faults=[fault("create", kind, phase)], seed=seed) as emulator:
        ordeal = Ordeal(emulator, customers(40, seed))
        await ordeal.go_through(journal=path)
        assert 0.1 < ordeal.struck() < 0.5
        ordeal.assert_taken_once()
        ordeal.assert_told()
        assert_journaled(emulator, ordeal.wanted, path)
        assert_sent_as_intended(emulator, ordeal.wanted, path)
        assert_none_sent_blindly(emulator)
        assert sum(report.deleted for report in ordeal.reports) == ordeal.deleted()


@pytest.mark.parametrize("seed", range(2))
@in_virtual_time
async def test_faults_of_all_kinds_together_cost_no_key_and_leave_none(
    path: Path, seed: int
) -> None:
    async with Emulator(faults=every_kind("create"), seed=seed, page_size=17) as emulator:
        ordeal = Ordeal(emulator, customers(200, seed, workspaces=(None, OTHER)))
        await ordeal.go_through(journal=path)
        assert 0.2 < ordeal.struck() < 0.4
        ordeal.assert_taken_once()
        ordeal.assert_told()
        assert_journaled(emulator, ordeal.wanted, path)
        assert_sent_as_intended(emulator, ordeal.wanted, path)
        assert_none_sent_blindly(emulator)
        assert sum(report.deleted for report in ordeal.reports) == ordeal.deleted()


@pytest.mark.parametrize("seed", range(4))
@in_virtual_time
async def test_faults_of_looks_and_deletes_are_made_up_for_by_the_next_run(
    path: Path, seed: int
) -> None:
    # So many that some fail at each of their attempts.
    faults = [
        fault(operation, "status", "before", status=502, probability=0.5)
        for operation in ("list", "delete")
    ]
    faults += [*every_kind("create"), *every_kind("list")]
    faults += filter(tells_truth, every_kind("delete"))
    async with Emulator(faults=faults, seed=seed) as emulator:
        ordeal = Ordeal(emulator, customers(80, seed))
        await ordeal.go_through(journal=path)
        ordeal.assert_taken_once()
        ordeal.assert_told()
        assert_journaled(emulator, ordeal.wanted, path)
        assert_sent_as_intended(emulator, ordeal.wanted, path)
        assert_none_sent_blindly(emulator)
        assert 0 < sum(report.deleted for report in ordeal.reports) <= ordeal.deleted()


@pytest.mark.parametrize("seed", range(2))
@in_virtual_time
async def test_cancelled_runs_cost_no_key_and_leave_none(path: Path, seed: int) -> None:
    chance, cancels = Random(seed), 0
    async with Emulator(faults=every_kind("create"), seed=seed, latency=0.1) as emulator:
        ordeal = Ordeal(emulator, customers(80, seed))
        for _ in range(8):
            going = asyncio.create_task(ordeal.go_through(journal=path, concurrency=4))
            await asyncio.wait({going}, timeout=0.2 + chance.random())
            cancels += going.cancel()
            await asyncio.wait({going})
        assert cancels >= 3
        await ordeal.go_through(journal=path)
        ordeal.assert_taken_once()
        assert_journaled(emulator, ordeal.wanted, path)
        assert_sent_as_intended(emulator, ordeal.wanted, path)
        assert_none_sent_blindly(emulator)


@in_virtual_time
async def test_a_rate_limit_besides_faults_costs_no_key_and_leaves_none(path: Path) -> None:
    limit = RateLimit(rate=100, burst=10, retry_after="none")
    async with Emulator(faults=every_kind("create"), seed=4, rate_limit=limit) as emulator:
        # Without, no time would pass, and the limit never be over.
        ordeal = Ordeal(emulator, customers(100, 4), clockwork=clockwork(back_off=0.1))
        await ordeal.go_through(journal=path)
        assert any(one.status == 429 for one in emulator.requests)
        ordeal.assert_taken_once()
        ordeal.assert_told()
        assert_journaled(emulator, ordeal.wanted, path)
        assert_sent_as_intended(emulator, ordeal.wanted, path)
        assert_none_sent_blindly(emulator)


@in_virtual_time
async def test_names_that_several_refs_share_are_told_apart(path: Path) -> None:
    async with Emulator(faults=every_kind("create"), seed=0) as emulator:
        ordeal = Ordeal(emulator, customers(120, 0, names=12))
        await ordeal.go_through(journal=path)
        ordeal.assert_taken_once()
        ordeal.assert_told()
        assert_journaled(emulator, ordeal.wanted, path)
        assert_sent_as_intended(emulator, ordeal.wanted, path)


@in_virtual_time
async def test_without_a_journal_on_disk_nothing_else_changes() -> None:
    async with Emulator(faults=every_kind("create"), seed=1) as emulator:
        ordeal = Ordeal(emulator, customers(100, 1))
        await ordeal.go_through(journal=None)
        assert len(ordeal.reports) == 1
        ordeal.assert_taken_once()
        ordeal.assert_told()
        assert_none_sent_blindly(emulator)


@in_virtual_time
async def test_secrets_that_are_not_stored_are_handed_over_all_the_same(path: Path) -> None:
    async with Emulator(faults=every_kind("create"), seed=2) as emulator:
        ordeal = Ordeal(emulator, customers(100, 2))
        await ordeal.go_through(journal=path, store_secrets=False)
        ordeal.assert_taken_once()
        ordeal.assert_told()
        assert_journaled(emulator, ordeal.wanted, path, stored=False)
        assert_sent_as_intended(emulator, ordeal.wanted, path)


@in_virtual_time
async def test_secrets_that_nobody_takes_are_in_the_journal(path: Path) -> None:
    async with Emulator(faults=every_kind("create"), seed=3) as emulator:
        ordeal = Ordeal(emulator, customers(100, 3))
        await ordeal.go_through(journal=path, on_result=None)
        ordeal.assert_told()
        assert_one_key_each(emulator, ordeal.wanted)
        assert_journaled(emulator, ordeal.wanted, path)
        assert_sent_as_intended(emulator, ordeal.wanted, path)


@in_virtual_time
async def test_a_key_that_lands_after_the_look_for_it_is_found_by_the_last_one(path: Path) -> None:
    async with Emulator(faults=[Fault("create", "late", delay=2.5)]) as emulator:
        ordeal = Ordeal(emulator, customers(1, 0))
        await ordeal.go_through(journal=path, quiet_period=2)
        assert emulator.count("create") == 2
        ordeal.assert_taken_once()
        ordeal.assert_told()
        assert_journaled(emulator, ordeal.wanted, path)


# --- clocks, queues and read-backs ---


@pytest.mark.parametrize("whose", ["machine", "service"])
@in_virtual_time
async def test_a_clock_that_is_set_does_not_shorten_the_wait_for_late_commits(
    path: Path, whose: str
) -> None:
    # Too late for the first look, in time for the last one.
    async with Emulator(faults=[Fault("create", "late", delay=2.6)]) as emulator:
        ordeal = Ordeal(emulator, customers(1, 0))

        def machine() -> datetime:
            return now() + timedelta(hours=emulator.count("create") > 1)

        def service() -> datetime:  # within the margin that a reconcile allows for
            return now() + timedelta(seconds=2 * (emulator.count("list") > 1))

        if whose == "machine":
            ordeal.clockwork = clockwork(machine)
        else:
            emulator.account.clock = service
        await ordeal.go_through(journal=path, quiet_period=1.5)
        ordeal.assert_taken_once()


@in_virtual_time
async def test_creates_that_wait_long_for_a_connection_are_reconciled(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "_MARGIN", timedelta(seconds=1))
    slow, lost = (
        Fault("create", "slow", times=5, delay=0.5),
        Fault("create", "closed", phase="after"),
    )
    async with Emulator(faults=[slow, lost]) as emulator:
        ordeal = Ordeal(emulator, customers(6, 0))
        ordeal.client.update(timeout_ms=800, max_connections=1)
        await ordeal.go_through(journal=path, most=2)
        ordeal.assert_taken_once()


@in_virtual_time
async def test_a_key_made_by_hand_while_a_create_waits_for_its_turn_is_not_deleted() -> None:
    async with Emulator(faults=[Fault("create", status=502)]) as emulator:
        account = emulator.account
        account.clock = now
        by_hand: list[str] = []

        async def api_key() -> str:
            if emulator.count("list") and not by_hand:
                await asyncio.sleep(300)
                by_hand.append(account.add("customer-0").hash)
                await asyncio.sleep(300)
            return emulator.api_key

        async with AsyncOpenRouter(api_key, server_url=emulator.base_url, timeout_ms=1e6) as client:
            client._transport.clockwork = clockwork()
            report = await client.provision(
                [KeySpec(ref="0", name="customer-0")], on_result=lambda _: None, quiet_period=QUIET
            )
        assert report.created == 1
        assert by_hand[0] in account.keys


@in_virtual_time
async def test_a_key_whose_record_cannot_be_read_back_is_handed_over_by_the_next_run(
    path: Path,
) -> None:
    cut = Fault("create", "cut", phase="after", portion=0.999)
    async with Emulator(faults=[cut, Fault("get", status=502, times=3)]) as emulator:
        ordeal = Ordeal(emulator, customers(1, 0))
        await ordeal.go_through(journal=path, most=2)
        ordeal.assert_taken_once()
