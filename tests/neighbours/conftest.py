"""Beside other people's libraries: `nox -s neighbours` installs them all, and leaves none out."""

import os
from importlib.util import find_spec

NEEDED = {
    "gevent": ("gevent",),
    "gunicorn": ("gunicorn",),
    "newcomer": ("openai", "anthropic", "trio"),
    "opentelemetry": ("opentelemetry.instrumentation.aiohttp_client", "opentelemetry.sdk"),
    "sentry": ("sentry_sdk",),
    "trio": ("trio",),
    "uvloop": ("uvloop",),
}


def _is_here(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even its package
        return False


# Where all of them are to be there, one that is missing fails.
if "ALL_NEIGHBOURS" not in os.environ:
    collect_ignore = [
        f"test_{name}.py" for name, modules in NEEDED.items() if not all(map(_is_here, modules))
    ]
