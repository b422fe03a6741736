"""What a caller sets for a sweep, checked before anything is sent. No I/O."""

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from attrs import field, frozen

from openrouter_keys._inputs import checks
from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys.journal.addresses import shown
from openrouter_keys.models import Key
from openrouter_keys.provisioning.settings import JournalOrPlace, Pace, refuse_unopened
from openrouter_keys.sweeping.report import SweepAction, SweptKey, is_unused

#: Called with what was found before anything is changed; false: nothing is.
Approve: TypeAlias = Callable[[Sequence[SweptKey]], Awaitable[object] | object]


def _read(given: Iterable[Any]) -> tuple[Any, ...]:
    what: object = given  # what a caller without a type checker passes in
    if isinstance(what, str | bytes | os.PathLike) or not isinstance(what, Iterable):
        checks.refuse("journals", "must be a list of journals: journals=[…]")
    return tuple(given)


def _journals(_: object, attribute: checks.Named, value: Any) -> None:
    for each in value:
        refuse_unopened(attribute.name, each)
        if each == "" or not (isinstance(each, str | os.PathLike) or hasattr(each, "succession")):
            checks.refuse(attribute.name, "must be open Journals, paths of files or URLs")


def _action(_: object, attribute: checks.Named, value: object) -> None:
    if value not in (None, "disable", "delete"):
        checks.refuse(attribute.name, f"must be None, 'disable' or 'delete', not {value!r}")


def _shown(journals: Iterable[Any]) -> str:
    return f"[{', '.join(map(shown, journals))}]"


@frozen(kw_only=True)
class SweepSettings(Pace):
    """The settings of a sweep; `AsyncOpenRouter.sweep` says what each means."""

    journals: tuple[JournalOrPlace, ...] = field(converter=_read, validator=_journals, repr=_shown)
    unused: bool = field(default=False, validator=checks.flag)
    older_than: float | None = field(default=None, validator=checks.given(checks.amount))
    name: str | None = field(default=None, validator=checks.given(checks.text))
    workspace_id: str | None = field(default=None, validator=checks.given(checks.text))
    action: SweepAction | None = field(default=None, validator=_action)
    approve: Approve | None = None
    options: RequestOptions = field(factory=RequestOptions, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.action is not None and not (self.journals or self.unused):
            checks.refuse(
                "journals",
                "there is none, so that each key in use counts as unknown: give the journals, or "
                "unused=True",
            )

    def asks_for(self, key: Key, now: datetime) -> bool:
        """Whether a key that no journal knows is to be swept."""
        return self.refusal(key, now) is None

    def refusal(self, key: Key, now: datetime) -> str | None:
        """Return why a key is not to be swept; None: it is.

        Args:
            key: its record.
            now: the service's time.
        """
        if self.name is not None and not fnmatchcase(key.name, self.name):
            return "it has another name"
        if self.older_than is not None and key.created_at > now - _seconds(self.older_than):
            return "it is too new"
        if self.unused and not is_unused(key):
            return "it is in use"
        return None


def _seconds(number: float) -> timedelta:
    return timedelta(seconds=min(number, 3e9))  # no key is a century old
