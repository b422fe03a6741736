"""What a caller sets for a run, checked before anything is sent. No I/O."""

import os
from typing import Any

from attrs import field, frozen

from openrouter_keys._inputs import checks
from openrouter_keys._reconcile.single import QUIET_PERIOD
from openrouter_keys.provisioning.report import OnProgress, OnResult

#: How many creates are under way at once, unless the caller sets it.
CONCURRENCY = 32


def _count(_: object, attribute: checks.Named, value: object) -> None:
    checks.count(attribute.name, value)


def _rate(_: object, attribute: checks.Named, value: float) -> None:
    if not checks.seconds(attribute.name, value):
        checks.refuse(attribute.name, "must be more than 0 requests a second")


def _path(_: object, attribute: checks.Named, value: Any) -> None:
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

    journal: str | os.PathLike[str] | None = field(default=None, validator=_path)
    on_result: OnResult | None = None
    on_progress: OnProgress | None = None
    quiet_period: float = field(default=QUIET_PERIOD, validator=checks.amount)
    max_failures: int | None = field(default=None, validator=checks.given(checks.amount))
    max_total_limit: float | None = field(default=None, validator=checks.given(checks.amount))
    store_secrets: bool = True
    recipient: str | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.on_result is None and not self.keeps:
            checks.refuse(
                "on_result",
                "something has to take the secrets: give on_result=, or a journal= that stores "
                "them",
            )

    @property
    def keeps(self) -> bool:
        """Whether the journal keeps the secrets after the process has ended."""
        return self.journal is not None and self.store_secrets
