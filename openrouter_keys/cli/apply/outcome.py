"""How `apply` ended, for people and for programs."""

from typing import Final

from attrs import define

from openrouter_keys.applying.report import ApplyProgress, ApplyReport
from openrouter_keys.cli.apply.view import plan_record
from openrouter_keys.cli.exit_codes import DONE, SOME_FAILED, code_of_report
from openrouter_keys.cli.runs.outcome import Outcome, listed, problems_of
from openrouter_keys.cli.terminal.messages import say
from openrouter_keys.errors import JSON
from openrouter_keys.provisioning.report import ProvisionReport

_COUNTS: Final = (
    *("created", "handed_over", "updated", "restored", "recreated", "replaced", "pruned"),
    *("failed", "elapsed"),
)


@define
class ApplyOutcome(Outcome):
    """Follows `apply`, and says how it ended.

    Args:
        fail_on_changes: whether what is left undone counts as a failure.
    """

    fail_on_changes: bool = False
    applied: ApplyReport | None = None

    def watch(self, progress: ApplyProgress) -> None:
        """Note the progress; the last one has the report."""
        if progress.provision is not None:
            self.see(progress.provision)
        if progress.report is not None:
            self.take(progress.report)

    def take(self, report: ProvisionReport | ApplyReport) -> None:
        """Note how it ended."""
        super().take(report)
        if isinstance(report, ApplyReport):
            self.applied = report

    def tell(self, why: str) -> None:
        """Say how it went."""
        lines, applied, made = [why] if why else [], self.applied, self.report
        if applied is not None:
            lines += listed("failed", applied.failed, applied.failures)
        if made is not None:
            lines += problems_of(made)
        if self.rescued is not None:
            lines += self.rescued.lines(self.keeping.journal)
        if applied is not None and (not self.quiet or not applied.ok or why):
            lines.append(f"{applied}, in {applied.elapsed:,.1f} s")
        if made is not None:
            lines += self.where_secrets_are(made)
        for line in lines:
            say(line)

    def ended(self, report: ApplyReport) -> int:
        """Say how it went, and return the exit code."""
        self.take(report)
        self.tell("")
        if not report.ok:
            say(f"try again with: {self.again()}")
            return code_of_report(ok=False, in_doubt=self.is_doubtful)
        return SOME_FAILED if self.fail_on_changes and report.plan.left else DONE

    def record(self) -> dict[str, JSON]:
        """Return the outcome for programs."""
        about: dict[str, JSON] = {
            "stopped": self.stopped_by,
            "journal": str(self.keeping.journal),
        }
        report = self.applied
        if report is None:
            return about
        return {
            "ok": report.ok and self.stopped_by is None,
            **about,
            **{name: getattr(report, name) for name in _COUNTS},
            "failures": [
                {"ref": each.ref, "reason": each.reason, "hashes": [*each.hashes]}
                for each in report.failures
            ],
            "plan": plan_record(report.plan),
            "provision": None if self.report is None else super().record(),
        }
