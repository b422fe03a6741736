"""What a caller sets for `plan_apply` and `apply`, checked before anything is sent. No I/O."""

import os
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

from openrouter_keys._inputs import checks
from openrouter_keys._inputs.options import QUIET_PERIOD
from openrouter_keys.applying.report import ApplyProgress, Plan
from openrouter_keys.provisioning.report import OnProgress, OnResult
from openrouter_keys.provisioning.settings import (
    JournalOrPlace,
    Pace,
    RunSettings,
    refuse_unopened,
)

#: What becomes of the journal's keys that no spec names.
Prune: TypeAlias = Literal["disable", "delete"]
# So few keys are pruned in any case: of two customers, one may go.
_FEW = 3
# A third of nine keys is three, and not two.
_ROUNDING = 1e-6
OnPlan: TypeAlias = Callable[[Plan], Awaitable[bool] | bool]
OnApplyProgress: TypeAlias = Callable[[ApplyProgress], object]


def _journal(_: object, attribute: checks.Named, value: Any) -> None:
    refuse_unopened(attribute.name, value)
    if value == "" or not (isinstance(value, str | os.PathLike) or hasattr(value, "succession")):
        checks.refuse(
            attribute.name,
            "must be an open Journal, the path of a file or the URL of a database: without one, "
            "no key of the account is known to be a spec's",
        )


def _max_prune(_: object, attribute: checks.Named, value: object) -> None:
    is_share = isinstance(value, float) and 0 <= value <= 1
    if isinstance(value, bool) or not (is_share or (isinstance(value, int) and value >= 0)):
        checks.refuse(
            attribute.name,
            "must be None, a number of keys, as 10, or a share of them from 0.0 to 1.0, as 0.5",
        )


def _prune(_: object, attribute: checks.Named, value: object) -> None:
    if value not in (None, "disable", "delete"):
        checks.refuse(attribute.name, f"must be None, 'disable' or 'delete', not {value!r}")


@frozen(kw_only=True)
class PlanSettings(Pace):
    """The settings of `plan_apply`; `AsyncOpenRouter.plan_apply` says what each means."""

    journal: JournalOrPlace = field(validator=_journal)
    prune: Prune | None = field(default=None, validator=_prune)
    max_prune: float | None = field(default=None, validator=checks.given(_max_prune))
    recreate: bool = field(default=False, validator=checks.flag)
    replace: bool = field(default=False, validator=checks.flag)

    def most_pruned(self, working: int, *, has_specs: bool) -> int:
        """Return how many keys that work may be pruned.

        Args:
            working: how many keys of the journal work.
            has_specs: whether there is any spec.
        """
        if isinstance(self.max_prune, int):
            return self.max_prune
        if self.max_prune is not None:
            return int(self.max_prune * working + _ROUNDING)
        return max(_FEW, working // 2) if has_specs else 0


@frozen(kw_only=True)
class ApplySettings(PlanSettings):
    """The settings of `apply`; `AsyncOpenRouter.apply` says what each means."""

    on_plan: OnPlan | None = None
    on_result: OnResult | None = None
    on_progress: OnApplyProgress | None = None
    quiet_period: float = QUIET_PERIOD
    max_failures: int | None = None
    max_total_limit: float | None = None
    store_secrets: bool = True
    recipient: str | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        self.run()  # it checks what it shares with a run

    def run(
        self,
        journal: JournalOrPlace | None = None,
        on_result: OnResult | None = None,
        on_progress: OnProgress | None = None,
    ) -> RunSettings:
        """Return the settings of the run that creates keys.

        Args:
            journal: its own. None: the caller's.
            on_result: its own. None: the caller's.
            on_progress: called with how far it is. None: not called.
        """
        # What an open journal does with secrets was settled when it was opened.
        is_own = journal is not None
        return RunSettings(
            journal=self.journal if journal is None else journal,
            concurrency=self.concurrency,
            rate=self.rate,
            on_result=on_result or self.on_result,
            on_progress=on_progress,
            quiet_period=self.quiet_period,
            max_failures=self.max_failures,
            max_total_limit=self.max_total_limit,
            store_secrets=is_own or self.store_secrets,
            recipient=None if is_own else self.recipient,
        )
