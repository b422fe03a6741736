"""What `list` prints is read back as exactly those keys; a text that may mean two is refused."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys.cli.keys.given import keys_of
from openrouter_keys.cli.terminal.csv_cells import csv_row
from openrouter_keys.cli.terminal.text import printable
from tests.commands import Command

NAMES = st.lists(st.text("a'\"=+-@;,\t\r\n\u2028\ufeff\uff1d\\ 5f", min_size=1), min_size=1)


@given(NAMES, st.booleans())
def test_csv_is_read_as_it_was_written(names: Sequence[str], one_column: bool) -> None:
    more = () if one_column else ("5",)
    text = "".join(csv_row((each, *more)) for each in ("name", *names))
    assert [each.text for each in keys_of(text, "a list")] == names


@given(NAMES)
def test_tabs_are_read_as_they_were_written(names: Sequence[str]) -> None:
    text = "".join(f"{printable(each)}\t5\n" for each in ("name", *names))
    assert [each.text for each in keys_of(text, "a list")] == [*map(printable, names)]


CSV = ("--csv",)
TABS = ()
#: Of two keys, which one is listed.
PAIRS = {
    "a formula": ("=x", "'=x"),
    "a sign in a formula's place": ("'=x", "=x"),
    "an address": ("@x", "'@x"),
    "an option": ("-x", "'-x"),
    "quotes": ('"x"', "x"),
    "no quotes": ("x", '"x"'),
    "a comma": ("Acme, production", '"Acme, production"'),
    "half a name": ("Acme, production", "Acme"),
    "two lines": ("a\nb", '"a'),
    "an old line end": ("a\rb", "a\nb"),
    "a line end of Windows": ("a\r\nb", "a\nb"),
    "a separator of lines": ("a\u2028b", "a"),
    "a tab": ("a\tb", "a\\tb"),
    "an escape": ("a\\tb", "a\tb"),
    "spaces around": (" x ", "x"),
    "a short hash": ("decade one", "decade"),
    "a whole hash": ("f" * 64, "x"),
}
#: How it is listed: the columns, and the format.
LISTINGS = {
    "one column of CSV": ("name", CSV),
    "CSV": ("name,usage", CSV),
    "names alone": ("name", TABS),
    "tabs": ("name,usage", TABS),
    "hashes": ("hash,name", CSV),
}


@pytest.mark.parametrize("listing", LISTINGS)
@pytest.mark.parametrize("case", PAIRS)
def test_no_other_key_is_meant(command: Command, case: str, listing: str) -> None:
    name, other = PAIRS[case]
    account = command.emulator.account
    listed = account.add(name)
    columns, format = LISTINGS[listing]
    text = command("list", *format, "--columns", columns).out
    alone = command("delete", "-", "--dry-run", "--json", stdin=text)
    assert [row["hash"] for row in json.loads(alone.out)["data"]] == [listed.hash]
    account.add(other)
    ran = command("delete", "-", "--yes", stdin=text)
    assert other in [key.name for key in account.keys.values()]
    if listing == "hashes":
        assert ran.code == 0
    if ran.code:
        assert "may be the name of 2 keys: give the hash of one" in ran.err
        assert len(account.keys) == 2
    else:
        assert listed.hash not in account.keys


@pytest.mark.parametrize("verb", ["disable", "enable", "update"])
def test_every_change_reads_the_same(command: Command, verb: str) -> None:
    account = command.emulator.account
    listed = account.add("=x", disabled=verb == "enable")
    other = account.add("'=x", disabled=verb == "enable")
    text = 'name,usage\n"\'=x",0.0\n'
    more = ("--limit", "3") if verb == "update" else ()
    assert command(verb, "-", "--yes", *more, stdin=text).code == 0
    changed = [(key.limit, key.disabled) for key in (listed, other)]
    before = (None, verb == "enable")
    assert changed[0] != before == changed[1]


@pytest.mark.parametrize("text", ["'=x\n", "x\n'=x\n", "HASH  NAME\n'=x\n"])
def test_a_line_without_a_header_is_a_name_as_it_stands(command: Command, text: str) -> None:
    account = command.emulator.account
    for name in ("x", "=x", "'=x"):
        account.add(name)
    assert command("delete", "-", "--yes", stdin=text).code == 0
    left = [key.name for key in account.keys.values()]
    assert left == [name for name in ("x", "=x", "'=x") if name not in text.splitlines()]


def test_a_file_is_read_the_same(command: Command) -> None:
    account = command.emulator.account
    for name in ("Acme, production", "a\rb", "a\u2028b"):
        account.add(name)
    file = command.folder / "names.csv"
    file.write_text(command("list", "--csv", "--columns", "name").out, "utf-8", newline="")
    assert command("delete", "--file", "names.csv", "--yes").code == 0
    assert not account.keys


def test_input_that_is_no_text_names_no_key(command: Command) -> None:
    (command.folder / "names.txt").write_bytes(b"a\xff\n")
    ran = command("delete", "--file", "names.txt", "--yes")
    assert (ran.code, "names.txt is not UTF-8 text" in ran.err) == (2, True)
