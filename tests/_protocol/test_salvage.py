"""Which text of a create's answer is its secret: the right one, or none."""

import json
import time
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrouter_keys import operations
from openrouter_keys._protocol.salvage import MOST, salvage
from openrouter_keys.errors import JSON, CreatedKeyUnreadableError, SecretLostError
from openrouter_keys.models import CreateKeysRequest
from tests.records import HASH, SECRET, answer, key_json, patient
from tests.tables import in_one_test

OTHER = "sk-or-v1-" + "0b" * 32
NEW_FORM = "or.key." + "Zz9-" * 6
REQUEST = CreateKeysRequest(name="customer-42")


def handed_over(raw: bytes) -> str | None:
    """The secret that a create hands over, in its answer or in its error."""
    try:
        return operations.create(REQUEST).read(answer(raw, 201)).key
    except CreatedKeyUnreadableError as error:
        return error.key
    except SecretLostError:
        return None


def text(value: JSON) -> bytes:
    return json.dumps(value).encode()


def cut(value: JSON, after: str) -> bytes:
    """A body that ends right behind a text."""
    raw = text(value)
    return raw[: raw.rindex(after.encode()) + len(after)]


TAGS: JSON = [{"key": "env", "value": "prod"}]
TAGGED: JSON = {"data": {"tags": TAGS, **key_json()}, "key": SECRET}
OF_ANOTHER = key_json(hash="f01d52606dc8f0a8")

FOUND: dict[str, bytes] = {
    "cut behind the secret": cut(TAGGED, f'"{SECRET}"'),
    "cut, the secret first": cut({"key": SECRET, "data": key_json()}, '"data": '),
    "cut, in data": cut({"data": {**OF_ANOTHER, "key": SECRET, "z": 1}}, '"z"'),
    "cut, of another form": cut({"meta": {"key": "env"}, "key": SECRET, "z": 1}, '"z"'),
    "cut, twice the same": cut({"key": SECRET, "data": {"key": SECRET}, "z": 1}, '"z"'),
    "cut, another key of the documented form inside": cut(
        {"data": {"parent": {"key": OTHER}}, "key": SECRET, "z": 1}, '"z"'
    ),
    "cut, its name escaped": rb'{"\u006bey": "' + SECRET.encode() + b'", "da',
    "cut, itself escaped": b'{"data": {"key": "x"}, "key": "\\u0073' + SECRET[1:].encode() + b'", ',
    "cut, in another encoding": cut(TAGGED, SECRET + '"').decode().encode("utf-16"),
    "cut, behind a zero": b"\0" + cut(TAGGED, SECRET + '"'),
    "cut, behind three zeros": b"\0\0\0" + cut(TAGGED, SECRET + '"'),
    "cut, a byte order mark first": b"\xef\xbb\xbf" + cut(TAGGED, SECRET + '"'),
    "beside another text, proven by its hash": text(
        {"data": key_json(), "key": "env", "s": SECRET}
    ),
    "under another name": text({"data": key_json(secret=SECRET)}),
    "in an object": text({"data": key_json(), "key": {"value": SECRET}}),
    "in a list": text({"data": key_json(), "key": ["env", SECRET]}),
    "the whole answer in an envelope": text({"result": {"data": key_json(), "key": SECRET}}),
    "twice, the second empty": b'{"key": "%s", "key": ""}' % SECRET.encode(),
    "twice, the last another text": b'{"key": "%s", "key": "e", "data": {"hash": "%s"}}'
    % (SECRET.encode(), HASH.encode()),
    "two candidates, one of the documented form": text({"data": {"key": "a"}, "key": SECRET}),
    "JSON, garbled before it": b'{"a": 1 2, {"b": ["key": "%s"' % SECRET.encode(),
}
NOT_FOUND: dict[str, bytes] = {
    "cut before it": cut(TAGGED, '"prod"}]'),
    "cut inside it": cut(TAGGED, SECRET[:40]),
    "cut, a short text in its place": b'{"key": "env", "data": {',
    "cut, a text with spaces in its place": b'{"key": "the key will be sent by mail", "data": {',
    "cut, a documented form deeper inside": cut({"tags": [{"key": OTHER}], "z": 1}, '"z"'),
    "cut, a member's name": b'{"data": {"name": "n"}, "%s": 1, ' % SECRET.encode(),
    "two candidates": text({"data": {"key": "a" * 20}, "key": "b" * 20}),
    "two of the documented form": text({"data": {"key": OTHER}, "key": SECRET}),
    "the same member twice": b'{"key": "%s", "key": "%s"}' % (SECRET.encode(), OTHER.encode()),
    "elsewhere, of another hash": text({"data": OF_ANOTHER, "tags": [{"key": SECRET}]}),
    "an object in its place": text({"data": OF_ANOTHER, "key": {"key": SECRET}}),
    "HTML": b"<html><a key='env' title=\"key\">",
}
KEPT: dict[str, bytes] = {
    "of another form, whole": text({"data": OF_ANOTHER, "key": NEW_FORM}),
    "of another form, cut": cut({"data": OF_ANOTHER, "key": NEW_FORM, "z": 1}, '"z"'),
    "of another form, cut, in data": cut({"data": {"key": NEW_FORM, "z": 1}}, '"z"'),
}


@in_one_test("raw", FOUND.values(), ids=FOUND)
def test_the_secret_is_handed_over(raw: bytes) -> None:
    assert handed_over(raw) == SECRET


@in_one_test("raw", NOT_FOUND.values(), ids=NOT_FOUND)
def test_a_text_that_nothing_proves_is_not_handed_over(raw: bytes) -> None:
    with pytest.raises(SecretLostError) as raised:
        operations.create(REQUEST).read(answer(raw, 201))
    shown = str(raised.value) + repr(vars(raised.value))
    assert not any(text in shown for text in ("env", OTHER, SECRET, SECRET[:40], "aaaa"))


REDACTED = (
    "sk-or-v1-328...cfab",
    "sk-or-v1-328\u2026cfab",
    "sk-or-v1-3..b",
    "sk-or-v1-" + "*" * 64,
    "sk-or-v1-****************cfab",
    "\u2022" * 20,
    "sk-or-v1-" + "x" * 64,
    "sk-or-v1-XXXXXXXXXXXXXXXXXXXX",
    "[REDACTED]",
    "<hidden by the proxy>",
    "__Filtered__secret__",
    "redacted-by-dlp-7f3a",
    "fa4e-as-the-label-has-it",
    # None of these is marked as redacted by its form: only the hash says that it is no secret.
    "sk-or-v1-XXXXXXXX1c96",
    "xxxx1c96",
    "sk-or-v1-0e6---1c96",
    "sha256:" + "0e" * 32,
    "vault:secret/openrouter/1c96",
    "REMOVED",
    "omitted",
    "-",
    "n/a",
    "null",
    "secret",
    "see the vault",
    "op://vault/openrouter/key",
    "sk-or-v1-0e6",
    "sk-or-v1-" + "0E" * 32,
    "sk-or-v1-" + "0e" * 31,
    "sk-or-v1-" + "0" * 64,
    "0e" * 32,
    "ENC[AES256,data:p673w==]",
    "{{ secret }}",
    "$2b$12$abcdefghijklmnopqrstuv",
)


@in_one_test("shown", REDACTED)
def test_a_redacted_text_is_no_secret(shown: str) -> None:
    data = key_json(label="fa4e-as-the-label-has-it", hash="cd" * 32)
    bodies: list[JSON] = [{"data": data, "key": shown}, {"data": {**data, "key": shown}}]
    for body in bodies:
        for raw in (text(body), json.dumps(body, ensure_ascii=False).encode()):
            with pytest.raises(SecretLostError) as raised:
                operations.create(REQUEST).read(answer(raw, 201))
            assert raised.value.hash == "cd" * 32
            assert "looks redacted or made up (docs/testing.md)" in str(raised.value)
            assert repr(shown) not in repr(vars(raised.value))
    # Its hash would prove the strangest one, and a redacted copy beside the secret does no harm.
    proven = key_json(hash=sha256(shown.encode()).hexdigest())
    assert handed_over(text({"data": proven, "key": shown})) == shown
    assert handed_over(text({"data": {**data, "key": shown}, "key": SECRET})) == SECRET


#: Of tests that make up a service of their own: the first ones are refused, with the reason.
MADE_UP = {
    "sk-or-v1-" + "x" * 64: False,
    "sk-or-v1-test-000000000000": False,
    "sk-or-v1-...abc": False,
    "sk-or-v1-masked": False,
    "sk-or-v1-fake": True,
    "sk-or-v1-test-1": True,
    "sk-or-v1-" + "0" * 64: True,
    "sk-or-v1-" + "5a" * 32: True,
    "sk-or-v1-" + sha256(b"customer-42").hexdigest(): True,
}


@in_one_test("secret, taken", MADE_UP.items())
def test_a_made_up_secret_is_taken_or_the_error_says_how_one_must_look(
    secret: str, taken: bool
) -> None:
    raw = text({"data": key_json(hash="h1"), "key": secret})
    if taken:
        assert handed_over(raw) == secret
        return
    with pytest.raises(SecretLostError, match=r"looks redacted or made up \(docs/testing.md\)"):
        operations.create(REQUEST).read(answer(raw, 201))


def test_an_answer_without_a_secret_is_not_called_redacted() -> None:
    data = key_json()
    bodies: list[JSON] = [{"data": data}, {"data": data, "key": ""}, {"data": {"key": None}}]
    for body in bodies:
        with pytest.raises(SecretLostError, match="does not hold its secret"):
            operations.create(REQUEST).read(answer(text(body), 201))


def test_a_hash_in_capitals_proves_a_secret_of_any_form() -> None:
    proven = key_json(hash=sha256(NEW_FORM.encode()).hexdigest().upper())
    assert handed_over(text({"data": proven, "key": NEW_FORM})) == NEW_FORM


@pytest.mark.parametrize("hash", ["h-1", "f01d52606dc8f0a8", "", None])
def test_without_a_hash_to_prove_it_a_plain_word_for_nothing_is_no_secret(hash: JSON) -> None:
    for shown in ("sk-or-v1-XXXXXXXX1c96", "sha256:0e", "vault:secret/1c96", "REMOVED", "-"):
        body: JSON = {"data": key_json(hash=hash), "key": shown}
        with pytest.raises(SecretLostError, match="looks redacted"):
            operations.create(REQUEST).read(answer(text(body), 201))


@pytest.mark.parametrize("raw", KEPT.values(), ids=KEPT)
def test_a_secret_need_not_begin_as_they_do_today(raw: bytes) -> None:
    assert handed_over(raw) == NEW_FORM


@pytest.mark.parametrize(
    "value",
    [
        {"data": key_json(secret=SECRET)},
        {"data": key_json(deep={"er": [SECRET, {"key": SECRET}]}), "key": "env"},
        {"data": key_json(), "key": {"value": SECRET}, "again": SECRET},
        {"data": key_json(), SECRET: 1, "s": SECRET},
    ],
)
def test_a_secret_in_an_odd_place_is_in_no_record(value: JSON) -> None:
    created = operations.create(REQUEST).read(answer(text(value), 201))
    assert created.key == SECRET
    assert SECRET not in repr(created.extra) + repr(created.data) + repr(created.data.extra)


@pytest.mark.parametrize(
    ("raw", "hash"),
    [
        (b'{"tags": [{"hash": "%s"}], "data": {"name' % (b"ab" * 32), None),
        (b'{"hash": "%s", "data": {"name' % (b"ab" * 32), None),
        (b'{"data": {"hash": "%s", "hash": "%s"' % (b"ab" * 32, b"cd" * 32), None),
        (b'{"data": {"tags": {"hash": "%s"}, "hash": "%s", ' % (b"ab" * 32, HASH.encode()), HASH),
        (b'{"data": {"hash": "%s' % HASH.encode(), None),
    ],
)
def test_the_hash_of_something_else_is_not_told_to_be_the_keys(
    raw: bytes, hash: str | None
) -> None:
    with pytest.raises(SecretLostError) as raised:
        operations.create(REQUEST).read(answer(raw, 201))
    assert raised.value.hash == hash


NAMES = st.sampled_from(["key", "hash", "data", "tags", "a\\", 'q"', "\u2028"]) | st.text(
    max_size=5
)
VALUES: st.SearchStrategy[JSON] = st.recursive(
    st.none() | st.integers() | st.text() | st.sampled_from(['"key": "x"', "env" * 9]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
EXTRAS: st.SearchStrategy[dict[str, JSON]] = st.dictionaries(
    NAMES.filter(lambda name: name not in ("key", "data")), VALUES, max_size=3
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, int]:
    """A valid answer among other members, in any order, and where its secret's quote closes."""
    secret_hash = sha256(SECRET.encode()).hexdigest()
    data: dict[str, JSON] = draw(EXTRAS) | key_json(
        hash=draw(st.sampled_from([secret_hash, "ab" * 32, "odd"]))
    )
    members: list[tuple[str, JSON]] = [*draw(EXTRAS).items(), ("data", data), ("key", SECRET)]
    raw = json.dumps(
        dict(draw(st.permutations(members))), ensure_ascii=draw(st.booleans())
    ).encode()
    return raw, raw.index(f'"{SECRET}"'.encode()) + len(SECRET) + 2


@pytest.mark.slow
@settings(patient, max_examples=100)
@given(bodies(), st.data())
def test_any_beginning_of_an_answer_gives_its_secret_or_none(
    body: tuple[bytes, int], data: st.DataObject
) -> None:
    raw, closed = body
    for end in {closed - 1, closed, len(raw), data.draw(st.integers(0, len(raw)))}:
        assert handed_over(raw[:end]) == (SECRET if end >= closed else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", [b'"', b'\\"', b"{", b'[{"key":', b'"key":"', b"x ", b'{"a":"', b"\\", b","]
)
def test_a_body_of_any_bytes_is_read_in_a_moment(piece: bytes) -> None:
    raw = b'{"key": "' + piece * (2 * MOST // len(piece))
    began = time.process_time()
    assert salvage(raw).secret is None
    assert time.process_time() - began < 10  # quadratic, it would take hours
