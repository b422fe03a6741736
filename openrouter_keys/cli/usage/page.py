"""The page of `usage`: one file with a chart, that runs and loads nothing but what is in it."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Final

from openrouter_keys.cli.terminal.messages import keys
from openrouter_keys.cli.terminal.tables import SHORT_HASH, money
from openrouter_keys.cli.terminal.text import printable
from openrouter_keys.cli.usage.spending import Sort, Spending, Spendings, State, sums
from openrouter_keys.cli.usage.table import PERIODS, percent

_AMOUNTS: Final = (
    ("Today", "usage_daily"),
    ("This week", "usage_weekly"),
    ("This month", "usage_monthly"),
    ("All time", "usage"),
)
_BYOK: Final = ("BYOK, month", "byok_usage_monthly")
_STATES: Final[Mapping[State, str]] = {"near": "near the limit", "reached": "limit reached"}
# Where in a row's sizes the script finds what it sorts by.
_SORTS: Final[Sequence[tuple[Sort, str, str]]] = (
    ("today", "0", "today"),
    ("week", "1", "this week"),
    ("month", "2", "this month"),
    ("spent", "3", "all time"),
    ("share", "4", "share of limit"),
    ("name", "name", "name"),
)
_WIDTHS: Final = " ".join(f".w{part}::before {{ width: {part}%; }}" for part in range(1, 101))
_HOLE: Final = re.compile(r"<!--(\w+)-->")


def page(spendings: Spendings) -> str:
    """Return a page on what keys have spent."""
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    template = template.replace("/*widths*/", _WIDTHS)
    parts = {
        "policy": _policy(template),
        "day": f"{spendings.made_at:%Y-%m-%d}",
        "about": _about(spendings),
        "tiles": _tiles(spendings),
        "table": _table(spendings),
    }
    # In one go: what is filled in is not looked at again.
    return _HOLE.sub(lambda hole: parts[hole[1]], template)


def _policy(template: str) -> str:
    inline = "; ".join(
        f"{tag}-src 'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
        for tag, text in re.findall(r"<(script|style)>(.*?)</\1>", template, re.DOTALL)
    )
    return f"default-src 'none'; {inline}; base-uri 'none'; form-action 'none'"


def _text(text: str) -> str:
    return escape(printable(text))


def _about(spendings: Spendings) -> str:
    made = f"Made {spendings.made_at:%Y-%m-%d %H:%M} UTC"
    parts = (made, keys(len(spendings.every)), spendings.scope)
    return _text(" · ".join(filter(None, parts)))


def _tiles(spendings: Spendings) -> str:
    total = sums(spendings.every)
    states = [each.state for each in spendings.alarming]
    tiles = [(name, money(total[amount])) for name, amount in _shown_amounts(spendings)]
    near, reached = states.count("near"), states.count("reached")
    counts = f"{near:,} <small>near</small> {reached:,} <small>reached</small>"
    tiles.append((f"Limits; near: {100 * spendings.near:g}%", counts))
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles)


def _shown_amounts(spendings: Spendings) -> Sequence[tuple[str, str]]:
    # Most have no provider keys of their own.
    byok = any(each.amounts["byok_usage"] for each in spendings.every)
    return (*_AMOUNTS, _BYOK) if byok else _AMOUNTS


def _table(spendings: Spendings) -> str:
    if not spendings.every:
        return '<p class="empty">There are no keys.</p>'
    amounts = _shown_amounts(spendings)
    largest = {name: max(each.amounts[name] for each in spendings.shown) for _, name in amounts}
    heads = "".join(f'<th scope="col">{head}</th>' for head, _ in amounts)
    rows = "\n".join(_row(each, largest) for each in spendings.shown)
    return f"""{_tools(spendings.sort)}
<table>
<thead><tr><th scope="col">Key</th><th scope="col">Of its limit</th>{heads}</tr></thead>
<tbody>
{rows}
</tbody>
<tfoot>{_foot(spendings, [*largest])}</tfoot>
</table>"""


def _tools(sort: Sort) -> str:
    options = "".join(
        f'<option value="{value}"{" selected" if name == sort else ""}>{text}</option>'
        for name, value, text in _SORTS
    )
    return f"""<div class="tools" id="tools" hidden>
<input id="filter" type="search" placeholder="Filter" aria-label="Filter" autocomplete="off">
<label>Sort by <select id="sort" autocomplete="off">{options}</select></label>
<output id="shown"></output>
</div>"""


def _row(each: Spending, largest: Mapping[str, float]) -> str:
    share = -1 if each.share is None else each.share
    sizes = " ".join(f"{size:.9g}" for size in (*(each.amounts[n] for _, n in _AMOUNTS), share))
    pill = (
        ""
        if each.state == "active"
        else f'<span class="pill">{_STATES.get(each.state, each.state)}</span>'
    )
    hash = _text(each.hash[:SHORT_HASH])
    cells = "".join(
        f"<td>{_dollars(each.amounts[name])}{_bar(_part(each.amounts[name], most))}</td>"
        for name, most in largest.items()
    )
    return (
        f'<tr class="{each.state}" data-sizes="{sizes}"><td><bdi>{_text(each.name)}</bdi>'
        f'<span class="hash">{hash}</span>{pill}</td><td>{_limit(each)}</td>{cells}</tr>'
    )


def _dollars(amount: float) -> str:
    return money(amount) if amount else '<span class="soft">$0.00</span>'


def _part(amount: float, most: float) -> float:
    return amount / most if most else 0.0


def _bar(part: float) -> str:
    """Return a bar; its length is a class, since the policy lets no element have a style."""
    percents = min(max(round(100 * part), 1), 100)
    return f'<i class="w{percents}"></i>' if part > 0 else ""


def _limit(each: Spending) -> str:
    if each.limit is None or each.limit_spent is None or each.share is None:
        return '<span class="soft">no limit</span>'
    reset = each.limit_reset
    period = "" if reset is None else f" a {PERIODS.get(reset, reset)}"
    spent = _text(f"{money(each.limit_spent)} of {money(each.limit)}{period}")
    bar = _bar(each.share) or "<i></i>"
    return (
        f'<div class="of"><span>{spent}</span><span>{_text(percent(each.share))}</span></div>{bar}'
    )


def _foot(spendings: Spendings, amounts: Sequence[str]) -> str:
    def row(name: str, spent: Mapping[str, float]) -> str:
        cells = "".join(f"<td>{money(spent[amount])}</td>" for amount in amounts)
        return f"<tr><td>{name}</td><td></td>{cells}</tr>"

    others = spendings.others
    more = row(f"{len(others):,} more, not shown", sums(others)) if others else ""
    return more + row("Total", sums(spendings.every))
