from collections.abc import Mapping
from typing import Any, cast

import pytest

from openrouter_keys._inputs.options import (
    CallOptions,
    RequestOptions,
    header_options,
    merge_headers,
)
from openrouter_keys._inputs.retry_config import RetryConfig
from openrouter_keys.errors import InvalidArgumentError
from tests.tables import in_one_test

BASE = CallOptions(
    retries=RetryConfig(),
    timeout=60.0,
    server_url="https://openrouter.ai/api/v1",
    headers={"X-OpenRouter-Title": "mine", "X-Team": "a"},
)


def headers(**options: Any) -> Mapping[str, str]:
    return BASE.with_(cast("RequestOptions", options)).headers


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"retries": None, "timeout_ms": None, "server_url": None, "http_headers": None},
        {"http_referer": None, "x_open_router_title": None, "x_open_router_categories": None},
        {"http_headers": {}},
    ],
)
def test_what_is_left_out_stays_as_the_client_has_it(options: RequestOptions) -> None:
    assert BASE.with_(options) == BASE


def test_each_option_changes_what_it_names_and_nothing_else() -> None:
    retries = RetryConfig("none")
    changed = BASE.with_(
        {"retries": retries, "timeout_ms": 1500, "server_url": "http://localhost:1/api/"}
    )
    assert changed == CallOptions(
        retries=retries, timeout=1.5, server_url="http://localhost:1/api", headers=BASE.headers
    )


@pytest.mark.parametrize(
    ("option", "header"),
    [
        ("http_referer", "HTTP-Referer"),
        ("x_open_router_title", "X-OpenRouter-Title"),
        ("x_open_router_categories", "X-OpenRouter-Categories"),
    ],
)
def test_an_attribution_is_a_header(option: str, header: str) -> None:
    assert headers(**{option: "value"})[header] == "value"


def test_headers_of_a_call_win_over_the_clients_whatever_their_case() -> None:
    assert headers(http_headers={"x-openrouter-TITLE": "theirs"}) == {
        "X-Team": "a",
        "x-openrouter-TITLE": "theirs",
    }


def test_headers_of_a_call_win_over_its_attribution() -> None:
    both = header_options(
        {"x_open_router_title": "one", "http_headers": {"x-openrouter-title": "two"}}
    )
    assert both == {"x-openrouter-title": "two"}


@pytest.mark.parametrize("value", ["", "plain", "tab\tinside", "ünï"])
def test_a_header_may_hold_any_text_in_one_line(value: str) -> None:
    assert headers(http_headers={"X-Note": value})["X-Note"] == value


def test_merged_headers_leave_both_sides_as_they_were() -> None:
    ours, theirs = {"A": "1", "B": "2"}, {"b": "3"}
    assert merge_headers(ours, theirs) == {"A": "1", "b": "3"}
    assert (ours, theirs) == ({"A": "1", "B": "2"}, {"b": "3"})


@in_one_test(
    "argument, value",
    [
        ("retries", "backoff"),
        ("retries", 3),
        ("timeout_ms", 0),
        ("timeout_ms", -1),
        ("timeout_ms", "1000"),
        ("timeout_ms", float("nan")),
        ("server_url", "openrouter.ai"),
        ("server_url", 7),
        ("http_headers", ["X-Team"]),
        ("http_headers", "X-Team: a"),
        ("http_headers", {"X Team": "a"}),
        ("http_headers", {"X-Team": 7}),
        ("http_headers", {7: "a"}),
        ("http_headers", {"X-Team": "a\r\nX-Evil: b"}),
        ("http_referer", 7),
        ("http_referer", "a\nb"),
        ("x_open_router_title", b"a"),
        ("x_open_router_categories", ["a", "b"]),
    ],
)
def test_a_bad_option_is_refused_and_named(argument: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        headers(**{argument: value})
    assert refused.value.argument == argument


@pytest.mark.parametrize(
    "name",
    ["Authorization", "AUTHORIZATION", "Content-Type", "content-length", "Transfer-Encoding"],
)
def test_a_header_that_is_made_here_is_refused_without_showing_its_value(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=name) as refused:
        headers(http_headers={name: "Bearer canary"})
    assert "canary" not in str(refused.value)


def test_an_argument_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(TypeError, match=r"'limt'.*retries, timeout_ms, server_url"):
        headers(limt=5)


def test_the_headers_of_a_call_do_not_show() -> None:
    assert "X-Team" not in repr(BASE)
