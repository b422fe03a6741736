"""What a run returns to its caller: keys, progress, report. No `repr` shows a secret."""

from collections.abc import Awaitable, Callable
from typing import Literal, NoReturn, TypeAlias

from attrs import field, frozen

from openrouter_keys._base.made_keys import MadeKey
from openrouter_keys._base.masking import escaped, mask
from openrouter_keys.errors import OpenRouterError
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.models import HoldsSecret, Key

_NOTHING = "nothing"


@frozen(kw_only=True)
class ProvisionResult(HoldsSecret):
    """A key that was made, as it was asked for.

    Attributes:
        ref: the caller's own id for it.
        spec: what was asked for.
        key: the secret; masked in `repr`, never pickled.
        data: the key's record.
    """

    ref: str
    spec: KeySpec
    key: str = field(repr=mask)
    data: Key


OnResult: TypeAlias = Callable[[ProvisionResult], Awaitable[object] | object]


@frozen(kw_only=True)
class ProvisionProblem:
    """A key that is not as it should be.

    Attributes:
        ref: the caller's own id for it.
        reason: what is wrong, escaped as the message of an error is.
        hashes: the keys of the service that it is about; empty: none is known.
    """

    ref: str
    reason: str = field(converter=escaped)
    hashes: tuple[str, ...] = ()


@frozen(kw_only=True)
class UndeliveredKey(HoldsSecret):
    """A key that was made, and whose secret is nowhere but here.

    The next run with its journal takes an unused key that is not in there for a lost one: it
    deletes it, and makes it anew.

    Attributes:
        ref: the caller's own id for it.
        key: the secret; masked in `repr`, never pickled.
        hash: the key's hash.
    """

    ref: str
    key: str = field(repr=mask)
    hash: str

    @property
    def identity(self) -> MadeKey:
        """What proves which key it is."""
        return MadeKey.of(self.hash, self.key)


@frozen(kw_only=True)
class Counts:
    """The counts that progress and report share; `ProvisionReport` says what each is."""

    created: int
    resumed: int
    settled_before: int
    failed: int
    mismatched: int
    in_doubt: int
    elapsed: float


@frozen(kw_only=True)
class ProvisionReport(Counts, HoldsSecret):
    """How a run ended. Of each kind of problem it lists the first 1,000, and counts all.

    Attributes:
        created: how many keys were made and handed over in this run.
        resumed: how many had been made by an earlier run and were handed over in this one.
        settled_before: how many specs needed nothing any more.
        failed: how many the service refused to make, or cannot be handed over.
        failures: which, and why.
        mismatched: how many keys are not as they were asked for; they were disabled, unless the
            reason says otherwise.
        mismatches: which, and in what.
        in_doubt: how many may or may not have been made; nothing was sent again for them.
        doubts: which, why, and which keys may be theirs.
        unproven: keys beside settled ones that may come of a create without an answer, and could
            not be deleted, or not be proven to be ours.
        pending: how many keys were made and not handed over; the next run does.
        deleted: how many keys a reconcile deleted, since their secrets were lost.
        undelivered: keys whose secrets are nowhere but here: take them.
        elapsed: seconds.
        stopped: whether the run ended before it was through: stopped, or cancelled.
    """

    failures: tuple[ProvisionProblem, ...] = field(repr=False)
    mismatches: tuple[ProvisionProblem, ...] = field(repr=False)
    doubts: tuple[ProvisionProblem, ...] = field(repr=False)
    unproven: tuple[ProvisionProblem, ...]
    pending: int
    deleted: int
    undelivered: tuple[UndeliveredKey, ...]
    stopped: bool = False

    @property
    def ok(self) -> bool:
        """Whether the run is through, nothing failed or is left to do, and no other key is left."""
        problems = self.failed + self.mismatched + self.in_doubt + self.pending
        return not (self.stopped or problems or self.unproven or self.undelivered)

    def __str__(self) -> str:
        told = {
            "created": self.created,
            "handed over from an earlier run": self.resumed,
            "settled before": self.settled_before,
            "failed": self.failed,
            "not as asked for": self.mismatched,
            "in doubt": self.in_doubt,
            "not handed over": self.pending,
            "unproven": len(self.unproven),
            "undelivered": len(self.undelivered),
        }
        return ", ".join(f"{count:,} {what}" for what, count in told.items() if count) or _NOTHING


Phase: TypeAlias = Literal["creating", "waiting", "reconciling", "ended"]


@frozen(kw_only=True)
class ProvisionProgress(Counts):
    """How far a run is.

    Attributes:
        phase: what it does; `waiting`: for late commits, for a service that fails, or for other
            runs; `ended`: this is the last call, also of a run that was cancelled or stopped.
        elsewhere: how many specs it waits for that other runs with the journal are at; those that
            may have a key count as `in_doubt`, too.
        total: how many specs there are; None: their source has no length.
        read: how many of them were read.
        created: as in `ProvisionReport`, and so are the next four.
        in_doubt: how many wait for a reconcile.
        rate: creates a second that the pace allows now; infinite: no bound is known.
        concurrency: how many creates may be under way at once now.
        elapsed: seconds.
        report: how it ended; None: it has not.
    """

    phase: Phase
    total: int | None
    read: int
    rate: float
    concurrency: int
    elsewhere: int = 0
    report: ProvisionReport | None = None

    @property
    def done(self) -> int:
        """How many specs need nothing any more."""
        finished = self.created + self.resumed + self.settled_before
        return finished + self.failed + self.mismatched


OnProgress: TypeAlias = Callable[[ProvisionProgress], object]


class ProvisioningStoppedError(OpenRouterError):
    """A run ended before it was through; `__cause__` is what stopped it.

    It refuses to be pickled, since its report may hold secrets.

    Attributes:
        report: how far it came.
    """

    def __init__(self, reason: BaseException, report: ProvisionReport, hint: str) -> None:
        why = str(reason) or type(reason).__name__
        came = f"{report}; " if str(report) != _NOTHING else ""
        super().__init__(f"stopped: {why}; {came}{hint}")
        self.report = report

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ProvisioningStoppedError is never pickled: its report may hold secrets")
