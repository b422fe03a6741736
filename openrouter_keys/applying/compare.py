"""Compares specs with what a journal knows and what the service shows. No network."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeAlias, TypeVar, cast

from attrs import define, evolve, field, frozen

from openrouter_keys._base.identifiers import canonical
from openrouter_keys._base.unset import UNSET
from openrouter_keys._protocol.drift import disagreements
from openrouter_keys.applying.known import KnownKey
from openrouter_keys.applying.report import (
    Action,
    Change,
    FieldChange,
    Limits,
    Plan,
    PruneExcess,
    Value,
)
from openrouter_keys.applying.settings import PlanSettings
from openrouter_keys.errors import JSON
from openrouter_keys.journal.rotations import REPLACED, RotationEntry
from openrouter_keys.journal.schema import DOUBTFUL, State
from openrouter_keys.journal.specs import KeySpec, canonical_plan, exact
from openrouter_keys.models import External, Key, UpdateKeysRequest
from openrouter_keys.rotation.replacement import stored_spec

#: What an update can change.
UPDATABLE: Final = (
    *("name", "limit", "limit_reset", "include_byok_in_limit"),
    *("workspace_id", "disabled"),
)
_FIELDS: Final = (*UPDATABLE, "expires_at", "creator_user_id", "external")
# A field that a plan does not name.
_LEFT_OUT: Final = object()

_GONE: Final = "the key is gone; its user needs the secret of a new one"
_REJECTED: Final = "{}; a new one takes its place"
_FIXED: Final = "no update can change this; its user needs the secret of a new key"
_ROTATED: Final = "a rotation of the key is under way: end it with `rotate`, then apply"
_PARTNERS: Final = (
    "a key with a partner's own api_key is not replaced: release the ref, then apply again"
)
_SPARED: Final = "no spec names it"
_NEVER: Final = "it was never as asked for"
_HALF_DELETED: Final = "its deletion is not finished"
_NEVER_GOOD: Final = "it was never as asked for, and can only be deleted"


@frozen(kw_only=True)
class Making:
    """A key that is created, or handed over.

    Attributes:
        change: what people see of it.
        spec: what is asked for.
        known: what the journal has of the ref, which is released first. None: it is not.
    """

    change: Change
    spec: KeySpec
    known: KnownKey | None = None


@frozen(kw_only=True)
class Updating:
    """A key that is updated.

    Attributes:
        change: what people see of it.
        known: what the journal has of the ref.
        plan: what it has from then on.
        shown: the key's record now.
        request: what is sent. None: nothing, the key is so already.
    """

    change: Change
    known: KnownKey
    plan: str
    shown: Key
    request: UpdateKeysRequest | None = None


@frozen(kw_only=True)
class Replacing:
    """A key that is replaced.

    Attributes:
        change: what people see of it.
        spec: what is asked for.
        known: what the journal has of the ref.
        asked: what the replacement is asked for, under the old key's hash: as the spec says, or as
            one said when it began.
    """

    change: Change
    spec: KeySpec
    known: KnownKey
    asked: KeySpec


@frozen(kw_only=True)
class Pruning:
    """Keys that no spec names.

    Attributes:
        change: what people see of it.
        known: what the journal has of the ref.
        disabled: the hashes of those that are disabled. Empty: all are deleted.
    """

    change: Change
    known: KnownKey
    disabled: tuple[str, ...] = ()


S = TypeVar("S", Making, Updating, Replacing, Pruning)
Step: TypeAlias = Making | Updating | Replacing | Pruning


@define
class Comparison:
    """What is to be done.

    Attributes:
        plan: what people see of it.
        making: keys that are created, or handed over.
        updating: keys that are updated, or that the journal has another plan of.
        replacing: keys that are replaced.
        pruning: keys that no spec names.
    """

    plan: Plan
    making: list[Making] = field(factory=list[Making])
    updating: list[Updating] = field(factory=list[Updating])
    replacing: list[Replacing] = field(factory=list[Replacing])
    pruning: list[Pruning] = field(factory=list[Pruning])

    @property
    def creates(self) -> bool:
        """Whether a key is to be created."""
        made = (step.change.action for step in self.making)
        return bool(self.replacing) or any(action != "hand over" for action in made)


def compare(
    specs: Sequence[KeySpec],
    known: Mapping[str, KnownKey],
    shown: Mapping[str, Key],
    unseen: Mapping[str, str | None],
    namesakes: Mapping[str, Sequence[str]],
    *,
    settings: PlanSettings,
) -> Comparison:
    """Return what is to be done to have the account as the specs say.

    Args:
        specs: each with a ref of its own.
        known: what the journal knows, by the refs.
        shown: the keys that the service shows, by their canonical hashes.
        unseen: why other keys may be there all the same, by their hashes; None: they are gone.
        namesakes: the hashes of keys that the journal does not know, and that have the name of a
            key to be created, by its ref.
        settings: the caller's.
    """
    comparing = _Comparing(shown, unseen, namesakes, settings)
    for spec in specs:
        comparing.spec(spec, known.get(spec.ref))
    named = {spec.ref for spec in specs}
    for ref, each in known.items():
        if ref not in named:
            comparing.unnamed(each)
    is_new = all(each.is_refused for each in known.values())
    return comparing.result(has_specs=bool(specs), is_new=is_new)


@define
class _Sum:
    amounts: dict[str, Decimal] = field(factory=dict[str, Decimal])
    unlimited: int = 0

    def add(self, limit: object, reset: object, *, disabled: bool = False) -> None:
        if disabled:
            return
        if isinstance(limit, int | float):
            period = reset if isinstance(reset, str) else "once"
            self.amounts[period] = self.amounts.get(period, Decimal(0)) + exact(limit)
        else:
            self.unlimited += 1

    def key(self, key: Key | None) -> None:
        if key is not None:
            self.add(key.limit, key.limit_reset, disabled=key.disabled)

    def spec(self, spec: KeySpec, key: Key | None) -> None:
        limit, reset = (
            getattr(key, name, None) if given is UNSET else given
            for name, given in (("limit", spec.limit), ("limit_reset", spec.limit_reset))
        )
        self.add(limit, reset, disabled=spec.disabled)

    def limits(self) -> Limits:
        return Limits(amounts=self.amounts, unlimited=self.unlimited)


@define
class _Comparing:
    _shown: Mapping[str, Key]
    _unseen: Mapping[str, str | None]
    _namesakes: Mapping[str, Sequence[str]]
    _settings: PlanSettings
    _changes: list[Change] = field(init=False, factory=list[Change])
    _making: list[Making] = field(init=False, factory=list[Making])
    _updating: list[Updating] = field(init=False, factory=list[Updating])
    _replacing: list[Replacing] = field(init=False, factory=list[Replacing])
    _pruning: list[Pruning] = field(init=False, factory=list[Pruning])
    _before: _Sum = field(init=False, factory=_Sum)
    _after: _Sum = field(init=False, factory=_Sum)
    _unchanged: int = field(init=False, default=0)
    _pruned: int = field(init=False, default=0)
    _in_doubt: int = field(init=False, default=0)
    _working: int = field(init=False, default=0)
    _cut_off: int = field(init=False, default=0)

    def result(self, *, has_specs: bool, is_new: bool) -> Comparison:
        plan = Plan(
            changes=tuple(self._changes),
            unchanged=self._unchanged,
            pruned=self._pruned,
            in_doubt=self._in_doubt,
            before=self._before.limits(),
            after=self._after.limits(),
            excess=self._excess(has_specs=has_specs),
            is_new=is_new,
        )
        return Comparison(plan, self._making, self._updating, self._replacing, self._pruning)

    def _excess(self, *, has_specs: bool) -> PruneExcess | None:
        """Return what is wrong with how many keys are pruned: the specs may be half a file."""
        most = self._settings.most_pruned(self._working, has_specs=has_specs)
        # Of specs that nobody meant to be empty, no key is spared.
        is_bare = not has_specs and self._settings.max_prune is None
        pruned = len(self._pruning) if is_bare else self._cut_off
        if pruned <= most:
            return None
        return PruneExcess(pruned=pruned, working=self._working, most=most, no_specs=is_bare)

    def _add(self, steps: list[S], step: S) -> None:
        """Show a change, and do it unless it says why not."""
        self._changes.append(step.change)
        if step.change.why is None:
            steps.append(step)

    def _key(self, known: KnownKey | None) -> Key | None:
        if known is None or known.hash is None:
            return None
        return self._shown.get(canonical(known.hash))

    # --- a key that a spec names ---

    def spec(self, spec: KeySpec, known: KnownKey | None) -> None:
        key = self._key(known)
        self._before.key(key)
        self._working += known is not None and self._works(known)
        if known is None:
            self._create(spec, None, releases=False)
        elif known.is_releasing:
            self._create(spec, known, releases=True)
        elif known.state is State.FAILED and known.hash is not None:
            self._recreate(spec, known, _REJECTED.format(known.reason or _NEVER))
        elif known.state is State.SETTLED or (known.state is State.MADE and known.is_kept):
            self._existing(spec, known, key)
        else:
            self._create(spec, known, releases=_plan(_working(spec)) != known.plan)

    def _create(self, spec: KeySpec, known: KnownKey | None, *, releases: bool) -> None:
        self._after.spec(spec, None)
        change = Change(
            ref=spec.ref,
            name=spec.name,
            hash=None,
            action="create",
            fields=_asked(spec),
            namesakes=tuple(self._namesakes.get(spec.ref, ())),
        )
        self._add(self._making, Making(change=change, spec=spec, known=known if releases else None))

    def _recreate(self, spec: KeySpec, known: KnownKey, reason: str) -> None:
        change = _change(spec, known, "recreate", ())
        if self._settings.recreate:
            self._after.spec(spec, None)
        else:
            change = evolve(change, why=reason, needs="recreate")
        self._add(self._making, Making(change=change, spec=spec, known=known))

    def _existing(self, spec: KeySpec, known: KnownKey, key: Key | None) -> None:
        if key is None:
            self._missing(spec, known)
            return
        # A key is handed over before it is disabled.
        asked = _working(spec) if known.state is State.MADE else spec
        fields = _differing(asked, known, key)
        fixed = tuple(each for each in fields if each.name not in UPDATABLE)
        if fixed and known.state is State.MADE:
            self._create(spec, known, releases=True)
            return
        self._after.spec(spec, key)
        begun = known.unretired or known.rotation
        if fixed or (begun is not None and begun.budget == REPLACED):
            why = self._why_not_replaced(spec, known, begun)
            change = _change(spec, known, "replace", fixed if why else fields)
            change = evolve(change, why=why, needs="replace" if why == _FIXED else None)
            if known.unretired is not None and key.disabled:
                # It was pruned meanwhile: both keys go, and another one is created.
                self._add(self._making, Making(change=change, spec=spec, known=known))
            else:
                wanted = evolve(_working(spec), ref=key.hash)
                if why is None and begun is not None:
                    wanted = stored_spec(begun.hash, begun.plan)
                step = Replacing(change=change, spec=spec, known=known, asked=wanted)
                self._add(self._replacing, step)
            # The record of a replacement must stay as it was asked for until it is handed over.
            if why is None or known.unretired is not None:
                return
        if known.state is State.MADE:
            change = _change(spec, known, "hand over", ())
            self._add(self._making, Making(change=change, spec=spec))
        self._update(asked, known, key, fields)
        if not (fields or known.state is State.MADE):
            self._unchanged += 1

    def _missing(self, spec: KeySpec, known: KnownKey) -> None:
        if known.state is State.MADE:
            # Nobody has its secret: another key is as good.
            self._create(spec, known, releases=_plan(_working(spec)) != known.plan)
            return
        if (why := self._unseen.get(str(known.hash))) is None:
            self._recreate(spec, known, _GONE)
        else:
            self._changes.append(evolve(_change(spec, known, "recreate", ()), why=why))

    def _why_not_replaced(
        self, spec: KeySpec, known: KnownKey, begun: RotationEntry | None
    ) -> str | None:
        if not self._settings.replace:
            return _FIXED
        if known.is_rotating:
            return _ROTATED
        if begun is not None:  # it is ended as it was begun, whatever the spec says now
            return None if begun.budget == REPLACED else _ROTATED
        if spec.external is not None and spec.external.api_key is not None:
            return _PARTNERS
        return None

    def _update(
        self, spec: KeySpec, known: KnownKey, key: Key, differing: tuple[FieldChange, ...]
    ) -> None:
        fields = tuple(each for each in differing if each.name in UPDATABLE)
        plan = _plan(spec)
        by_hand = known.wanted is None and all(
            _asked_before(each.name, plan, known) for each in fields
        )
        change = _change(spec, known, "restore" if by_hand else "update", fields)
        # What only a replacement can change stays as it was asked for.
        for left in (each.name for each in differing if each not in fields):
            plan.pop(left, None)
            plan |= {left: known.plan[left]} if left in known.plan else {}
        step = Updating(change=change, known=known, plan=canonical_plan(plan), shown=key)
        if fields:
            request = {each.name: getattr(spec, each.name) for each in fields}
            step = evolve(step, request=UpdateKeysRequest(**request))
            self._add(self._updating, step)
        elif plan != known.plan or known.wanted is not None:
            self._updating.append(step)

    # --- a key that no spec names ---

    def unnamed(self, known: KnownKey) -> None:
        key, prune = self._key(known), self._settings.prune
        self._before.key(key)
        self._working += self._works(known)
        if known.state in DOUBTFUL:
            self._in_doubt += 1
        if known.is_releasing:
            self._prune(known, key, None if prune == "delete" else _HALF_DELETED)
        elif known.hash is None or known.state in DOUBTFUL:
            return
        elif not (those := self._those(known)):
            if (why := self._unseen.get(known.hash)) is not None:
                self._prune(known, key, why)
        elif prune == "delete":
            self._prune(known, key, None)
        elif all(each.disabled for each in those):
            self._pruned += 1
        elif prune is None or known.state is State.FAILED:
            self._prune(known, key, _SPARED if prune is None else _NEVER_GOOD)
        else:
            self._prune(known, key, None, *(each.hash for each in those if not each.disabled))

    def _those(self, known: KnownKey) -> list[Key]:
        found = (self._shown.get(canonical(hash)) for hash in known.hashes)
        return [key for key in found if key is not None]

    def _works(self, known: KnownKey) -> bool:
        return any(not each.disabled for each in self._those(known))

    def _prune(self, known: KnownKey, key: Key | None, why: str | None, *disabled: str) -> None:
        if why is not None:
            self._after.key(key)
        else:
            self._cut_off += self._works(known)
        change = Change(
            ref=known.ref,
            name=known.name,
            hash=known.hash,
            action="prune",
            fields=(FieldChange("disabled", before=False, after=True),) if disabled else (),
            why=why,
            needs="prune" if why in (_SPARED, _HALF_DELETED, _NEVER_GOOD) else None,
        )
        self._add(self._pruning, Pruning(change=change, known=known, disabled=disabled))


def _change(
    spec: KeySpec,
    known: KnownKey,
    action: Action,
    fields: tuple[FieldChange, ...],
) -> Change:
    return Change(ref=spec.ref, name=spec.name, hash=known.hash, action=action, fields=fields)


def _plan(spec: KeySpec) -> dict[str, JSON]:
    return cast("dict[str, JSON]", json.loads(spec.plan))


def _working(spec: KeySpec) -> KeySpec:
    """Return the spec of the same key, not disabled: a create cannot disable one."""
    return evolve(spec, disabled=False) if spec.disabled else spec


def _asked_before(name: str, plan: Mapping[str, JSON], known: KnownKey) -> bool:
    """Whether the journal's key was asked for with the same value of a field."""
    nothing = False if name == "disabled" else _LEFT_OUT
    return plan.get(name, nothing) == known.plan.get(name, nothing)


def _differing(spec: KeySpec, known: KnownKey, key: Key) -> tuple[FieldChange, ...]:
    """Return the fields that the spec names, and in which the key is not, or may not stay, so."""
    plan = _plan(spec)
    names = {*disagreements(spec.request(), key)}
    if key.disabled != spec.disabled:
        names.add("disabled")
    if spec.external is not None and known.plan.get("external") != plan["external"]:
        names.add("external")
    if "limit" in names and _is_rest(spec, known, key):
        names.remove("limit")
    before = {name: _shown(name, key) for name in names}
    # An update that was under way when its run ended may still land.
    for name in UPDATABLE:
        told = None if known.wanted is None else known.wanted.get(name, _LEFT_OUT)
        is_named = name in plan or name == "disabled"
        mine = plan.get(name, False)
        if known.wanted is not None and told is not _LEFT_OUT and is_named and told != mine:
            before.setdefault(name, cast("Value", told))
    return tuple(
        FieldChange(name, before[name], _given(name, spec)) for name in _FIELDS if name in before
    )


def _is_rest(spec: KeySpec, known: KnownKey, key: Key) -> bool:
    """Whether a limit is what a rotation left of the one that is asked for."""
    asked_before = known.plan.get("limit") == spec.limit
    never_resets = key.limit_reset is None
    if known.given is None or key.limit is None:
        return False
    return asked_before and never_resets and key.limit <= known.given


def _shown(name: str, key: Key) -> Value:
    shown: object = key.external_user if name == "external" else getattr(key, name)
    return None if shown is UNSET else cast("Value", shown)


def _given(name: str, spec: KeySpec) -> Value:
    given: object = getattr(spec, name)
    if isinstance(given, External):
        return given.user
    return None if given is UNSET else cast("Value", given)


def _asked(spec: KeySpec) -> tuple[FieldChange, ...]:
    """Return what a new key is asked for, but its name."""
    plan = _plan(spec)
    names = [name for name in _FIELDS if name in plan and name != "name"]
    return tuple(FieldChange(name, None, _given(name, spec)) for name in names)
