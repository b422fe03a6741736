"""The command's entry: `openrouter-keys`, or `python -m openrouter_keys`. The rest is in `cli`."""

import sys
from collections.abc import Sequence

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code, see `openrouter_keys.cli`.

    Args:
        arguments: the words after the program's name; None: those of the process.
    """
    try:
        # Loaded late: an interrupt meanwhile is one like any other, and the extra may be missing.
        from openrouter_keys.cli.app import run  # noqa: PLC0415

        return run(sys.argv[1:] if arguments is None else arguments)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("cyclopts", "rich"):
            raise
        hint = 'pip install "openrouter-keys[cli]"'
        sys.stderr.write(f"openrouter-keys: {error.name} is missing, install it: {hint}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
