"""Names that moved go on working for a version, and say where they are."""

import sys
from importlib import import_module

import pytest

import openrouter_keys
from openrouter_keys import rotation


@pytest.mark.parametrize(
    ("old", "name", "new"),
    [
        ("lifecycle", "rotations", rotation.rotations),
        ("provisioning.journal", "Journal", openrouter_keys.Journal),
    ],
)
def test_an_earlier_place_warns_and_works(
    old: str, name: str, new: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"openrouter_keys.{old}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.warns(DeprecationWarning, match="is now"):
        assert getattr(import_module(module), name) is new
    monkeypatch.delitem(sys.modules, module)
