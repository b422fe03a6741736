"""Programs that are run with a key: whether there is one, and what it finds in its environment."""

import os
import shutil
import sys

from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.secrets.formats import Handed


def check_program(name: str, argument: str) -> None:
    """Refuse a program that is not there, before anything is sent.

    Raises:
        UsageError: there is no such program.
    """
    if shutil.which(name) is None:
        problem = f"{argument}: there is no program {name!r}"
        raise UsageError(f"{problem}; no shell reads this: sh -c '...' has one")


def cannot_run(name: str, error: OSError) -> UsageError:
    """Return the error for a program that cannot be started."""
    return UsageError(f"cannot run {name}: {error.strerror}")


def environment(handed: Handed) -> dict[str, str]:
    """Return this process's environment, with what is known of a key, and no management key."""
    known = {"REF": handed.ref, "NAME": handed.name, "HASH": handed.hash}
    ours = {name: value for name, value in os.environ.items() if name != "OPENROUTER_API_KEY"}
    return ours | {f"OPENROUTER_KEY_{name}": _held(value) for name, value in known.items()}


def _held(text: str) -> str:
    """Return a text as an environment can hold it: no NUL, escapes for what it cannot encode."""
    encoding = sys.getfilesystemencoding()
    return text.replace("\0", "").encode(encoding, "backslashreplace").decode(encoding)
