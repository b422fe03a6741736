"""OpenTelemetry: spans and metrics of calls, by the semantic conventions, and without a secret."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import evolve, field, frozen
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from openrouter_keys import AsyncOpenRouter, OpenRouter, errors
from openrouter_keys.emulator import Account, Emulator, Fault
from openrouter_keys.otel import OpenTelemetry
from tests.clients import FakeTime
from tests.processes import ROOT
from tests.promises.test_secrets import CALLS, FAULTS, MANAGEMENT, PARTNER

HASH = "ab" * 32


@frozen
class Recorded:
    """What an SDK collects in memory."""

    exporter: InMemorySpanExporter = field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(factory=InMemoryMetricReader)
    tracers: TracerProvider = field(factory=TracerProvider)

    def telemetry(self, *, attempts: bool = True) -> OpenTelemetry:
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        meters = MeterProvider([self.reader])
        return OpenTelemetry(tracer_provider=self.tracers, meter_provider=meters, attempts=attempts)

    def spans(self) -> list[ReadableSpan]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def points(self, name: str) -> list[Any]:
        """The data points of a metric."""
        data: Any = self.reader.get_metrics_data()
        scopes = [scope for each in data.resource_metrics for scope in each.scope_metrics]
        metrics = [metric for scope in scopes for metric in scope.metrics if metric.name == name]
        return [point for metric in metrics for point in metric.data.data_points]


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    recorded = Recorded()
    yield recorded
    recorded.tracers.shutdown()


def client_of(emulator: Emulator, telemetry: OpenTelemetry) -> AsyncOpenRouter:
    client = AsyncOpenRouter(emulator.api_key, server_url=emulator.base_url, telemetry=telemetry)
    client._transport.clockwork = FakeTime().clockwork()
    return client


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


async def test_an_operations_span_is_above_those_of_its_attempts(
    emulator: Emulator, recorded: Recorded
) -> None:
    emulator.faults.append(Fault("list", status=429, headers={"Retry-After": "3"}))
    async with client_of(emulator, recorded.telemetry()) as client:
        with recorded.tracers.get_tracer("tests").start_as_current_span("caller"):
            await client.api_keys.list()
    by_name = {span.name: span for span in recorded.spans()}
    caller, operation = by_name["caller"], by_name["openrouter.list"]
    attempts = [span for span in recorded.spans() if span.kind is SpanKind.CLIENT]
    assert operation.parent == caller.context
    assert operation.kind is SpanKind.INTERNAL
    assert [span.parent for span in attempts] == [operation.context] * 2
    server = {"server.address": "127.0.0.1", "server.port": urlsplit(emulator.base_url).port}
    assert attributes(operation) == {"openrouter.operation.name": "list", **server}
    url = {"url.full": f"{emulator.base_url}/keys", "url.template": "/api/v1/keys"}
    common = {"http.request.method": "GET", **server, **url}
    assert [dict(attributes(span)) for span in attempts] == [
        {**common, "http.response.status_code": 429, "error.type": "429"},
        {**common, "http.response.status_code": 200, "http.request.resend_count": 1},
    ]
    assert [span.status.status_code for span in (operation, *attempts)] == [
        StatusCode.UNSET,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    assert [event.name for event in operation.events] == ["openrouter.pause", "openrouter.retry"]
    assert all(
        dict(event.attributes or {})["openrouter.seconds"] == 3 for event in operation.events
    )


@pytest.mark.parametrize("operation", CALLS)
async def test_each_operation_has_its_span(
    operation: str, emulator: Emulator, recorded: Recorded
) -> None:
    telemetry, call = recorded.telemetry(), CALLS[operation]
    async with client_of(emulator, telemetry) as client:
        with suppress(errors.OpenRouterError):
            await call(client)
    name = "get_current_key_metadata" if operation == "current" else operation
    above, attempt = recorded.spans()
    assert above.name == f"openrouter.{name}"
    assert attempt.parent == above.context
    template = attributes(attempt)["url.template"]
    by_hash = operation in ("get", "update", "delete")
    assert attempt.name == f"{attributes(attempt)['http.request.method']} {template}"
    assert template.endswith("/keys/{hash}") == by_hash


FAILURES: dict[str, tuple[Fault, str, str]] = {
    "refused": (Fault(status=403), "ForbiddenResponseError", "403"),
    "failed": (Fault(status=500, times=None), "InternalServerResponseError", "500"),
    "closed": (Fault(kind="closed", times=None), "NoResponseError", "no_answer"),
    "odd": (Fault(kind="body", body=b'{"data": 5}'), "ResponseValidationError", "unreadable"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_is_an_error_of_its_type(
    name: str, emulator: Emulator, recorded: Recorded
) -> None:
    fault, kind, of_attempt = FAILURES[name]
    emulator.faults.append(fault)
    async with client_of(emulator, recorded.telemetry()) as client:
        with pytest.raises(errors.OpenRouterError):
            await client.api_keys.list()
    operation, *attempts = recorded.spans()
    assert attributes(operation)["error.type"] == f"openrouter_keys.errors.{kind}"
    assert operation.status.status_code is StatusCode.ERROR
    assert operation.events == () or {each.name for each in operation.events} == {
        "openrouter.retry"
    }
    assert {attributes(span)["error.type"] for span in attempts} == {of_attempt}
    (point,) = recorded.points("openrouter.client.operation.duration")
    assert point.attributes["error.type"] == f"openrouter_keys.errors.{kind}"


async def test_the_metrics_follow_the_conventions(emulator: Emulator, recorded: Recorded) -> None:
    emulator.faults.append(Fault("list", status=429, headers={"Retry-After": "3"}))
    async with client_of(emulator, recorded.telemetry()) as client:
        await client.api_keys.list()
        await client.api_keys.list()
    requests = recorded.points("http.client.request.duration")
    server = {"server.address": "127.0.0.1", "server.port": urlsplit(emulator.base_url).port}
    assert {point.attributes["http.response.status_code"]: point.count for point in requests} == {
        429: 1,
        200: 2,
    }
    for point in requests:
        assert {*point.attributes} - {"error.type", "http.response.status_code"} == {
            "http.request.method",
            *server,
        }
        assert point.explicit_bounds[:2] == (0.005, 0.01)
        assert point.explicit_bounds[-1] == 10
    (operations,) = recorded.points("openrouter.client.operation.duration")
    assert operations.count == 2
    limited = {"openrouter.operation.name": "list", "openrouter.reason": "rate_limited"}
    for name, value in (("retries", 1), ("pauses", 1)):
        (point,) = recorded.points(f"openrouter.client.{name}")
        assert (point.value, dict(point.attributes)) == (value, limited)
    (waits,) = recorded.points("openrouter.client.wait.duration")
    assert waits.sum == pytest.approx(3)


async def test_another_instrumentation_may_make_the_attempts(
    emulator: Emulator, recorded: Recorded
) -> None:
    async with client_of(emulator, recorded.telemetry(attempts=False)) as client:
        await client.api_keys.list()
    assert [span.name for span in recorded.spans()] == ["openrouter.list"]
    assert recorded.points("http.client.request.duration") == []
    assert len(recorded.points("openrouter.client.operation.duration")) == 1


CALLS_OF_A_THREAD: dict[str, Callable[[OpenRouter], object]] = {
    "list": lambda client: client.api_keys.list(),
    "create": lambda client: client.api_keys.create(name="a"),
    "iterate": lambda client: [*client.api_keys.iterate()],
    "current": lambda client: client.api_keys.get_current_key_metadata(),
}


@pytest.mark.parametrize("name", CALLS_OF_A_THREAD)
def test_a_blocking_calls_spans_are_its_callers(name: str, recorded: Recorded) -> None:
    telemetry = recorded.telemetry()
    with (
        Emulator() as emulator,
        OpenRouter(emulator.api_key, server_url=emulator.base_url, telemetry=telemetry) as client,
        recorded.tracers.get_tracer("tests").start_as_current_span("caller"),
    ):
        CALLS_OF_A_THREAD[name](client)
    (caller,) = [span for span in recorded.spans() if span.name == "caller"]
    operations = [span for span in recorded.spans() if span.name.startswith("openrouter.")]
    assert operations
    assert all(span.parent == caller.context for span in operations)


@pytest.mark.parametrize("name", FAULTS)
async def test_no_span_and_no_metric_shows_a_secret(name: str, recorded: Recorded) -> None:
    with Emulator(Account(management_key=MANAGEMENT)) as emulator:
        async with client_of(emulator, recorded.telemetry()) as client:
            for call in CALLS.values():
                emulator.faults[:] = [evolve(FAULTS[name], times=2)]
                with suppress(errors.OpenRouterError):
                    await call(client)
            emulator.faults.clear()
            await client.api_keys.create(name="a", external={"user": "u", "api_key": PARTNER})
            with suppress(errors.OpenRouterError):
                await client.api_keys.list(workspace_id=MANAGEMENT)
        created = [str(key.secret) for key in emulator.account.keys.values()]
    data = recorded.reader.get_metrics_data()
    assert data is not None
    told = data.to_json() + "".join(span.to_json() for span in recorded.spans())
    for secret in (MANAGEMENT, PARTNER, *created):
        assert secret not in told


def test_the_package_needs_none_of_it() -> None:
    script = (
        "import sys, openrouter_keys, openrouter_keys.sync, openrouter_keys.client\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout.strip() == "[]"
