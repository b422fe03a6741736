"""Removes the frames whose local variables hold secrets from tracebacks. Knows no key.

Crash reporters send local variables home, of each frame and of the whole chain of exceptions.
"""

from collections.abc import Callable, Generator
from functools import partial
from types import FrameType, TracebackType

_PACKAGE = "openrouter_keys"
# Where the management key, or an answer with a created secret in it, is a local variable.
_HOLD_SECRETS = {
    f"{_PACKAGE}.{name}"
    for name in (
        *(
            "_base.fast_reader",
            "_base.made_keys",
            "_base.making",
            "_base.masking",
            "_base.scrubbing",
            "_base.strict_converter",
            "_base.unset",
        ),
        *("_inputs.arguments", "_inputs.credentials", "_inputs.proxies"),
        *("_protocol.answers", "_protocol.quota", "_protocol.retries", "_protocol.salvage"),
        *("_transport.bodies", "_transport.whole_request", "_transport.wire"),
        *("_records.plain", "_records.record"),
        *("converter", "journal.encryption", "journal.entries"),
        *("journal.addresses", "journal.engines", "journal.servers", "journal.sessions"),
        *("journal.postgresql", "journal.postgresql_store"),
    )
}
# Functions that hold secrets, in files whose other functions hold none.
_HOLD_SECRETS_TOO = {
    (f"{_PACKAGE}.{module}", function)
    for module, function in (
        ("operations", "__init__"),
        ("operations", "_found"),
        ("operations", "_salvaged"),
    )
}
# Where a caller's arguments are, whatever fails below: the functions that it calls.
_HOLD_ARGUMENTS = {
    f"{_PACKAGE}.{name}"
    for name in (
        *("_blocking.facade", "_inputs.arguments", "api_keys", "client", "sync"),
        *("journal.specs", "models"),
    )
}
# What raises here refuses an argument, which each of its callers may hold.
_CHECK_ARGUMENTS = f"{_PACKAGE}._inputs."
# Functions that call a user's function, whose frames hold no secret of the package.
_CALL_THE_USER = {
    (f"{_PACKAGE}._inputs.credentials", "_called"),
    (f"{_PACKAGE}._transport.wire", "__init__"),
}


def strip(error: BaseException, handled: BaseException | None) -> None:
    """Remove frames that may hold secrets from an exception, its causes and its contexts.

    Frames of this package without secrets stay, to locate its own errors, and so do those of a
    user's function that failed.

    Args:
        error: the exception that the calling function caught.
        handled: the exception that the caller was already handling, which is left alone; None:
            there is none.
    """
    for one, of_user in _chain(error, handled):
        one.__traceback__ = _kept(one.__traceback__, partial(_stays, of_user=of_user))


def hide_ours(error: BaseException, handled: BaseException | None, *, wholly: bool) -> None:
    """Take the frames of this package that hold a caller's arguments out of an exception.

    Others' frames stay, and so do those of ours below the functions that a user calls, unless it
    was an argument that was refused.

    Args:
        error: as `strip` has it.
        handled: as `strip` has it.
        wholly: whether all frames of ours go: an argument may be a secret.
    """
    for one, _ in _chain(error, handled):
        *_, deepest = ("", *(_module(entry.tb_frame) for entry in _entries(one.__traceback__)))
        stays = partial(_is_harmless, refused=wholly or deepest.startswith(_CHECK_ARGUMENTS))
        one.__traceback__ = _kept(one.__traceback__, stays)


def _chain(
    error: BaseException, handled: BaseException | None
) -> Generator[tuple[BaseException, bool]]:
    """Go through an exception and all that it came of, and whether each is a user's function's."""
    seen: set[int] = set()
    unseen: list[tuple[BaseException | None, bool]] = [(error, False)]
    while unseen:
        one, of_user = unseen.pop()
        if one is None or one is handled or id(one) in seen:
            continue
        seen.add(id(one))
        of_user = of_user or _is_of_user(one)
        come_of = (one.__cause__, one.__context__, *getattr(one, "exceptions", ()))  # of a group
        unseen += [(each, of_user) for each in come_of]
        yield one, of_user


def _is_of_user(error: BaseException) -> bool:
    """Whether a user's function failed by itself, and was not cancelled by our caller."""
    frames = (entry.tb_frame for entry in _entries(error.__traceback__))
    places = {(_module(frame), frame.f_code.co_name) for frame in frames}
    return isinstance(error, Exception) and not places.isdisjoint(_CALL_THE_USER)


def _kept(
    traceback: TracebackType | None, stays: Callable[[FrameType], bool]
) -> TracebackType | None:
    kept: TracebackType | None = None
    for entry in reversed([*_entries(traceback)]):
        if stays(entry.tb_frame):
            kept = TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return kept


def _entries(traceback: TracebackType | None) -> Generator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def holds_secrets(frame: FrameType) -> bool:
    """Whether local variables of a frame may hold secrets."""
    module = _module(frame)
    return module in _HOLD_SECRETS or (module, frame.f_code.co_qualname) in _HOLD_SECRETS_TOO


def _stays(frame: FrameType, *, of_user: bool) -> bool:
    return not holds_secrets(frame) if _is_ours(frame) else of_user


def _is_harmless(frame: FrameType, *, refused: bool) -> bool:
    return not _is_ours(frame) or not (refused or _module(frame) in _HOLD_ARGUMENTS)


def _is_ours(frame: FrameType) -> bool:
    return _module(frame).startswith(f"{_PACKAGE}.")
