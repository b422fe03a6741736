"""A transcript: what was done and checked, line by line, and counted. Knows nothing of keys."""

from typing import TextIO

from attrs import define

from openrouter_keys.cli.exit_codes import FAILED


@define
class Transcript:
    """Lines of a word and a text; a failed check stands out and is counted.

    Args:
        out: where they go.
    """

    out: TextIO
    passed: int = 0
    failed: int = 0

    def title(self, text: str) -> None:
        """Begin a part."""
        self.out.write(f"\n{text}\n")

    def did(self, what: str, text: str) -> None:
        """Write what was done."""
        self.out.write(f"{what:10}  {text}\n")

    def check(self, text: str, *, holds: bool) -> None:
        """Write whether something holds, and count it."""
        self.passed += holds
        self.failed += not holds
        self.did("  checked" if holds else "  FAILED", text)

    def end(self) -> int:
        """Sum up, and return the exit code."""
        failed = f", {self.failed} failed" if self.failed else ""
        self.out.write(f"\n{self.passed} checks passed{failed}\n")
        return FAILED if self.failed else 0
