"""Each fault of the emulator: what a client sees on the wire, and what becomes of the account."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import TypeAlias

import pytest
from attrs import frozen

from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.emulator.faults import Kind, Phase, strike
from tests.emulators import port_of
from tests.tables import in_one_test

SOON = 10.0  # seconds within which something comes; it takes a thousandth of one
SILENCE = 0.2  # seconds after which nothing is taken to come any more

Patience: TypeAlias = tuple[float, float]


@frozen
class Seen:
    """What came over the wire, and how it ended: "end", "reset" or "silence"."""

    raw: bytes
    ending: str

    @property
    def status(self) -> int | None:
        return int(self.raw[9:12]) if self.raw.startswith(b"HTTP/1.1 ") else None

    @property
    def headers(self) -> dict[str, str]:
        lines = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(": ") for line in lines)
        return {name.lower(): text for name, _, text in pairs}

    @property
    def body(self) -> bytes:
        """What there is of the body, whole or not."""
        raw = self.raw.partition(b"\r\n\r\n")[2]
        return b"".join(_chunks(raw)) if "transfer-encoding" in self.headers else raw

    @property
    def whole(self) -> bool:
        return self.raw.endswith(b"\r\n0\r\n\r\n")


def _chunks(raw: bytes) -> Iterator[bytes]:
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        yield raw[: int(size, 16)]
        raw = raw[int(size, 16) + 2 :]


async def exchange(
    emulator: Emulator,
    method: str,
    path: str,
    body: object = None,
    *,
    patience: Patience = (SOON, SOON),
) -> Seen:
    """Send one request and read until nothing more comes.

    Patience is for the first byte and for those after it.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(emulator))
    payload = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} /api/v1{path} HTTP/1.1\r\nHost: emulator\r\nConnection: close\r\n"
        f"Authorization: Bearer {emulator.api_key}\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    writer.write(head.encode() + payload)
    try:
        return await _read(reader, patience)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, patience: Patience) -> Seen:
    raw = b""
    try:
        while data := await asyncio.wait_for(reader.read(65536), patience[raw != b""]):
            raw += data
    except TimeoutError:
        return Seen(raw, "silence")
    except ConnectionResetError:
        return Seen(raw, "reset")
    return Seen(raw, "end")


async def create(emulator: Emulator, *, patience: Patience = (SOON, SOON)) -> Seen:
    return await exchange(emulator, "POST", "/keys", {"name": "x"}, patience=patience)


PHASES: list[Phase] = ["before", "after"]
# kind -> the status that is seen, whether the body is whole, how it ends
KINDS: dict[Kind, tuple[int | None, bool, str]] = {
    "status": (500, True, "end"),
    "closed": (None, False, "end"),
    "reset": (None, False, "reset"),
    "stalled": (None, False, "silence"),
    "stalled_body": (201, False, "silence"),
    "cut": (201, False, "end"),
    "reset_body": (201, False, "reset"),
    "garbage": (None, False, "end"),
    "not_json": (201, True, "end"),
    "empty": (201, True, "end"),
    "body": (201, True, "end"),
}


def patience_with(kind: Kind) -> Patience:
    return {"stalled": (SILENCE, SOON), "stalled_body": (SOON, SILENCE)}.get(kind, (SOON, SOON))


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_spoils_the_answer_and_applies_the_request_only_in_its_after_phase(
    emulator: Emulator, kind: Kind, phase: Phase
) -> None:
    emulator.faults.append(Fault("create", kind, phase=phase))

    seen = await create(emulator, patience=patience_with(kind))

    assert (seen.status, seen.whole, seen.ending) == KINDS[kind]
    assert len(emulator.account.keys) == (phase == "after")
    assert emulator.faults == []
    (request,) = emulator.requests
    assert (request.fault, request.applied) == (kind, phase == "after")
    assert request.status == seen.status
    assert request.hash == next(iter(emulator.account.keys), None)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_request_after_a_fault_is_answered(emulator: Emulator, kind: Kind) -> None:
    emulator.faults.append(Fault(kind=kind))
    await create(emulator, patience=patience_with(kind))

    seen = await create(emulator)

    assert (seen.status, seen.whole) == (201, True)
    assert len(emulator.account.keys) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut", "stalled_body", "reset_body"])
@pytest.mark.parametrize("portion", [0.0, 0.5, 0.9, 1.0])
async def test_a_body_breaks_off_where_the_fault_says(
    emulator: Emulator, kind: Kind, portion: float
) -> None:
    emulator.faults.append(Fault("create", kind, phase="after", portion=portion))

    seen = await create(emulator, patience=patience_with(kind))

    true = await exchange(emulator, "GET", f"/keys/{next(iter(emulator.account.keys))}")
    (key,) = emulator.account.keys.values()
    whole = true.body[:-1] + f',"key":"{key.secret}"}}'.encode()
    assert seen.body == whole[: int(len(whole) * portion)]
    assert "content-length" not in seen.headers
    assert "date" in seen.headers


async def test_a_cut_body_is_the_first_half_of_the_true_one(emulator: Emulator) -> None:
    emulator.faults.append(Fault("create", "cut", phase="after"))

    seen = await create(emulator)

    (key,) = emulator.account.keys.values()
    assert seen.body.startswith(f'{{"data":{{"hash":"{key.hash}"'.encode())
    assert seen.headers.keys() == {"content-type", "date", "connection"}


async def test_a_spoiled_answer_is_html_or_nothing_or_what_the_test_says(
    emulator: Emulator,
) -> None:
    emulator.faults += [
        Fault(kind="not_json", phase="after"),
        Fault(kind="not_json", body=b"<oops"),
        Fault(kind="empty", phase="after"),
        Fault(kind="body", phase="after", body=b'{"data": {"key": "here"}}'),
    ]

    html, oops, nothing, given = [await create(emulator) for _ in range(4)]

    assert html.body.startswith(b"<!DOCTYPE html>")
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    assert oops.body == b"<oops"
    assert nothing.body == b""
    assert given.body == b'{"data": {"key": "here"}}'
    assert given.headers["content-type"] == "application/json"


STATUSES: list[tuple[int, dict[str, object]]] = [
    (400, {"code": 400, "message": "Bad Request"}),
    (401, {"code": 401, "message": "User not found."}),
    (403, {"code": 403, "message": "Only management keys can perform this operation"}),
    (404, {"code": 404, "message": "Resource not found"}),
    (
        429,
        {
            "code": 429,
            "message": "Rate limit exceeded",
            "metadata": {"error_type": "rate_limit_exceeded"},
        },
    ),
    (502, {"code": 502, "message": "Bad Gateway"}),
    (522, {"code": 522, "message": "Error 522"}),
]


@pytest.mark.parametrize(("status", "error"), STATUSES)
async def test_a_status_has_the_services_usual_error_for_a_body(
    emulator: Emulator, status: int, error: dict[str, object]
) -> None:
    emulator.faults.append(Fault("list", status=status))

    seen = await exchange(emulator, "GET", "/keys")

    assert seen.status == status
    assert json.loads(seen.body) == {"error": error}


async def test_a_status_can_have_any_headers_and_body(emulator: Emulator) -> None:
    headers = {"content-type": "text/plain", "Retry-After": "7"}
    emulator.faults.append(Fault(status=503, headers=headers, body=b"no"))

    seen = await exchange(emulator, "GET", "/keys")

    assert seen.body == b"no"
    assert seen.headers["retry-after"] == "7"
    assert seen.raw.lower().count(b"content-type") == 1
    assert seen.headers["content-type"] == "text/plain"


async def test_another_success_status_keeps_the_true_body(emulator: Emulator) -> None:
    emulator.faults.append(Fault("create", phase="after", status=200))

    seen = await create(emulator)

    (key,) = emulator.account.keys.values()
    assert seen.status == 200
    assert json.loads(seen.body)["key"] == key.secret


async def test_a_success_can_have_another_body(emulator: Emulator) -> None:
    emulator.faults.append(Fault("create", phase="after", status=202, body=b'{"queued":true}'))

    seen = await create(emulator)

    assert (seen.status, seen.body) == (202, b'{"queued":true}')
    assert len(emulator.account.keys) == 1


async def test_a_204_has_no_body(emulator: Emulator) -> None:
    key = emulator.account.add()
    emulator.faults.append(Fault("delete", phase="after", status=204))

    seen = await exchange(emulator, "DELETE", f"/keys/{key.hash}")

    assert (seen.status, seen.body, seen.ending) == (204, b"", "end")
    assert emulator.account.keys == {}


async def test_a_refusal_can_be_spoiled_too(emulator: Emulator) -> None:
    emulator.faults.append(Fault("get", "cut", phase="after"))

    seen = await exchange(emulator, "GET", "/keys/none")

    assert seen.status == 404
    assert seen.body.startswith(b'{"error"')
    assert not emulator.requests[0].applied


async def settled(emulator: Emulator) -> None:
    """Wait until the last request has been applied."""
    async with asyncio.timeout(5):
        while not emulator.requests[-1].applied:
            await asyncio.sleep(0.001)


@pytest.mark.slow
async def test_a_late_request_lands_after_its_client_has_gone(emulator: Emulator) -> None:
    emulator.faults.append(Fault("create", "late", delay=0.5))
    started = time.monotonic()

    seen = await create(emulator)
    keys_then = len(emulator.account.keys)
    await settled(emulator)

    assert (seen.raw, seen.ending) == (b"", "end")
    assert keys_then == 0
    assert len(emulator.account.keys) == 1
    assert time.monotonic() - started >= 0.5
    assert emulator.requests[0].status is None


async def test_a_late_request_does_not_land_in_a_stopped_emulator() -> None:
    emulator = Emulator(faults=[Fault("create", "late", delay=60)])
    async with emulator:
        await create(emulator)

    assert emulator.account.keys == {}
    assert not emulator.requests[0].applied


@pytest.mark.parametrize("phase", PHASES)
async def test_a_slow_answer_is_right_in_the_end(emulator: Emulator, phase: Phase) -> None:
    emulator.faults.append(Fault("create", "slow", phase=phase, delay=0.1))
    started = time.monotonic()

    seen = await create(emulator)

    assert (seen.status, seen.whole) == (201, True)
    assert len(emulator.account.keys) == 1
    assert time.monotonic() - started >= 0.1


@pytest.mark.slow
async def test_a_slow_request_is_applied_before_or_after_the_wait(emulator: Emulator) -> None:
    emulator.faults += [
        Fault("create", "slow", phase="after", delay=60),
        Fault("create", "slow", phase="before", delay=60),
    ]

    for _ in range(2):
        seen = await create(emulator, patience=(SILENCE, SOON))
        assert (seen.raw, seen.ending) == (b"", "silence")

    assert [request.applied for request in emulator.requests] == [True, False]


async def test_a_slow_request_lands_without_its_client(emulator: Emulator) -> None:
    emulator.faults.append(Fault("create", "slow", delay=0.3))

    seen = await create(emulator, patience=(0.05, SOON))
    await settled(emulator)

    assert (seen.raw, seen.ending) == (b"", "silence")
    assert len(emulator.account.keys) == 1


# which fault strikes


def kinds(faults: list[Fault], operations: list[str], seed: int = 0) -> list[str | None]:
    chance = Random(seed)
    struck = [strike(faults, operation, chance) for operation in operations]
    return [fault.kind if fault else None for fault in struck]


RESET, CLOSED = Fault(kind="reset"), Fault(kind="closed")
ENDLESS = Fault(kind="reset", times=None)
NEVER = Fault(kind="reset", probability=0)
# faults, operations -> which strikes each, which are left
STRIKES: dict[str, tuple[list[Fault], list[str], list[str | None], list[Fault]]] = {
    "its operation, once": (
        [Fault("create", "reset")], ["list", "create", "create"], [None, "reset", None], [],
    ),
    "any operation": ([RESET], ["current", "list"], ["reset", None], []),
    "in their order, as often as they say": (
        [Fault(kind="reset", times=2), CLOSED], ["list"] * 4,
        ["reset", "reset", "closed", None], [],
    ),
    "without an end": ([ENDLESS], ["list"] * 50, ["reset"] * 50, [ENDLESS]),
    "after what it lets pass, whoever is struck meanwhile": (
        [RESET, Fault("list", "closed", skip=2)], ["list", "get", "list", "list"],
        ["reset", None, None, "closed"], [],
    ),
    "the same several times": ([RESET] * 2, ["list"] * 3, ["reset", "reset", None], []),
    "not by no probability, which hides no other": (
        [NEVER, CLOSED], ["list", "list"], ["closed", None], [NEVER],
    ),
}  # fmt: skip


@in_one_test("faults, operations, struck, left", STRIKES.values(), ids=STRIKES)
def test_which_fault_strikes(
    faults: list[Fault], operations: list[str], struck: list[str | None], left: list[Fault]
) -> None:
    held = [*faults]
    assert kinds(held, operations) == struck
    assert held == left


def test_a_fault_is_not_changed_by_striking() -> None:
    fault = Fault(kind="reset", times=2, skip=1)

    kinds([fault], ["list"] * 3)

    assert (fault.times, fault.skip) == (2, 1)


def test_chance_is_seeded_and_passing_uses_nothing_up() -> None:
    def drawn(seed: int) -> list[str | None]:
        return kinds([Fault(kind="reset", times=20, probability=0.3)], ["list"] * 200, seed)

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1).count("reset") == 20
    assert None in drawn(1)[:20]


@pytest.mark.parametrize("wrong", ["operation", "kind", "phase"])
def test_a_fault_with_a_word_that_does_not_exist_is_refused(wrong: str) -> None:
    words = {"operation": "list", "kind": "reset", "phase": "after", wrong: "nonsense"}

    with pytest.raises(ValueError, match="nonsense"):
        Fault(**words)  # type: ignore[arg-type]  # that is the test


@pytest.mark.slow
async def test_an_emulators_chance_is_seeded() -> None:
    async def statuses(seed: int) -> list[int | None]:
        fault = Fault("list", probability=0.5, times=None)
        async with Emulator(faults=[fault], seed=seed) as emulator:
            return [(await exchange(emulator, "GET", "/keys")).status for _ in range(20)]

    assert await statuses(1) == await statuses(1) != await statuses(2)
