"""What editors and documentation tools see of the blocking client: run, or only read."""

import inspect
import pydoc
from pathlib import Path
from types import FunctionType
from typing import Any

import jedi  # pyright: ignore[reportMissingTypeStubs]
import pytest

from openrouter_keys import APIKeys, AsyncAPIKeys, AsyncOpenRouter, OpenRouter
from tests.stubs import STUB, stub
from tests.tables import in_one_test

TWINS = [
    (ours, theirs, name)
    for ours, theirs in ((APIKeys, AsyncAPIKeys), (OpenRouter, AsyncOpenRouter))
    for name in vars(theirs)
    if not name.startswith("_") and name != "close"
]
Script: Any = vars(jedi)["Script"]  # its own types are incomplete
HEAD = "from openrouter_keys import OpenRouter\nclient = OpenRouter('key')\n"


@pytest.fixture(autouse=True)
def _no_cache_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jedi.settings.cache_directory", str(tmp_path))


def test_the_stub_is_made_of_the_source() -> None:
    assert STUB.read_text(encoding="utf-8") == stub(), "run: python -m tests.stubs"


@in_one_test("ours, theirs, name", TWINS)
def test_a_blocking_method_is_a_plain_function_of_its_own_name(
    ours: type, theirs: type, name: str
) -> None:
    method = vars(ours)[name]  # as pdoc reads it
    assert isinstance(method, FunctionType)
    assert (method.__name__, method.__qualname__) == (name, f"{ours.__name__}.{name}")
    assert method.__module__ == "openrouter_keys.sync"
    assert method.__doc__ == vars(theirs)[name].__doc__
    own, other = inspect.signature(method), inspect.signature(vars(theirs)[name])
    assert list(own.parameters.values()) == list(other.parameters.values())
    assert "Async" not in str(own.return_annotation)


def test_help_shows_signatures() -> None:
    shown = pydoc.plain(pydoc.render_doc(APIKeys))
    lines = " ".join(shown.replace("|", " ").split()).replace("( self", "(self")
    assert "create(self, *, name: str, limit:" in lines
    assert "iterate(self, *, include_disabled:" in lines


def completed(code: str) -> list[str]:
    return [each.name for each in Script(HEAD + code).complete()]


@pytest.mark.slow
@in_one_test(
    "code, expected",
    [
        ("client.api_keys.cr", "create"),
        ("client.api_keys.create(name='n').", "key"),
        ("client.api_keys.create(name='n').data.ha", "hash"),
        ("client.api_keys.list().data[0].lim", "limit_remaining"),
        ("for key in client.api_keys.iterate():\n    key.cre", "created_at"),
        ("client.ens", "ensure"),
        ("client.provision([]).fa", "failed"),
        ("with client.lease(name='n', limit=1, expires_in=60) as lease:\n    lease.us", "usage"),
        ("with OpenRouter() as opened:\n    opened.api_keys.recon", "reconcile"),
    ],
)
def test_jedi_completes(code: str, expected: str) -> None:
    assert expected in completed(code)


@pytest.mark.slow
@in_one_test(
    "of, method",
    [
        ("client.api_keys", AsyncAPIKeys.create),
        ("client.api_keys", AsyncAPIKeys.iterate),
        ("client", AsyncOpenRouter.lease),
        ("client", AsyncOpenRouter.provision),
    ],
)
def test_jedi_shows_parameters_and_docstring(of: str, method: FunctionType) -> None:
    (signature,) = Script(f"{HEAD}{of}.{method.__name__}(").get_signatures()
    parameters = inspect.signature(method).parameters
    assert ["self", *(each.name for each in signature.params)] == [*parameters]
    assert str(inspect.getdoc(method)) in signature.docstring()
