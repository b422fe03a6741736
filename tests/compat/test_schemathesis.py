"""Schemathesis makes up requests from the emulator's own document, and finds nothing wrong."""

import json
import urllib.request
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import schemathesis
from schemathesis import engine
from schemathesis.engine.events import NonFatalError, ScenarioFinished

from openrouter_keys.emulator import Account, Emulator

CONFIG = {
    "seed": 1,
    "generation": {"max-examples": 20},
    # Another method is a route that the service does not have: those are 404s in HTML.
    "checks": {"unsupported_method": {"enabled": False}},
}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(Account(random=Random(1))) as emulator:
        yield emulator


def document(emulator: Emulator) -> dict[str, Any]:
    """The document, and in it what it cannot know: which workspaces there are."""
    origin = emulator.base_url.removesuffix("/api/v1")
    with urllib.request.urlopen(f"{origin}/openapi.json") as answer:
        document: dict[str, Any] = json.load(answer)
    workspaces = {"enum": [*emulator.account.workspaces]}
    for body in ("CreateKey", "UpdateKey"):
        document["components"]["schemas"][body]["properties"]["workspace_id"] |= workspaces
    return document


def test_no_made_up_request_finds_a_fault(emulator: Emulator) -> None:
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    config = schemathesis.Config.from_dict(
        CONFIG | {"base-url": emulator.base_url, "headers": headers}
    )
    schema = schemathesis.openapi.from_dict(document(emulator), config=config)
    schema.validate()

    wrong: list[str] = []
    for event in engine.from_schema(schema).execute():
        if isinstance(event, ScenarioFinished):
            wrong += failures(event)
        elif isinstance(event, NonFatalError):
            wrong.append(str(event.info.format()))

    assert not wrong, "\n\n".join(wrong)
    operations = ("list", "create", "get", "update", "delete", "current")
    assert all(map(emulator.count, operations))
    assert {200, 201, 400} <= {request.status for request in emulator.requests}


def failures(event: ScenarioFinished) -> Iterator[str]:
    for case, checks in event.recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                response = event.recorder.interactions[case].response
                told = "" if response is None else response.text
                failure = check.failure_info
                yield f"{check.name}: {failure.failure}\n{failure.code_sample}\n{told}"
