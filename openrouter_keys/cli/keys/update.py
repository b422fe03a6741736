"""`update`: what is given is changed, and the rest stays as it is."""

from typing import Annotated, cast

from attrs import asdict
from cyclopts import Parameter

from openrouter_keys._base.unset import UNSET
from openrouter_keys._protocol.drift import unchanged
from openrouter_keys.cli.exit_codes import CommandError
from openrouter_keys.cli.keys.get import data_of
from openrouter_keys.cli.keys.hashes import Hash, whole_hashes
from openrouter_keys.cli.options.connection import Connection
from openrouter_keys.cli.terminal.messages import say
from openrouter_keys.cli.terminal.output import Output, print_json, print_record
from openrouter_keys.cli.terminal.prompts import DryRun
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.cli.values import Limit, Reset
from openrouter_keys.converter import unstructure
from openrouter_keys.models import UpdateKeysRequest


async def update(
    hash: Hash,
    /,
    *,
    name: Annotated[str | None, Parameter(help="The new name.")] = None,
    disabled: Annotated[
        bool | None,
        Parameter(negative="--enabled", help="Stop the key from working, or let it work again."),
    ] = None,
    limit: Limit = UNSET,
    limit_reset: Reset = UNSET,
    include_byok_in_limit: Annotated[
        bool | None, Parameter(help="Count spending on your own provider keys.")
    ] = None,
    workspace_id: Annotated[
        str | None, Parameter(metavar="UUID", help="Move the key to this workspace.")
    ] = None,
    dry_run: DryRun = False,
    out: Output = Output(),
    connection: Connection = Connection(),
) -> None:
    """Change what is given, and nothing else. `--limit none` removes the limit."""
    request = UpdateKeysRequest(
        name=name,
        disabled=disabled,
        limit=limit,
        limit_reset=limit_reset,
        include_byok_in_limit=include_byok_in_limit,
        workspace_id=workspace_id,
    )
    async with connection.client() as client:
        (whole,) = await whole_hashes(client, [hash])
        if dry_run:
            say(f"would change {whole}")
            print_json(cast("Record", unstructure(request)))
        else:
            changed = await client.api_keys.update(whole, **asdict(request))
            if problem := unchanged(whole, request, changed.data):
                raise CommandError(f"{problem}: look at it, and change it again")
            print_record(data_of(changed), out)
