"""Keys that exist join a journal. The proof is a record that the service shows of them now."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from openrouter_keys._inputs import checks
from openrouter_keys._inputs.options import RequestOptions
from openrouter_keys._reconcile.listing import Lister
from openrouter_keys._transport.transport import Transport
from openrouter_keys.adoption.plans import as_it_is, spec_of
from openrouter_keys.adoption.report import AdoptedKey, AdoptionReport
from openrouter_keys.ensuring.context import opened
from openrouter_keys.ensuring.settings import ReleaseSettings
from openrouter_keys.errors import DuplicateRefError, InvalidArgumentError, NotAdoptedError
from openrouter_keys.journal.adoptions import MADE, NOT_MADE, Adoption
from openrouter_keys.journal.entries import CHUNK
from openrouter_keys.journal.journal import Journal
from openrouter_keys.journal.records import text_of
from openrouter_keys.journal.specs import KeySpec
from openrouter_keys.models import Key
from openrouter_keys.operations import list_
from openrouter_keys.provisioning.report import ProvisionProblem
from openrouter_keys.provisioning.spec_source import Specs, batches, check_specs

_UNASKABLE = "no create can ask for what it is ({})"
_SEVERAL = "{} keys have the name {!r}: adopt one of them by its hash"
_TWO_SPECS = "another spec has the name {!r}, too: adopt its key by its hash"


async def adopt(
    transport: Transport,
    hash: str,
    asked: str | KeySpec,
    settings: ReleaseSettings,
    *,
    dry_run: bool,
) -> AdoptedKey:
    """Make a key that exists a ref's; see `AsyncOpenRouter.adopt`."""
    checks.key_hash(hash)
    if not isinstance(asked, KeySpec):
        checks.ref(asked)
    async with opened(transport, settings, "adopt") as context, context.run() as (journal, clock):
        key = await Lister(transport, clock, settings.options).look(hash)
        home = await _default_workspace(transport, journal, settings.options, key)
        ref = asked if isinstance(asked, str) else asked.ref
        try:
            adoption = _adoption(asked, key, home)
        except InvalidArgumentError as error:
            raise NotAdoptedError(ref, key.hash, _UNASKABLE.format(error)) from error
        (adopted,) = await journal.adopt([adoption], dry_run=dry_run)
        if adopted.problem is not None:
            raise NotAdoptedError(ref, key.hash, adopted.problem)
        return AdoptedKey(ref=ref, data=key, outcome="adopted" if adopted.new else "existing")


def _adoption(asked: str | KeySpec, key: Key, default_workspace: str | None) -> Adoption:
    if isinstance(asked, str):
        spec = spec_of(asked, key, default_workspace)
    else:
        spec = as_it_is(asked, key, default_workspace)
    return Adoption(
        ref=spec.ref,
        plan=spec.plan,
        hash=key.hash,
        name=key.name,
        made_at=key.created_at,
        record=text_of(key),
    )


async def _default_workspace(
    transport: Transport, journal: Journal, options: RequestOptions, key: Key
) -> str | None:
    """Return the default workspace; None: it has no key, so that the key is not in it."""
    known = await journal.default_workspace()
    if known is not None or key.workspace_id is None:
        return known
    page = await transport.perform(list_(include_disabled=True, include_expired=True), options)
    return next((each.workspace_id for each in page.data if each.workspace_id), None)


# --- many ---


async def adopt_all(
    transport: Transport, specs: Specs, settings: ReleaseSettings, *, dry_run: bool
) -> AdoptionReport:
    """Make the keys of specs' names theirs; see `AsyncOpenRouter.adopt_all`."""
    check_specs(specs)
    wanted = await _by_ref(specs)
    async with opened(transport, settings, "adopt") as context, context.run() as (journal, clock):
        found = _Adoptions(journal, dry_run=dry_run)
        homes = defaultdict[str | None, list[KeySpec]](list)
        for spec in await found.new(wanted):
            homes[spec.workspace_id].append(spec)
        for home, those in homes.items():
            keys = await Lister(transport, clock, settings.options).every(home)
            await found.match(those, keys.values())
    return found.report()


async def _by_ref(specs: Specs) -> dict[str, KeySpec]:
    wanted: dict[str, KeySpec] = {}
    async for batch in batches(specs):
        for spec in batch:
            if spec.ref in wanted:
                raise DuplicateRefError(spec.ref)
            wanted[spec.ref] = spec
    return wanted


class _Adoptions:
    """What becomes of specs, one workspace after the other.

    Args:
        journal: the run's.
        dry_run: whether nothing is written.
    """

    def __init__(self, journal: Journal, *, dry_run: bool) -> None:
        self._journal, self._dry_run = journal, dry_run
        self._adopted: dict[str, str] = {}
        self._existing = 0
        self._missing: list[str] = []
        self._refused: list[ProvisionProblem] = []

    async def new(self, wanted: Mapping[str, KeySpec]) -> list[KeySpec]:
        """Return the specs whose refs the journal does not know."""
        refs, unknown = [*wanted], list[KeySpec]()
        for start in range(0, len(refs), CHUNK):
            chunk = refs[start : start + CHUNK]
            states = await self._journal.states_of(chunk)
            unknown += [wanted[ref] for ref in chunk if ref not in states]
            self._existing += sum(state in MADE for state in states.values())
            for ref, state in states.items():
                if state not in MADE:
                    self._refuse(wanted[ref], NOT_MADE.format(state.value))
        return unknown

    async def match(self, specs: Sequence[KeySpec], listed: Iterable[Key]) -> None:
        """Adopt the one key of each spec's name.

        Args:
            specs: those of one workspace.
            listed: all of its keys.
        """
        names = Counter(spec.name for spec in specs)
        named = defaultdict[str, list[Key]](list)
        for key in listed:
            named[key.name].append(key)
        adoptions: list[Adoption] = []
        for spec in specs:
            keys = named[spec.name]
            if not keys:
                self._missing.append(spec.ref)
            elif len(keys) > 1:
                self._refuse(spec, _SEVERAL.format(len(keys), spec.name), *keys)
            elif names[spec.name] > 1:
                self._refuse(spec, _TWO_SPECS.format(spec.name), *keys)
            elif (adoption := self._asked(spec, keys[0])) is not None:
                adoptions.append(adoption)
        for start in range(0, len(adoptions), CHUNK):
            await self._write(adoptions[start : start + CHUNK])

    def _asked(self, spec: KeySpec, key: Key) -> Adoption | None:
        try:
            # What is listed without a workspace is in the default one.
            return _adoption(spec, key, key.workspace_id if spec.workspace_id is None else None)
        except InvalidArgumentError as error:
            self._refuse(spec, _UNASKABLE.format(error), key)
            return None

    async def _write(self, adoptions: Sequence[Adoption]) -> None:
        came = await self._journal.adopt(adoptions, dry_run=self._dry_run)
        for asked, adopted in zip(adoptions, came, strict=True):
            if adopted.problem is not None:
                problem = ProvisionProblem(
                    ref=asked.ref, reason=adopted.problem, hashes=(asked.hash,)
                )
                self._refused.append(problem)
            elif adopted.new:
                self._adopted[asked.ref] = asked.hash
            else:
                self._existing += 1  # another process was faster

    def _refuse(self, spec: KeySpec, reason: str, *keys: Key) -> None:
        hashes = tuple(key.hash for key in keys)
        self._refused.append(ProvisionProblem(ref=spec.ref, reason=reason, hashes=hashes))

    def report(self) -> AdoptionReport:
        """Return what came of them."""
        return AdoptionReport(
            adopted=self._adopted,
            existing=self._existing,
            missing=tuple(self._missing),
            refused=tuple(self._refused),
        )
