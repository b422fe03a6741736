"""What a caller sets for `ensure` and `release`, checked before anything is sent. No I/O."""

import os
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

from openrouter_keys._inputs import checks
from openrouter_keys._inputs.options import QUIET_PERIOD, RequestOptions
from openrouter_keys.journal.addresses import shown
from openrouter_keys.provisioning.settings import JournalOrPlace, refuse_unopened

OnChange: TypeAlias = Literal["update", "refuse"]


def _journal(_: object, attribute: checks.Named, value: Any) -> None:
    refuse_unopened(attribute.name, value)
    is_place = isinstance(value, str | os.PathLike)
    if value == "" or not (is_place or hasattr(value, "succession")):
        checks.refuse(
            attribute.name,
            "must be an open Journal, the path of a file or the URL of a database: without one, "
            "each call would make another key",
        )


def _on_change(_: object, attribute: checks.Named, value: object) -> None:
    if value not in ("update", "refuse"):
        checks.refuse(attribute.name, f"must be 'update' or 'refuse', not {value!r}")


def _options(_: object, __: checks.Named, value: RequestOptions) -> None:
    if value.get("server_url") is not None:
        checks.refuse("server_url", "is the client's own: a journal belongs to one service")


@frozen(kw_only=True)
class ReleaseSettings:
    """The settings of `release`; `AsyncOpenRouter.release` says what each means."""

    journal: JournalOrPlace = field(validator=_journal, repr=shown)
    wait: float | None = field(default=None, validator=checks.given(checks.amount))
    quiet_period: float = field(default=QUIET_PERIOD, validator=checks.amount)
    options: RequestOptions = field(factory=RequestOptions, repr=False, validator=_options)


@frozen(kw_only=True)
class EnsureSettings(ReleaseSettings):
    """The settings of `ensure`; `AsyncOpenRouter.ensure` says what each means."""

    on_change: OnChange = field(default="update", validator=_on_change)
    verify: bool = field(default=False, validator=checks.flag)
    recreate: bool = field(default=False, validator=checks.flag)
