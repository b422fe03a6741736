"""Four type checkers over `api.py`, which must be clean, and `mistakes.py`, which must not be.

Run it with the interpreter whose environment has the checkers: `python tests/typing/check.py`.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from attrs import frozen

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent
CLEAN: Final = HERE / "api.py"
MISTAKES: Final = HERE / "mistakes.py"
PATIENCE: Final = 300

UNSEEN: Final[Mapping[tuple[str, str], str]] = {
    ("ty", "unknown keyword"): "ty takes any keyword where **options is an unpacked TypedDict",
    ("ty", "never awaited"): "ty has no rule for a coroutine that nobody awaits",
}
"""The kinds of mistake that a checker cannot see, and why; one that it does see must go."""

_MARK: Final = re.compile(r"# mistake(?:: (?P<kind>.+))?$")
# mypy `a.py:1: error:`, pyright `a.py:1:2 - error:`, pyrefly `ERROR a.py:1:2-3:`, ty
# `a.py:1:2: error[…]`
_FINDING: Final = re.compile(
    r"^\s*(?P<loud>ERROR )?(?P<path>\S+?):(?P<line>\d+)(?::[\d-]+)*(?(loud):|(?: -|:) error\b)"
)


@frozen
class Checker:
    """A type checker, its options, and the one that names the interpreter."""

    name: str
    options: str
    interpreter: str

    @property
    def command(self) -> list[str]:
        """The command line, up to the files."""
        asked = [*self.options.split(), self.interpreter, sys.executable]
        return [sys.executable, "-m", self.name, *asked]


CHECKERS: Final = (
    Checker("mypy", "--strict --no-pretty --no-color-output", "--python-executable"),
    # Its own configuration: the project's leaves `mistakes.py` out, even when asked for it.
    Checker("pyright", "--project tests/typing/pyrightconfig.json", "--pythonpath"),
    Checker(
        "pyrefly",
        "check --preset default --output-format min-text --color never",
        "--python-interpreter-path",
    ),
    Checker("ty", "check --output-format concise --color never --no-progress", "--python"),
)


class NotRunError(Exception):
    """A checker said nothing that could be judged."""


@frozen
class Findings:
    """Where a checker saw an error: in `mistakes.py` by line, and anywhere else as it told it."""

    mistakes: frozenset[int]
    elsewhere: tuple[str, ...]


def read(output: str) -> Findings:
    """Read a checker's output."""
    found = [(match, line) for line in output.splitlines() if (match := _FINDING.match(line))]
    return Findings(
        frozenset(int(match["line"]) for match, _ in found if _in_mistakes(match["path"])),
        tuple(line.strip() for match, line in found if not _in_mistakes(match["path"])),
    )


def _in_mistakes(path: str) -> bool:
    return (ROOT / path).resolve() == MISTAKES.resolve()


def run(checker: Checker) -> Findings:
    """Ask a checker about both files.

    Raises:
        NotRunError: it is not installed, or failed.
    """
    command = [*checker.command, str(CLEAN), str(MISTAKES)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    # All four say 1 for "errors found"; 0 would be as wrong, and the comparison tells it better.
    if done.returncode not in (0, 1) or f"No module named {checker.name}" in done.stderr:
        raise NotRunError(f"{checker.name} could not be run: {done.stderr or done.stdout}")
    return read(done.stdout)


def marked() -> dict[int, str | None]:
    """The marked lines of `mistakes.py`, each with its kind."""
    lines = enumerate(MISTAKES.read_text(encoding="utf-8").splitlines(), 1)
    return {number: found["kind"] for number, line in lines if (found := _MARK.search(line))}


def differences(checker: str, findings: Findings) -> Iterator[str]:
    """What a checker saw and should not have, or should have and did not."""
    kinds = marked()
    yield from findings.elsewhere
    for number in sorted(findings.mistakes - kinds.keys()):
        yield f"{MISTAKES.name}:{number}: an error on a line that is not marked"
    for number, kind in kinds.items():
        excused = (checker, kind) in UNSEEN
        if number in findings.mistakes and excused:
            yield f"{MISTAKES.name}:{number}: seen, so {kind!r} needs no exception any more"
        elif number not in findings.mistakes and not excused:
            yield f"{MISTAKES.name}:{number}: the mistake is not seen"


def report(checker: str, findings: Findings) -> bool:
    """Write a checker's row and its differences; say whether there are none."""
    wrong = [*differences(checker, findings)]
    kinds = marked()
    seen = f"{len(findings.mistakes & kinds.keys())}/{len(kinds)}"
    excused = sum((checker, kind) in UNSEEN for kind in kinds.values())
    clean = "clean" if not findings.elsewhere else f"{len(findings.elsewhere)} errors"
    verdict = "differs" if wrong else "as expected"
    sys.stdout.write(f"{checker:8}  {clean:10}  {seen:8}  {excused:7}  {verdict}\n")
    sys.stdout.writelines(f"  {line}\n" for line in wrong)
    return not wrong


def main() -> int:
    """Run the four side by side, and compare."""
    sys.stdout.write("checker   api.py      mistakes  excused  result\n")
    with ThreadPoolExecutor() as pool:
        runs = {checker.name: pool.submit(run, checker) for checker in CHECKERS}
    try:
        good = [report(name, done.result()) for name, done in runs.items()]
    except NotRunError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
