"""`get`, `current`, `find` and `hash`: one key, looked at."""

import sys
from typing import Annotated, cast

from cyclopts import Parameter

from openrouter_keys._base.masking import hash_of
from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys.cli.exit_codes import CommandError
from openrouter_keys.cli.keys.hashes import Hash, whole_hashes
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.secrets.sources import STANDARD, find_secret
from openrouter_keys.cli.terminal.output import Output, print_record
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.cli.values import File
from openrouter_keys.converter import unstructure
from openrouter_keys.errors import NotFoundResponseError

SecretFile = Annotated[
    File, Parameter(name="--file", help="A file with the secret in it; - for standard input.")
]


async def get(
    hash: Hash, /, *, out: Output = Output(), connection: Connection = Connection()
) -> None:
    """Show one key."""
    async with connection.client() as client:
        (whole,) = await whole_hashes(client, [hash])
        print_record(data_of(await client.api_keys.get(whole)), out)


async def current(*, out: Output = Output(), connection: Connection = Connection()) -> None:
    """Show the key that this command uses: its limit, and whether it is a management key."""
    async with connection.client() as client:
        print_record(data_of(await client.api_keys.get_current_key_metadata()), out)


async def find(
    *,
    file: SecretFile = STANDARD,
    out: Output = Output(),
    connection: Connection = Connection(),
) -> None:
    """Find the key of a leaked secret, without printing the secret.

    The secret may be anywhere in the input: in a line of a log, in a file of settings. The command
    looks up its SHA-256, which is the key's hash; the secret itself is not sent.
    """
    if file == STANDARD:
        connection.refuse_two_from_standard_input("the secret")
    hash = hash_of(find_secret(file))
    async with connection.client() as client:
        try:
            found = await client.api_keys.get(hash)
        except NotFoundResponseError as error:
            if not is_api_404(error):
                raise
            message = (
                f"no key of this account has the hash {hash}: it is deleted, or of another account"
            )
            raise CommandError(message) from None
    print_record(data_of(found), out)


def hash_secret(*, file: SecretFile = STANDARD) -> None:
    """Print the hash of a secret: its SHA-256, the API's id of the key."""
    sys.stdout.write(f"{hash_of(find_secret(file))}\n")


def data_of(answer: object) -> Record:
    """Return the record of an answer."""
    return cast("dict[str, Record]", unstructure(answer))["data"]
