"""The CSV file of customers: what its cells mean, and how a bad one is refused."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from openrouter_keys import UNSET, External, KeySpec
from openrouter_keys.cli import CommandError
from openrouter_keys.cli.customers import COLUMNS, read_customers

EXAMPLE = Path(__file__).parent.parent / "examples" / "customers.csv"
WORKSPACE = "0df9e665-d932-4740-b2c7-b52af166bc11"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "customers.csv"


def read(path: Path, *lines: str) -> list[KeySpec]:
    path.write_bytes("\n".join(lines).encode())
    return read_customers(path)


def refusal(path: Path, *lines: str) -> str:
    with pytest.raises(CommandError) as raised:
        read(path, *lines)
    assert raised.value.code == 2
    return str(raised.value).removeprefix(str(path))


def test_every_cell_becomes_its_field(path: Path) -> None:
    cells = f"c-1,Ada,12.5,weekly,TRUE,2031-07-15T16:00:00+02:00,user_1,{WORKSPACE},partner-7"
    assert read(path, ",".join(COLUMNS), cells) == [
        KeySpec(
            ref="c-1",
            name="Ada",
            limit=12.5,
            limit_reset="weekly",
            include_byok_in_limit=True,
            expires_at=datetime(2031, 7, 15, 14, tzinfo=UTC),
            creator_user_id="user_1",
            workspace_id=WORKSPACE,
            external=External("partner-7"),
        )
    ]


def test_an_empty_cell_is_left_out(path: Path) -> None:
    (row,) = read(path, ",".join(COLUMNS), ",Ada" + "," * (len(COLUMNS) - 2))
    assert row == KeySpec(ref="Ada", name="Ada")
    assert row.limit is UNSET


def test_a_column_that_is_not_there_is_left_out(path: Path) -> None:
    assert read(path, "name", "Ada") == [KeySpec(ref="Ada", name="Ada")]


def test_null_is_null_where_the_service_takes_it(path: Path) -> None:
    header = "name,limit,limit_reset,expires_at,creator_user_id"
    assert read(path, header, "Ada,null,null,null,null") == [
        KeySpec(
            ref="Ada",
            name="Ada",
            limit=None,
            limit_reset=None,
            expires_at=None,
            creator_user_id=None,
        )
    ]


def test_null_is_a_text_where_the_service_does_not_take_it(path: Path) -> None:
    assert read(path, "name,external_user", "null,null") == [
        KeySpec(ref="null", name="null", external=External("null"))
    ]


def test_columns_may_come_in_any_order_with_blank_lines_and_a_byte_order_mark(path: Path) -> None:
    rows = read(path, "\ufefflimit,name", "", "0,Ada", "", "1,Bo", "")
    assert rows == [
        KeySpec(ref="Ada", name="Ada", limit=0),
        KeySpec(ref="Bo", name="Bo", limit=1),
    ]


@pytest.mark.parametrize(
    ("header", "cell", "problem"),
    [
        ("limit", "fifty", "must be a number or null, not 'fifty'"),
        ("limit", "nan", "must be a finite number of at least 0, not nan"),
        ("limit", "-1", "must be a finite number of at least 0, not -1"),
        ("limit_reset", "hourly", "must be one of 'daily', 'weekly', 'monthly'"),
        ("include_byok_in_limit", "null", "must be true or false, not 'null'"),
        ("include_byok_in_limit", "yes", "must be true or false, not 'yes'"),
        ("expires_at", "tomorrow", "must be an ISO 8601 time"),
        ("expires_at", "2031-12-31T23:59:59", "must have a time zone"),
        ("workspace_id", "the-default-one", "must be a UUID, not 'the-default-one'"),
        ("external_user", " padded", "must have no NUL and no white space around it"),
    ],
)
def test_a_bad_cell_is_refused_with_its_line_and_column(
    path: Path, header: str, cell: str, problem: str
) -> None:
    told = refusal(path, f"name,{header}", "Ada,", f"Bo,{cell}")
    assert told.startswith(f", line 3, column {header}: {problem}")


def test_a_row_without_a_name_is_refused(path: Path) -> None:
    told = refusal(path, "name,limit", ",5")
    assert told == ", line 2, column name: must have at least 1 character"


@pytest.mark.parametrize(
    ("lines", "column", "ref"),
    [
        (("ref,name", "c-1,Ada", "", "c-1,Bo"), "ref", "c-1"),
        (("name,limit", "Ada,5", "", "Ada,6"), "name", "Ada"),
        (("ref,name", "Ada,Bo", "", ",Ada"), "name", "Ada"),
    ],
)
def test_a_ref_that_two_rows_have_is_refused(
    path: Path, lines: tuple[str, ...], column: str, ref: str
) -> None:
    told = refusal(path, *lines)
    problem = f"{ref!r} is that of line 2: give each row a ref of its own"
    assert told == f", line 4, column {column}: {problem}"


def test_the_line_is_the_files_own_even_below_a_cell_of_several_lines(path: Path) -> None:
    told = refusal(path, "name,limit", '"Ada', 'and Co",5', "", "Bo,fifty")
    assert told.startswith(", line 5, column limit")


def test_a_row_of_another_width_is_refused(path: Path) -> None:
    assert refusal(path, "name,limit", "Ada,5,weekly") == ", line 2: 3 cells under 2 columns"
    assert refusal(path, "name,limit", "Ada") == ", line 2: 1 cells under 2 columns"


@pytest.mark.parametrize("header", ["name,limt", "name;limit", "name,"])
def test_an_unknown_column_is_refused_with_those_that_there_are(path: Path, header: str) -> None:
    told = refusal(path, header, "Ada,5")
    assert told.startswith(", line 1: there is no column ")
    assert told.endswith("columns are " + ", ".join(COLUMNS))


@pytest.mark.parametrize("header", ["limit", "name,name", ""])
def test_a_header_without_one_name_column_is_refused(path: Path, header: str) -> None:
    assert "`name` must be there, and each column once" in refusal(path, header)


def test_a_file_without_rows_is_refused(path: Path) -> None:
    assert refusal(path, "name,limit", "") == " has no rows below its header: add a customer"


def test_an_open_quote_is_refused(path: Path) -> None:
    assert refusal(path, "name", '"Ada').startswith(" is not readable as CSV: ")


def test_a_file_in_another_encoding_is_refused(path: Path) -> None:
    path.write_bytes("name\nMøller".encode("latin-1"))
    with pytest.raises(CommandError, match="is not UTF-8 text"):
        read_customers(path)


def test_a_missing_file_is_refused_with_what_to_give(path: Path) -> None:
    with pytest.raises(CommandError) as raised:
        read_customers(path)
    assert raised.value.code == 2
    problem = "No such file or directory; give a CSV file of customers"
    assert str(raised.value) == f"cannot read {path}: {problem}"


def test_the_example_shows_cells_left_out_and_null() -> None:
    rows = read_customers(EXAMPLE)
    assert len(rows) == 300
    assert len({row.ref for row in rows}) == 300
    assert {row.limit is UNSET for row in rows} == {True, False}
    assert any(row.limit is None for row in rows)
