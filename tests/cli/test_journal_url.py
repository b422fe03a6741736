"""A journal that is given by a URL, or by the environment, and whose password is shown nowhere."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from openrouter_keys.__main__ import main
from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.options.journal import Place, place_of
from openrouter_keys.cli.runs.outcome import Outcome, export_command
from openrouter_keys.cli.runs.rescue import Keeping
from openrouter_keys.cli.secrets.destination import Destination
from openrouter_keys.cli.terminal.text import without_passwords
from tests.commands import Command, Ran
from tests.postgresql import PASSWORD, PostgreSQL
from tests.processes import environment, run
from tests.tables import in_one_test

VARIABLE = "OPENROUTER_KEYS_JOURNAL"
CANARY = "canary-password"
QUICK = ("--quiet-period", "0", "--timeout", "5")


@pytest.fixture
def url(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as name:
        yield postgresql.url(name)


@pytest.fixture
def row(command: Command) -> Path:
    file = command.folder / "customers.csv"
    file.write_text("ref,name\na,A\nb,B\n")
    return file


class Checked:
    """Runs the command, and sees that no output shows the password."""

    def __init__(self, command: Command) -> None:
        self._command = command

    def __call__(self, *words: str, code: int = 0, **settings: str) -> Ran:
        ran = self._command(*words, **settings)
        assert PASSWORD not in ran.out + ran.err
        assert ran.code == code, ran.err
        return ran


@pytest.mark.slow
@pytest.mark.parametrize("given", ["option", "variable"])
def test_a_url_is_taken_wherever_a_file_is(
    command: Command, row: Path, url: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Checked(command)
    option = ("--journal", url) if given == "option" else ()
    argument = (url,) if given == "option" else ()
    if given == "variable":
        monkeypatch.setenv(VARIABLE, url)
    shown = without_passwords(url)

    run("journal", "init", *argument)
    assert run("ensure", "c", *option, *QUICK, "--json").code == 0
    provisioned = run("provision", "customers.csv", *option, *QUICK, "--json")
    assert json.loads(provisioned.out)["journal"] == shown
    assert f"the journal is {shown}\n" in provisioned.err
    plan = json.loads(run("provision", "customers.csv", *option, "--plan", "--json").out)
    assert plan["summary"]["create"] == 0
    status = json.loads(run("journal", "status", *argument, "--json").out)
    assert (status["keys"]["settled"], status["runs"]) == (3, 0)
    run("journal", "export", *argument, "-o", "keys.csv")
    assert (command.folder / "keys.csv").read_text().count("sk-or-v1-") == 3
    hashes = list(command.emulator.account.keys)
    run("rotate", hashes[0], *option, *QUICK, "--dry-run")
    run("rotate", hashes[0], *option, *QUICK, "--yes", "--json")
    run("rotate", "--status", *option, "--json")
    run("rotate", "--finish", *option, "--yes")
    assert (
        "would forget the secrets of 4 keys" in run("journal", "purge", *argument, "--dry-run").err
    )
    assert f"in {shown}" in run("journal", "purge", *argument, code=2).err
    run("journal", "purge", *argument, "--yes")
    assert "a journal's file" in run("journal", "accept", *argument, "--yes", code=1).err
    assert "pg_dump" in run("journal", "backup", url, "copy", code=1).err
    run("release", "c", *option, *QUICK, "--yes")
    assert not list(command.folder.glob("*journal*"))


@pytest.mark.slow
def test_an_option_is_taken_before_the_variable(
    command: Command, row: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, url)
    command("ensure", "c", "--journal", "j", *QUICK, "--json")
    assert json.loads(command("journal", "status", "j", "--json").out)["keys"]["settled"] == 1
    assert command("journal", "status", "--json").code == 1  # nothing has made that one


@pytest.mark.slow
@pytest.mark.parametrize("words", [("ensure", "c", "--json"), ("release", "c", "--yes"),
    ("provision", "customers.csv"), ("rotate", "--status"), ("rotate", "a" * 64),
    ("journal", "status"), ("journal", "purge", "--yes"), ("journal", "export", "-o", "f"),
    ("journal", "init")], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("wrong", ["password", "port", "database", "unreadable"])
def test_a_database_that_cannot_be_used_is_said_in_one_line_without_the_password(
    command: Command, row: Path, postgresql: PostgreSQL, words: tuple[str, ...], wrong: str
) -> None:
    url = {
        "password": postgresql.url().replace(PASSWORD, f"{PASSWORD}-wrong"),
        "port": postgresql.url().replace(str(postgresql.port), "1"),
        "database": postgresql.url("nowhere"),
        "unreadable": f"postgresql://app:{PASSWORD}/@127.0.0.1:1/app",
    }[wrong]
    ran = command(*words, **{VARIABLE: url}, OPENROUTER_DEBUG="1")
    assert ran.code == 1
    assert PASSWORD not in ran.out + ran.err
    said = [line for line in ran.err.splitlines() if line.startswith("openrouter-keys: ")]
    assert said


def test_a_password_on_the_command_line_is_not_repeated(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://app:{CANARY}@127.0.0.1:1/app"
    for words in (
        ("ensure", "c", "--jurnal", url),
        ("ensure", "c", f"--jurnal={url}"),
        ("ensure", "c", url, "--json"),
        ("journal", "status", url, "extra"),
        ("journal", "status", "extra", url),
        ("journal", url),
        (url,),
        ("ensure", "c", "--wait", url),
        ("provision", url),
        ("emulator", "--port", url),
        ("ensure", "c", "--journal", url.replace("postgresql", "postgresql+psycopg")),
        ("ensure", "c", "--journal", url.replace("postgresql", "Postgresql")),
        ("journal", "init", "file"),
    ):
        ran = command(*words)
        assert ran.code == 2 or words[0] == "provision"
        assert CANARY not in ran.out + ran.err, words


@in_one_test(
    "url, shown",
    [
        (f"postgresql://app:{CANARY}@h:1/d", "postgresql://app@h:1/d"),
        (f"postgres://app:{CANARY}@h/d?schema=s", "postgres://app@h/d?schema=s"),
        (f"postgresql://:{CANARY}@h/d", "postgresql://@h/d"),
        (f"postgresql://app:a@b/{CANARY}@h/d", "postgresql://app@h/d"),
        (f"postgresql://app:a?{CANARY}#@h/d", "postgresql://app@h/d"),
        (f"postgresql://app:a {CANARY}@h/d", "postgresql://app@h/d"),
        (f"postgresql://h/d?password={CANARY}&user=app", "postgresql://h/d?password=...&user=app"),
        (f"postgresql://h/d?sslpassword={CANARY}", "postgresql://h/d?sslpassword=..."),
        (f"postgresql://app:{CANARY}@h:1,i:2/d", "postgresql://app@h:1,i:2/d"),
        ("postgresql://h:5432/d", "postgresql://h:5432/d"),
        ("postgresql://app@h:5432/d", "postgresql://app@h:5432/d"),
        ("postgresql:///d?host=/run", "postgresql:///d?host=/run"),
        ("keys:1@2.journal", "keys:1@2.journal"),
    ],
)
def test_a_place_shows_no_password(url: str, shown: str) -> None:
    place = Place(url)
    assert str(place) == shown
    assert CANARY not in f"{place!r} {export_command(place)}"
    assert place.words("--journal") == ["--journal", shown]


@pytest.mark.parametrize("word", ["--journal={}", "{}"])
def test_the_command_to_go_on_with_shows_no_password(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://app:{CANARY}@h/d"
    words = ("provision", "c.csv", *(() if "=" in word else ("--journal",)), word.format(url))
    monkeypatch.setattr("sys.argv", ["openrouter-keys", *words])
    told = Outcome(Keeping(journal=Place(url), to=Destination()), 1).again()
    assert told.replace("=", " ") == (
        "openrouter-keys provision c.csv --journal postgresql://app@h/d"
    )


@in_one_test(
    "given, variable, place",
    [
        (None, None, None),
        (None, "", None),
        (None, "j", Place("j", is_named=False)),
        ("k", "j", Place("k")),
        (Path("k"), "", Place("k")),
    ],
)
def test_the_command_line_is_taken_before_the_variable(
    given: str | Path | None, variable: str | None, place: Place | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        if variable is not None:
            patch.setenv(VARIABLE, variable)
        assert place_of(given) == place
        # What a message says to run works as it stands in the shell that has the variable.
        if place is not None:
            assert place.words("--journal") == (["--journal", "k"] if given else [])


@in_one_test("given", ["", "mysql://h/d", "postgresql+asyncpg://h/d", "POSTGRESQL://h/d", "x://"])
def test_what_is_neither_a_file_nor_a_postgresql_url_is_refused(given: str) -> None:
    with pytest.raises(UsageError):
        place_of(given)


def test_a_program_that_takes_a_secret_gets_no_journal(command: Command) -> None:
    script = "sh -c 'cat > got; env > environment'"
    words = ("ensure", "c", *QUICK, "--to-command", script)
    assert command(*words, **{VARIABLE: "j"}).code == 0
    environment = (command.folder / "environment").read_text()
    assert VARIABLE not in environment
    assert "OPENROUTER_KEY_REF=c\n" in environment


COMPLETED = ("ensure", "release", "provision", "apply", "adopt", "sweep", "rotate")
HELP = [
    ("ensure",), ("release",), ("provision",), ("apply",), ("adopt",), ("sweep",), ("rotate",),
    ("journal", "status"),
    ("journal", "export"), ("journal", "purge"), ("journal", "accept"), ("journal", "init"),
]  # fmt: skip


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_a_help_page_names_the_variable_and_shows_no_value_of_it(
    words: tuple[str, ...],
) -> None:
    """In a process of its own: the width of a command's first help page is that of all of them."""
    given = environment(COLUMNS="200", **{VARIABLE: f"postgresql://app:{CANARY}@h/d"})
    shown = run("-m", "openrouter_keys", *words, "--help", environment=given)
    assert shown.returncode == 0
    assert VARIABLE in shown.stdout
    assert "URL" in shown.stdout
    assert CANARY not in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("shell", "option"),
    [
        ("bash", '--journal)\n                COMPREPLY=( $(compgen -f -- "${cur}") )'),
        ("zsh", "]:journal:_files'"),
        ("fish", "-l journal -r -F "),
    ],
)
def test_a_shell_completes_files_for_a_journal(
    shell: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out.count(option) == len(COMPLETED)
