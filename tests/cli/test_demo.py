"""The demo: its checks hold, a wrong emulator makes them fail, and it shows no secret."""

import io
import re
from pathlib import Path
from random import Random

import pytest

import openrouter_keys
from openrouter_keys import KeySpec
from openrouter_keys.__main__ import main
from openrouter_keys.cli.demo.command import tour
from openrouter_keys.cli.demo.transcript import Transcript
from openrouter_keys.emulator import Account, StoredKey
from tests.processes import environment, run

pytestmark = pytest.mark.slow

EXAMPLE = Path(openrouter_keys.__file__).parent / "cli" / "demo" / "customers.csv"
CUSTOMERS = [KeySpec(ref="a", name="Ada", limit=5.0), KeySpec(ref="b", name="Bo")]
MANAGEMENT_KEY = "sk-or-mgmt-planted-" + "5e" * 20
# The demo, whose last part needs no time: only its client, its emulator and their loop are of it.
HASTY_DEMO = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
from openrouter_keys.__main__ import main
from openrouter_keys._base.clock import Clockwork
from openrouter_keys.cli.demo import command, faults
from tests.virtual_time import run

def now():
    return datetime(2027, 1, 1, tzinfo=UTC) + timedelta(seconds=asyncio.get_running_loop().time())

def client(*given, **named):
    made, loop = command.AsyncOpenRouter(*given, **named), asyncio.get_running_loop()
    made._transport.clockwork = Clockwork(monotonic=loop.time, now=now, sleep=asyncio.sleep)
    return made

async def hurried(*given):
    await asyncio.to_thread(run, command_of_faults(*given))

command_of_faults = command.provision_through_faults
command.provision_through_faults = hurried
faults.Account = lambda: command.Account(clock=now)
faults.AsyncOpenRouter = client
sys.exit(main(["demo"]))
"""


def repeatable() -> Random:
    return Random(7)  # so that the test knows the secrets


def toured(account: Account, customers: list[KeySpec] | None = None) -> tuple[int, str]:
    out = io.StringIO()
    return tour(customers or CUSTOMERS, account, Transcript(out)), out.getvalue()


def test_the_demo_of_the_example_passes_all_its_checks_and_logs_no_secret() -> None:
    done = run("-c", HASTY_DEMO, environment=environment(OPENROUTER_DEBUG="1"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "create" in done.stderr
    assert not re.findall(r"sk-or-[A-Za-z0-9_-]{16,}", done.stdout + done.stderr)
    checked = done.stdout.count("\n  checked   ")
    assert done.stdout.endswith(f"\n{checked} checks passed\n")
    assert checked > 30
    assert "the emulator holds 300 of 300" in done.stdout
    end = ("live keys on the server: 300", "secrets in hand: 300", "whose secret is lost: 0")
    assert all(told in done.stdout for told in end)


def test_a_workspace_that_a_row_names_is_made_and_listed() -> None:
    row = KeySpec(ref="w", name="Ada", workspace_id="0df9e665-d932-4740-b2c7-b52af166bc11")
    code, text = toured(Account(), [row, *CUSTOMERS])
    assert code == 0
    assert "4 of the emulator's 4 keys" in text


def test_no_secret_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    account = Account(management_key=MANAGEMENT_KEY, random=repeatable())
    code, text = toured(account)
    twin = Account(random=repeatable())
    made = [twin.add() for _ in range(4)]
    assert {*account.keys} == {key.hash for key in made[:2]}  # the demo has deleted the others
    assert code == 0
    assert all(key.label in text for key in made[2:])
    shown = text + "".join(capfd.readouterr())
    assert not [key for key in made if str(key.secret) in shown]
    assert MANAGEMENT_KEY not in shown


class Hoarder(Account):
    """Says that it deletes, and does not."""

    def delete(self, hash: str) -> None:
        self.get(hash)


class Meddler(Account):
    """Changes more than it is asked to."""

    def update(self, hash: str, body: object) -> StoredKey:
        key = super().update(hash, body)
        key.limit_reset = None
        return key


@pytest.mark.parametrize(
    ("account", "complaint"),
    [
        (Hoarder(), "the emulator holds 3 keys, and held 3"),
        (Meddler(), "changed: limit, limit_reset; as before: 21 other fields"),
        (Account(hidden_fields={"limit_reset"}), "no error: "),
    ],
)
def test_a_check_that_fails_is_told_and_is_the_exit_code(account: Account, complaint: str) -> None:
    code, text = toured(account)
    assert code == 1
    assert f"  FAILED    {complaint}" in text
    assert re.search(r"\n\d+ checks passed, \d+ failed\n$", text)


def test_an_error_shows_no_secret() -> None:
    account = Account(hidden_fields={"limit_reset"})
    _, text = toured(account)
    assert "no error: " in text
    assert not [key for key in account.keys.values() if str(key.secret) in text]


def test_a_missing_file_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "nowhere.csv"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("openrouter-keys: cannot read nowhere.csv: ")


def test_a_bad_row_is_a_usage_error_and_nothing_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "customers.csv"
    path.write_text("name,limit\nAda,5\nBo,fifty\n", encoding="utf-8")
    assert main(["demo", str(path)]) == 2
    told = f"{path}, line 3, column limit: must be a number or null"
    assert capsys.readouterr() == ("", f"openrouter-keys: {told}\n")
