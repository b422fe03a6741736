"""Records as tables: in notebooks, in rich, in pandas. No table shows a secret, or obeys a name."""

import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from openrouter_keys.converter import structure
from openrouter_keys.models import (
    CreateKeysResponse,
    CurrentKey,
    DeleteKeysResponse,
    GetCurrentKeyResponse,
    Key,
    ListResponse,
)
from tests.records import SECRET, current_json, key_json, old_key_json
from tests.tables import in_one_test

KEY = structure(key_json(later={"deep": ["a"]}), Key)
CURRENT = structure(current_json(), CurrentKey)
PAGE = ListResponse(data=[KEY, structure(old_key_json(name="other", limit=None), Key)])
RECORDS: list[Any] = [
    KEY,
    CURRENT,
    PAGE,
    ListResponse(data=[]),
    CreateKeysResponse(data=KEY, key=SECRET),
    DeleteKeysResponse(deleted=True),
    GetCurrentKeyResponse(data=CURRENT),
]


def name(record: object) -> str:
    return type(record).__name__


class Parsed(HTMLParser):
    """The tags of a text of HTML, each closed in its turn, and its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags = set[str]()
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        self._open.append(tag)
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.cells[-1] += data


def in_rich(record: object, width: int = 400) -> str:
    console = Console(file=io.StringIO(), record=True, width=width, color_system=None)
    console.print(record)
    return console.export_text()


@in_one_test("record", [each for each in RECORDS if each], ids=name)
def test_every_record_is_a_table(record: Any) -> None:
    parsed = Parsed(record._repr_html_())
    assert parsed.tags <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert isinstance(record.__rich__(), Table)
    shown = in_rich(record)
    for cell in parsed.cells:
        assert cell in shown


def test_a_page_has_a_row_for_each_key() -> None:
    head, first, second = re.findall("<tr>(.*?)</tr>", PAGE._repr_html_())
    assert Parsed(head).cells[:4] == ["name", "label", "disabled", "limit"]
    assert Parsed(first).cells[:4] == ["customer-42", "sk-or-v1-fa4...fa4e", "False", "50.0"]
    assert Parsed(second).cells[:4] == ["other", "sk-or-v1-fa4...fa4e", "False", "None"]
    assert len(in_rich(PAGE).splitlines()) == 2 + 4
    assert "customer-42" in in_rich(PAGE)


def test_an_empty_page_is_an_empty_list() -> None:
    empty = ListResponse(data=[])
    assert (empty._repr_html_(), in_rich(empty)) == ("[]", "[]\n")


def test_a_keys_table_has_every_field() -> None:
    shown = Parsed(KEY._repr_html_()).cells
    assert {*KEY.to_dict()} <= {*shown}


@in_one_test(
    "hostile",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</td></table><b>",
        "&lt;b&gt; &amp;",
        "[red]red[/red] [link=https://x]x[/link]",
        "\x1b[31mred\x1b[0m \x07",
        "one\ntwo\u202e",
    ],
)
@in_one_test("field", ["name", "label", "limit_reset", "later"])
def test_a_table_shows_a_text_as_it_is(field: str, hostile: str) -> None:
    key = structure(key_json(**{field: hostile}, **{hostile: hostile}), Key)
    shown = hostile.encode("unicode_escape").decode() if not hostile.isprintable() else hostile
    for record in (key, ListResponse(data=[key])):
        parsed = Parsed(record._repr_html_())
        assert parsed.tags <= {"table", "thead", "tbody", "tr", "th", "td"}
        text = in_rich(record)
        assert not {"\x1b", "\x07", "\u202e"} & {*text, *record._repr_html_()}
    assert shown in Parsed(key._repr_html_()).cells
    assert shown in in_rich(key)


# --- other people's packages ---


@pytest.mark.slow
def test_a_notebook_shows_a_table() -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell", reason="IPython is not here")
    notebook = shell.InteractiveShell()
    notebook.user_ns.update(page=PAGE, created=RECORDS[4])
    for cell in ("page", "page[0]", "created"):
        done = notebook.run_cell(cell)
        done.raise_error()
        data, _ = notebook.display_formatter.format(done.result)
        assert data["text/html"] == done.result._repr_html_()
        assert data["text/html"].startswith("<table>")
        assert data["text/plain"]
        assert SECRET not in str(data)


@pytest.mark.slow
def test_a_pandas_table_has_a_row_for_each_key() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas has no wheel for this Python")
    frame = pandas.DataFrame([key.to_dict() for key in PAGE])
    assert [*frame["name"]] == ["customer-42", "other"]
    assert frame["usage"].sum() == 51.0
    assert frame["limit"].isna().to_list() == [False, True]
    assert frame["last_used_at"].isna().to_list() == [False, True]
    times = pandas.to_datetime(frame["created_at"], utc=True)
    assert [*times] == [key.created_at for key in PAGE]
    assert SECRET not in frame.to_html()
