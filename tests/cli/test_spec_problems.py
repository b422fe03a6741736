"""All that is wrong with a file of keys is reported at once; what spreadsheets write is read."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from openrouter_keys import UNSET, External, KeySpec
from openrouter_keys.cli.exit_codes import CommandError
from openrouter_keys.cli.specs.csv_rows import COLUMNS
from openrouter_keys.cli.specs.example import example
from openrouter_keys.cli.specs.file import read_specs, spec_file
from tests.commands import Command, Ran
from tests.tables import in_one_test

ROOT = Path(__file__).parents[2]
LAST_DAY = datetime(2031, 12, 31, 23, 59, 59, tzinfo=UTC)
LONG = "partner-key-" + "7d" * 20


def written(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


def read(folder: Path, *lines: str, name: str = "a.csv") -> list[KeySpec]:
    return read_specs(written(folder, "\n".join(lines), name))


def problems(folder: Path, text: str | bytes, name: str = "a.csv") -> list[str]:
    """Each line of a refusal, without the file's name."""
    path = written(folder, text, name)
    with pytest.raises(CommandError) as raised:
        read_specs(path)
    assert raised.value.code == 2
    lines = [str(raised.value), *raised.value.more]
    assert all("\n" not in line and len(line) < 500 for line in lines)
    return [line.removeprefix(str(path)).lstrip(", ") for line in lines]


# --- all at once ---


@in_one_test(
    "name, text, places",
    [
        (
            "a.csv",
            "name,limit,expires_at\n,x,y\nBo,5,z\nChi,1,2,3\n",
            [
                "line 2, column limit",
                "lines 2-4, column expires_at",
                "line 2, column name",
                "line 4: 4 cells under 3 columns",
            ],
        ),
        (
            "a.json",
            '[{"name": 5, "limit": "x"}, 5, {"name": "a", "b": 1, "limit_reset": "x"}]',
            [
                "[0], field name",
                "[0], field limit",
                "[1]",
                "[2], field 2",
                "[2], field limit_reset",
            ],
        ),
        (
            "b.json",
            '{"keys": [{"name": 5}, {"name": ""}, {"name": "a", "limit": -1}]}',
            ["keys[0-1], field name", "keys[2], field limit"],
        ),
        (
            "a.jsonl",
            '{"name": \n[]\n{"name": "a", "limit": -1}\n{"name": "b", "limit": -1, "ref": ""}',
            ["line 1, column 10", "line 2", "lines 3-4, field limit", "line 4, field ref"],
        ),
        (
            "a.yaml",
            "- name: a\n  limit: -1\n- 5\n- name: b\n  limit_reset: x\n  workspace_id: x",
            [
                "line 1, field limit",
                "line 3",
                "line 4, field workspace_id",
                "line 4, field limit_reset",
            ],
        ),
        (
            "c.json",
            json.dumps(
                [
                    {"name": "a", "external": {"user": " ", "api_key": "short"}},
                    {"name": "b", "external_api_key": LONG},
                    {"name": "c", "external": {"user": "u"}, "external_user": "u"},
                ]
            ),
            [
                "[0], field external.user",
                "[0], field external.api_key",
                "[1], field external_user",
                "[2], field external",
            ],
        ),
    ],
)
def test_every_bad_cell_is_reported_with_its_place(
    tmp_path: Path, name: str, text: str, places: list[str]
) -> None:
    *lines, last = problems(tmp_path, text, name)
    assert sorted(line.split(": ")[0] for line in lines) == sorted(
        place.split(": ")[0] for place in places
    )
    assert last.endswith("problems: nothing was sent")


@in_one_test(
    "text, places",
    [
        (
            "name,limt,limit,notes,more\nAda,1,x,,\nBo,1,2,,\n",
            ["line 1, column 2", "line 1, columns 4-5", "line 2, column limit", "has 3 problems"],
        ),
        # One without names is called so once.
        (
            "customer,limit\nAda,x\nBo,x\nChi,5\n",
            ["line 1, column 1", "line 1", "lines 2-3, column limit", "has 4 problems"],
        ),
        (
            "name,limit,\nAda\nBo,5,x\nChi,5,,x\nDa,5,,\n",
            ["line 2", "line 1, column 3", "line 4", "has 3 problems"],
        ),
    ],
)
def test_the_header_and_the_rows_are_reported_together(
    tmp_path: Path, text: str, places: list[str]
) -> None:
    told = problems(tmp_path, text)
    assert [line.split(": ")[0] for line in told] == places
    assert "limt" not in text or "did you mean limit?" in told[0]


def test_a_text_that_is_not_utf8_is_read_for_what_else_there_is(tmp_path: Path) -> None:
    told = problems(tmp_path, "name,limit\nMøller,x\nBo,y\n".encode("latin-1"))
    assert told[0].startswith("is not UTF-8 text (line 2 has the byte 0xF8)")
    assert told[1].startswith("lines 2-3, column limit: must be a number or null")
    assert len(told) == 3


def test_what_ends_the_reading_is_reported_last(tmp_path: Path) -> None:
    told = problems(tmp_path, 'name,limit\nAda,x\nAda,1\n"Bo,5\n')
    assert told[0].startswith("line 2, column limit: ")
    assert told[1] == "line 3: the name is that of line 2 too: give each a ref of its own"
    assert told[2].startswith("line 4: is not readable as CSV")


def test_twins_are_found_beside_other_problems(tmp_path: Path) -> None:
    text = "ref,name,limit\na,Ada,x\nb,Bo,1\na,Chi,2\n,b,3\nb,,4\n,,5\n,,6\n"
    told = problems(tmp_path, text)
    assert "line 4: the ref is that of line 2 too: give each a ref of its own" in told
    assert "line 5: the name is that of line 3 too: give each a ref of its own" in told
    assert "line 6: the ref is that of line 3 too: give each a ref of its own" in told
    assert not any("line 8: the" in line for line in told)


@in_one_test(
    "row, more",
    [
        ("Ada,x", ["line 3, column limit: ", "line 3: the name is that of line 2 too"]),
        ("Ada,5,daily,extra", ["line 3: the name is that of line 2 too"]),
        ("Bo,x,hourly,extra", ["line 3, column limit: ", "line 3, column limit_reset: "]),
        ("Bo,-1", ["line 3, column limit: "]),
        ("Bo,5,daily,,extra", []),
        (",5", ["line 3, column name: "]),
        ("Bo", []),
    ],
)
def test_a_ragged_row_is_read_for_what_else_there_is(
    tmp_path: Path, row: str, more: list[str]
) -> None:
    told = problems(tmp_path, f"name,limit,limit_reset\nAda,5,\n{row}\nChi,5,daily\n")
    count = len(row.split(","))
    assert told[0] == f"line 3: {count} cells under 3 columns"
    found = [line for line in told[1:] if not line.startswith("has ")]
    assert len(found) == len(more)
    assert all(any(line.startswith(each) for line in found) for each in more)


WIDE = ("utf-16", "utf-16-le", "utf-16-be")


def wide(text: str, encoding: str) -> bytes:
    """With its mark, which the ones that name their order leave out."""
    return f"{'' if encoding == 'utf-16' else chr(0xFEFF)}{text}".encode(encoding)


@in_one_test(
    "name, text",
    [
        ("a.csv", "name\tlimit\r\nMøller 日本 𝄞\t5\r\n"),
        ("a.txt", "name\tlimit\r\nMøller 日本 𝄞\t5\r\n\t\r\n"),
        ("a.tsv", "sep=;\r\nname;limit\r\nMøller 日本 𝄞;5"),
        ("a.json", '[{"name": "Møller 日本 𝄞", "limit": 5}]'),
        ("a.jsonl", '{"name": "Møller 日本 𝄞", "limit": 5}\n'),
        ("a.yaml", "- name: Møller 日本 𝄞\n  limit: 5\n"),
    ],
)
@in_one_test("encoding", WIDE)
def test_utf16_is_read_as_it_is(tmp_path: Path, encoding: str, name: str, text: str) -> None:
    """Spreadsheets call it Unicode text."""
    asked = "Møller 日本 𝄞"
    path = written(tmp_path, wide(text, encoding), name)
    assert read_specs(path) == [KeySpec(ref=asked, name=asked, limit=5)]


@in_one_test("encoding", WIDE)
def test_what_is_wrong_with_utf16_is_reported_at_once(tmp_path: Path, encoding: str) -> None:
    text = wide("name\tlimit\nAda\tx\nAda\t5\t6\n", encoding)
    told = problems(tmp_path, text)
    assert [line.split(": ")[0] for line in told] == [
        *("line 2, column limit", "line 3", "line 3", "has 3 problems"),
    ]
    told = problems(tmp_path, text[:-1])  # half of a character
    assert told[0].startswith("is not UTF-16 text, as it begins: save it as UTF-8")
    assert [line.split(": ")[0] for line in told[1:3]] == ["line 2, column limit", "line 3"]


@in_one_test("text, odd", [("name\nAda\n", False), ("name\rAda\r", False), ("name\nAda", True)])
@in_one_test("encoding", ["utf-8", "utf-8-sig", *WIDE])
def test_whether_the_last_line_has_an_end(
    tmp_path: Path, encoding: str, text: str, *, odd: bool
) -> None:
    found = wide(text, encoding) if encoding in WIDE else text.encode(encoding)
    with spec_file(str(written(tmp_path, found)), None) as file:
        assert file.ends_midline is odd


@in_one_test(
    "rows, ranges",
    [
        (["x"] * 1000, "lines 2-1001"),
        (["x", "5"] * 4, "lines 2, 4, 6, 8"),
        (["x", "5"] * 500, "lines 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 490 more"),
        (["x", "x", "5"] * 500, "lines 2-3, 5-6, 8-9, 11-12, 14-15, 17-18, 20-21, 23-24, "),
    ],
)
def test_one_problem_of_many_rows_is_one_line(tmp_path: Path, rows: list[str], ranges: str) -> None:
    lines = [f"c-{n},{limit}" for n, limit in enumerate(rows)]
    told = problems(tmp_path, "\n".join(["name,limit", *lines]))
    count = rows.count("x")
    assert told[0].startswith(f"{ranges}, column" if ranges[-2:] != ", " else ranges)
    assert told[1:] == [f"has {count:,} problems: nothing was sent"]


def test_of_many_kinds_the_first_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    rows = [f"a{number}" + ",b" * number for number in range(1, 101)]
    told = problems(tmp_path, "\n".join(["name", *rows]))
    assert len(told) == 21
    assert told[0] == "line 2: 2 cells under 1 columns"
    assert told[-1] == "has 100 problems, 80 of them not shown: nothing was sent"


def test_no_value_is_shown_among_many_problems(tmp_path: Path) -> None:
    secret = "hunter2-partner-key-7d7d7d7d7d7d7d7d"
    cells = ",".join([secret] * len(COLUMNS))
    told = problems(tmp_path, f"{','.join(COLUMNS)},{secret}\n{cells},{secret}\n{cells},\n{secret}")
    assert len(told) > 5
    assert not [line for line in told if secret in line]


def test_the_command_says_all_and_sends_nothing(command: Command) -> None:
    written(command.folder, "name,limit\nAda,x\n,5\n", "c.csv")
    for words in ((), ("--plan",)):
        ran = command("provision", "c.csv", *words)
        assert (ran.code, ran.out) == (2, "")
        assert [line.split(": ")[1] for line in ran.err.splitlines()] == [
            "c.csv, line 2, column limit",
            "c.csv, line 3, column name",
            "c.csv has 2 problems",
        ]
    assert not command.emulator.count("create")


# --- what spreadsheets write ---


@in_one_test(
    "text",
    [
        "sep=;\nname;limit\nAda;5\n",
        "\ufeffsep=;\r\nname;limit\r\nAda;5\r\n",
        '"sep=;"\nname;limit\nAda;5\n',
        "SEP=|\nname|limit\nAda|5\n",
        "sep=\t\nname\tlimit\nAda\t5\n",
        "\n\nsep=,\n\nname,limit\n\n,\nAda,5\n,\n",
        "name;limit;;\nAda;5;;\n;;;\n",
        "name,limit\nAda,5,,,\n",
        "name\tlimit\t\nAda\t5\t\t\t\n",
        "Name ; LIMIT\nAda; $5\n",
        "name,limit\nAda,5 $\n",
        "name,limit\nAda,USD 5\n",
        "name,limit\nAda,US$5.00\n",
        "name,limit\nAda,5.00 usd\n",
        "name,limit,Limit reset,expires-at\nAda,5,,\n",
    ],
)
def test_a_spreadsheets_file_is_read_as_it_is(tmp_path: Path, text: str) -> None:
    assert read_specs(written(tmp_path, text)) == [KeySpec(ref="Ada", name="Ada", limit=5)]


def test_the_line_of_a_separator_counts(tmp_path: Path) -> None:
    assert problems(tmp_path, "sep=;\nname;limit\nAda;x\n")[0].startswith("line 3, column limit")


def test_a_cell_below_no_name_is_refused(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, "name,limit,,\nAda,5,,\nBo,5,,x\nChi,6,y,\n")
    assert told.startswith("line 1, columns 3-4: there is no such column; columns are")


POINT = ": a point before the cents, and nothing between thousands"
DOLLARS = ": US dollars, without another sign: no amount is converted"


@in_one_test(
    "cell, hint",
    [
        ("12,50", POINT),
        ("1,234.56", POINT),
        ("1.234.567", POINT),
        ("1'234", POINT),
        ("1\u2019234.50", POINT),
        ("1\u00a0234", POINT),
        ("1\u202f234,5", POINT),
        ("1 234", POINT),
        ("50 €", DOLLARS),
        ("£50", DOLLARS),
        ("EUR 50", DOLLARS),
        ("50 CHF", DOLLARS),
        ("1.234,56 €", f"{POINT}; {DOLLARS[2:]}"),
        ("fifty", ""),
    ],
)
def test_an_amount_of_another_country_is_refused_with_a_hint(
    tmp_path: Path, cell: str, hint: str
) -> None:
    (told,) = problems(tmp_path, f'name,limit\nAda,"{cell}"\n')
    assert told == f"line 2, column limit: must be a number or null{hint}"


@in_one_test("cell", ["1.234", "12.500", "$123.456", " 1.234 "])
def test_a_point_that_may_stand_between_thousands_is_never_guessed(
    tmp_path: Path, cell: str
) -> None:
    (told,) = problems(tmp_path, f"name;limit\nAda;{cell}\n")
    assert "the point may stand before the cents, or between thousands: write 1234" in told
    assert read(tmp_path, "name,limit", f"Ada,{cell}")[0].limit == float(cell.strip(" $"))


@in_one_test("cell, limit", [("0.125", 0.125), ("1.2340", 1.234), ("1234", 1234), ("12.50", 12.5)])
def test_an_amount_that_is_clear_is_read_beside_semicolons(
    tmp_path: Path, cell: str, limit: float
) -> None:
    assert read(tmp_path, "name;limit", f"Ada;{cell}")[0].limit == limit


# --- times ---


def expiring(kind: str, cell: str) -> str:
    """A file of a key that expires."""
    row = json.dumps({"name": "Ada", "expires_at": cell})
    return {
        "csv": f"name,expires_at\nAda,{cell}\n",
        "json": f"[{row}]",
        "jsonl": row,
        "yaml": f"- name: Ada\n  expires_at: {cell}\n",
    }[kind]


@in_one_test(
    "cell, hint",
    [
        ("2031-12-31", ": add the time of day and the zone: T23:59:59Z is"),
        ("20311231", ": add the time of day and the zone"),
        ("31/12/2031", ": write the year first"),
        ("12/31/2031", ": write the year first"),
        ("31.12.2031", ": write the year first"),
        ("31.12.31", ": write the year first"),
        ("2031/12/31", ": write the year first"),
        ("31/12/2031 10:00", ": write the year first"),
        ("2031-12-31T23:59", ": add its zone: Z for UTC"),
        ("2031-12-31 23:59:59", ": add its zone: Z for UTC"),
        ("3000000d", ": must be a duration of at most 36525d"),
        ("30d 5h", ": must be a duration such as"),
        ("someday", ""),
    ],
)
@in_one_test("kind", ["csv", "json", "jsonl", "yaml"])
def test_a_time_that_is_not_clear_is_refused_with_a_hint(
    tmp_path: Path, kind: str, cell: str, hint: str
) -> None:
    (told,) = problems(tmp_path, expiring(kind, cell), f"a.{kind}")
    must = "must be an ISO 8601 time with its zone, as 2027-12-31T23:59:59Z, a duration such as 30d"
    if kind == "yaml" and cell == "20311231":
        hint = ""  # YAML has a number there
    assert f"expires_at: {must}, or null{hint}" in told


@in_one_test("kind", ["csv", "json", "jsonl", "yaml"])
def test_a_duration_counts_from_now_as_it_does_in_create(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, expiring(kind, "30d"), f"a.{kind}")
    before = datetime.now(UTC)
    with spec_file(str(path), None) as file:
        (first,), (second,) = [*file], [*file]
        assert file.has_durations
    assert first == second
    assert isinstance(first.expires_at, datetime)
    assert before <= first.expires_at - timedelta(days=30) <= datetime.now(UTC)


@in_one_test(
    "cell, expires_at",
    [
        ("null", None),
        ("none", None),
        ("None", None),
        ("", UNSET),
        ("2031-12-31T23:59:59Z", LAST_DAY),
        ("2032-01-01T00:59:59+01:00", LAST_DAY),
    ],
)
def test_no_expiry_is_spelled_as_in_create_too(
    tmp_path: Path, cell: str, expires_at: object
) -> None:
    (spec,) = read(tmp_path, "name,limit,expires_at", f"Ada,5,{cell}")
    assert spec.expires_at == expires_at


def expiries(command: Command) -> dict[str, datetime | None]:
    return {key.name: key.expires_at for key in command.emulator.account.keys.values()}


def provision(command: Command, *words: str) -> Ran:
    return command("provision", "a.csv", "--quiet-period", "0.1s", *words)


def test_a_key_keeps_the_expiry_that_its_duration_gave_it(command: Command) -> None:
    written(command.folder, "name,expires_at\nAda,30d\n")
    assert provision(command).code == 0
    made = expiries(command)
    assert provision(command).code == 0
    plan = provision(command, "--plan")
    assert (plan.code, "done before: 1" in plan.err) == (0, True)
    # A row that is new has its own; another duration is one of a key that is there.
    written(command.folder, "name,expires_at\nAda,60d\nBo,60d\n")
    assert provision(command).code == 0
    assert expiries(command)["Ada"] == made["Ada"]
    assert command.emulator.count("create") == 2
    # A time is exact, and so is no expiry.
    for cell in ("2031-12-31T23:59:59Z", ""):
        written(command.folder, f"name,expires_at\nAda,{cell}\nBo,60d\n")
        ran = provision(command)
        assert (ran.code, "expires_at" in ran.err) == (1, True)


# --- columns ---


def test_the_example_shows_every_column_and_runs(command: Command) -> None:
    ran = command("provision", "--example")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == example()
    assert ran.out.splitlines()[0] == ",".join(COLUMNS)
    written(command.folder, ran.out)
    assert provision(command).code == 0
    assert {key.limit for key in command.emulator.account.keys.values()} == {50, 2.5, None}


def test_a_file_or_the_example_is_asked_for(command: Command) -> None:
    ran = command("provision")
    assert (ran.code, ran.out) == (2, "")
    assert "give FILE, the keys to create; --example prints one to begin with" in ran.err


@in_one_test(
    "name, text",
    [
        ("a.csv", f"name,external_user,external_api_key\nAda,u,{LONG}\n"),
        ("a.csv", f"name,external.user,external.api_key\nAda,u,{LONG}\n"),
        ("a.json", [{"name": "Ada", "external_user": "u", "external_api_key": LONG}]),
        ("a.json", [{"name": "Ada", "external": {"user": "u", "api_key": LONG}}]),
        ("a.yaml", [{"name": "Ada", "external_user": "u", "external_api_key": LONG}]),
    ],
)
def test_external_is_spelled_as_it_is_read(tmp_path: Path, name: str, text: object) -> None:
    (spec,) = read(tmp_path, text if isinstance(text, str) else json.dumps(text), name=name)
    assert spec == KeySpec(ref="Ada", name="Ada", external=External("u", LONG))


def test_every_column_is_documented() -> None:
    page = (ROOT / "docs" / "spec-files.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == COLUMNS
    assert example() in page
    command_page = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
    assert "(spec-files.md)" in command_page


# --- as a new user would ---

# What a spreadsheet of another country exports, and the same after the errors were mended.
WORST = """\
sep=;
Name;Limit;Limit reset;Include BYOK in limit;Expires at;Notizen;;;
Müller & Söhne;1.234,56 €;monthly;WAHR;31.12.2031;VIP;;;
Дмитрий;50;Monthly;TRUE;2031-12-31;;;;
張偉;12,50;;;30d;;;;
;;;;;;;;

"Ibrahim ""Ibo"" علي";$5;daily;false;2031-12-31T23:59:59+01:00;;;;
Müller & Söhne;1.234;hourly;;none;;;;;;;
=SUMME(A1:A3);7;;;;;;;
Zoë 🦊;"80 000";null;;3000000d;;;;
Ragged;5
  ;9;;;;;;;
"two
lines";null;weekly;;2031-12-31 10:00;;;;
;;;;;;;;
"""
MENDED = """\
sep=;
Name;Limit;Limit reset;Include BYOK in limit;Expires at;;;;
Müller & Söhne;1234.56;monthly;TRUE;2031-12-31T23:59:59Z;;;;
Дмитрий;50;Monthly;TRUE;2031-12-31T23:59:59Z;;;;
張偉;12.50;;;30d;;;;
;;;;;;;;

"Ibrahim ""Ibo"" علي";$5;daily;false;2031-12-31T23:59:59+01:00;;;;
Müller, Werk 2;1234;monthly;;none;;;;;;;
=SUMME(A1:A3);7;;;;;;;
Zoë 🦊;80000;null;;3000d;;;;
Ragged;5;;;;;;;
Nameless;9;;;;;;;
"two
lines";null;weekly;;2031-12-31T10:00Z;;;;
;;;;;;;;
"""


def cells_of(text: str) -> dict[tuple[int, str], str]:
    """The cells of an export, by line and column; a row that is ragged is one cell."""
    reader, line = csv.reader(io.StringIO(text), delimiter=";"), 1
    columns, cells = list[str](), dict[tuple[int, str], str]()
    for row in reader:
        if line == 2:
            columns = [name.lower().replace(" ", "_") for name in row[:5]]
            cells[2, "column 6"] = row[5]
        elif columns and len(row) < len(columns):
            cells[line, ""] = ";".join(row)
        elif columns and any(row):
            cells |= {
                (line, f"column {name}"): cell for name, cell in zip(columns, row, strict=False)
            }
        line = reader.line_num + 1
    return cells


def test_the_worst_export_takes_one_round_of_errors(command: Command) -> None:
    bad = ("\ufeff" + WORST.replace("\n", "\r\n")).encode()
    good = ("\ufeff" + MENDED.replace("\n", "\r\n")).encode()
    written(command.folder, bad)
    ran = provision(command, "--yes")
    assert (ran.code, command.emulator.count("create")) == (2, 0)
    named = set[tuple[int, str]]()
    for line in ran.err.splitlines()[:-1]:
        found = re.match(r"openrouter-keys: a\.csv, lines? ([\d, -]+?)(?:, (column \w+))?: ", line)
        assert found is not None, line
        for numbers in found[1].split(", "):
            first, _, last = numbers.partition("-")
            named |= {
                (number, found[2] or "") for number in range(int(first), int(last or first) + 1)
            }
    before, after = cells_of(WORST), cells_of(MENDED)
    wrong = {cell for cell in before if after.get(cell) != before[cell]}
    # A name that comes twice is one of a row.
    assert named == {
        (line, "" if (line, cell) == (9, "column name") else cell) for line, cell in wrong
    }
    written(command.folder, good)
    ran = provision(command, "--yes")
    assert ran.code == 0, ran.err
    limits = {key.name: key.limit for key in command.emulator.account.keys.values()}
    assert limits == {
        "Müller & Söhne": 1234.56,
        "Дмитрий": 50,
        "張偉": 12.5,
        'Ibrahim "Ibo" علي': 5,
        "Müller, Werk 2": 1234,
        "=SUMME(A1:A3)": 7,
        "Zoë 🦊": 80000,
        "Ragged": 5,
        "Nameless": 9,
        "two\r\nlines": None,
    }
