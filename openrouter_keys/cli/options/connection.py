"""The options that say how to reach the service, and the client that they make."""

import os
import ssl
from typing import Annotated, cast

from attrs import field, frozen
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from openrouter_keys._inputs.credentials import VARIABLES, APIKey, Credentials, credentials_of
from openrouter_keys.cli.exit_codes import AUTHENTICATION, CommandError, UsageError
from openrouter_keys.cli.secrets.sources import STANDARD, read_api_key
from openrouter_keys.cli.terminal.messages import say
from openrouter_keys.cli.terminal.warnings import warnings_to
from openrouter_keys.cli.values import NONE, File, Timeout
from openrouter_keys.client import AsyncOpenRouter

_GROUP = Group("Connection", sort_key=100)


@Parameter(name="*", group=_GROUP)
@frozen(kw_only=True)
class Connection:
    """How to reach the service."""

    api_key_file: Annotated[
        File | None,
        Parameter(help="A file with the management key; - for standard input."),
    ] = None
    base_url: Annotated[
        str | None,
        Parameter(
            metavar="URL",
            help="The API's address; else OPENROUTER_BASE_URL, or the service's own.",
        ),
    ] = None
    proxy: Annotated[
        str | None,
        Parameter(
            metavar="URL|none",
            help="The proxy; else that of HTTPS_PROXY, HTTP_PROXY or ALL_PROXY; none: no proxy. "
            "Other users of this machine can see a password in it: use the variable for one.",
        ),
    ] = field(default=None, repr=False)
    ca_file: Annotated[
        File | None,
        Parameter(
            help="Certificates to trust, in PEM form; else SSL_CERT_FILE's, or the system's.",
        ),
    ] = None
    timeout: Annotated[
        Timeout,
        Parameter(
            validator=Number(gt=0),
            help="How long one request may take in all: 90s, 2m, or seconds.",
        ),
    ] = 120.0

    def refuse_two_from_standard_input(self, other: str) -> None:
        """Refuse to read something else from standard input, if the management key comes from it.

        Args:
            other: what else comes from there, such as `the hashes`.
        """
        if self.api_key_file == STANDARD:
            problem = f"{other} and the management key cannot both come from standard input"
            raise UsageError(f"{problem}: give the key in a file: --api-key-file FILE")

    def client(self) -> AsyncOpenRouter:
        """Make a client; use it with `async with`.

        Raises:
            CommandError: there is no key, or it cannot be read.
            InvalidArgumentError: something is not usable.
        """
        if self.api_key_file is None and not any(map(os.environ.get, VARIABLES)):
            names = " or ".join(VARIABLES)
            message = f"there is no management key: set {names}, or give --api-key-file"
            raise CommandError(message, AUTHENTICATION)
        with warnings_to(say):
            return AsyncOpenRouter(
                cast("APIKey | None", self._credentials()),
                server_url=self.base_url,
                timeout_ms=self.timeout * 1000,
                proxy="" if self.proxy == NONE else self.proxy,
                ssl=None if self.ca_file is None else _trusting(self.ca_file),
            )

    def _credentials(self) -> Credentials | None:
        """Return the key of `--api-key-file`, which an error then names; None: there is none."""
        if self.api_key_file is None:
            return None
        return credentials_of(read_api_key(self.api_key_file, say), "--api-key-file")


def _trusting(file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        problem = "it holds no certificate in PEM form"
    except OSError as error:
        problem = error.strerror or "it cannot be read"
    raise UsageError(f"--ca-file: {problem}")
