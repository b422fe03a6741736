"""What a caller sets for a run, checked before anything is sent. No I/O."""

import os
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeAlias, Union

from attrs import field, frozen

from openrouter_keys._base.unset import UNSET
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.options import CONCURRENCY, QUIET_PERIOD, RequestOptions
from openrouter_keys.journal.addresses import shown
from openrouter_keys.provisioning.report import OnProgress, OnResult

if TYPE_CHECKING:  # it imports SQLite, which most programs never need
    from openrouter_keys.journal.journal import Journal

#: What records a run: an open journal, a file's path, or the URL of a PostgreSQL database.
JournalOrPlace: TypeAlias = Union["Journal", str, os.PathLike[str]]


def _count(_: object, attribute: checks.Named, value: object) -> None:
    checks.count(attribute.name, value)


def _rate(_: object, attribute: checks.Named, value: float) -> None:
    if not checks.seconds(attribute.name, value):
        checks.refuse(attribute.name, "must be more than 0 requests a second")


def _most(value: SupportsFloat | None) -> float | None:
    number = checks.plain_number("max_total_limit", value)
    return None if number is UNSET else number


def refuse_unopened(argument: str, value: object) -> None:
    """Refuse what `Journal.open` returns, whose block has not begun."""
    if getattr(value, "opens_a_journal", False):
        checks.refuse(argument, "is not open: open it with `with` or `async with`")


def _path(_: object, attribute: checks.Named, value: Any) -> None:
    refuse_unopened(attribute.name, value)
    if value == "":
        checks.refuse(attribute.name, "must be the path of a file, or None")


@frozen(kw_only=True)
class Pace:
    """How fast a run goes; `AsyncOpenRouter.provision` says what each setting means."""

    concurrency: int = field(default=CONCURRENCY, validator=_count)
    rate: float | None = field(default=None, validator=checks.given(_rate))


@frozen(kw_only=True)
class RunSettings(Pace):
    """The settings of a run; `AsyncOpenRouter.provision` says what each means."""

    journal: JournalOrPlace | None = field(default=None, validator=_path, repr=shown)
    on_result: OnResult | None = None
    on_progress: OnProgress | None = None
    quiet_period: float = field(default=QUIET_PERIOD, validator=checks.amount)
    max_failures: int | None = field(default=None, validator=checks.given(checks.amount))
    max_total_limit: float | None = field(
        default=None, converter=_most, validator=checks.given(checks.amount)
    )
    store_secrets: bool = True
    recipient: str | None = field(default=None, repr=False)
    options: RequestOptions = field(factory=RequestOptions, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.is_open and (self.recipient is not None or not self.store_secrets):
            name = "store_secrets" if self.recipient is None else "recipient"
            checks.refuse(name, "is the open journal's own: give it to Journal.open")
        if self.on_result is None and not self.keeps:
            checks.refuse(
                "on_result",
                "something has to take the secrets: give on_result=, or a journal= that stores "
                "them",
            )

    @property
    def keeps(self) -> bool:
        """Whether the journal keeps the secrets after the process has ended."""
        if self.journal is None or isinstance(self.journal, str | os.PathLike):
            return self.journal is not None and self.store_secrets
        return self.journal.keeps

    @property
    def is_open(self) -> bool:
        """Whether an open journal was given, which stays open."""
        return not isinstance(self.journal, str | os.PathLike | None)
