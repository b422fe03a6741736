"""The emulator as a command: what it may be told, and how it refuses."""

import pytest

from openrouter_keys.cli.emulator import emulator_of
from openrouter_keys.cli.exit_codes import USAGE, CommandError


def test_other_machines_reach_it_only_if_that_is_said() -> None:
    with pytest.raises(CommandError, match="--allow-remote") as caught:
        emulator_of(None, host="0.0.0.0", port=0, state=None)
    assert caught.value.code == USAGE

    allowed = emulator_of(None, host="0.0.0.0", port=8080, state=None, allow_remote=True)
    assert allowed.base_url == "http://0.0.0.0:8080/api/v1"


def test_it_follows_the_newest_contract_or_the_one_that_is_named() -> None:
    newest = emulator_of(None, host="127.0.0.1", port=0, state=None)
    named = emulator_of(None, host="127.0.0.1", port=0, state=None, contract="2025-02")

    assert (newest.contract, named.contract) == ("2026-11", "2025-02")
