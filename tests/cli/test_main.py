"""The command line: its grammar, and an emulator that starts, tells its address and stops."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from openrouter_keys import OpenRouter
from openrouter_keys.__main__ import main
from openrouter_keys.cli.app import SYNONYMS, app
from openrouter_keys.errors import UnauthorizedResponseError
from tests.processes import Process, environment
from tests.tables import in_one_test

pytestmark = pytest.mark.slow

PATIENCE = 60


AnyProcess = Process | subprocess.Popen[str]


def started(*words: str, environment: Mapping[str, str]) -> AnyProcess:
    """As people start it; the other processes are forked."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


@contextmanager
def emulator(
    *arguments: str, start: Callable[..., AnyProcess] = Process
) -> Generator[AnyProcess, None, None]:
    words = ("-m", "openrouter_keys", "emulator", *arguments)
    with start(*words, environment=environment(PYTHONUNBUFFERED="")) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: AnyProcess) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_emulator_stops_cleanly_at_a_signal(number: signal.Signals) -> None:
    with emulator("--json", start=started) as process:
        base_url = json.loads(line(process))["base_url"]
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "", "")
    port = int(base_url.removesuffix("/api/v1").rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_the_emulator_stops_although_a_client_is_connected() -> None:
    with emulator("--json") as process:
        told = json.loads(line(process))
        with OpenRouter(told["api_key"], server_url=told["base_url"]) as client:
            client.api_keys.list()
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")


def test_the_json_is_one_line_that_a_client_can_use() -> None:
    with emulator("--json", "--api-key", "the-key") as process:
        told = json.loads(line(process))
        with OpenRouter("the-key", server_url=told["base_url"]) as client:
            created = client.api_keys.create(name="a")
            assert [key.hash for key in client.api_keys.list().data] == [created.data.hash]
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert told == {"base_url": told["base_url"], "api_key": "the-key"}
    assert rest == ""


def test_the_key_that_is_made_is_visibly_fake_and_the_only_one_that_manages() -> None:
    with emulator("--json") as process:
        told = json.loads(line(process))
        assert "emulator" in told["api_key"]
        client = OpenRouter("the-key", server_url=told["base_url"])
        with client, pytest.raises(UnauthorizedResponseError):
            client.api_keys.list()


def test_the_text_can_be_pasted_into_a_shell() -> None:
    with emulator("--api-key", "it's-$HOME") as process:
        text = "".join(line(process) for _ in range(4))
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert rest == ""
    assert "until Ctrl-C" in text
    shell = subprocess.run(
        ["sh"], input=f"{text}env | grep OPENROUTER", capture_output=True, encoding="utf-8",
        check=True,
    )  # fmt: skip
    told = dict(line.split("=", 1) for line in shell.stdout.splitlines())
    assert shell.stderr == ""
    assert told["OPENROUTER_API_KEY"] == "it's-$HOME"
    assert told["OPENROUTER_BASE_URL"].startswith("http://127.0.0.1:")


def test_the_port_is_the_one_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with emulator("--json", "--port", str(port)) as process:
        assert json.loads(line(process))["base_url"] == f"http://127.0.0.1:{port}/api/v1"


def test_a_port_in_use_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with emulator("--json", "--port", port) as process:
            out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("openrouter-keys: cannot listen: ")
    assert err.endswith("; --port 0 takes a free port\n")
    assert err.count("\n") == 1


@in_one_test(
    "arguments, problem",
    [
        (["frobnicate"], 'Unknown command "frobnicate"'),
        (["xyzzy"], 'Unknown command "xyzzy"; see openrouter-keys --help'),
        (["creat", "a"], 'Did you mean "create"? See openrouter-keys --help'),
        (["Create", "a"], 'Did you mean "create"?'),
        (["ls"], 'Did you mean "list"?'),
        (["rm", "a"], 'Did you mean "delete"?'),
        (["help", "rm"], 'Did you mean "delete"?'),
        (["journal", "rm"], "see openrouter-keys journal --help"),
        (["create"], "requires an argument; see openrouter-keys create --help"),
        (["create", "a", "--lmit", "5"], "Did you mean --limit? See openrouter-keys create --help"),
        (["emulator", "--port", "65536"], "--port"),
        (["emulator", "--port", "-1"], "--port"),
        (["emulator", "--api-key", ""], "--api-key: the key is empty"),
        (["demo", "one.csv", "two.csv"], "two.csv"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error_told_in_one_line(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert problem in told.err
    assert (told.err.count("\n"), told.out) == (1, "")


@in_one_test(
    "words, same",
    [
        (("help",), ("--help",)),
        (("help", "create"), ("create", "--help")),
        (("help", "journal"), ("journal", "--help")),
        (("help", "journal", "status"), ("journal", "status", "--help")),
        (("-V",), ("--version",)),
        (("create", "-h"), ("create", "--help")),
    ],
)
def test_help_and_the_version_are_asked_for_in_the_usual_ways(
    words: tuple[str, ...], same: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    told = capsys.readouterr()
    assert main(same) == 0
    assert (told.out, told.err) == (capsys.readouterr().out, "")
    assert told.out


@in_one_test("command", ["completion", "hash", "emulator", "demo", "create", "list", "find"])
def test_only_what_asks_the_service_speaks_of_the_management_key(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    assert ("The management key comes from" in told) == (command in ("create", "list", "find"))


def test_every_synonym_is_no_command_and_means_one() -> None:
    names = {name for name in app.resolved_commands() if name[0] != "-"}
    assert names.isdisjoint(SYNONYMS)
    assert names.issuperset(SYNONYMS.values())


def test_a_key_that_cannot_be_used_is_refused_without_showing_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["emulator", "--api-key", "two words"]) == 2
    assert "words" not in capsys.readouterr().err


def test_a_state_file_survives_a_kill(tmp_path: Path) -> None:
    state = str(tmp_path / "state.sqlite")
    with emulator("--json", "--api-key", "test-key", "--state", state) as process:
        told = json.loads(line(process))
        with OpenRouter(told["api_key"], server_url=told["base_url"]) as client:
            made = client.api_keys.create(name="kept").data.hash
        process.kill()
        process.wait(PATIENCE)
    with emulator("--json", "--state", state) as process:
        told = json.loads(line(process))
        assert told["api_key"] == "test-key"
        with OpenRouter(told["api_key"], server_url=told["base_url"]) as client:
            assert [key.hash for key in client.api_keys.iterate()] == [made]


def test_a_state_file_that_cannot_be_used_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("not an emulator's")
    assert main(["emulator", "--state", str(tmp_path / "notes.txt")]) == 1
    assert main(["emulator", "--state", str(tmp_path / "nowhere" / "state")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "cannot use the state file" in first
    assert "cannot open" in second
