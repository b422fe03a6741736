"""Sentry sends home local variables and breadcrumbs: no secret is in them."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from attrs import evolve
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.aiohttp import AioHttpIntegration
from sentry_sdk.transport import Transport

from openrouter_keys import AsyncOpenRouter, OpenRouter, errors
from openrouter_keys.emulator import Account, Emulator, Fault
from openrouter_keys.utils import RetryConfig
from tests.clients import FakeTime
from tests.promises.test_secrets import (
    CALLS,
    CREATED,
    FAULTS,
    MANAGEMENT,
    PARTNER,
    assert_no_secret,
)


class Collected(Transport):  # type: ignore[misc,unused-ignore]  # may not be here
    """What would be sent home."""

    def __init__(self) -> None:
        super().__init__()
        self.envelopes: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)

    def events(self) -> list[dict[str, Any]]:
        events = [envelope.get_event() for envelope in self.envelopes]
        return [json.loads(json.dumps(event, default=str)) for event in events if event]


@pytest.fixture(scope="module")
def reporting() -> Iterator[Collected]:
    collected = Collected()
    sentry_sdk.init(
        "http://public@localhost/1",
        transport=collected,
        auto_enabling_integrations=False,  # it imports whatever it knows
        integrations=[AioHttpIntegration()],
        include_local_variables=True,
        traces_sample_rate=1.0,
        max_value_length=100_000,
    )
    yield collected
    sentry_sdk.init()


@pytest.fixture
def home(reporting: Collected) -> Iterator[Collected]:
    reporting.envelopes.clear()
    with sentry_sdk.isolation_scope():
        yield reporting


@pytest.fixture
def service() -> Iterator[Emulator]:
    with Emulator(Account(management_key=MANAGEMENT)) as emulator:
        yield emulator


WAYS: dict[str, tuple[Fault, float | None]] = {
    **{name: (fault, None) for name, fault in FAULTS.items()},
    "a cut answer with a secret": (
        Fault("create", "body", phase="after", body=f'{{"key": "{CREATED}", "da'.encode()),
        None,
    ),
    "out of time": (Fault(kind="stalled"), None),
    "cancelled": (Fault(kind="stalled"), 0.05),
}


def sent_home(home: Collected) -> str:
    """All of it as one text; it has local variables, and so would have a secret's."""
    text = json.dumps(home.events())
    assert '"vars"' in text
    return text


def prepare(service: Emulator, way: str, operation: str) -> float | None:
    fault, patience = WAYS[way]
    body = fault.body
    if body is not None and operation != "create":
        body = body.replace(PARTNER.encode(), b"nothing else was sent")
    service.faults.append(evolve(fault, body=body, times=None))
    return patience


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("way", WAYS)
async def test_no_way_out_of_an_async_call_sends_a_secret_home(
    way: str, operation: str, home: Collected, service: Emulator
) -> None:
    patience = prepare(service, way, operation)
    with sentry_sdk.start_transaction(name=operation):
        try:
            async with asyncio.timeout(patience):
                await call(operation, service.base_url)
        except (errors.OpenRouterError, TimeoutError) as error:
            sentry_sdk.capture_exception(error)
        else:
            return  # that fault is none to it
    assert_no_secret(sent_home(home), CREATED)


async def call(operation: str, url: str) -> None:
    async with AsyncOpenRouter(MANAGEMENT, server_url=url, timeout_ms=200) as client:
        client._transport.clockwork = FakeTime().clockwork()
        await CALLS[operation](client)


@pytest.mark.parametrize("operation", ["list", "create"])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "cancelled"])
def test_no_way_out_of_a_blocking_call_sends_a_secret_home(
    way: str, operation: str, home: Collected, service: Emulator
) -> None:
    prepare(service, way, operation)
    try:
        block(operation, service.base_url)
    except errors.OpenRouterError as error:
        sentry_sdk.capture_exception(error)
    else:
        return
    assert_no_secret(sent_home(home), CREATED)


def block(operation: str, url: str) -> None:
    with OpenRouter(
        MANAGEMENT, server_url=url, timeout_ms=300, retry_config=RetryConfig("none")
    ) as client:
        if operation == "list":
            client.api_keys.list()
        else:
            client.api_keys.create(name="new", external={"user": "acme-7", "api_key": PARTNER})
