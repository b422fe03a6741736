"""The blocking client: one line per operation, over the same core."""

from collections.abc import Callable
from ssl import SSLContext
from typing import TYPE_CHECKING, Self

from openrouter_keys._blocking.facade import Facade, blocking, hosting, iterating, managing
from openrouter_keys._blocking.loop_thread import LoopThread
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.arguments import hides_arguments
from openrouter_keys._inputs.credentials import APIKey
from openrouter_keys._inputs.retry_config import RetryConfig
from openrouter_keys.api_keys import AsyncAPIKeys, pages, take_back
from openrouter_keys.client import AsyncOpenRouter
from openrouter_keys.events import OnEvent, Telemetry
from openrouter_keys.lease import drop, unreachable

if TYPE_CHECKING:
    from aiohttp import ClientSession


class APIKeys(Facade[AsyncAPIKeys]):
    """`AsyncAPIKeys`, blocking: the same methods, arguments and errors."""

    get_current_key_metadata = blocking(AsyncAPIKeys.get_current_key_metadata)
    list = blocking(AsyncAPIKeys.list)
    iterate = iterating(AsyncAPIKeys.iterate, pages)
    find = blocking(AsyncAPIKeys.find)
    create = blocking(AsyncAPIKeys.create, dropped=take_back)
    get = blocking(AsyncAPIKeys.get)
    update = blocking(AsyncAPIKeys.update)
    reconcile = blocking(AsyncAPIKeys.reconcile)
    delete = blocking(AsyncAPIKeys.delete)


class OpenRouter(Facade[AsyncOpenRouter]):
    """`AsyncOpenRouter`, blocking: from scripts, notebooks (also in a running loop) and threads.

    Use it with `with`, or `close` it. `api_keys` has the operations: list, iterate, find, create,
    reconcile, get, update, delete and get_current_key_metadata. `ensure` returns the one key of a
    ref; `provision` creates many keys, `apply` has the account as specs say, `rotate` replaces many
    keys; `lease` makes a key for the time of a block.

    Ctrl-C is raised at once and leaves the client usable; the key of an interrupted create is
    deleted in the background, at `close` at the latest. `provision`, `apply` and `rotate` first
    wait for running requests, until a second Ctrl-C; they iterate over their arguments and call
    `on_result` in the caller's thread. The arguments are those of `AsyncOpenRouter`, but for these:

    Args:
        session: a function that makes an `aiohttp.ClientSession`, with your proxy, connector or
            tracing; it is called in the client's own event loop, and the client closes the
            session. None: a session of the client's own.
        on_event: as of `AsyncOpenRouter`; it is called in the thread of the client's own event
            loop, and must not call this client.
    """

    @hides_arguments
    def __init__(
        self,
        api_key: APIKey | None = None,
        *,
        http_referer: str | None = None,
        x_open_router_title: str | None = None,
        x_open_router_categories: str | None = None,
        user_agent: str | None = None,
        server_url: str | None = None,
        retry_config: RetryConfig | None = None,
        timeout_ms: float | None = None,
        session: "Callable[[], ClientSession] | None" = None,
        proxy: str | None = None,
        ssl: SSLContext | None = None,
        max_connections: int = 100,
        grace: float = 5.0,
        on_event: OnEvent | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        if session is not None and not callable(session):
            checks.refuse(
                "session",
                "must be a function that makes a session: a session that exists belongs to another "
                "event loop",
            )
        try:
            client = AsyncOpenRouter(
                api_key,
                http_referer=http_referer,
                x_open_router_title=x_open_router_title,
                x_open_router_categories=x_open_router_categories,
                user_agent=user_agent,
                server_url=server_url,
                retry_config=retry_config,
                timeout_ms=timeout_ms,
                session=session,
                proxy=proxy,
                ssl=ssl,
                max_connections=max_connections,
                grace=grace,
                on_event=on_event,
                telemetry=telemetry,
            )
        finally:
            del api_key, proxy  # crash reporters send local variables home
        super().__init__(client, LoopThread(client.close))
        #: The account's API keys.
        self.api_keys = APIKeys(client.api_keys, self._thread)

    ensure = blocking(AsyncOpenRouter.ensure)
    release = blocking(AsyncOpenRouter.release)
    adopt = blocking(AsyncOpenRouter.adopt)
    adopt_all = hosting(AsyncOpenRouter.adopt_all, here=("specs",))
    lease = managing(AsyncOpenRouter.lease, dropped=drop, unreachable=unreachable)
    sweep = hosting(AsyncOpenRouter.sweep, here=("approve",))
    provision = hosting(AsyncOpenRouter.provision, here=("specs", "on_result"))
    rotate = hosting(AsyncOpenRouter.rotate, here=("hashes", "on_result"))
    apply = hosting(AsyncOpenRouter.apply, here=("specs", "on_plan", "on_result"))
    plan_apply = hosting(AsyncOpenRouter.plan_apply, here=("specs",))
    plan_rotation = hosting(AsyncOpenRouter.plan_rotation, here=("hashes",))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the client once the calls of other threads have ended.

        Interrupted creates get `grace` seconds each, so that their keys can be deleted. Leases
        that are open are ended.
        """
        self._thread.close()
