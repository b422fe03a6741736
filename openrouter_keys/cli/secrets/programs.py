"""Programs that get a key: the check that one exists, and its environment."""

import os
import shutil
import sys
from typing import Final

from openrouter_keys._inputs.credentials import VARIABLES
from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.secrets.formats import Handed

# The management key, and a URL with a password, behind which the secrets of all keys are.
_OURS: Final = (*VARIABLES, "OPENROUTER_KEYS_JOURNAL")


def check_program(name: str, argument: str) -> None:
    """Refuse a program that does not exist, before anything is sent.

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
    """Return this process's environment with a key's facts, and without what is this command's."""
    known = {"REF": handed.ref, "NAME": handed.name, "HASH": handed.hash}
    ours = {name: value for name, value in os.environ.items() if name not in _OURS}
    return ours | {f"OPENROUTER_KEY_{name}": _held(value) for name, value in known.items()}


def _held(text: str) -> str:
    """Return a text for an environment variable: without NUL, with escapes where it needs them."""
    encoding = sys.getfilesystemencoding()
    return text.replace("\0", "").encode(encoding, "backslashreplace").decode(encoding)
