"""Files of keys to be made: what their fields mean, and how a bad one is refused."""

import json
import os
import re
import subprocess
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import openrouter_keys
from openrouter_keys import UNSET, External, KeySpec
from openrouter_keys.cli.exit_codes import CommandError
from openrouter_keys.cli.specs import documents as spec_documents
from openrouter_keys.cli.specs.csv_rows import COLUMNS
from openrouter_keys.cli.specs.file import read_specs, spec_file
from openrouter_keys.cli.specs.rows import FIELDS
from tests.tables import in_one_test

EXAMPLE = Path(openrouter_keys.__file__).parent / "cli" / "demo" / "customers.csv"
WORKSPACE = "0df9e665-d932-4740-b2c7-b52af166bc11"
EXTERNAL_KEY = "partner-key-" + "7d" * 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "customers.csv"


def written(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def read(path: Path, *lines: str) -> list[KeySpec]:
    return read_specs(written(path, "\n".join(lines)))


def refused(path: Path) -> str:
    with pytest.raises(CommandError) as raised:
        read_specs(path)
    assert raised.value.code == 2
    return str(raised.value).removeprefix(str(path))


def refusal(path: Path, *lines: str) -> str:
    return refused(written(path, "\n".join(lines)))


# --- CSV ---


def test_every_cell_becomes_its_field(path: Path) -> None:
    cells = f"c-1,Ada,12.5,weekly,TRUE,2031-07-15T16:00:00+02:00,user_1,{WORKSPACE},partner-7"
    assert read(path, ",".join(COLUMNS), f"{cells},{EXTERNAL_KEY},True") == [
        KeySpec(
            ref="c-1",
            name="Ada",
            limit=12.5,
            limit_reset="weekly",
            include_byok_in_limit=True,
            expires_at=datetime(2031, 7, 15, 14, tzinfo=UTC),
            creator_user_id="user_1",
            workspace_id=WORKSPACE,
            external=External("partner-7", EXTERNAL_KEY),
            disabled=True,
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
    assert read(path, header, "Ada,null,NULL,null,null") == [
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


def test_a_spreadsheets_ways_are_taken(path: Path) -> None:
    rows = read(path, "\ufeffLimit, Name ,limit_reset", "", "$0,Ada,Monthly", ",,", "1,Bo,DAILY ")
    assert rows == [
        KeySpec(ref="Ada", name="Ada", limit=0, limit_reset="monthly"),
        KeySpec(ref="Bo", name="Bo", limit=1, limit_reset="daily"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends_are_found_out(path: Path, delimiter: str, end: str) -> None:
    lines = ("name,limit,ref", '"Møller, Ø; et\tal",5,m-1', "Bo,,")
    text = end.join(lines[:1]).replace(",", delimiter) + end
    text += '"Møller, Ø; et\tal"' + f"{delimiter}5{delimiter}m-1{end}Bo{delimiter}{delimiter}{end}"
    assert read_specs(written(path, text)) == [
        KeySpec(ref="m-1", name="Møller, Ø; et\tal", limit=5),
        KeySpec(ref="Bo", name="Bo"),
    ]


@in_one_test(
    "header, cell, problem",
    [
        ("limit", "fifty", "must be a number or null"),
        ("limit", '"12,50"', "must be a number or null: a point before the cents"),
        ("limit", "nan", "must be a finite number of at least 0, or null"),
        ("limit", "-1", "must be a finite number of at least 0, or null"),
        ("limit_reset", "hourly", "must be daily, weekly or monthly, or null"),
        ("include_byok_in_limit", "null", "must be true or false"),
        ("include_byok_in_limit", "yes", "must be true or false"),
        ("expires_at", "tomorrow", "must be an ISO 8601 time with its zone, as 2027"),
        ("expires_at", "2031-12-31T23:59:59", "must be an ISO 8601 time with its zone"),
        ("workspace_id", "the-default-one", "must be a UUID"),
        (
            "external_user",
            " padded",
            "must be a text of 1 to 512 characters, with no NUL and no white",
        ),
    ],
)
def test_a_bad_cell_is_refused_with_its_line_and_column(
    path: Path, header: str, cell: str, problem: str
) -> None:
    told = refusal(path, f"name,{header}", "Ada,", f"Bo,{cell}")
    assert told.startswith(f", line 3, column {header}: {problem}")


def test_a_row_without_a_name_is_refused(path: Path) -> None:
    told = refusal(path, "name,limit", ",5")
    assert told == ", line 2, column name: must be a text of at least 1 character"


def test_an_external_key_without_its_user_is_refused_and_not_shown(path: Path) -> None:
    told = refusal(path, "name,external_user,external_api_key", f"Ada,,{EXTERNAL_KEY}")
    assert told.startswith(", line 2, column external_user: must be there")
    told = refusal(path, "name,external_user,external_api_key", f"Ada,a,{EXTERNAL_KEY[:30]}")
    assert told.startswith(", line 2, column external_api_key: must be a text of at least 32")
    assert "partner-key" not in told


@in_one_test(
    "lines, what",
    [
        (("ref,name", "c-1,Ada", "", "c-1,Bo"), "ref"),
        (("name,limit", "Ada,5", "", "Ada,6"), "name"),
        (("ref,name", "Ada,Bo", "", ",Ada"), "name"),
    ],
)
def test_a_ref_that_two_rows_have_is_refused(path: Path, lines: tuple[str, ...], what: str) -> None:
    problem = f"the {what} is that of line 2 too: give each a ref of its own"
    assert refusal(path, *lines) == f", line 4: {problem}"


def test_refs_whose_hashes_happen_to_be_the_same_are_two(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def same(_: object) -> int:
        return 7

    monkeypatch.setattr("openrouter_keys.cli.specs.file.hash", same, raising=False)
    assert [row.ref for row in read(path, "name", "Ada", "Bo")] == ["Ada", "Bo"]
    assert "the name is that of line 2 too" in refusal(path, "name", "Ada", "Bo", "Ada")


def test_the_line_is_the_files_own_even_below_a_cell_of_several_lines(path: Path) -> None:
    told = refusal(path, "name,limit", '"Ada', 'and Co",5', "", "Bo,fifty")
    assert told.startswith(", line 5, column limit")


def test_a_row_of_another_width_is_refused(path: Path) -> None:
    assert refusal(path, "name,limit", "Ada,5,weekly") == ", line 2: 3 cells under 2 columns"
    assert refusal(path, "name,limit", "Ada") == ", line 2: 1 cells under 2 columns"


@in_one_test("header", ["name,limt", "name|limit", "name,"])
def test_an_unknown_column_is_refused_with_those_that_there_are(path: Path, header: str) -> None:
    told = refusal(path, header, "Ada,5")
    assert re.match(r", line 1, column [12]: there is no such column;", told)
    assert told.endswith("columns are " + ", ".join(COLUMNS))


@in_one_test("header", ["limit", "name,name"])
def test_a_header_without_one_name_column_is_refused(path: Path, header: str) -> None:
    assert "`name` must be there, and each column once" in refusal(path, header)


def test_an_open_quote_is_refused(path: Path) -> None:
    told = refusal(path, "name", "Bo", '"Ada', "Chi")
    assert told.startswith(", line 3: is not readable as CSV: unexpected end of data: a quote")


def test_a_header_that_is_missing_is_asked_for(path: Path) -> None:
    assert "is the header missing? columns are ref, name" in refusal(path, "Ada,5", "Bo,6")
    assert "is the header missing?" not in refusal(path, "name,limt", "Ada,5")


# --- JSON, lines of JSON, YAML ---

FULL: dict[str, Any] = {
    "ref": "c-1",
    "name": "Ada",
    "limit": 12.5,
    "limit_reset": None,
    "include_byok_in_limit": False,
    "expires_at": "2031-07-15T16:00:00+02:00",
    "creator_user_id": None,
    "workspace_id": WORKSPACE,
    "external": {"user": "partner-7", "api_key": EXTERNAL_KEY},
}
SPECS = [
    KeySpec(
        ref="c-1",
        name="Ada",
        limit=12.5,
        limit_reset=None,
        include_byok_in_limit=False,
        expires_at=datetime(2031, 7, 15, 14, tzinfo=UTC),
        creator_user_id=None,
        workspace_id=WORKSPACE,
        external=External("partner-7", EXTERNAL_KEY),
    ),
    KeySpec(ref="Bo", name="Bo"),
]
YAML = f"""\
- &first
  ref: c-1
  name: Ada
  limit: 12.5
  limit_reset: null
  include_byok_in_limit: false
  expires_at: 2031-07-15T16:00:00+02:00
  creator_user_id: ~
  workspace_id: {WORKSPACE}
  external: {{user: partner-7, api_key: {EXTERNAL_KEY}}}
- name: Bo
"""
DOCUMENTS = {
    "array.json": json.dumps([FULL, {"name": "Bo"}], indent=1),
    "object.json": json.dumps({"keys": [FULL, {"name": "Bo"}]}),
    "mark.json": "\ufeff" + json.dumps([FULL, {"name": "Bo"}]),
    "lines.jsonl": f'{json.dumps(FULL)}\n\n{{"name": "Bo"}}\n',
    "lines.ndjson": f'{json.dumps(FULL)}\r\n{{"name": "Bo"}}',
    "sequence.yaml": YAML,
    "mapping.yml": "keys:\n" + YAML,
    "JSON.yaml": json.dumps([FULL, {"name": "Bo"}]),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_null_is_null_and_what_is_left_out_is_left_out(tmp_path: Path, name: str) -> None:
    found = read_specs(written(tmp_path / name, DOCUMENTS[name]))
    assert found == SPECS
    assert found[0].external == SPECS[0].external
    assert (found[0].limit_reset, found[1].limit_reset) == (None, UNSET)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("limit", [], "must be a finite number of at least 0, or null"),
        ("limt", 5, "there is no such field; did you mean limit? fields are " + ", ".join(FIELDS)),
        ("name", None, "cannot be null: leave it out"),
        ("external", None, "cannot be null: leave it out"),
        ("include_byok_in_limit", None, "cannot be null: leave it out"),
        ("workspace_id", "home", "must be a UUID"),
        ("name", 42, "must be a text of at least 1 character"),
        ("ref", 42, "must be a text of at least 1 character"),
        ("limit", "50", "must be a finite number of at least 0, or null"),
        ("limit", True, "must be a finite number of at least 0, or null"),
        ("limit", -1, "must be a finite number of at least 0, or null"),
        ("limit_reset", "Monthly", "must be daily, weekly or monthly, or null"),
        ("include_byok_in_limit", "true", "must be true or false"),
        ("expires_at", "2031-12-31", "must be an ISO 8601 time with its zone"),
        ("expires_at", 5, "must be an ISO 8601 time with its zone"),
        ("external", "user", "must be an object of `user` and maybe `api_key`"),
    ],
)
@in_one_test(
    "place",
    [("a.json", "[1]"), ("b.json", "keys[1]"), ("c.jsonl", "line 2"), ("d.yaml", "line 2")],
)
def test_a_bad_field_is_refused_with_its_place(
    tmp_path: Path, place: tuple[str, str], field: str, value: object, problem: str
) -> None:
    name, where = place
    rows: list[dict[str, object]] = [{"name": "Ada"}, {"name": "Bo", field: value}]
    text = "\n".join(map(json.dumps, rows))
    if name == "a.json":
        text = json.dumps(rows)
    elif name == "b.json":
        text = json.dumps({"keys": rows})
    elif name == "d.yaml":
        text = "\n".join(f"- {json.dumps(row)}" for row in rows)
    told = refused(written(tmp_path / name, text))
    assert told.startswith(f", {where}, field {2 if field == 'limt' else field}: {problem}")


@in_one_test(
    "name, text, told",
    [
        ("a.json", "[{]", ", line 1, column 3: is no JSON: Expecting property name"),
        ("a.json", '{"keys": 5}', ": must be an array of keys, or an object whose `keys`"),
        ("a.json", '{"name": "Ada"}', ": must be an array of keys, or an object whose `keys`"),
        ("a.json", "[5]", ", [0]: must be an object with a `name`"),
        ("a.json", '[{"name": "a", "name": "b"}]', ": the field name is there twice"),
        ("a.json", '[{"name": "a", "limit": NaN}]', ": NaN is no number that JSON has"),
        ("a.json", '[{"name": "a", "limit": 1e999}]', ", [0], field limit: must be a finite"),
        ("a.json", "[" * 100_000, ": is nested too deep"),
        ("a.jsonl", '{"name": "a"}\n{"name": ', ", line 2, column 10: is no JSON: "),
        ("a.jsonl", '{"name": "a"\n', ", line 1, column 13: is no JSON: Expecting ',' delimiter"),
        ("a.jsonl", '{"name": "a"}\n[]', ", line 2: must be an object with a `name`"),
        ("a.yaml", "- name: [", ", line 1: is no YAML"),
        ("a.yaml", "name: Ada", ": must be an array of keys, or an object whose `keys`"),
        ("a.yaml", "- 5", ", line 1: must be an object with a `name`"),
        ("a.yaml", "- 5: a\n  name: b", ", line 1: must be an object with a `name`"),
        ("a.yaml", "- name: Ada\n- name: a\n  name: b", ", line 2: the field name is there twice"),
        ("a.yaml", "- name: yes", ", line 1, field name: must be a text"),
        ("a.yaml", "- name: a\n  limit: .nan", ", line 1, field limit: must be a finite"),
        ("a.yaml", "- !!python/object/apply:os.system [true]", ", line 1: must be an object"),
        ("a.yaml", "- name: !!python/name:os.system", ", line 1: is no YAML"),
        ("a.yaml", "- !!python/object:os.x {name: a}", ", line 1: must be an object"),
        ("a.yaml", "- name: a\n---\n- name: b", ", line 2: is no YAML"),
    ],
)
def test_another_document_is_refused(tmp_path: Path, name: str, text: str, told: str) -> None:
    assert refused(written(tmp_path / name, text)).startswith(told)


@in_one_test("name", ["a.csv", "a.json", "a.yaml"])
def test_a_file_without_keys_is_refused(tmp_path: Path, name: str) -> None:
    text = {"a.csv": "name,limit\n\n", "a.json": "[]", "a.yaml": "keys: []"}[name]
    assert refused(written(tmp_path / name, text)) == " has no keys in it: add one, with a name"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.yaml"])
@pytest.mark.parametrize("text", ["", "\ufeff", " \r\n\n"])
def test_an_empty_file_is_called_so(tmp_path: Path, name: str, text: str) -> None:
    assert refused(written(tmp_path / name, text)) == " is empty: add a key, with a name"


def test_a_folder_is_called_so(tmp_path: Path) -> None:
    assert refused(tmp_path) == " is a folder: give a file of keys to be made"


def test_a_merged_yaml_mapping_is_filled_in(tmp_path: Path) -> None:
    text = "- &base {name: Ada, limit: 5}\n- {<<: *base, name: Bo}\n"
    found = read_specs(written(tmp_path / "a.yaml", text))
    assert found == [KeySpec(ref="Ada", name="Ada", limit=5), KeySpec(ref="Bo", name="Bo", limit=5)]


def test_a_missing_yaml_reader_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> object:
        raise ImportError

    monkeypatch.setattr(spec_documents, "import_module", missing)
    with pytest.raises(CommandError, match=r'pip install "openrouter-keys\[yaml\]"'):
        read_specs(written(tmp_path / "a.yaml", "- name: Ada"))


# --- any file ---


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.jsonl"])
def test_a_file_that_others_can_read_holds_no_external_key(tmp_path: Path, name: str) -> None:
    row = {"name": "Ada", "external": {"user": "a", "api_key": EXTERNAL_KEY}}
    text = json.dumps([row] if name == "a.json" else row)
    if name == "a.csv":
        text = f"name,external_user,external_api_key\nAda,a,{EXTERNAL_KEY}\n"
    for mode in (0o640, 0o604):
        told = refused(written(tmp_path / name, text, mode))
        assert told.endswith(
            "holds an external API key, and others could read the file: chmod 600 it"
        )
        assert EXTERNAL_KEY not in told
    assert len(read_specs(written(tmp_path / name, text, 0o600))) == 1


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_another_encoding_is_refused_with_how_to_convert_it(tmp_path: Path, name: str) -> None:
    text = {"a.csv": "name\nBo\nMøller", "a.jsonl": '\n\n{"name": "Møller"}'}.get(
        name, '[{"name": \n"Bo"},\n{"name": "Møller"}]'
    )
    told = refused(written(tmp_path / name, text.encode("latin-1")))
    assert told.startswith(" is not UTF-8 text (line 3 has the byte 0xF8): ")
    assert told.endswith("iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW")
    for encoding, told in (("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16"), ("utf-32", "UTF-32")):
        problem = refused(written(tmp_path / name, text.encode(encoding)))
        assert problem.startswith(f" is {told} text: ")
        assert problem.endswith(f"iconv -f {told} -t UTF-8 OLD > NEW")


def test_a_missing_file_is_refused_with_what_to_give(path: Path) -> None:
    problem = "No such file or directory; give a file of keys to be made"
    assert refused(path) == f"cannot read {path}: {problem}"


def test_a_name_that_tells_no_format_wants_one(tmp_path: Path) -> None:
    path = written(tmp_path / "keys.dat", "name\nAda\n")
    assert "give --format" in refused(path)
    with spec_file(str(path), "csv") as file:
        assert [spec.name for spec in file] == ["Ada"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_read_once_and_gone_through_as_often_as_wanted(tmp_path: Path) -> None:
    pipe = tmp_path / "keys.csv"
    os.mkfifo(pipe)
    with (
        subprocess.Popen(["sh", "-c", f'printf "name\\nAda\\n" > "{pipe}"']),
        spec_file(str(pipe), None) as file,
    ):
        assert len(file) == 1
        assert [spec.name for spec in file] == [spec.name for spec in file] == ["Ada"]


def test_a_file_that_is_replaced_meanwhile_is_still_the_one_that_was_checked(path: Path) -> None:
    with spec_file(str(written(path, "name\nAda\n")), None) as file:
        other = written(path.with_name("other"), "name\nBo\n")
        other.rename(path)
        assert [spec.name for spec in file] == ["Ada"]


def rows(name: str, count: int) -> Iterator[str]:
    if name == "a.csv":
        yield "ref,name,limit,limit_reset\n"
        yield from (f"customer-{n},Customer number {n},50,monthly\n" for n in range(count))
    else:
        yield from (
            f'{{"ref": "customer-{n}", "name": "Customer number {n}", "limit": 50}}\n'
            for n in range(count)
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_thousands_of_rows_need_little_memory(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, "".join(rows(name, 3_000)))
    tracemalloc.start()
    try:
        with spec_file(str(path), None) as file:
            assert sum(1 for _ in file) == len(file) == 3_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_500_000


def test_the_example_shows_cells_left_out_and_null() -> None:
    rows = read_specs(EXAMPLE)
    assert len(rows) == 300
    assert len({row.ref for row in rows}) == 300
    assert {row.limit is UNSET for row in rows} == {True, False}
    assert any(row.limit is None for row in rows)
