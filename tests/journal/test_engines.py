"""Both engines come to the same: any steps of any processes, their answers, errors and rows."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from openrouter_keys.errors import JournalError, SecretNotKeptError
from openrouter_keys.journal.entries import Entry
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.rotations import RotationEntry
from openrouter_keys.journal.runs import Claim
from openrouter_keys.journal.schema import OldKey, State
from tests.engines import sql
from tests.journals import AT, HASH, LATER, SECRET, spec
from tests.postgresql import PostgreSQL

pytestmark = pytest.mark.slow

REFS = st.sampled_from(["a", "b", "' OR 1 --"])
HASHES = st.sampled_from(["ab", HASH, "cd"])
RECORD = '{"workspace_id":"w","created_at":"2026-11-21T12:00:00Z","name":"\\u0000"}'
RUNS = st.integers(0, 3)
PLAN = spec(workspace_id="w").plan
NOW = "2026-11-21T12:30:00Z"

Step = Callable[[Journal], Awaitable[object]]


def plain(found: Any) -> Any:
    """Return an answer without the places of rows: an engine may leave some out."""
    if isinstance(found, Entry | RotationEntry):
        return attrs.asdict(found, recurse=False, filter=lambda field, _: field.name != "id")
    return [plain(each) for each in found] if type(found) in (list, tuple) else found


TABLES = {
    "keys": "SELECT ref, plan, state, run, written_off, first_attempt_at, last_attempt_at, hash, "
    "secret, sealed, record, reason, ended_at, secret_hash, earlier, owner, wanted FROM keys "
    "ORDER BY id",
    "rotations": "SELECT hash, plan, budget, old_limit, spent, state, handed_over_at, reason "
    "FROM rotations ORDER BY id",
    "meta": "SELECT version, server_url, runs, longest_timeout FROM meta",
}


async def claimed(journal: Journal, ref: str, *, settled: bool = True) -> dict[str, Claim]:
    """Claim a row; only a session of a server can be cut off from a run that lives."""
    claims = await journal.claim(ref, settled=settled)
    return {ref: attrs.evolve(claim, is_cut_off=False) for ref, claim in claims.items()}


class Engines(RuleBasedStateMachine):
    """The same processes, with the same runs, on a file and on a schema."""

    server: PostgreSQL

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.schema = f"test_{uuid4().hex}"
        url = f"{self.server.url()}?schema={self.schema}"
        self.places = (str(Path(self.folder.name) / "journal"), url)
        #: Of each process: what closes its journals, and its runs in each engine.
        self.processes: list[tuple[AsyncExitStack, list[list[Journal]]]] = []
        for _ in range(2):
            self.start()

    @rule()
    def start(self) -> None:
        """A process opens the journal, and closes it when another takes its place."""
        if len(self.processes) == 3:
            self.stop(0)
        stack = AsyncExitStack()

        async def enter() -> list[list[Journal]]:
            opened = [await stack.enter_async_context(Journal.open(each)) for each in self.places]
            for journal in opened:
                await journal.time_hand_overs(lambda: NOW)
            return [[journal] for journal in opened]

        self.processes.append((stack, self.runner.run(enter())))

    def stop(self, number: int) -> None:
        stack, _ = self.processes.pop(number)
        self.runner.run(stack.aclose())

    @rule(process=RUNS)
    def begin_run(self, process: int) -> None:
        """A process begins a run, that lives as long as it."""
        stack, journals = self.processes[process % len(self.processes)]

        async def enter() -> None:
            for of_engine in journals:
                of_engine.append(await stack.enter_async_context(of_engine[0].begin(5.0)))

        self.runner.run(enter())

    def do(self, process: int, step: Step) -> None:
        """Take a step in both engines, in the same run, and compare what comes of it."""
        of_process = self.processes[process % len(self.processes)][1]
        run = process % len(of_process[0])
        done = [self.runner.run(self.taken(journals[run], step)) for journals in of_process]
        assert done[0] == done[1]

    async def taken(self, journal: Journal, step: Step) -> object:
        try:
            return plain(await step(journal))
        except SecretNotKeptError as error:
            return type(error), error.ref, error.hash
        except JournalError as error:
            return type(error), str(error)

    # --- steps ---

    STEPS: Mapping[str, Callable[[Journal, str], Awaitable[object]]] = {
        "acknowledge": lambda j, ref: j.acknowledge(ref),
        "again": lambda j, ref: j.again(ref, LATER),
        "claim": lambda j, ref: claimed(j, ref, settled=False),
        "clear": lambda j, ref: j.clear(ref),
        "discard": lambda j, ref: j.discard(ref, "gone"),
        "doubt": lambda j, ref: j.doubt(ref, "lost"),
        "doubt at": lambda j, ref: j.doubt(ref, "lost", sent_at=AT, ended_at=LATER, told_hash="ab"),
        "fail": lambda j, ref: j.fail(ref, "refused"),
        "forget": lambda j, ref: j.forget_intent(ref),
        "forget released": lambda j, ref: j.forget_released(ref),
        "gone": lambda j, ref: j.gone(ref),
        "intend": lambda j, ref: j.intend(spec(ref), AT),
        "intend in w": lambda j, ref: j.intend(spec(ref, workspace_id="w"), LATER),
        "keep": lambda j, ref: j.keep(ref, secret=SECRET, hash=HASH, ended_at=AT, record=RECORD),
        "keep another": lambda j, ref: j.keep(ref, secret=SECRET, hash="ab", record="{"),
        "keep settled": lambda j, ref: j.keep(ref, secret=SECRET, hash=HASH, settled=True),
        "plan": lambda j, ref: j.plan([spec(ref)]),
        "reject": lambda j, ref: j.reject(ref, "not as asked for"),
        "release": lambda j, ref: j.release(ref),
        "retire": lambda j, ref: j.advance_rotation(ref, OldKey.DELETED),
        "rotate": lambda j, ref: j.plan_rotations([(ref, PLAN, "full", 5, 1.5)]),
        "resolve": lambda j, ref: j.resolve(ref, "nothing is left"),
        "take": claimed,
        "update": lambda j, ref: j.update(ref, None, RECORD),
        "want": lambda j, ref: j.want(ref, spec(ref, limit=5).plan),
    }
    # What a run does with a key, and where it is left.
    WAYS = (
        ("intend", "keep", "acknowledge"),
        ("rotate", "intend", "keep settled", "retire"),
        ("rotate", "intend", "keep", "acknowledge"),
        ("intend in w", "doubt", "again", "forget"),
        ("intend", "doubt at", "again", "keep another", "reject"),
        ("intend", "fail", "again", "doubt", "again", "doubt", "resolve"),
        ("intend", "doubt", "again", "again", "fail", "again", "keep", "discard"),
        ("intend", "keep settled", "take", "want", "update", "release", "gone", "forget released"),
        ("intend", "forget"),
    )

    @rule(process=RUNS, ref=REFS, way=st.sampled_from(WAYS), steps=st.integers(1, 8))
    def go(self, process: int, ref: str, way: tuple[str, ...], steps: int) -> None:
        """A run goes the beginning of a way."""
        for step in way[:steps]:
            self.do(process, lambda j, step=step: self.STEPS[step](j, ref))  # type: ignore[misc]
            self.do(process, lambda j: j.find(ref))

    @rule(process=RUNS, ref=REFS, steps=st.lists(st.sampled_from([*STEPS]), min_size=1, max_size=4))
    def change(self, process: int, ref: str, steps: list[str]) -> None:
        """A run takes any steps, with a row of its own where it may have it."""
        self.do(process, lambda j: claimed(j, ref))
        self.go(process, ref, tuple(steps), len(steps))

    @rule(process=RUNS, ref=REFS, step=st.sampled_from([*STEPS]))
    def meddle(self, process: int, ref: str, step: str) -> None:
        """A run takes a step, whoever has the row."""
        self.go(process, ref, (step,), 1)

    @rule(
        process=RUNS,
        hashes=st.lists(REFS | HASHES, min_size=1, max_size=3),
        old_key=st.sampled_from([None, *OldKey]),
    )
    def rotate(self, process: int, hashes: list[str], old_key: OldKey | None) -> None:
        planned = [(hash, PLAN, "full", 5, 1.5) for hash in hashes]
        self.do(process, lambda j: j.plan_rotations(planned))
        if old_key is None:
            self.do(process, lambda j: j.fail_rotation(hashes[0], "not now"))
        else:
            self.do(process, lambda j: j.advance_rotation(hashes[0], old_key))

    # --- questions ---

    QUESTIONS: Mapping[str, Step] = {
        "counts": lambda j: j.counts(),
        "default workspace": lambda j: j.default_workspace(),
        "every": lambda j: listed(j.every()),
        "known": lambda j: j.known(None, AT),
        "known in w": lambda j: j.known("w", LATER),
        "last": lambda j: j.last(),
        "names of others": lambda j: j.names_of_others(),
        "pending": lambda j: j.pending(),
        "purgeable": lambda j: j.purgeable(),
        "rotation counts": lambda j: j.rotation_counts(),
        "rotation workspaces": lambda j: j.rotation_workspaces(),
        "rotations": lambda j: listed(j.rotations()),
        "stamps": lambda j: j.stamps(),
        "twinless": lambda j: j.twinless_rotations(0),
        "unfinished": lambda j: listed(j.unfinished()),
        "unfinished in doubt": lambda j: listed(j.unfinished(State.DOUBT, State.FAILED)),
        "unmade": lambda j: listed(j.unmade_rotations()),
        "unretired": lambda j: j.unretired_rotations("", 0),
        "written off": lambda j: listed(j.written_off()),
    }

    @rule(process=RUNS, questions=st.sets(st.sampled_from([*QUESTIONS]), min_size=1, max_size=4))
    def ask(self, process: int, questions: set[str]) -> None:
        for question in sorted(questions):
            self.do(process, self.QUESTIONS[question])

    @rule(process=RUNS, ref=REFS, hashes=st.lists(REFS | HASHES, min_size=2, max_size=2))
    def ask_of_a_hash(self, process: int, ref: str, hashes: list[str]) -> None:
        async def answers(journal: Journal) -> object:
            return (
                await journal.holds(hashes[0]),
                await journal.holds_for_another(hashes[0], ref),
                await journal.is_mixed_up(*hashes),
                await journal.known_hashes(hashes),
                await journal.find(ref),
                await journal.states([spec(ref)]),
                [plain(each) for each in await journal.succession(ref)],
            )

        async def plainly(journal: Journal) -> object:
            return [plain(each) for each in list(await answers(journal))]  # type: ignore[call-overload]

        self.do(process, plainly)

    @rule(table=st.sampled_from([*TABLES]))
    def compare(self, table: str) -> None:
        self.do(0, lambda j: j._rows(TABLES[table]))

    def teardown(self) -> None:
        for table in TABLES:
            self.compare(table)
        self.ask(0, {*self.QUESTIONS})
        while self.processes:
            self.stop(0)
        self.runner.close()
        self.folder.cleanup()
        sql(self.server, f"DROP SCHEMA {self.schema} CASCADE")


async def listed(found: Any) -> list[object]:
    return [each async for each in found]


def test_each_way_of_a_key_leads_to_the_same_in_both_engines(postgresql: PostgreSQL) -> None:
    Engines.server = postgresql
    engines = Engines()
    engines.begin()
    try:
        for number, way in enumerate(Engines.WAYS):
            engines.go(0, f"r{number}", way, len(way))
    finally:
        engines.teardown()  # it compares all rows and answers


@pytest.mark.timeout(600)
def test_both_engines_come_to_the_same_states_answers_and_errors(postgresql: PostgreSQL) -> None:
    Engines.server = postgresql
    phases = (Phase.reuse, Phase.generate)  # each step asks two engines: shrinking takes too long
    few = settings(max_examples=5, stateful_step_count=20, deadline=None, phases=phases)
    run_state_machine_as_test(Engines, settings=few)
