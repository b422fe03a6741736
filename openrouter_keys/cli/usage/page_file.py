"""The file that a page is written into: a new one, or one in place of another."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from openrouter_keys.cli.exit_codes import CommandError, UsageError
from openrouter_keys.cli.secrets.sinks import write_new

_FOR_ALL: Final = 0o644
_FOR_OWNER: Final = 0o600


def check_place(path: str, *, force: bool) -> None:
    """Refuse a place where no page can be made, before there is one.

    Args:
        path: where it is to be.
        force: whether it may replace a file.

    Raises:
        CommandError: it cannot be made there.
    """
    place = Path(path)
    if force and place.is_file():
        return
    if os.path.lexists(path):
        hint = "it is no file" if force else "give another path, or --force"
        raise UsageError(f"{path} is there already: {hint}")
    if not place.absolute().parent.is_dir():
        raise UsageError(f"cannot make {path}: its folder is not there")


def write_page(path: str, page: str, *, force: bool) -> None:
    """Write a page into a new file, or in place of one.

    Args:
        path: the file.
        page: its text.
        force: whether it may replace a file, whose mode it then has; that stays as it is if this
            fails.

    Raises:
        CommandError: it cannot be written.
    """
    new = f"{path}.{os.getpid()}.new" if force else path
    try:
        mode = _mode(path) if force else None
        # It holds no secret: who can list the folder may read it, unless the file before it was
        # more private.
        first = _FOR_ALL if mode is None else _FOR_OWNER
        write_new(new, page.encode(errors="backslashreplace"), first)
        if force:
            _put_in_place(new, path, mode)
    except FileExistsError as error:
        raise UsageError(f"{new} is there already: give another path, or --force") from error
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error


def _put_in_place(new: str, path: str, mode: int | None) -> None:
    try:
        if mode is not None:
            os.chmod(new, mode)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise


def _mode(path: str) -> int | None:
    with suppress(FileNotFoundError):
        return stat.S_IMODE(os.stat(path).st_mode) & 0o777
    return None
