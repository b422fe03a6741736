"""Lists that do not fit together, over a real socket: by the client, blocking, and as a command."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from openrouter_keys import AsyncAPIKeys, IncompleteListingError, OpenRouter
from openrouter_keys._reconcile.matching import Doubt
from openrouter_keys._reconcile.reconcile import reconcile
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys.errors import JSON
from openrouter_keys.models import CreateKeysRequest
from tests.clients import FakeTime, api_keys
from tests.commands import Command
from tests.raw_server import RawServer, answer, raw_server
from tests.records import key_json

KEYS: list[JSON] = [key_json(hash=f"{number:064x}", name=f"n-{number}") for number in range(250)]


def offset_of(request: bytes) -> int:
    found = re.search(rb"offset=(\d+)", request)
    return int(found[1]) if found else 0


@pytest.fixture(params=[100, 150, 250])
def deaf(request: pytest.FixtureRequest) -> Iterator[RawServer]:
    """A service that gives its first page, of so many keys, whatever the offset."""
    page = answer({"data": KEYS[: request.param]})
    with raw_server(lambda _: page) as server:
        yield server


def honest(request: bytes) -> bytes:
    offset = offset_of(request)
    return answer({"data": KEYS[offset : offset + 100]})


async def test_the_iterator_gives_what_came_and_says_that_it_is_not_all(deaf: RawServer) -> None:
    found: list[str] = []

    async def go(keys: AsyncAPIKeys) -> None:
        async for key in keys.iterate():
            found.append(key.hash)  # noqa: PERF401 - what came before the error counts

    async with api_keys(deaf.base_url, "key", FakeTime()) as keys:
        with pytest.raises(IncompleteListingError) as raised:
            await go(keys)
    assert (raised.value.seen, raised.value.pages) == (len(found), len(deaf.requests))


def test_the_blocking_iterator_does_so_too(deaf: RawServer) -> None:
    with (
        OpenRouter("key", server_url=deaf.base_url) as client,
        pytest.raises(IncompleteListingError, match="could not be completed"),
    ):
        list(client.api_keys.iterate())


async def test_pages_that_bring_nothing_are_waited_for_by_the_clients_clock() -> None:
    fake_time = FakeTime()
    with raw_server(lambda request: answer({"data": KEYS[:100] if b"=0" in request else []})) as it:
        async with api_keys(it.base_url, "key", fake_time) as keys:
            with pytest.raises(IncompleteListingError):
                [key async for key in keys.iterate()]
    assert 10 < sum(fake_time.slept) < 30
    assert len(it.requests) < 50


async def test_an_ordinary_list_costs_no_further_request() -> None:
    with raw_server(honest) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            found = [key.hash async for key in keys.iterate()]
    assert len(found) == 250
    assert [offset_of(request) for request in server.requests] == [0, 91, 182, 241]


@pytest.mark.slow
async def test_a_reconcile_deletes_nothing_where_it_cannot_see_all(deaf: RawServer) -> None:
    at = datetime(2025, 8, 24, 10, 30, tzinfo=UTC)
    doubt = Doubt(request=CreateKeysRequest(name="n-7"), since=at, until=at)

    async def knows(_: str) -> bool:
        return False

    async with api_keys(deaf.base_url, "key", FakeTime()) as keys:
        clock = ServiceClock(lambda: datetime.now(UTC))
        found = await reconcile(keys._transport, [doubt], clock, knows=knows)
    ((workspace_id, problem),) = found.incomplete
    assert workspace_id is None
    assert problem == "every offset is answered by the same page"
    assert not found.settled
    assert not [request for request in deaf.requests if request.startswith(b"DELETE")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("list", "--all", "--json"),
        ("list", "--sort", "name", "--jsonl"),
        ("usage", "--all", "--json"),
        ("usage", "--csv"),
        ("delete", "0000000", "--yes"),
    ],
    ids=" ".join,
)
def test_a_command_fails_and_prints_nothing_that_looks_complete(
    words: tuple[str, ...], command: Command, deaf: RawServer
) -> None:
    ran = command(*words, OPENROUTER_BASE_URL=deaf.base_url)
    assert (ran.code, ran.out) == (1, "")
    assert "the list of keys could not be completed: every offset is answered" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("form", ["--jsonl", "--csv", "--columns=hash"])
def test_rows_that_were_printed_already_end_with_an_error(
    form: str, command: Command, deaf: RawServer
) -> None:
    ran = command("list", form, OPENROUTER_BASE_URL=deaf.base_url)
    assert ran.code == 1
    assert len(ran.out.splitlines()) >= 100
    assert "could not be completed" in ran.err


@pytest.mark.slow
def test_a_plan_does_not_say_that_a_name_is_free(command: Command, deaf: RawServer) -> None:
    (command.folder / "specs.json").write_text(json.dumps([{"name": "n-249"}]))
    ran = command("provision", "specs.json", "--plan", OPENROUTER_BASE_URL=deaf.base_url)
    assert "which names are there already is not known" in ran.err
