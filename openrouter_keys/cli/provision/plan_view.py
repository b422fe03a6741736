"""`provision --plan`: what would be made, what is there already, and what it may spend."""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, TypeAlias, cast

from openrouter_keys.cli.exit_codes import DONE, FAILED
from openrouter_keys.cli.options.journal import Place
from openrouter_keys.cli.provision.plan import Plan, Step, steps
from openrouter_keys.cli.terminal.messages import counted, say
from openrouter_keys.cli.terminal.output import Output, in_columns, print_records
from openrouter_keys.cli.terminal.text import Record
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.converter import unstructure
from openrouter_keys.errors import IncompleteListingError, NoResponseError
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.specs import KeySpec

#: A workspace, None for the default one, and a name.
_Name: TypeAlias = tuple[str | None, str]

_FIELDS: Final = ("name", "limit", "limit_reset", "expires_at", "workspace_id")
_COLUMNS: Final = ("ref", *_FIELDS, "action", "same_name")
_SHOWN: Final = ("ref", "name", "limit", "limit_reset", "action", "same_name")
_HEADINGS: Final = {"limit_reset": "resets", "action": "would", "same_name": "there already"}
#: How many rows people see; programs get all.
_MOST: Final = 30


async def show(
    specs: Iterable[KeySpec], journal: Place | None, client: AsyncOpenRouter | None, out: Output
) -> int:
    """Show what a run would do, and return the exit code; no create is sent.

    Args:
        specs: what is to be made; gone through more than once.
        journal: where it is; None: it is not there yet.
        client: lists keys of the same names; None: do not look for them.
        out: how.
    """
    there = Counter[_Name]() if client is None else await _same_names(client, specs, journal)
    plan = Plan()
    records = _records(specs, journal, there, plan)
    await print_records(records, out, _COLUMNS, _print, lambda: {"summary": plan.summary()})
    for line in (*plan.lines(), *_same_names_line(there)):
        say(line)
    return DONE if plan.first_changed is None else FAILED


async def _records(
    specs: Iterable[KeySpec], journal: Place | None, there: Counter[_Name], plan: Plan
) -> AsyncIterator[Record]:
    async for step in steps(specs, journal):
        plan.add(step)
        yield _record(step, there[_name_of(step.spec)])


def _record(step: Step, same_name: int) -> Record:
    asked = cast("Record", unstructure(step.spec.request()))
    # Not `external`, which may hold a secret.
    fields = {name: asked.get(name) for name in _FIELDS}
    return {"ref": step.spec.ref, **fields, "action": step.action, "same_name": same_name}


def _name_of(spec: KeySpec) -> _Name:
    return spec.workspace_id, spec.name


async def _same_names(
    client: AsyncOpenRouter, specs: Iterable[KeySpec], journal: Place | None
) -> Counter[_Name]:
    """Return how many keys of the specs' names there are that the journal does not know."""
    names = {_name_of(spec) for spec in specs}
    found: dict[tuple[_Name, str], None] = {}
    try:
        for workspace_id in sorted({workspace for workspace, _ in names}, key=str):
            async for key in client.api_keys.iterate(
                include_disabled=True, include_expired=True, workspace_id=workspace_id
            ):
                if (workspace_id, key.name) in names:
                    found[(workspace_id, key.name), key.hash] = None
    except (IncompleteListingError, NoResponseError) as error:
        say(f"which names are there already is not known: {error}")
        return Counter()
    own = await _own(journal) if found and journal else frozenset[str]()
    return Counter(name for name, hash in found if hash not in own)


async def _own(journal: Place) -> frozenset[str]:
    async with Journal.read(journal.given) as known:
        return frozenset([str(entry.hash) async for entry in known.every()])


def _same_names_line(there: Counter[_Name]) -> list[str]:
    if not there:
        return []
    ((_, name), _), count = there.most_common(1)[0], len(there)
    are = f"{counted(count, 'name')} (such as {name!r}): there are keys"
    return [f"{are} called so that the journal does not know"]


def _print(records: Sequence[Record]) -> None:
    in_columns(_SHOWN, _HEADINGS, lambda each: {**each, "same_name": each["same_name"] or None})(
        records[:_MOST]
    )
    if len(records) > _MOST:
        sys.stdout.write(f"and {len(records) - _MOST:,} more: --csv shows all\n")
