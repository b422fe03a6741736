"""The examples run as they stand, with nothing but the environment to tell them where."""

from pathlib import Path

import pytest

from openrouter_keys.emulator import Emulator
from tests.processes import ROOT, environment, run

pytestmark = pytest.mark.slow

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_creates_its_key_and_shows_no_secret(path: Path) -> None:
    with Emulator() as emulator:
        server = environment(
            OPENROUTER_BASE_URL=emulator.base_url, OPENROUTER_API_KEY=emulator.api_key
        )
        done = run("-c", path.read_text(), environment=server)
    (key,) = emulator.account.keys.values()
    assert (done.returncode, done.stderr) == (0, "")
    assert (key.name, key.limit, key.limit_reset) == ("customer-42", 50, "monthly")
    assert key.label in done.stdout
    assert str(key.secret) not in done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_without_a_key_says_what_to_set(path: Path) -> None:
    done = run("-c", path.read_text(), environment=environment())
    assert done.returncode == 1
    assert "OPENROUTER_API_KEY" in done.stderr


def test_there_is_an_example_for_each_face() -> None:
    assert {path.stem for path in EXAMPLES} >= {"async_create", "blocking_create"}
