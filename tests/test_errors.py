import copy
import inspect
import pickle
import re

import pytest

import openrouter_keys
from openrouter_keys import errors
from openrouter_keys.errors import OpenRouterError
from tests.processes import ROOT
from tests.records import HASH, SECRET
from tests.tables import in_one_test

# The tree as the module's docstring draws it: each class with what an `except` may name.
TREE: dict[str, tuple[type[Exception], ...]] = {
    "InvalidArgumentError": (OpenRouterError, ValueError),
    "ClientStateError": (OpenRouterError, RuntimeError),
    "ClientClosedError": (errors.ClientStateError,),
    "WrongEventLoopError": (errors.ClientStateError,),
    "ForkedClientError": (errors.ClientStateError,),
    "LeaseEndedError": (errors.ClientStateError,),
    "APIKeyError": (OpenRouterError,),
    "NoResponseError": (OpenRouterError,),
    "NotSentError": (errors.NoResponseError,),
    "DeadlineExceededError": (errors.NoResponseError, TimeoutError),
    "CreateOutcomeUnknownError": (OpenRouterError,),
    "ResponseValidationError": (OpenRouterError,),
    "MalformedBodyError": (errors.ResponseValidationError,),
    "AnotherKeyError": (errors.ResponseValidationError,),
    "IncompleteListingError": (errors.ResponseValidationError,),
    "LeaseMismatchError": (errors.ResponseValidationError,),
    "SecretLostError": (errors.ResponseValidationError,),
    "CreatedKeyUnreadableError": (errors.ResponseValidationError,),
    "ResponseError": (OpenRouterError,),
    "BadRequestResponseError": (errors.ResponseError,),
    "UnauthorizedResponseError": (errors.ResponseError,),
    "ForbiddenResponseError": (errors.ResponseError,),
    "NotFoundResponseError": (errors.ResponseError,),
    "ConflictResponseError": (errors.ResponseError,),
    "TooManyRequestsResponseError": (errors.ResponseError,),
    "QuotaExhaustedError": (errors.TooManyRequestsResponseError,),
    "InternalServerResponseError": (errors.ResponseError,),
    "OpenRouterDefaultError": (errors.ResponseError,),
    "AllowanceExceededError": (OpenRouterError,),
    "TooManyFailuresError": (OpenRouterError,),
    "ServiceOutageError": (OpenRouterError,),
    "JournalError": (OpenRouterError,),
    "JournalInUseError": (errors.JournalError,),
    "JournalInsecureError": (errors.JournalError,),
    "JournalMismatchError": (errors.JournalError,),
    "JournalOutdatedError": (errors.JournalMismatchError,),
    "AccountChangedError": (errors.JournalError,),
    "JournalUnavailableError": (errors.JournalError,),
    "JournalFullError": (errors.JournalError,),
    "JournalLostError": (errors.JournalError,),
    "KeyGoneError": (errors.JournalError,),
    "NotAdoptedError": (errors.JournalError,),
    "PlanChangedError": (errors.JournalError,),
    "TakenOverError": (errors.JournalError,),
    "DuplicateRefError": (errors.JournalError,),
    "SecretNotKeptError": (errors.JournalError,),
}
# Those that are made of facts, and not of a message.
OF_FACTS = {
    "AllowanceExceededError",
    "TooManyFailuresError",
    "ServiceOutageError",
    *(name for name in TREE if issubclass(getattr(errors, name), errors.JournalError)),
} - {"JournalError", "JournalFullError", "JournalUnavailableError"}

CLASSES: dict[str, type[OpenRouterError]] = {
    name: cls
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, OpenRouterError)
}


def test_every_error_of_the_package_is_in_the_tree() -> None:
    assert CLASSES.keys() == TREE.keys() | {"OpenRouterError"}


@in_one_test("name", TREE)
def test_an_error_is_caught_by_the_names_above_it(name: str) -> None:
    assert all(issubclass(CLASSES[name], above) for above in TREE[name])
    assert f" {name}" in str(errors.__doc__)


@in_one_test("name", [name for name in CLASSES if name not in OF_FACTS])
def test_every_error_has_all_the_facts_before_anything_is_known(name: str) -> None:
    error = CLASSES[name]("what happened")
    assert error.message.startswith("what happened")
    facts = (error.operation, error.status_code, error.body, error.attempts, error.retry_after)
    assert facts == ("", None, "", 0, None)
    assert dict(error.headers) == {}


@pytest.mark.parametrize(
    ("name", "maybe"),
    [
        ("CreateOutcomeUnknownError", True),
        ("SecretLostError", True),
        ("CreatedKeyUnreadableError", True),
        ("NotSentError", False),
        ("InvalidArgumentError", False),
    ],
)
def test_an_error_says_whether_the_request_may_have_been_applied(name: str, maybe: bool) -> None:
    assert CLASSES[name]("it").maybe_applied is maybe


@in_one_test("name", sorted(CLASSES.keys() - OF_FACTS - {"CreatedKeyUnreadableError"}))
def test_an_error_survives_a_pickle_with_its_facts(name: str) -> None:
    error = CLASSES[name]("what happened")
    error.operation, error.attempts, error.status_code = "get", 2, 502
    again = pickle.loads(pickle.dumps(error))  # our own
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_the_message_names_the_operation_and_the_attempts() -> None:
    error = errors.NoResponseError("no answer came")
    error.operation, error.attempts = "get", 1
    assert str(error) == "get: no answer came (1 attempt)"
    error.attempts = 3
    assert str(error) == "get: no answer came (3 attempts)"


@pytest.mark.parametrize("operation", ["create", "update", "delete"])
def test_the_message_of_a_change_tells_whether_it_may_have_been_applied(operation: str) -> None:
    error = errors.NoResponseError("no answer came")
    error.operation, error.attempts = operation, 1
    assert str(error) == f"{operation}: no answer came (1 attempt; it was not applied)"
    error.maybe_applied = True
    assert str(error) == f"{operation}: no answer came (1 attempt; it may have been applied)"


def test_a_refusal_tells_its_status_and_the_wait_that_is_asked_for() -> None:
    error = errors.TooManyRequestsResponseError("Rate limit exceeded")
    error.operation, error.status_code, error.attempts, error.retry_after = "list", 429, 2, 300.0
    said = "list answered 429: Rate limit exceeded; it asks to wait 300 s (2 attempts)"
    assert str(error) == said


def test_a_refusal_without_an_operation_still_reads_well() -> None:
    error = errors.NotFoundResponseError("Resource not found")
    error.status_code = 404
    assert str(error) == "request answered 404: Resource not found"


def test_a_refused_argument_is_named_in_the_message_and_as_an_attribute() -> None:
    error = errors.InvalidArgumentError("must be a number", "limit")
    assert (error.argument, str(error)) == ("limit", "limit: must be a number")
    assert pickle.loads(pickle.dumps(error)).argument == "limit"  # our own


# --- docs/errors.md ---

PAGE = (ROOT / "docs" / "errors.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
# A report has their texts, or a caller gets another error in their place; `UnstorableError` is to
# be caught as the `JournalError` that it is.
INTERNAL = {
    "ChangedMeanwhileError",
    "ErrorInSuccessError",
    "NotReplacedError",
    "NotRetiredError",
    "UnstorableError",
}


def defined() -> set[str]:
    """Return the names of all errors of the package, as its source defines them."""
    bases = {
        name: set(re.findall(r"\w+", above))
        for path in (ROOT / "openrouter_keys").rglob("*.py")
        for name, above in re.findall(r"^class (\w+)\(([\w, ]+)\):", path.read_text(), re.MULTILINE)
    }
    found = {"OpenRouterError"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


def test_every_error_has_its_section_and_every_section_its_error() -> None:
    assert {*SECTIONS, *INTERNAL, "OpenRouterError"} == defined()
    public = {*CLASSES, *openrouter_keys.__all__}
    assert public >= SECTIONS.keys()
    assert not public & INTERNAL


@in_one_test("name", SECTIONS)
def test_a_section_says_what_happened_what_of_the_key_and_what_to_do(name: str) -> None:
    prose = re.sub("```.*?```", "", SECTIONS[name], flags=re.DOTALL)
    labels = [paragraph.partition("** ")[0] for paragraph in prose.strip().split("\n\n")]
    assert labels == ["**What happened.", "**The key.", "**What to do."]
    assert f"](#{name.lower()})" in PAGE.partition("\n## ")[0]


def unreadable() -> errors.CreatedKeyUnreadableError:
    return errors.CreatedKeyUnreadableError("no field 'name'", SECRET, HASH)


def test_an_unreadable_key_holds_its_secret_and_shows_only_its_mask() -> None:
    error = unreadable()
    assert (error.key, error.hash) == (SECRET, HASH)
    assert "sk-or-v1-fa4...fa4e" in str(error)
    assert "error.key" in str(error)
    for shown in (str(error), repr(error), error.message, repr(error.args)):
        assert SECRET not in shown


@in_one_test("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_unreadable_key_is_never_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="never pickled") as refused:
        pickle.dumps(unreadable(), protocol)
    assert SECRET not in str(refused.value)


def test_an_unreadable_key_is_not_copied_either() -> None:
    with pytest.raises(TypeError, match="never pickled"):
        copy.copy(unreadable())


def test_the_status_decides_the_class_and_the_map_cannot_be_changed() -> None:
    assert {status: cls.__name__ for status, cls in errors.STATUS_ERRORS.items()} == {
        400: "BadRequestResponseError",
        401: "UnauthorizedResponseError",
        403: "ForbiddenResponseError",
        404: "NotFoundResponseError",
        409: "ConflictResponseError",
        429: "TooManyRequestsResponseError",
        500: "InternalServerResponseError",
    }
    with pytest.raises(TypeError):
        errors.STATUS_ERRORS[418] = errors.ResponseError  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
