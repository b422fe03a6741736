"""The result of a rotation: each key, and how a call ended. Without secrets."""

import enum
from datetime import datetime

from attrs import field, frozen

from openrouter_keys.errors import QuotaExhaustedError
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.models import HoldsSecret
from openrouter_keys.provisioning.report import ProvisionProblem, ProvisionReport


class RotationState(enum.StrEnum):
    """How far the rotation of a key is."""

    #: The key cannot be rotated, and the journal does not know it.
    REFUSED = "refused"
    #: It has no replacement yet.
    PLANNED = "planned"
    #: The replacement's secret was not handed over yet.
    MADE = "made"
    #: Both keys work.
    HANDED_OVER = "handed_over"
    #: The old key is disabled.
    DISABLED = "disabled"
    #: The old key is gone: nothing is left to do.
    DELETED = "deleted"


@frozen(kw_only=True)
class Rotation:
    """A key that is to be replaced. Money is in US dollars.

    Attributes:
        hash: the old key's.
        name: its name; None: it is not known.
        limit: its limit when this was planned; None: it had none, or is not known.
        spent: what it had spent then; with a limit that resets, in its period.
        spec: the request for its replacement, with the new `limit`. None: there is none.
        twin: the replacement's hash; None: it is not made.
        state: how far the rotation is.
        problem: what went wrong last; None: nothing.
        created_at: when the old key was made; None: not asked for.
    """

    hash: str
    name: str | None
    limit: float | None
    spent: float
    spec: KeySpec | None
    twin: str | None
    state: RotationState
    problem: str | None
    created_at: datetime | None = None

    @property
    def starts_anew(self) -> bool:
        """Whether the replacement may spend again what the old key has spent of its limit."""
        limited = self.limit is not None and self.spec is not None
        return (
            limited and self.spent > 0 and self.spec is not None and self.spec.limit == self.limit
        )


@frozen(kw_only=True)
class RotationReport(HoldsSecret):
    """How a call of `rotate` ended. It lists the first 1,000 problems, and counts all.

    Attributes:
        rotated: how many replacements were handed over in this call.
        retired: how many old keys were deleted in this call, or found to be gone.
        waiting: how many rotations of the journal are not finished: their old keys exist.
        pending: how many of these have no replacement that was handed over, so that their old
            keys cannot be retired.
        skipped: how many of the hashes are replacements that this journal made, which it does not
            rotate.
        failed: how many keys cannot be rotated or retired, or have a replacement that was refused
            or is not as requested.
        failures: which, by the old key's hash, and why.
        in_doubt: how many replacements may or may not have been made.
        provision: how making the replacements ended; None: this call made none, but retired.
        exhausted: the daily quota that stopped the retirement, with the time to go on; None: none
            did.
    """

    rotated: int
    retired: int
    waiting: int
    pending: int
    skipped: int
    failed: int
    failures: tuple[ProvisionProblem, ...] = field(repr=False)
    in_doubt: int
    provision: ProvisionReport | None
    exhausted: QuotaExhaustedError | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing failed or stopped it, and every replacement was handed over."""
        whole = self.exhausted is None and (self.provision is None or self.provision.ok)
        return whole and not (self.failed or self.in_doubt or self.pending)

    def __str__(self) -> str:
        counts = {
            "rotated": self.rotated,
            "retired": self.retired,
            "waiting to be retired": self.waiting - self.pending,
            "without a replacement in hand": self.pending,
            "failed": self.failed,
            "in doubt": self.in_doubt,
            "skipped, as replacements of this journal": self.skipped,
        }
        return (
            ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing"
        )
