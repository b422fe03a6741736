"""Help for your own tests. It is imported where a test asks for it; see docs/testing.md."""

from types import SimpleNamespace
from typing import Any


def patch_aioresponses() -> None:
    """Let aioresponses make responses with aiohttp 3.14; call it once, in `conftest.py` say.

    aiohttp 3.14 wants a `stream_writer` for each response, which aioresponses 0.7.9 does not give
    (its issues 288 and 289): without this, each request that it answers raises `TypeError`. A
    release that gives one is left as it is.
    """
    import aioresponses.core  # noqa: PLC0415 - only tests have it
    from aiohttp import ClientResponse  # noqa: PLC0415 - as above

    class Response(ClientResponse):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # aiohttp asks it only how much was written.
            super().__init__(*args, **{"stream_writer": SimpleNamespace(output_size=0), **kwargs})

    setattr(aioresponses.core, "ClientResponse", Response)  # noqa: B010 - it exports no such name
