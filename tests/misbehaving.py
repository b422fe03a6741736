"""A service of raw sockets that misbehaves as it is told to; it shares no code with the emulator.

It keeps keys as the service's own JSON records, oldest first, and answers the six operations. What
it does wrong are its public attributes: set one, and from the next request on it holds.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import sha256
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

from attrs import Factory, define, field, frozen

Record: TypeAlias = dict[str, Any]
#: What becomes of a create: the key is made and told; made, and the answer is lost; made, and
#: answered with a status; or not made. "late" is made by `land`, after its connection was closed.
Outcome: TypeAlias = Literal["told", "lost", "made 502", "502", "closed", "late"]

_MONEY = ("usage", "byok_usage")
_PERIODS = ("", "_daily", "_weekly", "_monthly")
PAGE = 100


@frozen
class Asked:
    """A request that came."""

    method: str
    path: str
    query: dict[str, str]
    body: Record
    headers: dict[str, str] = Factory(dict[str, str])


@frozen
class Answer:
    """What is sent back; None instead of one: the connection is closed without a word."""

    status: int
    body: object
    headers: dict[str, str] = Factory(dict[str, str])
    closes: bool = False


@frozen
class Silence:
    """Nothing is sent back until the client goes away; then this is called."""

    then: Callable[[], object]


def hash_of(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)


async def _at_once(_: Asked) -> None:
    pass


def _date(now: datetime) -> str | None:
    return format_datetime(now, usegmt=True)


def _page(keys: list[Record], offset: int) -> list[Record]:
    return keys[offset : offset + PAGE]


def refused(status: int, message: str = "no") -> Answer:
    return Answer(status, {"error": {"code": status, "message": message}})


@define(eq=False, kw_only=True)
class Misbehaving:
    """The service.

    Attributes:
        now: its clock, by which it writes `created_at` and `Date`.
        keys: what it holds, oldest first.
        outcomes: of the creates to come; then all are told.
        asked: the requests so far.
        date: the `Date` header of an answer made at a time; None: it has none.
        stamp: how it writes down when a key is made.
        name: how it writes down a name.
        claim: the hash that a create's answer tells, of the one that the key has.
        shown: what a create's answer tells of the record.
        page: which keys a list answers, of all of a workspace, newest first, and the offset; an
            `Answer` in their place is sent as it is.
        answer: called with each request before anything else; what it returns is the answer.
        pause: awaited when a request is done, and before it is answered.
        dawdle: awaited between the headers of an answer and its body.
    """

    now: Callable[[], datetime] = _now
    keys: list[Record] = Factory(list[Record])
    outcomes: deque[Outcome] = Factory(deque[Outcome])
    asked: list[Asked] = Factory(list[Asked])
    date: Callable[[datetime], str | None] = _date
    stamp: Callable[[datetime], datetime] = lambda now: now
    name: Callable[[str], str] = lambda name: name
    claim: Callable[[str], str] = lambda own: own
    shown: Callable[[Record], Record] = lambda record: record
    page: Callable[[list[Record], int], Sequence[Record] | Answer] = _page
    answer: Callable[[Asked], Answer | None] = lambda _: None
    pause: Callable[[Asked], Awaitable[object]] = _at_once
    dawdle: Callable[[Asked], Awaitable[object]] = _at_once
    url: str = ""
    _late: list[Record] = field(init=False, factory=list[Record])
    _made: int = field(init=False, default=0)
    _seed: str = field(init=False, factory=lambda: uuid4().hex)

    # --- what a test does by itself ---

    def add(self, name: str, **fields: Any) -> Record:
        """Make a key by hand."""
        record = self._record({"name": name, **fields})
        self.keys.append(record)
        return record

    def land(self) -> None:
        """Make the keys whose creates are late."""
        for record in self._late:
            self.keys.append(record | {"created_at": _text(self.stamp(self.now()))})
        self._late.clear()

    @property
    def hashes(self) -> set[str]:
        return {record["hash"] for record in self.keys}

    def count(self, method: str) -> int:
        return sum(asked.method == method for asked in self.asked)

    # --- the operations ---

    def _answer(self, asked: Asked) -> Answer | Silence | None:
        if (told := self.answer(asked)) is not None:
            return told
        hash = asked.path.rpartition("/keys/")[2] if "/keys/" in asked.path else None
        if hash is not None:
            return self._of_one(asked, hash)
        return self._create(asked.body) if asked.method == "POST" else self._list(asked.query)

    def _list(self, query: dict[str, str]) -> Answer:
        of = query.get("workspace_id")
        found = [key for key in reversed(self.keys) if key["workspace_id"] == (of or "default")]
        page = self.page(found, int(query.get("offset", 0)))
        return page if isinstance(page, Answer) else Answer(200, {"data": [*page]})

    def _of_one(self, asked: Asked, hash: str) -> Answer:
        record = next((key for key in self.keys if key["hash"] == hash), None)
        if record is None:
            return refused(404, "Resource not found")
        if asked.method == "DELETE":
            self.keys.remove(record)
            return Answer(200, {"deleted": True})
        record.update(asked.body)
        return Answer(200, {"data": record})

    def _create(self, body: Record) -> Answer | None:
        outcome = self.outcomes.popleft() if self.outcomes else "told"
        record = self._record(body)
        if outcome == "late":
            self._late.append(record)
        if outcome in ("told", "lost", "made 502"):
            self.keys.append(record)
        if outcome in ("502", "made 502"):
            return refused(502)
        if outcome != "told":
            return None
        told = self.shown({**record, "hash": self.claim(record["hash"])})
        return Answer(201, {"data": told, "key": self._secret()})

    def _secret(self) -> str:
        return f"sk-or-v1-{self._seed}{self._made:032x}"

    def _record(self, fields: Record) -> Record:
        self._made += 1
        external = fields.pop("external", None)
        return {
            "hash": hash_of(self._secret()),
            "label": "sk-or-v1-000...0000",
            "disabled": False,
            "limit": None,
            "limit_remaining": fields.get("limit"),
            "limit_reset": None,
            "include_byok_in_limit": False,
            **{f"{kind}{period}": 0 for kind in _MONEY for period in _PERIODS},
            "created_at": _text(self.stamp(self.now())),
            "updated_at": None,
            "expires_at": None,
            "workspace_id": "default",
            "external_user": None if external is None else external["user"],
            **fields,
            "name": self.name(fields["name"]),
        }

    # --- the wire ---

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection."""
        try:
            while (asked := await _request(reader)) is not None:
                self.asked.append(asked)
                answer = self._answer(asked)
                await self.pause(asked)
                if isinstance(answer, Silence):
                    with suppress(ConnectionError):
                        await reader.read()
                    answer.then()
                    break
                if answer is None:
                    break
                head, blank, body = self._bytes(answer).partition(b"\r\n\r\n")
                writer.write(head + blank)
                await self.dawdle(asked)
                writer.write(body)
                await writer.drain()
                if answer.closes:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _bytes(self, answer: Answer) -> bytes:
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        date = self.date(self.now())
        dated = {} if date is None else {"Date": date}
        headers = {"Content-Length": str(len(body)), **dated, **answer.headers}
        first = f"HTTP/1.1 {answer.status} Told"
        lines = [first, *(f"{name}: {text}" for name, text in headers.items()), "", ""]
        return "\r\n".join(lines).encode() + body


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


async def _request(reader: asyncio.StreamReader) -> Asked | None:
    line = (await reader.readline()).decode()
    if not line:
        return None
    method, target, _ = line.split()
    headers: dict[str, str] = {}
    while header := (await reader.readline()).decode().strip():
        name, _, text = header.partition(":")
        headers[name.lower()] = text.strip()
    length = int(headers.get("content-length", 0))
    body: Record = json.loads(await reader.readexactly(length)) if length else {}
    url = urlsplit(target)
    return Asked(method, url.path, dict(parse_qsl(url.query)), body, headers)


@asynccontextmanager
async def misbehaving(**given: Any) -> AsyncGenerator[Misbehaving, None]:
    """A service that answers at its `url`; see `Misbehaving` for what can be given."""
    service = Misbehaving(**given)
    async with served(service):
        yield service


@asynccontextmanager
async def served(service: Misbehaving) -> AsyncGenerator[None, None]:
    """Let a service answer at its `url`."""
    serving: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(service.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"
    try:
        yield
    finally:
        server.close()
        for task in [*serving]:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
