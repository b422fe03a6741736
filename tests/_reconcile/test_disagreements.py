"""Answers that write one key differently: no key is missed, made twice, or taken for ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import pytest

from openrouter_keys import ProvisioningStoppedError, ProvisionReport
from openrouter_keys._base.made_keys import MadeKeys
from openrouter_keys.errors import CreateOutcomeUnknownError, SecretLostError
from tests.cases import Case
from tests.journals import spec
from tests.misbehaving import PAGE, Answer, Asked, Record, refused
from tests.provisions import specs

Behave: TypeAlias = Callable[[Case], None]
Change: TypeAlias = Callable[[Record], Record]
MISSING = refused(404, "Resource not found")


def same(record: Record) -> Record:
    return record


def lists(case: Case, change: Change) -> None:
    case.service.page = lambda keys, offset: [change(key) for key in keys[offset : offset + PAGE]]


def hash_in(asked: Asked) -> str | None:
    return asked.path.rpartition("/keys/")[2] if "/keys/" in asked.path else None


def answers(case: Case, method: str, change: Change) -> None:
    """Answer about one key, under its hash in any spelling, by this method so changed."""

    def answer(asked: Asked) -> Answer | None:
        if (hash := hash_in(asked)) is None:
            return None
        told = case.service._of_one(asked, hash.lower())
        own = [key for key in case.service.keys if key["hash"] == hash.lower()]
        return Answer(200, {"data": change(own[0])}) if own and asked.method == method else told

    case.service.answer = answer


def in_capitals(record: Record) -> Record:
    return record | {"hash": record["hash"].upper()}


def used(record: Record) -> Record:
    return record | {"usage": 1.5}


async def provisioned(case: Case, path: Path) -> ProvisionReport:
    try:
        return await case.client.provision([spec(name="n")], journal=path)
    except ProvisioningStoppedError as error:
        return error.report


def own(case: Case) -> list[Record]:
    return [key for key in case.service.keys if key["name"] == "n"]


# --- when it was made ---


def cut(to: int) -> Change:
    def change(record: Record) -> Record:
        return record | {"created_at": record["created_at"].rstrip("Z")[:to] + "Z"}

    return change


def in_another_zone(record: Record) -> Record:
    return record | {"created_at": record["created_at"].replace("Z", "+00:00")}


WRITTEN: dict[str, tuple[Change, Change]] = {
    "a list in seconds": (cut(19), same),
    "a list in milliseconds": (cut(23), same),
    "a list with another zone": (in_another_zone, same),
    "a key in seconds": (same, cut(19)),
    "a key in tenths of a second, a list in seconds": (cut(19), cut(21)),
}


@pytest.mark.parametrize(("listed", "shown"), WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("way", ["create", "provision"])
async def test_a_lost_key_is_deleted_however_its_time_is_written(
    way: str, listed: Change, shown: Change, case: Case, path: Path
) -> None:
    case.service.add("another")
    case.service.outcomes.append("lost")
    lists(case, listed)
    answers(case, "GET", shown)
    if way == "create":
        await case.client.api_keys.create(name="n", on_unknown="reconcile")
    else:
        assert (await provisioned(case, path)).ok
    assert (len(own(case)), case.service.count("DELETE")) == (1, 1)


# --- its hash ---


def listed_in_capitals(case: Case) -> None:
    """And somebody has used the key, as a look at it shows."""
    lists(case, in_capitals)
    answers(case, "GET", used)


def shown_in_capitals(case: Case) -> None:
    answers(case, "GET", lambda record: used(in_capitals(record)))


def changed_after_a_delete(before: Change, after: Change) -> Behave:
    """No key is found any more once one was to be deleted, and lists write hashes otherwise."""

    def behave(case: Case) -> None:
        def change(record: Record) -> Record:
            return after(record) if case.looks else before(record)

        def answer(asked: Asked) -> Answer | None:
            if (hash := hash_in(asked)) is None:
                return None
            case.looks += asked.method == "DELETE"
            return MISSING if case.looks else case.service._of_one(asked, hash.lower())

        lists(case, change)
        case.service.answer = answer

    return behave


SPELLED: dict[str, Behave] = {
    "listed in capitals": listed_in_capitals,
    "shown in capitals": shown_in_capitals,
    "listed in capitals later": changed_after_a_delete(same, in_capitals),
    "listed in small letters later": changed_after_a_delete(in_capitals, same),
}


@pytest.mark.parametrize("behave", SPELLED.values(), ids=SPELLED)
@pytest.mark.parametrize("way", ["create", "provision"])
async def test_a_key_is_not_lost_from_sight_however_its_hash_is_spelled(
    way: str, behave: Behave, case: Case, path: Path
) -> None:
    case.service.add("another")
    case.service.outcomes.append("lost")
    behave(case)
    if way == "create":
        with pytest.raises(CreateOutcomeUnknownError) as caught:
            await case.client.api_keys.create(name="n", on_unknown="reconcile")
        shown = "".join(caught.value.__notes__)
    else:
        report = await provisioned(case, path)
        assert report.in_doubt == 1
        shown = str([doubt.hashes for doubt in report.doubts])
    assert (len(own(case)), case.service.count("POST")) == (1, 1)
    if way == "create" or behave in (listed_in_capitals, shown_in_capitals):
        assert own(case)[0]["hash"] in shown.lower()


async def test_a_key_that_is_listed_under_another_name_later_is_not_gone(case: Case) -> None:
    case.service.add("another")
    case.service.outcomes.append("lost")
    changed_after_a_delete(same, lambda key: key | {"name": "other"})(case)
    with pytest.raises(CreateOutcomeUnknownError):
        await case.client.api_keys.create(name="n", on_unknown="reconcile")
    assert case.service.count("POST") == 1


@pytest.mark.parametrize("told", [str.upper, str.lower])
@pytest.mark.parametrize("listed", [str.upper, str.lower])
async def test_a_held_key_is_known_however_its_hash_was_spelled(
    told: Callable[[str], str], listed: Callable[[str], str], case: Case, path: Path
) -> None:
    def answer(asked: Asked) -> Answer | None:
        if asked.method != "POST" or case.looks:
            return None
        case.looks += 1
        made = case.service._create(asked.body)
        assert made is not None
        assert isinstance(made.body, dict)
        # Its hash is not the SHA-256 of its secret.
        case.service.keys[-1]["hash"] = "ab" * 32
        made.body["data"]["hash"] = told("ab" * 32)
        return made

    case.service.answer = answer
    lists(case, lambda key: key | {"hash": listed(key["hash"])})
    await case.client.provision([spec("1", name="n")], journal=path)
    case.client._transport.made = MadeKeys("elsewhere")
    case.service.outcomes.append("502")
    await case.client.provision([spec("1", name="n"), spec("2", name="n")], journal=path)
    assert "ab" * 32 in case.service.hashes


@pytest.mark.parametrize("method", ["PATCH", "GET"])
async def test_an_old_key_is_retired_however_its_hash_is_spelled(
    method: str, case: Case, path: Path
) -> None:
    old = case.service.add("old", limit=5)
    await case.client.rotate([old["hash"]], journal=path, on_result=lambda _: None)
    answers(case, method, in_capitals)
    report = await case.client.rotate((), journal=path, retire_after=0)
    assert (report.retired, report.failures) == (1, ())
    assert old["hash"] not in case.service.hashes


# --- a hash that an answer named without the secret ---


def missing_from(request: int, *, lost: bool = False) -> Behave:
    """A named key that no list has; from so many requests for it on, it is not found."""

    def behave(case: Case) -> None:
        hidden: set[str] = set()
        case.service.page = lambda keys, _: [key for key in keys if key["hash"] not in hidden]

        def answer(asked: Asked) -> Answer | None:
            if asked.method == "POST" and not hidden:
                case.service._create(asked.body)
                hidden.add(case.service.keys[-1]["hash"])
                return Answer(201, {"data": case.service.keys[-1]})
            if hash_in(asked) not in hidden:
                return None
            case.looks += 1
            if lost and case.looks == request:
                return refused(502)
            return MISSING if case.looks >= request else None

        case.service.answer = answer

    return behave


NAMED: dict[str, Behave] = {
    "a second look does not find it": missing_from(2),
    "the delete does not find it": missing_from(3),
    "the delete fails, and then does not find it": missing_from(3, lost=True),
}


@pytest.mark.parametrize("behave", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("way", ["create", "reconcile"])
async def test_a_key_that_no_list_ever_had_is_not_gone_because_none_has_it(
    way: str, behave: Behave, case: Case
) -> None:
    case.service.add("another")
    behave(case)
    on_unknown: Literal["raise", "reconcile"] = "reconcile" if way == "create" else "raise"
    with pytest.raises(SecretLostError) as caught:
        await case.client.api_keys.create(name="n", on_unknown=on_unknown)
    if way == "reconcile":
        found = await case.client.api_keys.reconcile(caught.value)
        assert [key.hash for key in found.left] == [own(case)[0]["hash"]]
    assert (len(own(case)), case.service.count("POST")) == (1, 1)


STRANGERS: dict[str, Record] = {
    "of another name, in use": {"name": "prod", "usage": 5},
    "of the same name, in use": {"name": "n", "usage": 5},
    "of the same name, unused": {"name": "n"},
    "of the same name, in capitals": {"name": "N", "disabled": True},
}


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("way", ["create", "provision"])
async def test_a_key_of_long_before_that_an_answer_names_keeps_nothing_in_doubt(
    way: str, stranger: Record, case: Case, path: Path
) -> None:
    kept = case.service.add(**stranger)
    case.time.slept.append(86400)
    first = [Answer(201, {"data": {**kept}})]
    case.service.answer = lambda asked: first.pop() if first and asked.method == "POST" else None
    if way == "create":
        await case.client.api_keys.create(name="n", on_unknown="reconcile")
    else:
        assert (await provisioned(case, path)).ok
    assert len(case.service.keys) == 2
    assert kept in case.service.keys


# --- a hash that is none, or whose key cannot be read ---

GIVEN: dict[str, tuple[str, Answer | None]] = {
    "a redacted one": ("[REDACTED]", None),
    "a path": ("a/b", None),
    "a way up": ("..", None),
    "a label": ("sk-or-v1-0e6...1c96", None),
    "a secret": ("sk-or-v1-" + "5a" * 32, None),
    "half a surrogate pair": ("\ud800", None),
    "none of a key": ("ab" * 32, None),
    "of a key that is refused": ("ab" * 32, refused(403)),
    "of a key that the service cannot show": ("ab" * 32, refused(500)),
    "of a key that another's record answers": ("ab" * 32, Answer(200, {"data": {"hash": "cd"}})),
    "of a key that a page answers": ("ab" * 32, Answer(200, b"<html>Please log in</html>")),
}


@pytest.mark.parametrize(("given", "shown"), GIVEN.values(), ids=GIVEN)
async def test_what_an_answer_gives_for_a_hash_keeps_no_other_create_in_doubt(
    given: str, shown: Answer | None, case: Case, path: Path
) -> None:
    case.service.add("another")
    case.service.outcomes.extend(["lost", "lost", "lost"])
    kept = case.service._record({"name": "customer-0"})

    def answer(asked: Asked) -> Answer | None:
        if asked.method == "POST" and asked.body["name"] == "customer-0":
            case.looks += 1
            return Answer(201, {"data": kept | {"hash": given}}) if case.looks == 1 else None
        return shown if hash_in(asked) == given else None

    case.service.answer = answer
    report = await case.client.provision(specs(4), journal=path, concurrency=1)
    assert (report.ok, report.created) == ((True, 4) if shown is None else (False, 3))
    assert [(doubt.ref, doubt.hashes) for doubt in report.doubts] == (
        [] if shown is None else [("0", (given,))]
    )
    assert all("cannot be looked at" in doubt.reason for doubt in report.doubts)
    case.service.answer = lambda _: None
    assert (await case.client.provision(specs(4), journal=path)).ok
    assert len(case.service.keys) == 5


async def test_no_key_of_a_name_is_deleted_while_one_that_an_answer_gave_cannot_be_read(
    case: Case,
) -> None:
    def answer(asked: Asked) -> Answer | None:
        if asked.method == "POST":
            return Answer(201, {"data": case.service._record({"name": "n"}) | {"hash": "ab" * 32}})
        return refused(403) if hash_in(asked) == "ab" * 32 else None

    case.service.answer = answer
    with pytest.raises(SecretLostError) as caught:
        await case.client.api_keys.create(name="n")
    by_hand = case.service.add("n")
    found = await case.client.api_keys.reconcile(caught.value)
    ((hash, why),) = found.unread
    assert (hash, found.settled, case.service.keys) == ("ab" * 32, False, [by_hand])
    assert "403" in why
