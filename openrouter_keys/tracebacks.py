"""Tracebacks without the frames whose local variables hold secrets. Knows no key.

Crash reporters send local variables home, of each frame and of the whole chain of exceptions.
"""

from collections.abc import Generator
from types import FrameType, TracebackType

# Where the management key is a local variable.
_HOLD_SECRETS = ("openrouter_keys.credentials", "openrouter_keys.wire")


def strip(error: BaseException, handled: BaseException | None) -> None:
    """Take frames that may hold secrets out of an exception, and of all that it came of.

    Frames of this package that hold none stay, so that an error of its own can be found.

    Args:
        error: the exception, as the function that calls this caught it.
        handled: what its caller was handling already, which is the caller's own; None: nothing.
    """
    seen: set[int] = set()
    unseen: list[BaseException | None] = [error]
    while unseen:
        one = unseen.pop()
        if one is None or one is handled or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = _stripped(one.__traceback__)
        unseen += (one.__cause__, one.__context__)
        unseen += getattr(one, "exceptions", ())  # of a group


def _stripped(traceback: TracebackType | None) -> TracebackType | None:
    kept: TracebackType | None = None
    for entry in reversed([*_entries(traceback)]):
        if _is_harmless(entry.tb_frame):
            kept = TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return kept


def _entries(traceback: TracebackType | None) -> Generator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _is_harmless(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    return module.startswith("openrouter_keys.") and module not in _HOLD_SECRETS
