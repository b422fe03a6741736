"""What the phases of a rotation share."""

from attrs import Factory, frozen

from openrouter_keys._base.masking import scrub
from openrouter_keys._reconcile.service_clock import ServiceClock
from openrouter_keys._transport.transport import Transport
from openrouter_keys.journal.journal import Journal
from openrouter_keys.provisioning.counters import Problems
from openrouter_keys.provisioning.rate_limiter import RateLimiter
from openrouter_keys.provisioning.report import ProvisionProblem
from openrouter_keys.rotation.settings import RotationSettings


@frozen
class RotationContext:
    """What the phases of a rotation share.

    Attributes:
        transport: the client's.
        journal: what is known durably; each step is in it before the next one is taken.
        settings: the caller's.
        clock: the service's.
        limiter: the gate of all requests but creates.
        problems: which keys could not be rotated, or not be retired, and why.
    """

    transport: Transport
    journal: Journal
    settings: RotationSettings
    clock: ServiceClock
    limiter: RateLimiter
    problems: Problems = Factory(Problems)

    def report(self, hash: str, problem: str) -> None:
        """Add a problem of an old key to the report."""
        self.problems.add(ProvisionProblem(ref=hash, reason=problem, hashes=(hash,)))

    async def fail(self, hash: str, problem: str) -> None:
        """Add a problem of an old key to the report and to the journal, without secrets."""
        reason = scrub(problem)
        self.report(hash, reason)
        await self.journal.fail_rotation(hash, reason)
