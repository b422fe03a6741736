"""What `plan_apply` and `apply` return: the changes, what they cost, how they ended."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Literal, NoReturn, TypeAlias

from attrs import evolve, field, frozen

from openrouter_keys._base.masking import escaped
from openrouter_keys.errors import OpenRouterError
from openrouter_keys.models import HoldsSecret
from openrouter_keys.provisioning.report import (
    ProvisionProblem,
    ProvisionProgress,
    ProvisionReport,
)

# So many refs at most are in a text.
_SHOWN = 20

Action: TypeAlias = Literal[
    "create", "hand over", "update", "restore", "recreate", "replace", "prune"
]
Needs: TypeAlias = Literal["recreate", "replace", "prune"]
Value: TypeAlias = str | float | bool | datetime | None


@frozen
class FieldChange:
    """What a field is, and what it is to be.

    Attributes:
        name: the field's, as of `KeySpec`.
        before: what the service shows; None: nothing, or there is no key.
        after: what the spec says.
    """

    name: str
    before: Value
    after: Value


def _escaped(why: str | None) -> str | None:
    return None if why is None else escaped(why)


@frozen(kw_only=True)
class Change:
    """One change of the account.

    Attributes:
        ref: the caller's own id for the key.
        name: the key's name, as it is to be.
        hash: the key's hash; None: there is no key.
        action: `create`: there is no key. `hand over`: there is one, and nobody has taken its
            secret. `update`: the spec says another thing than before. `restore`: somebody changed
            the key by hand. `recreate`: the key is gone, or was never as it was asked for.
            `replace`: no update can change it so. `prune`: no spec names the key.
        fields: what changes in the key.
        why: why it is not done. None: it is.
        needs: the argument of `apply` that does it. None: it is done, or none does.
        namesakes: of a `create`, the hashes of keys that have the same name, in the same
            workspace, and that the journal does not know: they may be the ref's. `adopt_all` puts
            them into the journal.
    """

    ref: str
    name: str
    hash: str | None
    action: Action
    fields: tuple[FieldChange, ...] = ()
    why: str | None = field(default=None, converter=_escaped)
    needs: Needs | None = None
    namesakes: tuple[str, ...] = ()


@frozen(kw_only=True)
class Limits:
    """What keys that work may spend.

    Attributes:
        amounts: the sum of the limits, in US dollars, by when they reset: `daily`, `weekly`,
            `monthly` or `once`, which is never.
        unlimited: how many keys have no limit.
    """

    amounts: Mapping[str, Decimal]
    unlimited: int = 0


@frozen(kw_only=True)
class PruneExcess:
    """More keys would be pruned than may be.

    Attributes:
        pruned: how many keys that work; if there are no specs, how many in all.
        working: how many keys of the journal work.
        most: how many of those may be pruned.
        no_specs: whether there are no specs at all.
    """

    pruned: int
    working: int
    most: int
    no_specs: bool = False

    def __str__(self) -> str:
        if self.no_specs:
            return f"there are no specs, and {_keys(self.pruned)} would be pruned"
        working = f"{_keys(self.pruned)} of {self.working:,} that work"
        return f"{working} would be pruned, and at most {self.most:,} may be"


def _keys(count: int) -> str:
    return f"{count:,} key{'' if count == 1 else 's'}"


@frozen(kw_only=True)
class Plan:
    """What `apply` does to have the account as the specs say.

    Attributes:
        changes: what is done, and what is not and why; in the order of the specs, then of the
            journal.
        unchanged: how many specs have their key as they say.
        pruned: how many keys that no spec names are disabled already.
        in_doubt: how many refs that no spec names may or may not have a key.
        before: what the journal's keys may spend now.
        after: what they may spend once it is done.
        excess: that too many keys would be pruned, so that `apply` does nothing of it; None: they
            are not too many.
        is_new: whether the journal has no keys, nor any that may exist. Where keys have `namesakes`
            then, the specs may belong to another journal.
    """

    changes: tuple[Change, ...]
    unchanged: int
    pruned: int
    in_doubt: int
    before: Limits
    after: Limits
    excess: PruneExcess | None = None
    is_new: bool = False

    @property
    def namesakes(self) -> tuple[Change, ...]:
        """The creates of whose names there are keys already, which the journal does not know."""
        return tuple(change for change in self.changes if change.namesakes)

    @property
    def to_do(self) -> tuple[Change, ...]:
        """The changes that are done."""
        return tuple(change for change in self.changes if change.why is None)

    @property
    def left(self) -> tuple[Change, ...]:
        """The changes that are not done."""
        return tuple(change for change in self.changes if change.why is not None)

    def __str__(self) -> str:
        done = Counter(change.action for change in self.to_do)
        counts: dict[str, int] = {
            **{str(action): count for action, count in done.items()},
            "not done": len(self.left),
            "unchanged": self.unchanged,
        }
        return (
            ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing"
        )


ApplyPhase: TypeAlias = Literal["changing", "creating", "retiring", "pruning", "ended"]


@frozen(kw_only=True)
class ApplyProgress:
    """How far `apply` is.

    Attributes:
        phase: what it does. `changing`: updates, and deletes what is made anew; `creating`: a run
            as of `provision`; `retiring`: deletes the keys that were replaced; `ended`: this is
            the last call.
        done: how many changes of the phase are done.
        total: how many there are.
        provision: how far the creates are; None: not begun.
        report: how it ended; None: it has not.
    """

    phase: ApplyPhase
    done: int
    total: int
    provision: ProvisionProgress | None = None
    report: "ApplyReport | None" = None


@frozen(kw_only=True)
class ApplyReport(HoldsSecret):
    """How `apply` ended. It lists the first 1,000 failures, and counts all.

    Attributes:
        plan: what was to be done, and what was not and why.
        created: how many keys were created, and handed over.
        handed_over: how many keys were handed over that an earlier run had created.
        updated: how many were updated.
        restored: how many are again as they were asked for.
        recreated: how many were created anew.
        replaced: how many were replaced, and their old keys deleted.
        pruned: how many were disabled or deleted, since no spec names them.
        done_elsewhere: how many changes another process was faster with.
        failed: how many changes failed, besides those of `provision`.
        failures: which, and why.
        not_handed_over: the refs whose keys, or replacements, were made, and whose secrets nobody
            has taken: if the call was stopped. The journal has them, and the same call hands them
            over.
        provision: how the creates ended; None: there were none.
        declined: whether `on_plan` returned False, so that nothing was done.
        stopped: whether it ended before it was through.
        elapsed: seconds.
    """

    plan: Plan
    created: int = 0
    handed_over: int = 0
    updated: int = 0
    restored: int = 0
    recreated: int = 0
    replaced: int = 0
    pruned: int = 0
    done_elsewhere: int = 0
    failed: int = 0
    failures: tuple[ProvisionProblem, ...] = field(default=(), repr=False)
    not_handed_over: tuple[str, ...] = ()
    provision: ProvisionReport | None = None
    declined: bool = False
    stopped: bool = False
    elapsed: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all that was to be done is done."""
        # A key that nobody took and no spec names is the plan's to show.
        whole = self.provision is None or evolve(self.provision, pending=0).ok
        return whole and not (self.failed or self.declined or self.stopped)

    @property
    def changed(self) -> int:
        """How many changes were done."""
        made = self.created + self.handed_over + self.recreated + self.replaced
        return made + self.updated + self.restored + self.pruned

    def __str__(self) -> str:
        counts = {
            "created": self.created,
            "handed over from an earlier run": self.handed_over,
            "updated": self.updated,
            "restored": self.restored,
            "recreated": self.recreated,
            "replaced": self.replaced,
            "pruned": self.pruned,
            "done by another process": self.done_elsewhere,
            "failed": self.failed,
            "not handed over": len(self.not_handed_over),
            "undelivered": 0 if self.provision is None else len(self.provision.undelivered),
            "not done": len(self.plan.left),
            "unchanged": self.plan.unchanged,
        }
        return (
            ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing"
        )

    @property
    def hint(self) -> str:
        """What to do after the call was stopped."""
        again = "the same call goes on from there"
        if not (refs := self.not_handed_over):
            return again
        shown = ", ".join(map(escaped, refs[:_SHOWN]))
        more = f" and {len(refs) - _SHOWN:,} more" if len(refs) > _SHOWN else ""
        return (
            f"the keys of {shown}{more} are made, and nobody has taken their secrets, which the "
            f"journal has: {again}, and hands them over"
        )


class ApplyStoppedError(OpenRouterError):
    """`apply` ended before it was through; `__cause__` is what stopped it.

    It refuses to be pickled, since its report may hold secrets.

    Attributes:
        report: how far it came.
    """

    def __init__(self, reason: BaseException, report: ApplyReport) -> None:
        why = str(reason) or type(reason).__name__
        super().__init__(f"stopped: {why}; {report}; {report.hint}")
        self.report = report

    def __reduce__(self) -> NoReturn:
        raise TypeError("an ApplyStoppedError is never pickled: its report may hold secrets")


class TooManyPrunedError(OpenRouterError):
    """`apply` would prune more keys than `max_prune` allows; nothing was changed.

    Attributes:
        plan: what would have been done.
        excess: how many keys would be pruned, and how many may be.
    """

    def __init__(self, plan: Plan, excess: PruneExcess) -> None:
        permits = f"give max_prune={excess.pruned} if the specs are whole"
        super().__init__(f"{excess}: nothing was changed; {permits}")
        self.plan = plan
        self.excess = excess
