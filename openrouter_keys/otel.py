"""OpenTelemetry: a span for each operation and for each attempt, and metrics of both.

It needs the extra `openrouter-keys[otel]`, which is OpenTelemetry's API alone: without an SDK that
the application sets up, spans and metrics go nowhere.
"""

import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue

from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._base.version import __version__
from openrouter_keys.events import Event

_SCOPE: Final = "openrouter_keys"
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.40.0"
# https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpclientrequestduration
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_HASH: Final = re.compile(r"(?<=/keys/)[^/]+$")


class OpenTelemetry(NeverPickled):
    """Spans and metrics of a client's calls: `OpenRouter(telemetry=OpenTelemetry())`.

    Several clients may share one. Names and attributes are those of the semantic conventions for
    HTTP clients where there are some; docs/telemetry.md lists them all.

    Args:
        tracer_provider: makes the tracer. None: the global one.
        meter_provider: makes the meter. None: the global one.
        attempts: whether each attempt has a span and a measurement of its own. False: where
            another instrumentation, such as that of aiohttp's client, makes them.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        attempts: bool = True,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider, _SCHEMA)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider, _SCHEMA)
        self._attempts = attempts
        self._requests = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._operations = meter.create_histogram(
            "openrouter.client.operation.duration",
            "s",
            "Duration of operations, their retries and pauses included.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._waits = meter.create_histogram(
            "openrouter.client.wait.duration",
            "s",
            "Time that operations wait for a turn, for a pause to end, or before a retry.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._retries = meter.create_counter(
            "openrouter.client.retries", "{retry}", "Requests that are sent again."
        )
        self._pauses = meter.create_counter(
            "openrouter.client.pauses", "{pause}", "Pauses of a client that the service asks for."
        )

    @contextmanager
    def operation(self, name: str, server_url: str) -> Generator[None]:
        """Make a span, and measure what is done within it; see `Telemetry`."""
        attributes = {"openrouter.operation.name": name, **_server(server_url)}
        began, failure = time.perf_counter(), dict[str, AttributeValue]()
        with self._tracer.start_as_current_span(
            f"openrouter.{name}",
            attributes=attributes,
            # What they would add has the error's traceback.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                failure["error.type"] = f"{type(error).__module__}.{type(error).__qualname__}"
                span.set_attributes(failure)
                span.set_status(StatusCode.ERROR)  # its text quotes the service
                raise
            finally:
                seconds = time.perf_counter() - began
                self._operations.record(seconds, {**attributes, **failure})

    def event(self, event: Event) -> None:
        """Make a span of an attempt, and count; see `Telemetry`."""
        if event.kind == "attempt":
            if self._attempts:
                self._attempt(event)
            return
        reason = {"openrouter.operation.name": event.operation, "openrouter.reason": event.outcome}
        if event.kind == "pause":
            self._pauses.add(1, reason)
        else:
            self._waits.record(event.seconds, reason)
        if event.kind == "retry":
            self._retries.add(1, reason)
        more = {} if event.retry_after is None else {"openrouter.retry_after": event.retry_after}
        trace.get_current_span().add_event(
            f"openrouter.{event.kind}", {**reason, "openrouter.seconds": event.seconds, **more}
        )

    def _attempt(self, event: Event) -> None:
        measured: dict[str, AttributeValue] = {
            "http.request.method": event.method,
            **_server(event.url),
        }
        if event.status is not None:
            measured["http.response.status_code"] = event.status
        if event.outcome != "done":
            failed = event.status is not None and event.status >= 400
            measured["error.type"] = str(event.status) if failed else event.outcome
        self._requests.record(event.seconds, measured)
        ended = time.time_ns()
        span = self._tracer.start_span(
            f"{event.method} {_template(event.url)}",
            kind=SpanKind.CLIENT,
            attributes={**measured, "url.full": event.url, "url.template": _template(event.url)},
            start_time=ended - int(event.seconds * 1e9),
        )
        if event.attempt > 1:
            span.set_attribute("http.request.resend_count", event.attempt - 1)
        if event.outcome != "done":
            span.set_status(StatusCode.ERROR)
        span.end(ended)


def _server(url: str) -> dict[str, AttributeValue]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}


def _template(url: str) -> str:
    return _HASH.sub("{hash}", urlsplit(url).path)
