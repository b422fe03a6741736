"""How the commands reach the service: the options that all of them share, made a client."""

import os
import sys
from pathlib import Path
from typing import Annotated

from attrs import frozen
from cyclopts import Group, Parameter

from openrouter_keys.cli import AUTHENTICATION, USAGE, CommandError
from openrouter_keys.cli.values import File
from openrouter_keys.client import AsyncOpenRouter

#: In place of a file: standard input, or standard output.
STANDARD = "-"

_GROUP = Group("Connection", sort_key=100)


@Parameter(name="*", group=_GROUP)
@frozen(kw_only=True)
class Connection:
    """How to reach the service."""

    api_key_file: Annotated[
        File | None,
        Parameter(help="A file with the management key, or - for standard input."),
    ] = None
    base_url: Annotated[
        str | None,
        Parameter(
            metavar="URL",
            help="The API's address, if not OPENROUTER_BASE_URL or the service's own.",
        ),
    ] = None
    timeout: Annotated[
        float, Parameter(metavar="SECONDS", help="Seconds that a request may take, in all.")
    ] = 120.0

    def client(self) -> AsyncOpenRouter:
        """Make a client; use it with `async with`.

        Raises:
            CommandError: there is no key, or it cannot be read.
            InvalidArgumentError: something is not usable.
        """
        if self.api_key_file is None and not os.environ.get("OPENROUTER_API_KEY"):
            message = "there is no management key: set OPENROUTER_API_KEY, or give --api-key-file"
            raise CommandError(message, AUTHENTICATION)
        key = None if self.api_key_file is None else read_secret(self.api_key_file)
        return AsyncOpenRouter(key, server_url=self.base_url, timeout_ms=self.timeout * 1000)


#: What a command takes whose user gave no option of these.
DEFAULT = Connection()


def read_secret(file: str) -> str:
    """Read a secret: the one line that a file holds.

    Args:
        file: its path; `-`: standard input.

    Raises:
        CommandError: it cannot be read, or holds anything else.
    """
    try:
        source = sys.stdin.buffer.read() if file == STANDARD else Path(file).read_bytes()
        text = source.decode().strip()
    except OSError as error:
        # Without the path: it may be the secret that was given in place of its file.
        raise CommandError(f"cannot read the key's file: {error.strerror}", USAGE) from None
    except ValueError:
        raise CommandError("the key's file is no text", USAGE) from None
    if not text or len(text.split()) > 1:
        problem = "is empty" if not text else "holds more than one word"
        where = "standard input" if file == STANDARD else "the key's file"
        raise CommandError(f"{where} {problem}: give a file with the key alone", AUTHENTICATION)
    return text
