"""The page of `usage`: where it is written, what it holds, and how it looks in a real browser."""

import os
import re
import stat
from pathlib import Path

import pytest

from openrouter_keys.cli.exit_codes import CommandError
from openrouter_keys.cli.secrets import sinks
from openrouter_keys.cli.terminal.tables import SHORT_HASH
from openrouter_keys.cli.usage.page_file import write_page
from tests.browsers import Tab
from tests.commands import Command

HOSTILE = (
    "<script>window.hit=1</script><img src=x onerror='window.hit=1'><!--table--> &amp; \u202e\x1b"
)
ROWS = "[...document.querySelectorAll('tbody tr:not([hidden])')]"
# The least contrast of any text to what is behind it, as the WCAG counts it.
CONTRASTS = """(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => channels(colour).slice(0, 3)
    .map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return (channels(colour)[3] ?? 1) === 1 ? colour : behind(element.parentElement);
  };
  const texts = [...document.querySelectorAll("body *:not(script)")].filter((element) =>
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
    && element.checkVisibility());
  return Math.min(...texts.map((element) => {
    const [dark, bright] = [getComputedStyle(element).color, behind(element)]
      .map(light).sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  }));
})()"""
NAMES = f"{ROWS}.map((row) => row.querySelector('bdi').innerText)"


def page_of(command: Command, *words: str) -> str:
    ran = command("usage", "--html", "page.html", "--force", *words)
    assert (ran.code, ran.out) == (0, ""), ran.err
    return (command.folder / "page.html").read_text(encoding="utf-8")


def keys(command: Command) -> None:
    account = command.emulator.account
    for name, month, limit in (("Ann", 3.0, 10.0), ("Bob", 9.0, 10.0), ("Zoe", 6.0, None)):
        account.add(name, limit=limit, usage=2 * month, usage_monthly=month, usage_weekly=month,
                    usage_daily=10 - month, limit_reset="monthly")  # fmt: skip


# the file


def test_the_page_is_a_new_file_and_the_command_says_so(command: Command) -> None:
    keys(command)
    ran = command("usage", "--html", "spending.html")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "openrouter-keys: made spending.html: a page on 3 keys\n"
    mode = stat.S_IMODE((command.folder / "spending.html").stat().st_mode)
    assert mode & 0o022 == 0, "nobody else may change it"


def test_the_page_may_go_to_standard_output(command: Command) -> None:
    ran = command("usage", "--html", "-")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("<!DOCTYPE html>")
    assert [*command.folder.iterdir()] == []


def test_a_file_is_replaced_only_with_force(command: Command) -> None:
    file = command.folder / "page.html"
    file.write_text("mine")

    ran = command("usage", "--html", "page.html")
    assert (ran.code, file.read_text()) == (2, "mine")
    assert "--force" in ran.err
    assert command.emulator.requests == []

    assert command("usage", "--html", "page.html", "--force").code == 0
    assert "<!DOCTYPE html>" in file.read_text()
    assert [*command.folder.iterdir()] == [file]


@pytest.mark.slow
def test_what_is_no_file_is_never_replaced(command: Command) -> None:
    os.mkfifo(command.folder / "fifo")
    (command.folder / "folder").mkdir()
    (command.folder / "dangling").symlink_to("nowhere")
    for place in ("fifo", "folder", "dangling", "nowhere/page.html"):
        assert command("usage", "--html", place, "--force").code == 2
    assert command.emulator.requests == []


def test_a_link_is_replaced_and_not_what_it_leads_to(command: Command) -> None:
    target = command.folder / "target"
    target.write_text("mine")
    (command.folder / "link").symlink_to(target)
    assert command("usage", "--html", "link", "--force").code == 0
    assert target.read_text() == "mine"
    assert not (command.folder / "link").is_symlink()


@pytest.mark.parametrize("force", [False, True])
def test_a_page_that_cannot_be_written_whole_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    file = tmp_path / "page.html"
    if force:
        file.write_text("mine")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sinks, "open", full, raising=False)
    with pytest.raises(CommandError, match="No space left"):
        write_page(str(file), "page", force=force)
    assert [each.read_text() for each in tmp_path.iterdir()] == (["mine"] if force else [])


def test_a_file_that_came_meanwhile_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("mine")
    with pytest.raises(CommandError, match="is there already"):
        write_page(str(file), "page", force=False)
    assert file.read_text() == "mine"


# what is in it


def test_the_page_loads_nothing_and_runs_only_what_is_in_it(command: Command) -> None:
    keys(command)
    page = page_of(command)
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert not re.search(r"<(link|img|iframe|object|base)\b|@import|url\(", page)
    assert not re.search(r"<[^>]*\s(on\w+|style|href|src)=", page)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_page_has_the_totals_of_all_also_of_those_that_are_not_shown(command: Command) -> None:
    keys(command)
    page = page_of(command, "--top", "1")
    for name, amount in (("Today", 12), ("This week", 18), ("This month", 18), ("All time", 36)):
        assert f"<dt>{name}</dt><dd>${amount}.00</dd>" in page
    assert page.count("<bdi>") == 1
    assert "2 more, not shown" in page
    assert "1 <small>near</small> 0 <small>reached</small>" in page


def test_the_page_holds_no_secret_and_no_label(command: Command) -> None:
    key = command.emulator.account.add("a", label="sk-or-v1-abc...def")
    page = page_of(command)
    assert key.hash[:SHORT_HASH] in page
    for secret in (command.emulator.api_key, str(key.secret), "sk-or-"):
        assert secret not in page


def test_the_page_says_which_keys_it_is_about(command: Command) -> None:
    page = page_of(command, "--all", "--name", "<b>*")
    assert "names like &lt;b&gt;*, disabled and expired ones, too" in page
    assert "There are no keys." in page


# in a browser


@pytest.fixture
def page(command: Command) -> str:
    """The address of a page; made before there is a loop, since the command has its own."""
    keys(command)
    page_of(command)
    return (command.folder / "page.html").as_uri()


@pytest.fixture
def hostile_page(command: Command) -> str:
    account = command.emulator.account
    account.add(HOSTILE, limit=5, limit_reset="<i>yearly</i>", usage=5)
    account.add("W" * 300, limit=123456789.12, usage_monthly=123456789, disabled=True)
    account.add("near", limit=10, usage=9)
    account.add("free", byok_usage=1, byok_usage_monthly=1)
    page_of(command, "--all", "--name", "*")
    return (command.folder / "page.html").as_uri()


@pytest.fixture
def unspent_page(command: Command) -> str:
    command.emulator.account.add("new", limit=5)
    page_of(command)
    return (command.folder / "page.html").as_uri()


@pytest.mark.slow
async def test_the_keys_are_filtered_and_sorted(page: str, tab: Tab) -> None:
    await tab.open(page)
    assert await tab.value(NAMES) == ["Bob", "Zoe", "Ann"]

    async def change(id: str, value: str, event: str) -> list[str]:
        await tab.value(f"document.getElementById({id!r}).value = {value!r}")
        await tab.value(f"document.getElementById({id!r}).dispatchEvent(new Event({event!r}))")
        names: list[str] = await tab.value(NAMES)
        return names

    options = (
        "[...document.querySelectorAll('option')].map((option) => [option.text, option.value])"
    )
    values = dict(await tab.value(options))
    assert await change("sort", values["name"], "change") == ["Ann", "Bob", "Zoe"]
    assert await change("sort", values["today"], "change") == ["Ann", "Zoe", "Bob"]
    assert await change("sort", values["share of limit"], "change") == ["Bob", "Ann", "Zoe"]
    assert await change("filter", "BOB", "input") == ["Bob"]
    assert await tab.text("#shown") == "1 of 3 shown"


@pytest.mark.slow
async def test_the_page_is_whole_without_its_script(page: str, tab: Tab) -> None:
    await tab.send("Emulation.setScriptExecutionDisabled", value=True)
    await tab.open(page)
    assert await tab.value(NAMES) == ["Bob", "Zoe", "Ann"]
    assert not await tab.value("document.getElementById('tools').checkVisibility()")
    assert "$9.00 of $10.00 a month" in await tab.text("tbody")


@pytest.mark.slow
async def test_bars_are_as_long_as_their_numbers(page: str, tab: Tab) -> None:
    await tab.open(page)
    length = "parseFloat(getComputedStyle(bar, '::before').width)"
    widths = (
        f"{ROWS}.map((row) => [...row.querySelectorAll('i')].map((bar) =>"
        f" Math.round(100 * {length} / bar.getBoundingClientRect().width)))"
    )
    # Of its limit; then today, this week, this month and all time, against the largest.
    assert await tab.value(widths) == [
        [90, 14, 100, 100, 100],
        [57, 67, 67, 67],
        [30, 100, 33, 33, 33],
    ]


@pytest.mark.slow
async def test_a_key_that_spent_nothing_has_an_empty_bar(unspent_page: str, tab: Tab) -> None:
    await tab.open(unspent_page)
    width = "getComputedStyle(document.querySelector('tbody i'), '::before').width"
    assert await tab.value(width) == "0px"


@pytest.mark.slow
async def test_foreign_text_is_shown_as_the_text_that_it_is(hostile_page: str, tab: Tab) -> None:
    await tab.open(hostile_page)
    shown = HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    assert shown in await tab.value(NAMES)
    assert "<i>yearly</i>" in await tab.text("tbody")
    assert await tab.value("window.hit") is None
    strange = "document.querySelectorAll('img, b, span i, bdi *, main script').length"
    assert await tab.value(strange) == 0


@pytest.mark.slow
async def test_a_script_that_got_into_the_page_would_not_run(page: str, tab: Tab) -> None:
    await tab.open(page)
    await tab.value(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.hit = 1'}))"
    )
    await tab.value(
        "document.body.setAttribute('onclick', 'window.hit = 1'), document.body.click()"
    )
    assert await tab.value("window.hit") is None


@pytest.mark.slow
async def test_nothing_is_wider_than_its_window(hostile_page: str, tab: Tab) -> None:
    for width in (320, 500, 900, 1400):
        await tab.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
            mobile=width < 600,
        )  # fmt: skip
        await tab.open(hostile_page)
        assert await tab.value("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
async def test_all_text_stands_out(hostile_page: str, tab: Tab) -> None:
    for scheme, behind in {"light": "rgb(246, 247, 249)", "dark": "rgb(18, 21, 26)"}.items():
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await tab.send("Emulation.setEmulatedMedia", features=features)
        await tab.open(hostile_page)
        assert await tab.value(CONTRASTS) >= 4.5
        assert await tab.value("getComputedStyle(document.body).backgroundColor") == behind
