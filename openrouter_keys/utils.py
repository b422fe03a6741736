"""What the official SDK has under this name, so that a migration changes one import."""

from datetime import datetime

from openrouter_keys._inputs import checks
from openrouter_keys._inputs.retry_config import BackoffStrategy, RetryConfig

__all__ = ["BackoffStrategy", "RetryConfig", "parse_datetime"]


def parse_datetime(text: str) -> datetime:
    """Read an ISO 8601 time, such as `2027-12-31T23:59:59Z`.

    Args:
        text: the time, with its zone.

    Raises:
        InvalidArgumentError: it is not a time, or has no zone.
    """
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        checks.refuse(
            "text", f"must be an ISO 8601 time such as 2027-12-31T23:59:59Z, not {text!r}"
        )
    return checks.aware_time("text", time)
