"""`get`, `current`, `find` and `hash`: one key, looked at."""

import sys
from typing import Annotated, cast

from cyclopts import Parameter

from openrouter_keys._base.masking import hash_of
from openrouter_keys._protocol.answers import is_api_404
from openrouter_keys.cli.exit_codes import DONE, FAILED, SOME_FAILED
from openrouter_keys.cli.keys.given import typed
from openrouter_keys.cli.keys.hashes import Hash, whole_hashes
from openrouter_keys.cli.keys.list import FIELDS, HEADINGS, SHOWN
from openrouter_keys.cli.keys.many import each
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.secrets.sources import STANDARD, find_secrets
from openrouter_keys.cli.terminal.messages import say
from openrouter_keys.cli.terminal.output import Output, in_columns, print_record, print_records
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.cli.values import File
from openrouter_keys.converter import unstructure
from openrouter_keys.errors import NotFoundResponseError

SecretFile = Annotated[
    File, Parameter(name="--file", help="A file with the secrets in it; - for standard input.")
]


async def get(
    hash: Hash, /, *, out: Output = Output(), connection: Connection = Connection()
) -> None:
    """Show one key."""
    async with connection.client() as client:
        (whole,) = await whole_hashes(client, [typed(hash)])
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
) -> int:
    """Find the keys of leaked secrets, without printing the secrets.

    They may be anywhere in the input: in the lines of a log, in a file of settings. The command
    looks up the SHA-256 of each, which is the key's hash; the secrets themselves are not sent.
    """
    if file == STANDARD:
        connection.refuse_two_from_standard_input("the secret")
    hashes = [*map(hash_of, find_secrets(file))]
    found = dict[str, Record]()
    async with connection.client() as client:

        async def look(hash: str) -> None:
            try:
                found[hash] = data_of(await client.api_keys.get(hash))
            except NotFoundResponseError as error:
                if not is_api_404(error):
                    raise

        await each(hashes, look)
    records = [found[hash] for hash in hashes if hash in found]
    if len(hashes) > 1:
        await print_records(records, out, FIELDS, in_columns(SHOWN, HEADINGS))
    elif records:
        print_record(records[0], out)
    for hash in hashes:
        if hash not in found:
            say(f"no key of this account has the hash {hash}: it is deleted, or of another account")
    if len(records) == len(hashes):
        return DONE
    return SOME_FAILED if records else FAILED


def hash_secret(*, file: SecretFile = STANDARD) -> None:
    """Print the hash of each secret: its SHA-256, the API's id of the key."""
    for secret in find_secrets(file):
        sys.stdout.write(f"{hash_of(secret)}\n")


def data_of(answer: object) -> Record:
    """Return the record of an answer."""
    return cast("dict[str, Record]", unstructure(answer))["data"]
