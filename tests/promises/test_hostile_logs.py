"""No text of an answer forges a line of a log, or steers who reads one: not even a key's hash."""

import ast
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import pytest
from multidict import CIMultiDict

from openrouter_keys import AsyncOpenRouter, KeySpec, errors
from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.masking import escaped
from openrouter_keys._reconcile.matching import Doubt
from openrouter_keys._reconcile.reconcile import reconcile, removed
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.wire import Reply
from openrouter_keys.api_keys import AsyncAPIKeys, take_back
from openrouter_keys.errors import JSON
from openrouter_keys.lease import Leasing
from openrouter_keys.models import CreateKeysRequest
from openrouter_keys.provisioning.report import ProvisionProblem
from tests.clients import FakeTime, api_keys
from tests.promises.test_hostile_texts import HOSTILE
from tests.provisions import JumpingTime
from tests.raw_server import answer, raw_server
from tests.records import HASH, SECRET, current_json, key_json

PACKAGE = Path(__file__).parents[2] / "openrouter_keys"
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
ODD = "".join(text for text, _ in HOSTILE.values()).replace("\ud800", "")
UNUSED: dict[str, JSON] = dict.fromkeys(
    ("limit", "limit_reset", "expires_at", "external_user", "last_used_at"), None
) | {"usage": 0, "byok_usage": 0, "created_at": "2026-11-21T12:00:00Z"}

Respond: TypeAlias = Callable[[bytes], bytes]
Shown: TypeAlias = Iterable[object]


def service(*, keys: JSON = None, **answers: bytes | list[bytes]) -> Respond:
    """A service that answers by method; GET is a list unless it asks for one key."""
    rest = {method: [*given] for method, given in answers.items() if isinstance(given, list)}

    def respond(request: bytes) -> bytes:
        method, path, _ = request.split(b" ", 2)
        name = method.decode() if b"/keys/" in path or method != b"GET" else "LIST"
        if rest.get(name):
            return rest[name].pop(0)
        given = answers.get(name)
        if isinstance(given, bytes):
            return given
        first = b"offset=" not in path or b"offset=0" in path
        return answer({"data": keys if first and keys else []})

    return respond


NOT_FOUND = answer({"error": {"code": 404, "message": f"no such key{ODD}"}}, status="404 Not Found")
REFUSED = answer({"error": {"code": 400, "message": ODD}}, status="400 Bad Request")
GONE = answer({"deleted": True})
OURS = key_json(hash=ODD, **UNUSED)
NEW = OURS | {"created_at": (datetime.now(UTC) + timedelta(seconds=1)).isoformat()}


def doubt(name: str = "customer-42") -> Doubt:
    request = CreateKeysRequest(name=name)
    return Doubt(request=request, since=AT, until=AT + timedelta(minutes=2))


async def _reconciled(keys: AsyncAPIKeys) -> Shown:
    async def knows(_: str) -> bool:
        return False

    now = AT + timedelta(days=1)
    clock = ServiceClock(lambda: now)
    found = await reconcile(keys._transport, [doubt()], clock, knows=knows)
    return [why for _, why in found.incomplete]


async def _removed(keys: AsyncAPIKeys) -> Shown:
    await removed(keys._transport, ODD)
    return []


async def _taken_back(keys: AsyncAPIKeys) -> Shown:
    await keys._transport.take_back(MadeKey(ODD, HASH))
    return []


async def _taken_back_proven(keys: AsyncAPIKeys) -> Shown:
    keys._transport.ready()
    await keys._transport.take_back(MadeKey.of(HASH, SECRET))
    return []


async def _nobody_waits(keys: AsyncAPIKeys) -> Shown:
    await take_back(keys, errors.CreateOutcomeUnknownError(f"no answer{ODD}"))
    return []


async def _created(keys: AsyncAPIKeys) -> Shown:
    await keys.create(name="new")
    return []


async def _leased(keys: AsyncAPIKeys) -> Shown:
    request = CreateKeysRequest(name="customer-42", limit=None)
    leasing = Leasing(
        keys._transport, request, expires_in=60, on_unknown="raise", quiet_period=0, options={}
    )
    try:
        async with leasing:
            pass
    except errors.LeaseMismatchError as error:
        return [error]
    return []


async def _settled(keys: AsyncAPIKeys) -> Shown:
    with pytest.raises(errors.CreateOutcomeUnknownError) as caught:
        await keys.create(name="customer-42", on_unknown="reconcile")
    return [caught.value, *caught.value.__notes__]


MADE_BY_ANOTHER_HASH = answer({"data": key_json(hash=ODD), "key": SECRET}, status="201 Created")
LOST = answer({"error": {"code": 502, "message": ODD}}, status="502 Bad Gateway")
CURRENT = answer({"data": current_json()})
_MADE = key_json(hash=HASH, **UNUSED) | {"created_at": datetime.now(UTC).isoformat()}
_SOON = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
LEASED = answer({"data": _MADE | {"hash": ODD}, "key": SECRET}, status="201 Created")
AS_ASKED = answer(
    {"data": _MADE | {"expires_at": _SOON, "limit": None}, "key": SECRET}, status="201 Created"
)
CASES: dict[str, tuple[Respond, Callable[[AsyncAPIKeys], Awaitable[Shown]]]] = {
    "_transport.transport._undo": (service(), _taken_back),
    "_transport.transport._delete": (service(DELETE=REFUSED), _taken_back_proven),
    "api_keys.take_back": (service(), _nobody_waits),
    "operations._compare": (service(POST=MADE_BY_ANOTHER_HASH), _created),
    "reconcile.removed: left over": (service(DELETE=REFUSED), _removed),
    "reconcile.removed: deleted": (service(DELETE=GONE), _removed),
    "_reconcile.reconcile.reconcile": (service(keys=[OURS]), _reconciled),
    "_reconcile.listing._problem": (
        service(
            LIST=[answer({"data": [OURS]}), *[answer({"data": []})] * 2] * 9,
            GET=answer({"data": OURS}),
        ),
        _reconciled,
    ),
    "lease: refused": (
        service(POST=LEASED, DELETE=REFUSED, LIST=CURRENT),
        _leased,
    ),
    "lease: not deleted": (
        service(GET=REFUSED, POST=AS_ASKED, DELETE=REFUSED, LIST=CURRENT), _leased,
    ),
    "_reconcile.single._told": (service(keys=[NEW | {"usage": 1}], POST=LOST), _settled),
    "_reconcile.single.Settler._look": (service(LIST=REFUSED, POST=LOST), _settled),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_no_hash_or_message_of_an_answer_forges_a_line(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "openrouter_keys")
    respond, act = CASES[name]
    with raw_server(respond) as server:
        async with api_keys(server.base_url, "key", FakeTime()) as keys:
            shown = [str(each) for each in await act(keys)]
    told = [*shown, *caplog.messages]
    assert_escaped(told)
    # A hash is written in small letters wherever it is compared.
    assert any(escaped(ODD).lower() in text.lower() for text in told), told


def assert_escaped(texts: Iterable[str]) -> None:
    for text in texts:
        assert escaped(text) == text, text


# --- runs ---


def _specs(count: int = 1) -> list[KeySpec]:
    return [KeySpec(ref=str(number), name="customer-42", limit=1) for number in range(count)]


async def _mismatched(client: AsyncOpenRouter, _: Path) -> Iterable[ProvisionProblem]:
    return (await client.provision(_specs(), on_result=lambda _: None)).mismatches


async def _refused(client: AsyncOpenRouter, _: Path) -> Iterable[ProvisionProblem]:
    return (await client.provision(_specs(), on_result=lambda _: None)).failures


async def _in_doubt(client: AsyncOpenRouter, _: Path) -> Iterable[ProvisionProblem]:
    with pytest.raises(errors.OpenRouterError) as caught:
        await client.provision(_specs(), on_result=lambda _: None)
    return [ProvisionProblem(ref="the error", reason=str(caught.value))]


async def _rotated(client: AsyncOpenRouter, folder: Path) -> Iterable[ProvisionProblem]:
    report = await client.rotate(
        [HASH], journal=folder / "journal", on_result=lambda _: None, retire_after=0
    )
    return report.failures


OLD = key_json(hash=HASH, expires_at=None, external_user=None, creator_user_id=None)
TWIN = answer({"data": OLD | {"hash": ODD}, "key": f"{SECRET}1"}, status="201 Created")
RUNS: dict[
    str, tuple[Respond, Callable[[AsyncOpenRouter, Path], Awaitable[Iterable[ProvisionProblem]]]]
] = {
    "delivery._UNPROVEN": (service(POST=MADE_BY_ANOTHER_HASH), _mismatched),
    "delivery: could not be disabled": (
        service(
            POST=answer({"data": OURS | {"hash": HASH}, "key": SECRET}, status="201 Created"),
            PATCH=REFUSED,
        ),
        _mismatched,
    ),
    "making: refused": (service(POST=REFUSED), _refused),
    "run._try_to_look": (
        service(POST=LOST, LIST=[answer({"data": []})] + [REFUSED] * 99), _in_doubt,
    ),
    "retiring: its twin is not to be seen": (
        service(GET=[answer({"data": OLD})] + [REFUSED] * 9, POST=TWIN), _rotated,
    ),
    "retiring: its twin is another key": (service(GET=answer({"data": OLD}), POST=TWIN), _rotated),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
async def test_no_reason_of_a_report_steers_who_reads_it(
    name: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG, "openrouter_keys")
    respond, run = RUNS[name]
    with raw_server(respond) as server:
        async with AsyncOpenRouter("key", server_url=server.base_url) as client:
            client._transport.clockwork = JumpingTime().clockwork()
            reasons = [problem.reason for problem in await run(client, tmp_path)]
    assert reasons
    assert_escaped([*reasons, *caplog.messages])


# --- whatever comes next ---


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_every_error_and_every_reason_is_escaped(text: str, shown: str) -> None:
    for error in (errors.OpenRouterError, errors.SecretLostError, errors.ConflictResponseError):
        assert error(text).message == shown
        assert shown in str(error(text))
        assert error(text).args == (shown,)
    assert shown in str(errors.InvalidArgumentError(text, "name"))
    assert shown in str(errors.CreatedKeyUnreadableError(text, SECRET, HASH))
    assert ProvisionProblem(ref="a", reason=text).reason == shown


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_the_headers_of_an_error_are_escaped(text: str, shown: str) -> None:
    reply = Reply(400, CIMultiDict({"X-Trace": text}), b"")
    assert dict(reply.shown_headers()) == {"X-Trace": shown}


#: Each function that writes to the log, and why no text of an answer goes into it as it is: "" if
#: it is in the tables above.
WRITING = {
    "api_keys.take_back": "",
    "_transport.observing._report": "the library's own words, and what the user's function raised",
    "_transport.observing.pass_on": "in test_hostile_texts; or numbers, and the library's words",
    "applying.outcome.end": "what the user's own function raised",
    "applying.apply.report": "counts",
    "rotation.planning._look": "sums, and a hash, which is escaped",
    "lease._read_usage": "",
    "lease._warned": "",
    "operations._compare": "",
    "operations._log_mismatches": "names of fields, and a hash, which is escaped",
    "_inputs.options.warn_unencrypted": "what the user gave",
    "journal.journal._not_closed": "an error of the engine's",
    "journal.postgresql.opened": "the URL without its password",
    "provisioning.creator.make": "a ref, as the user gave it",
    "provisioning.run._try_to_look": "",
    "provisioning.run.report": "counts, and the journal's path",
    "provisioning.counters.report": "what the user's own function raised",
    "_reconcile.reconcile._unlisted": "hashes that were asked for, which nothing odd is",
    "_reconcile.reconcile.reconcile": "",
    "_reconcile.reconcile.removed": "",
    "_reconcile.single._look": "an error, which is escaped",
    "_reconcile.single.create": "counts",
    "_reconcile.single.settle": "a number",
    "_transport.transport._logged": "an error, which is escaped",
    "_transport.transport._undo": "",
}


def test_every_function_that_writes_to_the_log_is_known() -> None:
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if module.startswith(("cli.", "emulator.")):
            continue
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text if "_log." in text else "")):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _writes(node):
                found.add(f"{module}.{node.name}")
    assert found == {*WRITING}


def _writes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    calls = [ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
    return any(call.startswith("_log.") and call != "_log.isEnabledFor" for call in calls)
