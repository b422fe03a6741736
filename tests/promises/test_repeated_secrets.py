"""An answer may repeat a secret anywhere: none reaches a record or a journal."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrouter_keys import AsyncOpenRouter, KeySpec, ProvisionResult
from openrouter_keys._base.scrubbing import LEAST, count, masked
from openrouter_keys.converter import parse, unstructure
from openrouter_keys.errors import JSON
from openrouter_keys.journal.journal import Journal
from tests.journals import written
from tests.misbehaving import Answer, Asked, Misbehaving, misbehaving
from tests.promises.test_secrets import MANAGEMENT, PARTNER
from tests.provisions import JumpingTime
from tests.records import SECRET, current_json, patient

EXTERNAL = {"user": "acme-7", "api_key": PARTNER}
PLACES: dict[str, Callable[[str], JSON]] = {
    "alone": lambda secret: secret,
    "in a URL": lambda secret: f"https://example.com/?key={secret}&more",
    "in a command": lambda secret: f"curl -H 'Authorization: Bearer {secret}'",
    "twice": lambda secret: f"{secret} {secret}",
    "beside what is escaped": lambda secret: f'"\\\n\u00e9\U0001f511{secret}"\\',
    "in JSON in a text": lambda secret: json.dumps({"key": secret, "say": '"'}),
    "as a name": lambda secret: {secret: 1},
    "in a name": lambda secret: {f"key {secret}": None},
    "deep in lists": lambda secret: [[[{"api_key": [secret]}]]],
    "as the key's own field": lambda secret: {"key": secret},
}


def _escaped(secret: str) -> str:
    return "".join(f"\\u{ord(each):04X}" for each in secret)


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "its first character escaped": lambda secret: _escaped(secret[0]) + secret[1:],
    "its last character escaped": lambda secret: secret[:-1] + _escaped(secret[-1]),
    "escaped": _escaped,
}


def everywhere(*secrets: str) -> dict[str, JSON]:
    """Members that have each secret in each place."""
    found: dict[str, JSON] = {}
    for number, secret in enumerate(secrets):
        found |= {f"{number}: {place}": make(secret) for place, make in PLACES.items()}
    return found


def wire(value: JSON, form: str, *secrets: str, encoding: str = "utf-8") -> bytes:
    text = json.dumps(value)
    for secret in secrets:
        text = text.replace(secret, FORMS[form](secret))
    return text.encode(encoding)


class Repeating:
    """A service whose answers repeat what they should not."""

    def __init__(self, service: Misbehaving) -> None:
        self.service = service
        self.form, self.encoding = "as it is", "utf-8"
        self.made: list[str] = []
        service.answer = self.answer

    def answer(self, asked: Asked) -> Answer:
        sent = (MANAGEMENT, *([PARTNER] if asked.method == "POST" else []))
        if asked.method == "POST":
            record = self.service.add(**asked.body)
            secret = self.service._secret()
            self.made.append(secret)
            value: Any = {
                "data": {"request": {"external": EXTERNAL}, **record, **everywhere(*sent, secret)},
                "url": f"https://example.com/{secret}",
            }
            raw = wire(value, self.form, *sent, secret, encoding=self.encoding)
            # The secret itself, where it belongs.
            start, end = (each.encode(self.encoding) for each in ("{", f', "key": "{secret}"}}'))
            raw = start + raw.removeprefix(start)[: -len("}".encode(self.encoding))] + end
            return Answer(201, raw)
        rows = [key | everywhere(*sent) for key in self.service.keys]
        if asked.path.endswith("/key"):
            value = {"data": current_json(**everywhere(*sent))}
        elif asked.method == "DELETE":
            value = {"deleted": True}
        else:
            value = {"data": rows[0] if "/keys/" in asked.path else rows}
        value |= everywhere(*sent)
        return Answer(200, wire(value, self.form, *sent, encoding=self.encoding))


@pytest.fixture
async def repeating() -> AsyncIterator[Repeating]:
    async with misbehaving() as service:
        yield Repeating(service)


@pytest.fixture
async def client(repeating: Repeating) -> AsyncIterator[AsyncOpenRouter]:
    time = JumpingTime()
    async with AsyncOpenRouter(MANAGEMENT, server_url=repeating.service.url) as client:
        client._transport.clockwork = time.clockwork()
        yield client


def holding(value: JSON, *secrets: str) -> list[str]:
    """What of an answer has a secret in it."""
    assert isinstance(value, dict)
    data = value.get("data")
    inner = data if isinstance(data, dict) else {}
    found = [*value.items(), *inner.items()]
    found = [(name, each) for name, each in found if each is not data]
    return [name for name, each in found if any(secret in str(each) for secret in secrets)]


@pytest.mark.parametrize("form", FORMS)
async def test_a_create_has_its_secret_in_one_place(
    form: str, repeating: Repeating, client: AsyncOpenRouter
) -> None:
    repeating.form = form
    external: Any = EXTERNAL
    created = await client.api_keys.create(name="customer-42", limit=5, external=external)
    secret = repeating.made[0]
    told = unstructure(created)
    assert isinstance(told, dict)
    assert (created.key, told.pop("key")) == (secret, secret)
    assert (created.data.name, created.data.limit) == ("customer-42", 5)
    assert len(created.data.extra) >= 3 * len(PLACES)
    assert holding(told, secret, MANAGEMENT, PARTNER) == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-8-sig"])
async def test_no_encoding_hides_a_secret(
    encoding: str, repeating: Repeating, client: AsyncOpenRouter
) -> None:
    repeating.service.add("old")
    repeating.encoding = encoding
    read = await client.api_keys.list()
    assert len(read.data[0].extra) == len(PLACES)
    assert MANAGEMENT not in str(unstructure(read))


OPERATIONS: dict[str, Callable[[AsyncOpenRouter, str], Awaitable[object]]] = {
    "list": lambda client, _: client.api_keys.list(),
    "get": lambda client, one: client.api_keys.get(one),
    "update": lambda client, one: client.api_keys.update(one, limit=5),
    "delete": lambda client, one: client.api_keys.delete(one),
    "current": lambda client, _: client.api_keys.get_current_key_metadata(),
}


@pytest.mark.parametrize("form", FORMS)
async def test_no_answer_shows_the_management_key(
    form: str, repeating: Repeating, client: AsyncOpenRouter
) -> None:
    hash = repeating.service.add("old", limit=5)["hash"]
    repeating.form = form
    for name, call in OPERATIONS.items():
        read: Any = await call(client, hash)
        assert len(read.extra) == len(PLACES), name
        assert MANAGEMENT not in str(unstructure(read)), name


@pytest.mark.parametrize("mode", ["stored", "not stored", "sealed"])
@pytest.mark.parametrize("form", ["as it is", "escaped"])
async def test_a_journal_has_no_secret_but_where_it_keeps_them(
    form: str, mode: str, repeating: Repeating, client: AsyncOpenRouter, tmp_path: Path
) -> None:
    repeating.form = form
    path, taken = tmp_path / "journal", list[ProvisionResult]()
    given: dict[str, Any] = {"store_secrets": mode != "not stored"}
    if mode == "sealed":
        pyrage = pytest.importorskip("pyrage")
        given = {"recipient": str(pyrage.x25519.Identity.generate().to_public())}
    specs = [
        KeySpec(ref=str(each), name=f"n{each}", limit=5, external=EXTERNAL)  # type: ignore[arg-type]
        for each in range(2)
    ]
    report = await client.provision(specs, journal=path, on_result=taken.append, **given)
    assert (report.ok, report.created) == (True, 2)
    assert sorted(each.key for each in taken) == sorted(repeating.made)
    for each in taken:
        shown = str(unstructure(each.data)) + repr(each)
        assert not any(secret in shown for secret in (*repeating.made, PARTNER, MANAGEMENT))
    # What stands in the column `secret` is beside the record.
    stored = written(path)
    assert PARTNER.encode() not in stored
    assert MANAGEMENT.encode() not in stored
    await Journal.purge(path)
    assert not any(secret.encode() in written(path) for secret in repeating.made)


# --- the masking itself ---


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": {"name": "say \\"hello\\" \\u00e9 \\/ \\\\ \\ud83d\\udd11", "limit": 1e400}}',
        b'{"data": {"name": "half a pair: \\ud800"}}',
        b'{"key": "env", "key": "short", "data": ["short"]}',
        '{"name": "\u65e5\u672c"}'.encode("utf-16"),
        b'{"cut": "sh',
        b"<html>",
        b"",
    ],
)
def test_an_answer_without_a_secret_is_left_as_it_is(body: bytes) -> None:
    assert masked(body, ["short", MANAGEMENT, "k" * LEAST]) is body


def test_all_but_the_secret_stays_as_it_is() -> None:
    body = b'{"a": 1e400, "b": "%s", "n": 123456789012345678901234567890, "b": "\\ud800"} x'
    told = masked(body % MANAGEMENT.encode(), [MANAGEMENT])
    assert told == body % b"..."


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["customer", "\u65e5\u672c" * 200])
def test_no_encoding_hides_a_secret_among_other_letters(encoding: str, name: str) -> None:
    body = json.dumps({"note": MANAGEMENT, "name": name}, ensure_ascii=False).encode(encoding)
    assert parse(masked(body, [MANAGEMENT])) == {"note": "...", "name": name}


VALUES: st.SearchStrategy[JSON] = st.recursive(
    st.none() | st.text(max_size=9) | st.sampled_from([SECRET, f"x{SECRET}", f'"{SECRET}\\']),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.just(SECRET), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(patient, max_examples=60)
@given(VALUES, st.booleans(), st.sampled_from([*FORMS]), st.sampled_from(["utf-8", "utf-16"]))
def test_whatever_is_repeated_is_masked_and_nothing_else(
    value: JSON, ascii_only: bool, form: str, encoding: str
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).replace(SECRET, FORMS[form](SECRET))
    body = text.encode(encoding, "surrogatepass")
    plain = json.dumps(value, ensure_ascii=False)
    assert count(body, SECRET) == plain.count(SECRET)
    told = parse(masked(body, [SECRET]))
    assert SECRET not in json.dumps(told, ensure_ascii=False)
    assert told == json.loads(plain.replace(SECRET, "sk-or-v1-fa4...fa4e"))
