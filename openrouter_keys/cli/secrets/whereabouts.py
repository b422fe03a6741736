"""Where the secrets of a run are when it has ended, for people. Nothing is read or written."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.secrets.handover import free_name
from openrouter_keys.cli.terminal.messages import keys
from openrouter_keys.provisioning.report import ProvisionReport

_DEFAULT = "keys.csv"


def of_new(to: Destination, journal: Path) -> Iterator[str]:
    """Tell where the secrets are that a run handed over."""
    if to.secret_file is not None:
        yield f"the secrets are in {to.secret_file}"
    elif not to.to_command and not to.show_secret:
        export = export_command(journal, free_name(_DEFAULT))
        yield f"the secrets are in the journal; take them out with: {export}"


def of_earlier(
    report: ProvisionReport, to: Destination, journal: Path, *, stored: bool
) -> Iterator[str]:
    """Tell of keys whose secrets did not go where this run's do, since they had been made before.

    Args:
        report: how the run ended.
        to: where its secrets go.
        journal: its journal.
        stored: whether the journal has the secrets, too.
    """
    if not report.settled_before or not to.hands_over:
        return
    were, theirs = ("was", "its secret is") if report.settled_before == 1 else (
        "were", "their secrets are",
    )  # fmt: skip
    where, path = "not handed over again", free_name(_DEFAULT)
    if to.secret_file is not None:
        where, path = f"not in {to.secret_file}", free_name(to.secret_file)
        if not (report.created or report.resumed):
            # It is there for a moment longer.
            where, path = f"{where}, which was not made", to.secret_file
    told = f"{keys(report.settled_before)} {were} made by an earlier run, and {theirs} {where}"
    yield f"{told}: take all out with: {export_command(journal, path)}" if stored else told


def export_command(journal: Path, path: str) -> str:
    """Return the command that takes a journal's secrets out, to a file."""
    return shlex.join(["openrouter-keys", "journal", "export", str(journal), "-o", path])
