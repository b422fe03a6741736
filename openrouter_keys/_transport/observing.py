"""Passes events on to the log, a caller's function and telemetry, none of which breaks a call."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeVar

from attrs import asdict

from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._base.tracebacks import strip
from openrouter_keys.events import Event, OnEvent, Telemetry

R = TypeVar("R")

_log = logging.getLogger("openrouter_keys")


class Observing(NeverPickled):
    """What observes a client's calls.

    Args:
        on_event: called with each event. None: nothing is.
        telemetry: called with each event, too, and at the beginning and the end of each operation.

    Attributes:
        listens: whether anything but the log does.
        telemetry: as above.
    """

    def __init__(self, on_event: OnEvent | None = None, telemetry: Telemetry | None = None) -> None:
        self.listens: bool = not (on_event is None and telemetry is None)
        self.telemetry: Telemetry | None = telemetry
        self._on_event = on_event
        self._failed: set[str] = set()

    def pass_on(self, event: Event, level: int, message: str, *args: object) -> None:
        """Pass an event on; in the log it is a message, with the event's fields as `extra`."""
        with suppress(Exception):  # a handler of the log may raise
            _log.log(level, message, *args, extra=asdict(event))
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception as error:  # noqa: BLE001 - a user's own function
                self._report("on_event", error)
        if self.telemetry is not None:
            try:
                self.telemetry.event(event)
            except Exception as error:  # noqa: BLE001 - as above
                self._report("telemetry", error)

    async def within(self, name: str, server_url: str, run: Callable[[], Awaitable[R]]) -> R:
        """Await an operation within its telemetry."""
        entered = self._enter(name, server_url)
        try:
            result = await run()
        except BaseException as error:
            self._leave(entered, error)
            raise
        self._leave(entered, None)
        return result

    def _enter(self, name: str, server_url: str) -> AbstractContextManager[Any] | None:
        try:
            if self.telemetry is None:
                return None
            entered = self.telemetry.operation(name, server_url)
            entered.__enter__()
        except Exception as error:  # noqa: BLE001 - a user's own, or its library's
            self._report("telemetry", error)
            return None
        return entered

    def _leave(
        self, entered: AbstractContextManager[Any] | None, error: BaseException | None
    ) -> None:
        try:
            if entered is not None:
                kind = None if error is None else type(error)
                entered.__exit__(kind, error, None)
        except Exception as raised:  # noqa: BLE001 - as above
            self._report("telemetry", raised)

    def _report(self, which: str, error: Exception) -> None:
        if which not in self._failed:
            self._failed.add(which)
            with suppress(Exception):
                strip(error, None)
                text = "%s raised; the call goes on, and what else it raises is not logged"
                _log.error(text, which, exc_info=error)
