"""Files that the command writes: what reads them reads what was meant, and nobody else does."""

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from openrouter_keys.cli.exit_codes import CommandError
from openrouter_keys.cli.secrets.formats import Handed, SecretFormat, writer
from openrouter_keys.cli.secrets.sinks import new_file
from openrouter_keys.cli.usage.page_file import write_page
from tests.commands import Command
from tests.tables import in_one_test

SECRETS: Final = (
    "sk-or-v1-" + "0a" * 32,
    "$(touch ran)",
    "`touch ran`",
    "a;touch ran",
    "a&touch ran",
    "a touch ran",
    "a|touch ran",
    "a>ran",
    "$HOME",
    "${PATH}",
    "~",
    "*",
    "#comment",
    "a #b",
    '"quoted"',
    "a!b",
    "<(touch ran)",
    "Møller 日本",
)
REFUSED: Final = ("a\nPATH=b", "a\rb", "it's", "a\\b", "\x1b[2J", "a\x00b", "a\u2028b")


def handed(key: str, *, ref: str = "", name: str = "a", hash: str = "ab" * 32) -> Handed:
    return Handed(ref=ref, name=name, hash=hash, key=key)


def written(format: SecretFormat, *keys: Handed) -> str:
    lines = list[str]()
    write = writer(format, lines.append)
    for key in keys:
        write(key)
    return "".join(lines)


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
@pytest.mark.parametrize("key", SECRETS)
def test_a_shell_that_reads_an_env_file_runs_nothing(tmp_path: Path, key: str) -> None:
    (tmp_path / "a.env").write_text(written("env", handed(key)))
    script = 'set -a; . ./a.env; printf %s "$OPENROUTER_API_KEY"'
    read = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
    )
    assert (read.stdout, read.stderr) == (key, "")
    assert os.listdir(tmp_path) == ["a.env"]


def test_an_ordinary_secret_has_no_quotes() -> None:
    assert written("env", handed(SECRETS[0])) == f"OPENROUTER_API_KEY={SECRETS[0]}\n"


@in_one_test("format", ["env", "raw"])
@in_one_test("key", REFUSED)
def test_a_secret_that_readers_read_otherwise_is_refused(format: SecretFormat, key: str) -> None:
    if format == "raw" and key.isprintable():
        assert written(format, handed(key)) == f"{key}\n"
        return
    with pytest.raises(CommandError, match="give --secret-format jsonl") as raised:
        written(format, handed(key))
    assert key not in str(raised.value)


@pytest.mark.parametrize("text", ["\nPATH=x", "$(touch ran)", "a'b", "ab cd", "é"])
def test_no_ref_and_no_hash_is_more_than_a_variables_name(text: str) -> None:
    lines = written("env", *(handed("k", ref=f"a{text}", hash=f"{text}{n}") for n in range(2)))
    for line in lines.splitlines():
        name, _, key = line.partition("=")
        assert key == "k"
        assert name.replace("_", "").isalnum()
        assert name.isascii()


@in_one_test(
    "ref, name, variable",
    [
        ("", "a", ""),
        ("customer 42", "a", "_CUSTOMER_42"),
        ("cd" * 32, "customer 42", "_CUSTOMER_42"),  # a rotation's ref is the old key's hash
        ("cd" * 32, "", f"_{'CD' * 32}"),
        ("cd" * 31, "a", f"_{'CD' * 31}"),
        ("CD" * 32, "a", f"_{'CD' * 32}"),
    ],
)
def test_a_variable_is_called_after_the_ref_and_of_a_rotation_after_the_name(
    ref: str, name: str, variable: str
) -> None:
    line = written("env", handed("k", ref=ref, name=name))
    assert line == f"OPENROUTER_API_KEY{variable}=k\n"


NAMES: Final = (
    "",
    "Müller & Söhne",
    "張偉",
    "a\nPATH=x",
    "$(touch ran)",
    "sk-or-v1-" + "7d" * 32,
    "c'est",
)


@in_one_test("refs", [("日本", "Ünï", "張偉"), ("-", "_", "!"), ("é", "é ", "é  "), ("1", "", "2")])
@in_one_test("hash", ["ab" * 32, "", "---", "AB" * 32])
def test_no_key_of_many_has_the_management_keys_variable(refs: tuple[str, ...], hash: str) -> None:
    keys = [handed("k", ref=ref or "é", hash=hash) for ref in refs]
    variables = [line.partition("=")[0] for line in written("env", *keys).splitlines()]
    assert "OPENROUTER_API_KEY" not in variables
    assert len({*variables}) == len(keys)
    assert all(re.fullmatch(r"OPENROUTER_API_KEY_\w+", name, re.ASCII) for name in variables)


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
def test_each_variable_of_many_has_its_keys_name_in_a_comment(tmp_path: Path) -> None:
    lines = list[str]()
    write = writer("env", lines.append, named=True)
    for number, name in enumerate(NAMES):
        write(handed(f"k {number}", ref=f"c-{number}", name=name))
    assert lines[1] == "# Müller & Söhne (c-1)\nOPENROUTER_API_KEY_C_1='k 1'\n"
    assert lines[3].startswith("# a\\nPATH=x (c-3)\n")
    assert NAMES[5] not in "".join(lines)
    (tmp_path / "a.env").write_text("".join(lines), encoding="utf-8")
    script = 'set -a; . ./a.env; env | grep -c ^OPENROUTER_API_KEY_C_; printf %s "$PATH"'
    read = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
    )
    assert (read.stdout, read.stderr) == (f"{len(NAMES)}\n{os.environ['PATH']}", "")
    assert os.listdir(tmp_path) == ["a.env"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("provision", "a.csv", "-o", "k.env", "--quiet-period", "0.1s"),
        ("journal", "export", "a.csv.journal", "-o", "k.env"),
        ("journal", "export", "a.csv.journal", "--show-secret", "--secret-format", "env"),
    ],
)
def test_the_next_command_is_not_given_one_of_many_keys(
    command: Command, words: tuple[str, ...]
) -> None:
    (command.folder / "a.csv").write_text("name\n日本\nДж\nAda\n", encoding="utf-8")
    if words[0] == "journal":
        assert command("provision", "a.csv", "--quiet-period", "0.1s").code == 0
    ran = command(*words)
    assert ran.code == 0, ran.err
    text = ran.out or (command.folder / "k.env").read_text(encoding="utf-8")
    assert not re.search(r"^OPENROUTER_API_KEY=", text, re.MULTILINE)
    assert {line[2:] for line in text.splitlines() if line[0] == "#"} == {"日本", "Дж", "Ada"}
    assert text.count("=sk-or-") == 3


# --- a page in place of a file ---


@pytest.mark.skipif(os.name != "posix", reason="no modes")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664, 0o400])
def test_a_page_has_the_mode_of_what_it_replaces(command: Command, mode: int) -> None:
    page = command.folder / "page.html"
    page.write_text("old")
    page.chmod(mode)
    assert command("usage", "--html", "page.html", "--force").code == 0
    assert page.read_text() != "old"
    assert stat.S_IMODE(page.stat().st_mode) == mode
    assert os.listdir(command.folder) == ["page.html"]


@pytest.mark.skipif(os.name != "posix", reason="no modes")
def test_a_page_is_never_open_to_more_than_what_it_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, modes = tmp_path / "page.html", list[int]()
    page.write_text("old")
    page.chmod(0o600)
    replace = os.replace

    def look(new: str, path: str) -> None:
        modes.append(stat.S_IMODE(os.stat(new).st_mode))
        replace(new, path)

    monkeypatch.setattr(os, "replace", look)
    write_page(str(page), "new", force=True)
    assert modes == [0o600]


def link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def file(path: Path) -> None:
    path.write_text("mine")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="no named pipes")
@pytest.mark.parametrize("make", [link, fifo, folder, file])
@pytest.mark.parametrize("words", [("-o",), ("--html",), ("--force", "--html")])
def test_nothing_is_written_over_or_into_what_is_no_file(
    command: Command, make: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    if make is file and "--force" in words:
        return
    make(command.folder / "there")
    begin = ("create", "a") if words == ("-o",) else ("usage",)
    ran = command(*begin, *words, "there")
    assert (ran.code, command.emulator.count("create")) == (2, 0)
    assert "there is there already" in ran.err
    assert os.listdir(command.folder) == ["there"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize("format", ["env", "csv", "jsonl", "raw"])
def test_no_file_of_secrets_is_left_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: SecretFormat
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = str(tmp_path / "keys")
    with (
        pytest.raises(CommandError, match="No space left on device"),
        new_file(path, format, durable=True, whole=True),
    ):
        pass
    assert os.listdir(tmp_path) == []
