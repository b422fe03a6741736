from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from openrouter_keys import utils
from openrouter_keys._inputs import retry_config
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.utils import BackoffStrategy, RetryConfig, parse_datetime
from tests.tables import in_one_test


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2027-12-31T23:59:59Z", datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2027-12-31T23:59:59.5Z", datetime(2027, 12, 31, 23, 59, 59, 500000, tzinfo=UTC)),
        (
            "2025-02-19T20:52:27.363244+00:00",
            datetime(2025, 2, 19, 20, 52, 27, 363244, tzinfo=UTC),
        ),
        (
            "2027-12-31T23:59:59+02:00",
            datetime(2027, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=2))),
        ),
    ],
)
def test_a_time_with_a_zone_is_read(text: str, time: datetime) -> None:
    assert parse_datetime(text) == time
    assert parse_datetime(text).utcoffset() == time.utcoffset()


@in_one_test(
    "text",
    [
        "",
        "soon",
        "2027-12-31",
        "2027-12-31T23:59:59",
        "2027-13-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
        "\ud800",
        None,
        7,
        datetime(2027, 12, 31, tzinfo=UTC),
    ],
)
def test_what_is_no_time_with_a_zone_is_refused(text: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^text: ") as refused:
        parse_datetime(text)
    assert isinstance(refused.value, ValueError)


def test_the_official_sdks_names_are_here() -> None:
    assert utils.RetryConfig is retry_config.RetryConfig
    assert utils.BackoffStrategy is retry_config.BackoffStrategy


def test_the_official_sdks_positional_call_works() -> None:
    config = RetryConfig("backoff", BackoffStrategy(1, 50, 1.1, 100), False)
    assert config == RetryConfig(
        strategy="backoff",
        backoff=BackoffStrategy(
            initial_interval=1, max_interval=50, exponent=1.1, max_elapsed_time=100
        ),
        retry_connection_errors=False,
    )
