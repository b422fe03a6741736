"""The page that shows an emulator, in a real browser, and who is kept from it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, cast
from urllib.parse import unquote

import aiohttp
import pytest
from attrs import define

from openrouter_keys.emulator import Emulator, Fault, RateLimit, Request, Workspace
from openrouter_keys.emulator.guard import turn_away
from openrouter_keys.emulator.page import page_url
from openrouter_keys.emulator.refusals import Refusal
from tests.browsers import REBOUND, Tab, new_tab
from tests.emulators import port_of
from tests.tables import in_one_test

HOSTILE = "<img src=x onerror='window.hit=1'><script>window.hit=1</script>"


# what is served


@define
class Got:
    status: int
    headers: dict[str, str]
    text: str


async def get(url: str, headers: dict[str, str] | None = None, method: str = "GET") -> Got:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers) as response,
    ):
        received = {name.lower(): text for name, text in response.headers.items()}
        return Got(response.status, received, await response.text())


async def seen(emulator: Emulator) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    got = await get(f"{emulator.control_url}/view", headers)
    assert got.status == 200, got.text
    return cast("dict[str, Any]", json.loads(got.text))


async def test_the_page_comes_without_a_key_and_holds_neither_key_nor_data(
    emulator: Emulator,
) -> None:
    key = emulator.account.add("customer-42")

    got = await get(f"{emulator.control_url}/?whatever")

    assert (got.status, got.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for told in (emulator.api_key, str(key.secret), key.hash, key.name):
        assert told not in got.text
    assert emulator.requests == []


async def test_the_page_loads_nothing_from_elsewhere(emulator: Emulator) -> None:
    got = await get(f"{emulator.control_url}/")

    links = re.findall(r"(?:src|href|action|url|import)\s*[=(]\s*[\"']?([^\"'\s>)]+)", got.text)
    assert [link.partition(",")[0] for link in links] == ["data:image/svg+xml"]
    policy = got.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"} <= {*policy}
    assert "unsafe" not in got.headers["content-security-policy"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_only_looking_is_open_to_all(emulator: Emulator, method: str) -> None:
    assert (await get(f"{emulator.control_url}/", method=method)).status == 401


async def test_what_the_page_shows_needs_the_key(emulator: Emulator) -> None:
    assert (await get(f"{emulator.control_url}/view")).status == 401


async def test_a_key_is_shown_with_what_it_has_spent_of_its_limit(emulator: Emulator) -> None:
    account = emulator.account
    account.workspaces["w"] = Workspace("w", "Research")
    now = datetime(2027, 3, 1, 12, tzinfo=UTC)
    account.clock = lambda: now
    key = account.add("x", limit=5.0, limit_reset="daily", workspace_id="w", label="sk-...x")
    account.spend(key.hash, 2.0)
    shown: dict[str, object] = {
        "hash": key.hash,
        "name": "x",
        "label": "sk-...x",
        "state": "active",
        "workspace": "Research",
        "limit": 5.0,
        "limit_reset": "daily",
        "created_at": "2027-03-01T12:00:00+00:00",
        "last_used_at": "2027-03-01T12:00:00+00:00",
    }

    assert (await seen(emulator))["keys"] == [{**shown, "spent": 2.0}]
    account.clock = lambda: now + timedelta(days=1)
    view = await seen(emulator)
    assert view["keys"] == [{**shown, "spent": 0}]
    assert (view["usage"], view["now"]) == (2.0, "2027-03-02T12:00:00+00:00")


async def test_a_key_is_disabled_before_it_is_expired(emulator: Emulator) -> None:
    past = emulator.account.clock() - timedelta(seconds=1)
    emulator.account.add(workspace_id="gone")
    emulator.account.add(workspace_id="gone", expires_at=past)
    emulator.account.add(workspace_id="gone", expires_at=past, disabled=True)

    keys = (await seen(emulator))["keys"]

    assert [key["state"] for key in keys] == ["disabled", "expired", "active"]
    assert {key["workspace"] for key in keys} == {"gone"}


async def test_the_newest_of_many_are_shown_and_all_are_counted(emulator: Emulator) -> None:
    for number in range(1002):
        emulator.account.add(str(number))
    emulator.requests += [
        Request(
            operation="list", method="GET", path="/", query={}, headers={}, connection=1,
            number=number, fault="reset" if number == 1 else None,
        )
        for number in range(1, 204)
    ]  # fmt: skip

    emulator.dropped["list"] = 10

    view = await seen(emulator)

    assert [key["name"] for key in view["keys"]] == [str(number) for number in range(1001, 1, -1)]
    assert [request["number"] for request in view["requests"]] == [*range(203, 3, -1)]
    counts = (view["keys_held"], view["requests_seen"], view["requests_struck"])
    assert counts == (1002, 213, 1)


async def test_no_secret_is_shown(emulator: Emulator) -> None:
    key = emulator.account.add(external_key_hash="canary")
    headers = {"Authorization": f"Bearer {key.secret}"}
    await get(f"{emulator.base_url}/key", headers)

    told = json.dumps(await seen(emulator))

    for secret in (emulator.api_key, str(key.secret), "canary"):
        assert secret not in told


def test_the_key_is_in_the_part_of_the_address_that_is_not_sent() -> None:
    url = page_url("http://127.0.0.1:1/_emulator", "a+b/&#%c")

    sent, _, fragment = url.partition("#")
    assert sent == "http://127.0.0.1:1/_emulator/"
    assert unquote(fragment) == "key=a+b/&#%c"
    assert not {*"+/&#"} & {*fragment}


# who is turned away

OURS = "127.0.0.1:8000"
GUARDED: list[tuple[dict[str, str], int | None]] = [
    ({}, None),
    ({"Host": OURS}, None),
    ({"Host": "localhost:8000"}, None),
    ({"Host": "[::1]:8000"}, None),
    ({"Host": "emulator:8000"}, None),
    ({"Host": "host.docker.internal"}, None),
    ({"Host": "emulator.test.svc.cluster.local.:80"}, None),
    ({"Host": "our.example.com"}, None),
    ({"Host": "evil.com:8000"}, 421),
    ({"Host": "evil.com."}, 421),
    ({"Host": "127.0.0.1.evil.com"}, 421),
    ({"Host": "localhost.evil.com"}, 421),
    ({"Host": "[evil.com"}, 421),
    ({"Host": OURS, "Origin": f"http://{OURS}"}, None),
    ({"Host": OURS, "Origin": "http://127.0.0.1:8001"}, 403),
    ({"Host": OURS, "Origin": "http://evil.com"}, 403),
    ({"Host": OURS, "Origin": "null"}, 403),
    ({"Host": OURS, "Sec-Fetch-Site": "none"}, None),
    ({"Host": OURS, "Sec-Fetch-Site": "same-origin"}, None),
    ({"Host": OURS, "Sec-Fetch-Site": "same-site"}, 403),
    ({"Host": OURS, "Sec-Fetch-Site": "cross-site"}, 403),
]


@in_one_test("headers, status", GUARDED)
def test_what_another_site_may_be_behind_is_turned_away(
    headers: dict[str, str], status: int | None
) -> None:
    if status is None:
        turn_away(headers, "our.example.com", visit=False)
        return
    with pytest.raises(Refusal) as refused:
        turn_away(headers, "our.example.com", visit=False)
    assert refused.value.status == status


async def test_a_link_on_any_site_may_lead_to_the_page_and_to_nothing_else(
    emulator: Emulator,
) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Authorization": f"Bearer {emulator.api_key}"}
    urls = [f"{emulator.control_url}/", f"{emulator.control_url}/view", emulator.base_url + "/key"]

    assert [(await get(url, headers)).status for url in urls] == [200, 403, 403]


@pytest.mark.slow
async def test_one_who_is_turned_away_leaves_no_trace(emulator: Emulator) -> None:
    emulator.rate_limit = RateLimit(0.001, 1)
    emulator.faults.append(Fault())
    headers = {"Host": "evil.com", "Authorization": f"Bearer {emulator.api_key}"}

    got = await get(f"{emulator.base_url}/keys", headers)

    assert got.status == 421
    assert "'evil.com'" in json.loads(got.text)["error"]["message"]
    assert emulator.requests == []
    assert len(emulator.faults) == 1
    assert emulator.rate_limit.wait(emulator.account.clock()) == 0


# in a browser


async def look(tab: Tab, emulator: Emulator) -> None:
    await tab.open(page_url(emulator.control_url, emulator.api_key))
    await tab.until("document.querySelector('#status').innerText === 'live'")


async def create(emulator: Emulator, name: str) -> None:
    """Create a key, whatever the client gets to see of it."""
    headers = {"Authorization": f"Bearer {emulator.api_key}", "User-Agent": "worker-7"}
    async with aiohttp.ClientSession(headers=headers) as session:
        with suppress(aiohttp.ClientError):
            await session.post(f"{emulator.base_url}/keys", json={"name": name})


@pytest.mark.slow
async def test_the_page_shows_keys_and_what_they_spent(emulator: Emulator, tab: Tab) -> None:
    account = emulator.account
    half = account.add("half", limit=5.0, limit_reset="daily", label="sk-1")
    near = account.add("near", limit=4.0, limit_reset="yearly", label="sk-2")
    over = account.add("over", limit=1.0, disabled=True, label="sk-3")
    free = account.add("free", label="sk-4", workspace_id="elsewhere")
    for key, usd in ((half, 2.5), (near, 3.0), (over, 3.0), (free, 0.0001)):
        account.spend(key.hash, usd)

    await look(tab, emulator)

    assert await tab.rows("keys") == [
        "free / sk-4 | active / elsewhere | $0.0001, no limit",
        "over / sk-3 | disabled / Default | $3.00 of $1.00",
        "near / sk-2 | active / Default | $3.00 of $4.00 yearly",
        "half / sk-1 | active / Default | $2.50 of $5.00 a day",
    ]
    script = "[...document.querySelectorAll('.track div')].map((bar) => {})"
    looks = await tab.value(script.format("[bar.style.width, bar.className]"))
    assert looks == [["100%", "full"], ["75%", "near"], ["50%", ""]]
    assert "Spent by them\n$8.5001" in await tab.text("#tiles")


@pytest.mark.slow
async def test_the_page_marks_what_a_fault_struck_and_whom_nobody_told(
    emulator: Emulator, tab: Tab
) -> None:
    await create(emulator, "fine")
    for fault in (
        Fault("create", status=502),
        Fault("create", status=502, phase="after"),
        Fault("create", "reset", phase="after"),
    ):
        emulator.faults.append(fault)
        await create(emulator, fault.kind)
    emulator.faults.append(Fault("create", status=503, times=None, probability=0.3, skip=2))

    await look(tab, emulator)

    assert await tab.rows("requests") == [
        "4 | create | reset / worker-7 | none | reset | applied, not told",
        "3 | create | status / worker-7 | 502 | status | applied, not told",
        "2 | create | status / worker-7 | 502 | status | ",
        "1 | create | fine / worker-7 | 201 |  | applied",
    ]
    marks = "[...document.querySelectorAll('#requests tr')].map((row) => row.className)"
    assert await tab.value(marks) == ["unseen", "unseen", "struck", ""]
    assert "503, before it is applied, 30 %, 2 pass first, without end" in await tab.text("#faults")


@pytest.mark.slow
async def test_foreign_names_are_shown_as_the_text_that_they_are(
    emulator: Emulator, tab: Tab
) -> None:
    emulator.account.workspaces["w"] = Workspace("w", HOSTILE)
    emulator.account.add(HOSTILE, label=HOSTILE, workspace_id="w", limit=1, limit_reset=HOSTILE)
    emulator.requests.append(
        Request(
            operation=HOSTILE, method=HOSTILE, path=HOSTILE, query={}, headers={}, connection=1,
            name=HOSTILE, hash=HOSTILE, fault=HOSTILE, number=1, user_agent=HOSTILE,
        )
    )  # fmt: skip

    await look(tab, emulator)

    assert (await tab.text("#keys")).count(HOSTILE) == 4
    assert (await tab.text("#requests")).count(HOSTILE) == 4
    elements = await tab.value("document.querySelectorAll('img, main script, body > *').length")
    assert elements == await tab.value("document.body.children.length")
    assert await tab.value("window.hit") is None


@pytest.mark.slow
async def test_even_a_script_that_got_into_the_page_would_not_run(
    emulator: Emulator, tab: Tab
) -> None:
    await look(tab, emulator)

    inserted = "document.body.append(Object.assign(document.createElement({}), {}))"
    for tag, content in (
        ("'script'", "{innerHTML: 'window.hit = 1'}"),
        ("'div'", "{innerHTML: '<b>'}"),
    ):
        refused = f"(() => {{ try {{ {inserted.format(tag, content)} }} catch {{ return 1 }} }})()"
        assert await tab.value(refused) == 1
    handler = "document.body.setAttribute('onclick', 'window.hit = 1'), document.body.click()"
    await tab.value(f"(() => {{ try {{ {handler} }} catch {{}} }})()")
    assert await tab.value("window.hit") is None


@pytest.mark.slow
async def test_the_page_follows_what_happens(emulator: Emulator, tab: Tab) -> None:
    await look(tab, emulator)
    assert "No key yet" in await tab.text("#no-keys")
    assert "No request yet" in await tab.text()

    key = emulator.account.add("first", limit=10)
    await tab.until("document.querySelector('#keys').innerText.includes('first')")
    await tab.value("void (document.querySelector('#keys tr').same = true)")
    await create(emulator, "second")
    await tab.until("document.querySelector('#requests').innerText.includes('second')")
    same = "[...document.querySelectorAll('#keys tr')].map((row) => row.same === true)"
    assert await tab.value(same) == [False, True]
    emulator.account.spend(key.hash, 1)
    await tab.until("document.querySelector('#keys').innerText.includes('$1.00 of $10.00')")
    emulator.account.keys.clear()
    await tab.until("document.querySelector('#no-keys').checkVisibility()")


@pytest.mark.slow
async def test_looking_is_no_request_to_the_service(emulator: Emulator, tab: Tab) -> None:
    await look(tab, emulator)

    assert emulator.requests == []
    # Browsers with a window would ask for an icon if the page had none.
    assert (await tab.value("document.querySelector('[rel=icon]').href")).startswith("data:")


@pytest.mark.slow
async def test_the_key_leaves_the_address_and_is_remembered_by_the_tab_alone(
    emulator: Emulator, tab: Tab, browser: str
) -> None:
    await look(tab, emulator)
    assert await tab.value("location.href") == f"{emulator.control_url}/"
    assert emulator.api_key not in await tab.value("document.documentElement.outerHTML")

    await tab.open(f"{emulator.control_url}/")
    await tab.until("document.querySelector('#status').innerText === 'live'")

    assert await tab.value("localStorage.length + document.cookie.length") == 0
    async with new_tab(browser) as other:
        await other.open(f"{emulator.control_url}/")
        assert await other.value("document.querySelector('#ask').checkVisibility()")
        assert not await other.value("document.querySelector('#main').checkVisibility()")


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["sk-or-v1-unknown", "", "\u00e9"])
async def test_a_wrong_key_is_asked_for_again(emulator: Emulator, tab: Tab, wrong: str) -> None:
    emulator.account.add("private")
    await tab.open(page_url(emulator.control_url, wrong))
    await tab.until("/^That is /.test(document.querySelector('#why').innerText)")
    assert "private" not in await tab.value("document.documentElement.outerHTML")

    typed = f"document.querySelector('#key').value = {emulator.api_key!r}"
    await tab.value(f"{typed}, document.querySelector('#ask').requestSubmit()")

    await tab.until("document.querySelector('#keys').innerText.includes('private')")
    assert not await tab.value("document.querySelector('#ask').checkVisibility()")
    assert await tab.value("document.querySelector('#key').value") == ""


@pytest.mark.slow
async def test_the_page_outlives_its_emulator_and_finds_it_again(tab: Tab) -> None:
    emulator = Emulator()
    async with emulator:
        await look(tab, emulator)
    await tab.until("document.querySelector('#status').innerText.includes('trying again')")

    again = Emulator(emulator.account, port=port_of(emulator))
    again.account.add("back")
    async with again:
        await tab.until("document.querySelector('#status').innerText === 'live'")
        assert "back" in await tab.text("#keys")


@pytest.mark.slow
async def test_one_of_five_hundred_keys_is_found(emulator: Emulator, tab: Tab) -> None:
    for number in range(500):
        emulator.account.add(f"customer-{number}", limit=number)
    await look(tab, emulator)
    assert len(await tab.rows("keys")) == 500

    typed = "document.querySelector('#filter').value = 'MER-42', filter()"
    await tab.value(typed)

    found = [row.split(" / ")[0] for row in await tab.rows("keys")]
    assert found == [*(f"customer-{number}" for number in range(429, 419, -1)), "customer-42"]
    # The page itself stays in its window; its lists are what is scrolled.
    assert await tab.value("document.documentElement.scrollHeight <= innerHeight")


@pytest.mark.slow
async def test_the_page_is_as_wide_as_its_window_and_readable(emulator: Emulator, tab: Tab) -> None:
    emulator.account.add("n" * 500, limit=1e300, workspace_id="w" * 30)
    emulator.account.spend(next(iter(emulator.account.keys)), 1e299)
    await create(emulator, "x" * 500)
    fits = "[...document.querySelectorAll('{}')].every((box) => box.scrollWidth <= box.clientWidth)"

    for scheme, width in product(("light", "dark"), (400, 1200, 1400, 2400)):
        await tab.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1,
            mobile=False,
        )  # fmt: skip
        scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
        await tab.send("Emulation.setEmulatedMedia", features=[scheme_feature])

        await look(tab, emulator)

        assert await tab.value(fits.format("html")), (scheme, width)
        assert await tab.value(fits.format(".scroll")) == (width > 400), (scheme, width)
        for text in ("body", ".soft", ".good", "#keys td", "#requests td"):
            assert await contrast(tab, text) >= 4.5, (scheme, width, text)


async def contrast(tab: Tab, selector: str) -> float:
    """How far a text's colour is from what is behind it, as WCAG counts; 4.5 is readable."""
    script = f"""(() => {{
      let behind = document.querySelector({selector!r});
      const ink = getComputedStyle(behind).color;
      const paper = () => getComputedStyle(behind).backgroundColor;
      while (paper() === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
      return [ink, paper()];
    }})()"""
    dark, light = sorted(map(luminance, await tab.value(script)))
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    channels = [int(number) / 255 for number in re.findall(r"\d+", color)[:3]]
    linear = [
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in channels
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


# in the browser, another site


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """Another web site, on the same machine."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n")
        writer.write(b"Connection: close\r\n\r\nA site")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


WITH_KEY = "headers: {Authorization: 'Bearer KEY'}"
FETCHES = {
    "reading with the key": f"fetch('ORIGIN/_emulator/view', {{{WITH_KEY}}})",
    "creating with the key": f"fetch('ORIGIN/api/v1/keys', {{method: 'POST', {WITH_KEY}}})",
    "reading the page": "fetch('ORIGIN/_emulator/')",
    "reading the document": "fetch('ORIGIN/openapi.json')",
}


@pytest.mark.slow
async def test_another_site_gets_nothing_to_see(emulator: Emulator, tab: Tab, site: str) -> None:
    await tab.open(site)
    origin = emulator.base_url.removesuffix("/api/v1")

    for fetch, template in FETCHES.items():
        script = template.replace("ORIGIN", origin).replace("KEY", emulator.api_key)
        got = await tab.value(f"{script}.then((got) => got.text(), () => 'refused')")

        assert got == "refused", fetch
        assert (emulator.requests, emulator.account.keys) == ([], {}), fetch


@pytest.mark.slow
async def test_another_site_does_not_get_into_the_ledger(
    emulator: Emulator, tab: Tab, site: str
) -> None:
    emulator.faults.append(Fault())
    await tab.open(site)

    for options in ("{mode: 'no-cors'}", "{mode: 'no-cors', method: 'POST', body: '{}'}"):
        await tab.value(f"fetch('{emulator.base_url}/keys', {options}).then(() => 1)")

    assert emulator.requests == []
    assert len(emulator.faults) == 1


@pytest.mark.slow
async def test_another_site_cannot_put_the_page_into_a_frame(
    emulator: Emulator, tab: Tab, site: str
) -> None:
    await tab.open(site)
    frame = "Object.assign(document.createElement('iframe'), {src: '%s', onload: done})"
    load = f"new Promise((done) => document.body.append({frame % (emulator.control_url + '/')}))"
    await tab.value(f"{load}.then(() => 1)")

    (inside,) = (await tab.send("Page.getFrameTree"))["frameTree"]["childFrames"]
    assert inside["frame"]["url"].startswith("chrome-error:")


@pytest.mark.slow
async def test_a_site_whose_name_leads_here_is_turned_away(emulator: Emulator, tab: Tab) -> None:
    origin = emulator.base_url.removesuffix("/api/v1").replace("127.0.0.1", REBOUND)
    await tab.open(f"{origin}/_emulator/")
    assert "may be any site's name" in await tab.text()

    headers = f"{{headers: {{Authorization: 'Bearer {emulator.api_key}'}}}}"
    for path in ("/_emulator/view", "/api/v1/keys"):
        got = f"fetch('{origin}{path}', {headers}).then((got) => got.status)"
        assert await tab.value(got) == 421
    assert emulator.requests == []
