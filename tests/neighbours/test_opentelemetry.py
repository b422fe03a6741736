"""OpenTelemetry: what a call sends is told as part of what its caller does."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from openrouter_keys import AsyncOpenRouter, KeySpec, OpenRouter, errors
from openrouter_keys.emulator import Account, Emulator, Fault
from openrouter_keys.otel import OpenTelemetry

MANAGEMENT = "canary-management-key"


class Traces:
    def __init__(self) -> None:
        self.exporter, self.provider = InMemorySpanExporter(), TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests")

    def sent_by(self, caller: str) -> list[ReadableSpan]:
        """The spans whose parent is the caller's."""
        spans = self.exporter.get_finished_spans()
        [ours] = [span for span in spans if span.name == caller]
        return [span for span in spans if span.parent == ours.context]

    def sent(self) -> int:
        return sum(span.parent is not None for span in self.exporter.get_finished_spans())


@pytest.fixture
def traces() -> Iterator[Traces]:
    traces, instrumentor = Traces(), AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=traces.provider)
    yield traces
    instrumentor.uninstrument()


@pytest.fixture
def guarded() -> Iterator[Emulator]:
    with Emulator(Account(management_key=MANAGEMENT), page_size=2) as emulator:
        yield emulator


def provisioned(client: OpenRouter) -> None:
    specs = [KeySpec(ref=f"{n}", name=f"{n}") for n in range(3)]
    assert client.provision(specs, on_result=lambda _: None).ok


def failed(client: OpenRouter) -> None:
    with pytest.raises(errors.NotFoundResponseError):
        client.api_keys.get("ab" * 32)
    client.api_keys.list()


CALLS: dict[str, Callable[[OpenRouter], object]] = {
    "list": lambda client: client.api_keys.list(),
    "create": lambda client: client.api_keys.create(name="new"),
    "current": lambda client: client.api_keys.get_current_key_metadata(),
    "iterate": lambda client: [*client.api_keys.iterate()],
    "an error, then another call": failed,
    "provision": provisioned,
}


@pytest.mark.parametrize("name", CALLS)
def test_what_a_blocking_call_sends_is_its_callers(
    name: str, traces: Traces, guarded: Emulator
) -> None:
    for key in ("one", "two", "three"):
        guarded.account.create({"name": key})
    client = OpenRouter(MANAGEMENT, server_url=guarded.base_url)
    with client, traces.tracer.start_as_current_span("caller"):
        CALLS[name](client)
    sent, arrived = traces.sent(), len(guarded.requests)
    assert len(traces.sent_by("caller")) == sent >= 1
    # A page that is requested ahead is cancelled if it is not needed, perhaps on its way.
    assert arrived == sent or (name == "iterate" and 1 <= arrived < sent)
    told = "".join(span.to_json() for span in traces.exporter.get_finished_spans())
    assert MANAGEMENT not in told


def test_calls_of_several_threads_are_told_apart(traces: Traces, guarded: Emulator) -> None:
    def work(name: str) -> None:
        with traces.tracer.start_as_current_span(name):
            client.api_keys.list()
            client.api_keys.list()

    with (
        OpenRouter(MANAGEMENT, server_url=guarded.base_url) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        assert len([*pool.map(work, "abcd")]) == 4
    assert [len(traces.sent_by(name)) for name in "abcd"] == [2, 2, 2, 2]


async def test_an_async_calls_attempts_are_its_callers(traces: Traces, guarded: Emulator) -> None:
    guarded.faults.append(Fault("list", status=503, headers={"Retry-After": "0"}))
    async with AsyncOpenRouter(MANAGEMENT, server_url=guarded.base_url) as client:
        with traces.tracer.start_as_current_span("caller"):
            await client.api_keys.list()
    assert len(traces.sent_by("caller")) == len(guarded.requests) == 2


async def test_aiohttps_own_spans_of_attempts_are_below_that_of_the_operation(
    traces: Traces, guarded: Emulator
) -> None:
    guarded.faults.append(Fault("create", status=429, headers={"Retry-After": "0"}))
    telemetry = OpenTelemetry(tracer_provider=traces.provider, attempts=False)
    async with AsyncOpenRouter(
        MANAGEMENT, server_url=guarded.base_url, telemetry=telemetry
    ) as client:
        await client.api_keys.create(name="new")
    assert len(traces.sent_by("openrouter.create")) == len(guarded.requests) == 2
    assert len(traces.exporter.get_finished_spans()) == 3
