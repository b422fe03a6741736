"""Whatever is raised, and wherever, while a create's answer is read: its secret is handed over."""

import itertools
import json
import logging
import traceback
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from multidict import CIMultiDict

from openrouter_keys._base.made_keys import MadeKeys
from openrouter_keys._transport.wire import Reply, Wire
from openrouter_keys.api_keys import AsyncAPIKeys
from openrouter_keys.errors import CreatedKeyUnreadableError
from openrouter_keys.results import Err, attempt
from tests.clients import FakeTime, api_keys
from tests.records import HASH, SECRET, current_json, key_json, without

ERRORS = [TypeError, RuntimeError, RecursionError, MemoryError, AttributeError, AssertionError]
STEPS = [
    # what the reply is judged by
    "openrouter_keys._transport.attempts.Attempts._log_attempt",
    "openrouter_keys._transport.attempts.Attempts._elapsed",
    "openrouter_keys._transport.attempts.HTTPMeta",
    "openrouter_keys._transport.attempts.Answer",
    "openrouter_keys._transport.attempts.outcome_of",
    "openrouter_keys._transport.attempts.Attempts._judge",
    "openrouter_keys._transport.attempts.Attempts._read",
    "openrouter_keys._transport.attempts.with_facts",
    "openrouter_keys._transport.attempts.RetryQuota.refund",
    # the body
    "msgspec.json.decode",
    "json.JSONDecoder.decode",
    "openrouter_keys.operations.parse",
    "openrouter_keys.operations.decode",
    "openrouter_keys.operations.salvage",
    "openrouter_keys.operations._record",
    "openrouter_keys._protocol.salvage.parse",
    "openrouter_keys._protocol.salvage.hash_of",
    "openrouter_keys._protocol.salvage._string",
    "openrouter_keys._protocol.salvage._Scan.strings",
    # the record
    "openrouter_keys._base.fast_reader.AnswerReader.read",
    "msgspec.convert",
    "openrouter_keys._base.fast_reader.FlatReader.read",
    "openrouter_keys._base.fast_reader.FlatReader.record",
    "openrouter_keys._base.strict_converter._RecordReader._build",
    "openrouter_keys._base.strict_converter._RecordReader.__call__",
    "openrouter_keys._base.strict_converter._time",
    "openrouter_keys._base.strict_converter.transform_error",
    "cattrs.Converter.structure",
    "openrouter_keys.operations.structure",
    "openrouter_keys.models.CreateKeysResponse.__init__",
    # what is done with it
    "openrouter_keys.operations._read_created",
    "openrouter_keys.operations.hash_of",
    "openrouter_keys._base.made_keys.hash_of",
    "openrouter_keys._transport.transport.MadeKeys.is_repeated",
    "openrouter_keys._transport.transport.MadeKeys.add",
    "logging.Logger.handle",
]
ANSWERS: dict[str, bytes] = {
    name: json.dumps(answer).encode()
    for name, answer in {
        "ordinary": {"data": key_json(), "key": SECRET},
        "with a new field": {"data": key_json(later=1), "key": SECRET},
        "with an odd time": {
            "data": key_json(expires_at="2025-08-24T12:30:00+02:00"),
            "key": SECRET,
        },
        "with another key's hash": {"data": key_json(hash="5e"), "key": SECRET},
        "with the secret inside": {"data": key_json(key=SECRET)},
        "unreadable": {"data": without(key_json(), "usage"), "key": SECRET},
        "without a hash": {"data": without(key_json(), "hash"), "key": SECRET},
    }.items()
} | {"cut short": b'{"key": "%s", "data": {"name' % SECRET.encode()}


CASES = list(itertools.product(ERRORS, ANSWERS))


@contextmanager
def failing_at(step: str, error: type[Exception], status: int, body: bytes) -> Generator[None]:
    """Let every request be answered so, and whatever follows on it fail at a step."""
    with pytest.MonkeyPatch.context() as patched:

        def fail(*_: object, **__: object) -> None:
            raise error(SECRET)

        async def answered(*_: object, **__: object) -> Reply:
            patched.setattr(step, fail)
            return Reply(status, CIMultiDict(), body)

        patched.setattr(Wire, "send", answered)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
async def test_nothing_comes_between_a_success_and_its_secret(
    caplog: pytest.LogCaptureFixture, step: str
) -> None:
    caplog.set_level(logging.DEBUG, "openrouter_keys")
    async with api_keys("http://127.0.0.1:9", "management-key") as keys:
        for error, answer in CASES:
            keys._transport.made = MadeKeys("http://127.0.0.1:9")  # or it would be a copy
            with failing_at(step, error, 201, ANSWERS[answer]):
                caplog.clear()
                key, told = await handed_over(keys)
            assert key == SECRET, (error, answer)
            assert SECRET not in told + caplog.text, (error, answer)


async def handed_over(keys: AsyncAPIKeys) -> tuple[str, str]:
    """Create a key; return its secret, and what a traceback shows of it."""
    try:
        return (await keys.create(name="customer-42")).key, ""
    except CreatedKeyUnreadableError as error:
        assert (error.operation, error.attempts) == ("create", 1)
        assert (error.status_code, error.maybe_applied) == (201, True)
        assert error.hash in (HASH, "5e", "")
        return error.key, "".join(traceback.format_exception(error))


@pytest.mark.parametrize("step", [step for step in STEPS if ".attempts." in step])
@pytest.mark.parametrize("status", [200, 401, 503])
async def test_what_reading_another_answer_raises_is_our_error(step: str, status: int) -> None:
    body = json.dumps({"data": current_json()}).encode()
    async with api_keys("http://127.0.0.1:9", "management-key", FakeTime()) as keys:
        for error in ERRORS:
            with failing_at(step, error, status, body):
                told = await attempt(keys.get_current_key_metadata())
            if isinstance(told, Err):
                assert told.error.maybe_applied is False
                assert SECRET not in "".join(traceback.format_exception(told.error))
