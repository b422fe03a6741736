"""What may leave a process in a pickle, and what never does."""

import copy
import inspect
import itertools
import multiprocessing
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest

import openrouter_keys
from openrouter_keys import AsyncOpenRouter, OpenRouter, errors
from openrouter_keys._inputs.credentials import Credentials
from openrouter_keys.applying.report import (
    ApplyReport,
    ApplyStoppedError,
    Limits,
    Plan,
    PruneExcess,
)
from openrouter_keys.errors import JournalInUseError, OpenRouterError, SecretNotKeptError
from openrouter_keys.journal.journal import Journal
from openrouter_keys.provisioning.report import ProvisioningStoppedError, ProvisionReport
from tests.promises.test_secrets import CREATED, HASH, MANAGEMENT
from tests.tables import in_one_test

# --- errors ---

REPORT = ProvisionReport(
    created=1,
    resumed=0,
    settled_before=0,
    failed=0,
    failures=(),
    mismatched=0,
    mismatches=(),
    in_doubt=0,
    doubts=(),
    unproven=(),
    pending=0,
    deleted=0,
    undelivered=(),
    elapsed=1.5,
)
NO_LIMITS = Limits(amounts={})
PLAN = Plan(changes=(), unchanged=0, pruned=0, in_doubt=0, before=NO_LIMITS, after=NO_LIMITS)
APPLY_REPORT = ApplyReport(plan=PLAN)
# A value for each type that an error is made of; a new type needs a new line.
VALUES: dict[object, Any] = {
    str: "what happened",
    int: 5,
    int | None: None,
    str | None: "an obstacle",
    float: 2.5,
    tuple[str, ...]: ("limit", "name"),
    BaseException: ValueError("why"),
    OpenRouterError | None: errors.NotSentError("no connection"),
    ProvisionReport: REPORT,
    ApplyReport: APPLY_REPORT,
    Plan: PLAN,
    PruneExcess: PruneExcess(pruned=30, working=48, most=24),
}
HOLD_SECRETS = {
    errors.CreatedKeyUnreadableError,
    SecretNotKeptError,
    ProvisioningStoppedError,
    ApplyStoppedError,
}


def descendants(cls: type[OpenRouterError]) -> Iterator[type[OpenRouterError]]:
    yield cls
    for child in cls.__subclasses__():
        if child.__module__.startswith("openrouter_keys."):
            yield from descendants(child)


for module in pkgutil.walk_packages(openrouter_keys.__path__, "openrouter_keys."):
    if not module.name.endswith(("__main__", ".plugin", ".lifecycle", "provisioning.journal")):
        import_module(module.name)
ERRORS = sorted({*descendants(OpenRouterError)}, key=lambda cls: cls.__name__)
CAN_TRAVEL = [cls for cls in ERRORS if cls not in HOLD_SECRETS]


def made(cls: type[OpenRouterError]) -> OpenRouterError:
    """An error of any class, made as its signature asks for, with all that is added later."""
    init: Callable[..., object] = vars(cls).get("__init__") or cls.__init__
    hints = get_type_hints(init)
    wanted = list(inspect.signature(init).parameters)[1:]
    error = cls(*(VALUES[hints[name]] for name in wanted))
    error.operation, error.attempts, error.status_code = "create", 2, 502
    error.headers, error.body, error.retry_after = {"X-Id": "7"}, "a body", 1.5
    error.maybe_applied = True
    error.add_note("a note")
    return error


def told(error: BaseException | None) -> object:
    """All that an error tells, its causes too."""
    if error is None:
        return None
    facts = {name: repr(value) for name, value in vars(error).items()}
    return type(error), str(error), error.args, facts, told(error.__cause__)


def pickled_by(protocol: int) -> Callable[[Any], Any]:
    return lambda error: pickle.loads(pickle.dumps(error, protocol))


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": pickled_by(protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@in_one_test("way", WAYS)
@in_one_test("cls", CAN_TRAVEL)
def test_an_error_keeps_its_facts_on_its_way(cls: type[OpenRouterError], way: str) -> None:
    error = made(cls)
    error.__cause__ = errors.InternalServerResponseError("down")
    error.__cause__.__cause__ = JournalInUseError("a.journal", 7)
    again = WAYS[way](error)
    assert again is not error
    assert told(again) == told(error)
    assert told(again) == told(WAYS[way](again))


@in_one_test("way", WAYS)
@in_one_test("cls", HOLD_SECRETS, ids=lambda cls: cls.__name__)
def test_an_error_that_holds_a_secret_goes_nowhere(cls: type[OpenRouterError], way: str) -> None:
    with pytest.raises(TypeError, match="never pickled") as refused:
        WAYS[way](made(cls))
    assert VALUES[str] not in str(refused.value)


@in_one_test(
    "cause",
    [
        SecretNotKeptError("r", CREATED, HASH, "disk full"),
        errors.CreatedKeyUnreadableError("odd", CREATED, HASH),
        ValueError(f"the callable gave {MANAGEMENT}"),
        OSError(28, MANAGEMENT),
    ],
    ids=lambda cause: type(cause).__name__,
)
@in_one_test("way", WAYS)
def test_a_cause_that_may_hold_a_secret_stays_here(cause: BaseException, way: str) -> None:
    error = errors.APIKeyError("no key")
    error.__cause__ = cause
    again = WAYS[way](error)
    assert again.__cause__ is None
    assert error.__cause__ is cause
    assert CREATED not in repr(pickle.dumps(error))
    assert MANAGEMENT not in repr(pickle.dumps(error))


def test_a_long_chain_of_causes_takes_no_longer_than_it_is() -> None:
    error: OpenRouterError = errors.NotSentError("the first")
    for number in range(40):
        following = JournalInUseError("a.journal", number)
        following.__cause__ = error
        error = following
    assert told(pickle.loads(pickle.dumps(error))) == told(error)


def raised(cls: type[OpenRouterError]) -> None:
    raise made(cls)


@pytest.mark.slow
def test_every_error_comes_out_of_a_pool_of_processes() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for cls, future in [(cls, pool.submit(raised, cls)) for cls in ERRORS]:
            error = future.exception(timeout=60)
            if cls in HOLD_SECRETS:
                assert type(error) is TypeError
            else:
                assert type(error) is cls
                assert str(error) == str(made(cls))


# --- what holds the management key ---


def bound(client: Any) -> object:
    return client.api_keys.create


def in_a_lambda(client: Any) -> object:
    return lambda: client


def in_a_closure(client: Any) -> object:
    def use() -> object:
        return in_a_lambda(client)

    return use


def in_a_default(client: Any) -> object:
    def use(mine: object = client) -> object:
        return mine

    return use


# Given a client, what somebody might pickle; its class is how the client is made.
HOLDERS: dict[str, tuple[type[Any], Callable[[Any], object]]] = {
    "an async client": (AsyncOpenRouter, lambda client: client),
    "its operations": (AsyncOpenRouter, lambda client: client.api_keys),
    "an operation": (AsyncOpenRouter, bound),
    "its transport": (AsyncOpenRouter, lambda client: client._transport),
    "its credentials": (AsyncOpenRouter, lambda client: client._transport._credentials),
    "a blocking client": (OpenRouter, lambda client: client),
    "its blocking operations": (OpenRouter, lambda client: client.api_keys),
    "a blocking operation": (OpenRouter, bound),
    "its thread": (OpenRouter, lambda client: client._thread),
    "a lambda": (AsyncOpenRouter, in_a_lambda),
    "a closure": (AsyncOpenRouter, in_a_closure),
    "a closure over a blocking client": (OpenRouter, in_a_closure),
    "a default": (AsyncOpenRouter, in_a_default),
    "a dictionary": (AsyncOpenRouter, lambda client: {"client": client}),
    "bare credentials": (AsyncOpenRouter, lambda _: Credentials(MANAGEMENT)),
    "credentials that ask": (AsyncOpenRouter, lambda _: Credentials(lambda: MANAGEMENT)),
}


def pickler(name: str) -> ModuleType:
    found: ModuleType = pytest.importorskip(name)
    try:
        found.dumps(lambda: 1)
    except AttributeError as error:
        pytest.skip(f"{name} does not know this Python: {error}")
    return found


# pickle itself takes no such functions.
FUNCTIONS = {"a lambda", "a closure", "a closure over a blocking client", "a default"}


@in_one_test(
    "holder, name",
    [
        (holder, name)
        for holder, name in itertools.product(HOLDERS, ["pickle", "cloudpickle", "dill"])
        if name != "pickle" or holder not in FUNCTIONS
    ],
)
def test_nothing_that_holds_the_key_is_pickled(holder: str, name: str) -> None:
    cls, of = HOLDERS[holder]
    dumps = pickle.dumps if name == "pickle" else pickler(name).dumps
    held = of(cls(MANAGEMENT))
    with pytest.raises(TypeError, match="never pickled or copied") as refused:
        dumps(held)
    assert MANAGEMENT not in str(refused.value)


@in_one_test("way", WAYS)
@in_one_test("holder", ["an async client", "a blocking client", "its transport"])
def test_nothing_that_holds_the_key_is_copied(holder: str, way: str) -> None:
    cls, of = HOLDERS[holder]
    with pytest.raises(TypeError, match="never pickled or copied"):
        WAYS[way](of(cls(MANAGEMENT)))


@pytest.mark.parametrize("name", ["pickle", "cloudpickle", "dill"])
async def test_a_client_that_was_used_is_not_pickled_either(name: str, tmp_path: Path) -> None:
    dumps = pickle.dumps if name == "pickle" else pickler(name).dumps
    async with AsyncOpenRouter(MANAGEMENT) as client, Journal.open(tmp_path / "j") as journal:
        assert client._transport.ready() > 0
        parts = (client, client._transport._wire, client._transport._attempts)
        for holder in (*parts, journal, journal._writer):
            with pytest.raises(TypeError, match="never pickled or copied"):
                dumps(holder)


@pytest.mark.parametrize("name", ["cloudpickle", "dill"])
def test_a_function_that_raises_our_errors_may_go_anywhere(name: str) -> None:
    by = pickler(name)
    again = by.loads(by.dumps(lambda: made(JournalInUseError)))
    assert str(again()) == str(made(JournalInUseError))


def test_what_is_told_of_errors_is_compared_in_full() -> None:
    kinds = {cls.__name__ for cls in ERRORS}
    assert {"JournalInsecureError", "JournalMismatchError", "PlanChangedError"} <= kinds
    assert {"AllowanceExceededError", "NotRetiredError", "ClientClosedError"} <= kinds
    for one, other in itertools.combinations((made(cls) for cls in CAN_TRAVEL[:5]), 2):
        assert told(one) != told(other)
