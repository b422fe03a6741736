"""What `provision` prints: the options of `output`, in its own words."""

from typing import Annotated

from attrs import frozen
from cyclopts import Group, Parameter

from openrouter_keys.cli.terminal.output import Output
from openrouter_keys.cli.values import Flag


@Parameter(name="*", group=Group("Output", sort_key=90))
@frozen(kw_only=True)
class ProvisionOutput(Output):
    """What to print; without any of these, nothing but a plan."""

    json: Annotated[Flag, Parameter(help="Print how it ended as JSON; with --plan, the plan.")] = (
        False
    )
    jsonl: Annotated[
        Flag, Parameter(help="Print a line of JSON for each key made; with --plan, for each row.")
    ] = False
    csv: Annotated[Flag, Parameter(help="With --plan only: print it as CSV.")] = False
