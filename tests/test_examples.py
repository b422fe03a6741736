"""The examples run as they stand, with nothing but the environment to tell them where."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openrouter_keys.emulator import Emulator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: text for name, text in os.environ.items() if not name.startswith("OPENROUTER_")}
    return subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        env={**own, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_creates_its_key_and_shows_no_secret(path: Path) -> None:
    with Emulator() as emulator:
        done = run(path, OPENROUTER_BASE_URL=emulator.base_url, OPENROUTER_API_KEY=emulator.api_key)
    (key,) = emulator.account.keys.values()
    assert (done.returncode, done.stderr) == (0, "")
    assert (key.name, key.limit, key.limit_reset) == ("customer-42", 50, "monthly")
    assert key.label in done.stdout
    assert str(key.secret) not in done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_without_a_key_says_what_to_set(path: Path) -> None:
    done = run(path)
    assert done.returncode == 1
    assert "OPENROUTER_API_KEY" in done.stderr


def test_there_is_an_example_for_each_face() -> None:
    assert {path.stem for path in EXAMPLES} >= {"async_create", "blocking_create"}
