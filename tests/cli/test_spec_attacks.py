"""Files of keys under attack: one line, no value of theirs, bounded time and memory."""

import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from openrouter_keys.cli.exit_codes import CommandError
from openrouter_keys.cli.specs import file as spec_file
from openrouter_keys.cli.specs.csv_rows import COLUMNS
from openrouter_keys.cli.specs.file import read_specs
from openrouter_keys.cli.specs.text import LONGEST_ROW
from tests.tables import in_one_test

SECRET: Final = "hunter2-partner-key-7d7d7d7d7d7d7d7d7d7d7d7d"
#: Seconds and bytes that a refusal takes at the most, on a machine that has other work.
PATIENCE: Final = 20
MEMORY: Final = 60_000_000


def refused(path: Path) -> str:
    """The one short line that a file is refused with, in which none of its values stands."""
    with pytest.raises(CommandError) as raised:
        read_specs(path)
    told = str(raised.value).removeprefix(str(path))
    assert (raised.value.code, told.count("\n")) == (2, 0)
    assert len(told) < 500
    assert SECRET not in told
    assert SECRET.lower() not in told.lower()
    return told


def of(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    path.chmod(0o600)
    return path


def bomb(alias: str, levels: int = 40) -> str:
    """Aliases of which each stands for nine of the one before."""
    lines = [f"  a0: &a0 {SECRET}"]
    for level in range(1, levels):
        each = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"  a{level}: &a{level} {alias.format(each)}")
    return "- name: Ada\n" + "\n".join(lines)


MERGES: Final = "- {name: b}\n".join(
    ["- &m0 {name: a, limit: 1}\n"]
    + [f"- &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}], name: a{n}}}\n" for n in range(1, 20)]
)

# What stands where another value should: each with the place that is told of it.
MISPLACED: Final = (
    ("a.csv", f"name,limit\nAda,{SECRET}\n", "line 2, column limit"),
    ("a.csv", f"name,limit_reset\nAda,{SECRET}\n", "line 2, column limit_reset"),
    ("a.csv", f"name,expires_at\nAda,{SECRET}\n", "line 2, column expires_at"),
    ("a.csv", f"name,workspace_id\nAda,{SECRET}\n", "line 2, column workspace_id"),
    ("a.csv", f"name,include_byok_in_limit\nAda,{SECRET}\n", "line 2, column include_byok"),
    ("a.csv", f"name,external_user\nAda,{SECRET} \n", "line 2, column external_user"),
    ("a.csv", f"name,external_api_key\nAda,{SECRET}\n", "line 2, column external_user"),
    ("a.csv", f"name,limit\nAda,5,{SECRET}\n", "line 2: 3 cells under 2 columns"),
    ("a.csv", f"Ada,5,{SECRET}\nBo,6,x\n", "line 1, column 1: there is no such column; is the"),
    ("a.csv", f"name,{SECRET}\nBo,6\n", "line 1, column 2: there is no such column; columns"),
    ("a.csv", f"{SECRET},name\nBo,6\n", "line 1, column 1: there is no such column; columns"),
    ("a.csv", f"ref,name\n{SECRET},a\n{SECRET},b\n", "line 3: the ref is that of line 2 too"),
    ("a.csv", f"name\n{SECRET}\n{SECRET}\n", "line 3: the name is that of line 2 too"),
    ("a.csv", f'name\n"Ada"{SECRET}\n', "line 2: is not readable as CSV"),
    ("a.csv", f"name\n{SECRET}\0\n", "line 2: has a NUL in it"),
    ("a.json", json.dumps([{"name": "a", "limit": SECRET}]), "[0], field limit"),
    ("a.json", json.dumps([{"name": "a", "limit_reset": SECRET}]), "[0], field limit_reset"),
    ("a.json", json.dumps([{"name": "a", "limit_reset": [SECRET]}]), "[0], field limit_reset"),
    ("a.json", json.dumps([{"name": "a", "expires_at": SECRET}]), "[0], field expires_at"),
    ("a.json", json.dumps([{"name": "a", "workspace_id": SECRET}]), "[0], field workspace_id"),
    ("a.json", json.dumps([{"name": {SECRET: SECRET}}]), "[0], field name"),
    ("a.json", json.dumps([{"name": "a", "external": SECRET}]), "[0], field external"),
    ("a.json", json.dumps([{"name": "a", "external": {SECRET: 1}}]), "[0], field external"),
    ("a.json", json.dumps([{"name": "a", SECRET: 1}]), "[0], field 2: there is no such field"),
    ("a.json", f'[{{"{SECRET}": 1, "{SECRET}": 2}}]', "a field is there twice"),
    ("a.json", f'[{{"name": "{SECRET}"', "line 1, column"),
    ("a.json", f'[{{"name": "{SECRET}\n"}}]', "line 1, column"),
    ("a.json", f"[{SECRET}]", "line 1, column 2"),
    ("a.json", json.dumps({SECRET: []}), "must be an array of keys"),
    ("a.jsonl", f"{SECRET}\n", "line 1, column 1"),
    ("a.jsonl", json.dumps({"name": "a", "limit": SECRET}), "line 1, field limit"),
    ("a.yaml", f"- name: a\n  limit: {SECRET}", "line 1, field limit"),
    ("a.yaml", f"- name: a\n  {SECRET}: 1", "line 1, field 2: there is no such field"),
    ("a.yaml", f"- {SECRET}: 1\n  {SECRET}: 2", "line 1: a field is there twice"),
    ("a.yaml", f"- name: *{SECRET}", "line 1: is no YAML"),
    ("a.yaml", f"- name: !{SECRET} a", "line 1: is no YAML"),
    ("a.yaml", f"- &{SECRET} 1\n- &{SECRET} 2", "line 2: is no YAML"),
    ("a.yaml", f"- !{SECRET} {{name: a}}", "line 1: must be an object"),
    ("a.yaml", f"%{SECRET} 1\n--- []", "has no keys in it"),
    ("a.yaml", f"- {SECRET}: [\n", "line 2: is no YAML"),
    ("a.yaml", f"- <<: {SECRET}\n  name: a", "line 1: is no YAML"),
)


@in_one_test("name, text, place", MISPLACED)
def test_no_value_of_a_file_is_told(tmp_path: Path, name: str, text: str, place: str) -> None:
    assert refused(of(tmp_path, name, text)).lstrip(", :").startswith(place.lstrip())


DIGITS: Final = "9" * 5_000

# What takes a reader's time or memory, or what it cannot read as the value it looks like.
ODD: Final[tuple[tuple[str, Callable[[], str | bytes], str], ...]] = (
    ("a.yaml", lambda: bomb("[{}]"), "line 1: has too many fields"),
    ("a.yaml", lambda: bomb("{{x: [{}]}}"), "line 1: has too many fields"),
    ("a.yaml", lambda: "keys:\n" + bomb("[{}]"), "line 2: has too many fields"),
    ("a.yaml", lambda: MERGES, "has too many fields"),
    ("a.yaml", lambda: "- &a {name: a, limit: *a}", "line 1: has too many fields"),
    ("a.yaml", lambda: "- &a {name: a, <<: *a}", "line 1: has too many fields"),
    ("a.yaml", lambda: f"- name: a\n  limit: {DIGITS}", "line 1, field limit: is no number"),
    ("a.yaml", lambda: f"- name: {DIGITS}", "line 1, field name: is no number"),
    ("a.yaml", lambda: "- name: a\n  expires_at: 2026-13-45", "line 1, field expires_at"),
    ("a.yaml", lambda: "- name: a\n  expires_at: 2026-02-30T25:61:61Z", "field expires_at"),
    ("a.yaml", lambda: "- name: 2026-13-45", "line 1, field name: is no number"),
    ("a.yaml", lambda: "- name: a\n  limit: 0b", "line 1, field limit"),
    ("a.yaml", lambda: "- {" + "".join(f"f{n}: 1, " for n in range(20_000)) + "}", "too many"),
    ("a.yaml", lambda: "- " + "[" * 100_000, "is nested too deep"),
    ("a.yaml", lambda: ("- " + "{a: " * 50 + "}" * 50 + "\n") * 5_000, "is nested too deep"),
    ("a.yaml", lambda: "? " * 100_000, "is nested too deep"),
    ("a.yaml", lambda: "- " * 100_000, "is nested too deep"),
    ("a.yaml", lambda: "- name: a\x00", "is no YAML"),
    ("a.yaml", lambda: "- name: " + "a" * 2_000_000, "has more than 2,000,000 characters"),
    ("a.json", lambda: f'[{{"name": "a", "limit": {DIGITS}}}]', "a number has too many digits"),
    ("a.json", lambda: f'[{{"name": "a", "limit": {DIGITS[:4000]}}}]', "field limit"),
    ("a.json", lambda: '[{"name": "a", "limit": 1e400}]', "[0], field limit"),
    ("a.json", lambda: '[{"name": "a", "limit": -Infinity}]', "-Infinity is no number"),
    ("a.json", lambda: '[{"name": "\\ud800"}]', "[0], field ref: must be a text"),
    ("a.json", lambda: '[{"name": "a", "expires_at": "2026-13-45"}]', "[0], field expires_at"),
    ("a.json", lambda: json.dumps([{f"f{n}": 1 for n in range(20_000)}]), "[0], field 1: there"),
    ("a.json", lambda: '[{"name": "a", "external": ' + "[" * 100_000, "is nested too deep"),
    ("a.json", lambda: '{"keys": ' * 100_000, "is nested too deep"),
    ("a.json", lambda: "[" + " " * 16_000_000, "has more than 16,000,000 characters"),
    ("a.jsonl", lambda: '{"name": "a"}\n{"name": "' + "a" * LONGEST_ROW, "line 2: a row has"),
    ("a.jsonl", lambda: f'{{"name": "a", "limit": {DIGITS}}}', "line 1: a number has too many"),
    ("a.csv", lambda: f"name,limit\na,{DIGITS}", "line 2, column limit"),
    ("a.csv", lambda: f"name,limit\na,{'9' * 100_000}", "line 2, column limit"),
    ("a.csv", lambda: "name,expires_at\na,2026-13-45", "line 2, column expires_at"),
    ("a.csv", lambda: ",".join(f"f{n}" for n in range(10_000)), "line 1, column 1: there is no"),
    ("a.csv", lambda: "name," + "name," * 10_000, "line 1, column 10002: there is no such"),
    ("a.csv", lambda: "name\na" + ",b" * 10_000, "line 2: 10001 cells under 1 columns"),
    ("a.csv", lambda: 'name\n"' + "a\n" * 10_000_000, "line 2: is not readable as CSV"),
    ("a.csv", lambda: 'name\n"a\n' + '","\n' * 5_000_000, "a row has at most 1,000,000"),
    ("a.csv", lambda: "a" * 30_000_000, "line 1: a row has at most 1,000,000 characters"),
    ("a.csv", lambda: "\n" * 30_000_000 + "name", "a row has at most 1,000,000 characters"),
    ("a.csv", lambda: "\n" * 30_000_000, "is empty: add a key"),
    ("a.csv", lambda: " " * 30_000_000, "is empty: add a key"),
    ("a.csv", lambda: b"\0" * 1_000_000, "is UTF-16 text"),
    ("a.csv", lambda: "name\nAda".encode("utf-32"), "is UTF-32 text"),
    ("a.csv", lambda: b"name\nAda\n\xff\xfe", "is not UTF-8 text (line 3 has the byte 0xFF)"),
    ("a.csv", lambda: "name\n\ud800", "is not UTF-8 text (line 2 has the byte 0xED)"),
    ("a.csv", lambda: b"name\n" + b"\xff" * 30_000_000, "is not UTF-8 text (line 2"),
    ("a.csv", lambda: b"name\nA\0da", "line 2: has a NUL in it"),
)


@pytest.mark.slow
@in_one_test("name, text, told", ODD, ids=[told for _, _, told in ODD])
def test_an_odd_file_is_refused_in_one_line_and_soon(
    tmp_path: Path, name: str, text: Callable[[], str | bytes], told: str
) -> None:
    path = of(tmp_path, name, text())
    began = time.monotonic()
    assert told in refused(path)
    assert time.monotonic() - began < PATIENCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.yaml", lambda: bomb("[{}]"), "line 1: has too many fields"),
        ("a.yaml", lambda: MERGES, "has too many fields"),
        ("a.yaml", lambda: "- " + "[" * 1_000_000, "is nested too deep"),
        ("a.json", lambda: "[" * 8_000_000, "is nested too deep"),
        ("a.csv", lambda: "a" * 80_000_000, "line 1: a row has at most"),
        ("a.csv", lambda: 'name\n"' + "a\n" * 40_000_000, "line 2: is not readable as CSV"),
        ("a.jsonl", lambda: "1" * 80_000_000, "line 1: a row has at most"),
    ],
)
def test_a_refusal_needs_little_memory(
    tmp_path: Path, name: str, text: Callable[[], str], told: str
) -> None:
    path = of(tmp_path, name, text())
    tracemalloc.start()
    try:
        assert told in refused(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY


@in_one_test(
    "name, text",
    [
        ("a.yaml", "- &a {name: Ada, limit: 5}\n- {<<: *a, name: Bo}\n- {<<: [*a], name: Chi}"),
        ("a.yaml", "- name: &n Ada\n- {name: Bo, ref: *n}\n- {name: Ada, ref: x}"),
        ("a.csv", "\ufeffname\n" + "\n".join("abc")),
        ("a.json", "\ufeff" + json.dumps([{"name": "\ud83d\ude00"}, {"name": "b"}, {"name": "c"}])),
        ("a.csv", f"name,external_user,external_api_key\na,u,{SECRET}\nb,,\nc,,"),
    ],
)
def test_what_is_usable_still_is(tmp_path: Path, name: str, text: str) -> None:
    if "*n" in text:
        assert "the ref is that of line 1 too" in refused(of(tmp_path, name, text))
    else:
        assert len(read_specs(of(tmp_path, name, text))) == 3


def test_no_column_that_there_is_is_called_unlikely() -> None:
    assert max(map(len, COLUMNS)) < 40


@pytest.mark.skipif(sys.platform == "win32", reason="no such device")
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec_file, "_LARGEST_PIPE", 1_000)
    with pytest.raises(CommandError, match=r"has more than 1,000 bytes|is empty"):
        spec_file.spec_file(device, "csv").__enter__()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec_file, "_LARGEST_PIPE", 1_000)
    os.mkfifo(tmp_path / "a.csv")
    with subprocess.Popen(["sh", "-c", 'yes > "$0" 2> /dev/null', str(tmp_path / "a.csv")]):
        assert "has more than 1,000 bytes, and can be read only once" in refused(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "value",
    [
        "1:" * 500_000 + "1",
        "1" * 900_000,
        "0x" + "f" * 900_000,
        "1:" * 500_000 + "1.5",
        "[" + "1:" * 500_000 + "1]",
        "{a: " + "1:" * 500_000 + "1}",
        "-" + "1_" * 450_000 + "1",
    ],
    ids=[
        "base 60",
        "digits",
        "hexadecimal",
        "base 60, fraction",
        "in a list",
        "in a map",
        "grouped",
    ],
)
def test_a_number_of_any_length_in_yaml_is_refused_in_a_moment(value: str, tmp_path: Path) -> None:
    path = of(tmp_path, "keys.yaml", f"- {{name: a, limit: {value}}}\n")
    began = time.process_time()
    refused(path)
    assert time.process_time() - began < PATIENCE
