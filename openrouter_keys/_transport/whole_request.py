"""A request of aiohttp that writes its head and its body at once, without a task for the body."""

import aiohttp
from aiohttp.http import StreamWriter

# More than the socket takes at once is left to aiohttp's task: a server may answer before it has
# read it all, or instead.
_SHORT = 2**14


class WholeRequest(aiohttp.ClientRequest):
    """Sends a short body together with the head.

    aiohttp starts a task for each body, which takes a fifth of a request's instructions
    (docs/decisions/speed.md). A body of ours is a few hundred bytes, which need no task.
    """

    response: aiohttp.ClientResponse | None = None  # type: ignore[assignment]  # theirs is None

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Send the request, and return its response, which is still to come."""
        if self._body:
            response = await self._sent_whole(conn)
            if response is not None:
                return response
        return await super().send(conn)

    async def _sent_whole(
        self, conn: aiohttp.connector.Connection
    ) -> aiohttp.ClientResponse | None:
        """Send it if it is an ordinary one; None: nothing was sent, and nothing is changed."""
        protocol, body = conn.protocol, self._body
        if not body or protocol is None or protocol.writing_paused or self._traces or self.proxy:
            return None
        try:
            content = await body.as_bytes()
            if len(content) > _SHORT:
                return None
            writer = StreamWriter(protocol, self.loop)
            await writer.write_headers(
                f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers
            )
            response = self.response_class(
                self.method,
                self.original_url,
                writer=None,
                continue100=None,
                timer=self._timer,
                request_info=self.request_info,
                traces=self._traces,
                loop=self.loop,
                session=self._session,
                stream_writer=writer,
            )
        except (AttributeError, TypeError):  # a newer aiohttp has other names
            return None
        self.response = response  # from here on, a byte may have been sent
        await writer.write_eof(content)
        protocol.start_timeout()
        return response
