"""The library's warnings, as messages of the command."""

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final

# What comes again and again while a service is away is said once, by the library's own words.
_ONCE: Final[Mapping[str, str]] = {
    "provision: the reconcile waits for another round: %s": (
        "the service does not list keys now: trying again until it does, or for some minutes"
    )
}


@contextmanager
def warnings_to(say: Callable[[str], object]) -> Generator[None]:
    """Pass the library's warnings on as messages, unless a logging handler has them already.

    Where `OPENROUTER_DEBUG` is set, the library logs them itself.
    """
    # Loaded late: the help needs no client.
    from openrouter_keys.client import debugging  # noqa: PLC0415

    log, handler = logging.getLogger("openrouter_keys"), _Saying(say)
    if log.handlers or debugging():
        yield
        return
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


class _Saying(logging.Handler):
    def __init__(self, say: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._say = say
        self._said = set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        template = str(record.msg)
        if _listeners and template.startswith(_WAITS):
            return  # a listener has it
        if template not in _ONCE:
            self._say(record.getMessage())
        elif template not in self._said:
            self._said.add(template)
            self._say(_ONCE[template])


# What says that the library waits, and for what.
_WAITS: Final = "waiting "
_listeners: Final = list[Callable[[str], object]]()


@contextmanager
def waits_to(say: Callable[[str], object]) -> Generator[None]:
    """Pass on what the library waits for, if that takes long; within another one, to this alone."""
    log = logging.getLogger("openrouter_keys")
    _listeners.append(say)
    if len(_listeners) > 1:
        try:
            yield
        finally:
            _listeners.pop()
        return
    level, shown = log.level, log.getEffectiveLevel()
    lowered = min(shown, logging.INFO)

    def see(record: logging.LogRecord) -> bool:
        if str(record.msg).startswith(_WAITS):
            _listeners[-1](record.getMessage())
        # OPENROUTER_DEBUG sets the level when a client is made.
        return record.levelno >= (shown if log.level == lowered else log.level)

    # No handler: without any, logging prints the library's warnings by itself.
    log.addFilter(see)
    log.setLevel(lowered)
    try:
        yield
    finally:
        _listeners.pop()
        log.setLevel(level)
        log.removeFilter(see)
