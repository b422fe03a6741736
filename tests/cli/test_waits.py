"""A long wait says what is waited for: at any command, and above a progress bar."""

import logging
from contextlib import suppress

import pytest

from openrouter_keys._transport import attempts
from openrouter_keys.cli.terminal.warnings import waits_to
from openrouter_keys.emulator import Emulator, Fault
from openrouter_keys.errors import OpenRouterError
from tests.clients import FakeTime, api_keys
from tests.commands import Command
from tests.tables import in_one_test


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            Fault("list", status=429, headers={"Retry-After": "60"}),
            ["waiting 60 s, as the service asks (Retry-After)"],
        ),
        (
            Fault("list", status=503, headers={"Retry-After": "7"}),
            ["waiting 7 s, as the service asks (Retry-After)"],
        ),
        (Fault("list", status=429, headers={"Retry-After": "1"}), []),
        (Fault("list", status=500), []),
        (
            Fault("create", "closed"),
            ["waiting 30 s, until a create without an answer can no longer make a key"],
        ),
    ],
)
async def test_a_wait_says_what_it_is_for(
    emulator: Emulator, fault: Fault, said: list[str]
) -> None:
    emulator.faults.append(fault)
    heard = list[str]()
    async with api_keys(emulator.base_url, emulator.api_key, FakeTime()) as keys:
        with waits_to(heard.append):
            if fault.operation == "list":
                assert (await keys.list()).data == []
            else:
                with suppress(OpenRouterError):
                    await keys.create(name="a", on_unknown="reconcile")
    assert heard[:1] == said


def test_the_innermost_is_told_and_the_log_is_as_before(caplog: pytest.LogCaptureFixture) -> None:
    log, outer, inner = logging.getLogger("openrouter_keys"), list[str](), list[str]()
    level, filters = log.level, [*log.filters]
    with waits_to(outer.append):
        log.info("waiting %.0f s", 3)
        with waits_to(inner.append):
            log.info("waiting %.0f s", 4)
            log.info("another line")
        log.warning("a warning")
    log.info("waiting %.0f s", 5)
    assert (outer, inner) == (["waiting 3 s"], ["waiting 4 s"])
    assert (log.level, log.filters) == (level, filters)
    assert [record.getMessage() for record in caplog.records] == ["a warning"]


@in_one_test("words", [("list",), ("create", "a", "--show-secret"), ("usage",), ("list", "--json")])
def test_every_command_says_that_it_waits(
    command: Command, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(attempts, "_LONG", 0.01)
    command.emulator.faults.append(Fault("*", status=429, headers={"Retry-After": "0.1"}))
    ran = command(*words)
    assert ran.code == 0
    said = "openrouter-keys: waiting 0 s, as the service asks (Retry-After)\n"
    assert ran.err.startswith(said)


def test_a_debug_log_that_begins_meanwhile_is_shown(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPENROUTER_DEBUG sets the level once a client is made."""
    log = logging.getLogger("openrouter_keys")
    monkeypatch.setattr(log, "level", logging.NOTSET)
    with waits_to(lambda _: None):
        log.info("not asked for")
        log.setLevel(logging.DEBUG)
        log.debug("asked for")
    assert caplog.messages == ["asked for"]
