"""One send over aiohttp: a reply, or why there is none.

Only this file and `whole_request` import its client.
Every exception of aiohttp, of the operating system and of time-outs ends here. `retries` decides
whether to send again.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from typing import TypeAlias

from openrouter_keys._transport.trust import default_trust  # isort: skip - before aiohttp

import aiohttp
from attrs import define, field, frozen
from multidict import CIMultiDict
from yarl import URL

from openrouter_keys._base.masking import escaped, scrub
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys._inputs import checks
from openrouter_keys._inputs.proxies import TO_PROXY, Proxy, shown_forms
from openrouter_keys._protocol.retries import Outcome
from openrouter_keys._transport import bodies
from openrouter_keys._transport.deadlines import Deadlines
from openrouter_keys._transport.whole_request import WholeRequest

#: A user's own session, or a function that makes one in the client's event loop.
Session: TypeAlias = aiohttp.ClientSession | Callable[[], aiohttp.ClientSession]

# A server may close an idle connection while a request is sent on it: then its outcome is unknown.
# Node.js closes after 5 s, sooner than any other common server.
_KEEPALIVE = 4.0

_CANNOT_SEND = (
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
    ssl.SSLCertVerificationError,
    ValueError,
    TypeError,
)

# aiohttp shows a proxy's URL with the credentials in it. Up to the last @: a password may have one.
_CREDENTIALS = re.compile(r"//\S*@")


# Limits of a line and of the number of headers; aiohttp's own refuse what other clients read.
_MOST_OF_LINE, _MOST_HEADERS = 64 * 2**10, 512


@define(eq=False)
class Reply:
    """What came back: at least a status, and the received part of the body.

    Attributes:
        status: the HTTP status.
        headers: its headers; those of a success are masked.
        body: the body, unpacked.
        secrets: those that were sent, in each form that must not be shown.
        too_long: whether the body was longer than is read.
        seconds: how long the body took to come after the headers.
    """

    status: int
    headers: CIMultiDict[str] = field(repr=False)
    body: bytes = field(repr=False)
    too_long: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)
    seconds: float = 0.0

    def mask_headers(self, *secrets: str) -> None:
        """Mask secrets in the headers, and leave the rest of them unchanged."""
        values = "\n".join(self.headers.values())
        known = "sk-or-" in values
        for each in secrets:
            known = known or each in values
        if known:
            masked = [(name, scrub(value, *secrets)) for name, value in self.headers.items()]
            self.headers.clear()
            self.headers.extend(masked)

    def shown_headers(self) -> CIMultiDict[str]:
        """Return the headers for an error: masked, escaped, and not too many."""
        left, shown = bodies.MOST_OF_ERROR, CIMultiDict[str]()
        for name, value in self.headers.items():
            text = escaped(scrub(value, *self.secrets))
            if len(name) + len(text) <= left:
                left -= len(name) + len(text)
                shown.add(name, text)
        return shown


@frozen
class NoReply:
    """Why nothing came back."""

    what: Outcome
    reason: str


class _DroppedError(aiohttp.ClientError):
    """A lost connection; after an error of this class, aiohttp does not repeat the request."""


class SendTracker:
    """The innermost middleware of one send; it knows whether a byte may have been sent.

    aiohttp makes a request's `response` in the step that sends the first byte; without a response,
    nothing was sent. It also repeats GET, DELETE and PUT by itself after a lost pooled connection
    (https://github.com/aio-libs/aiohttp/issues/10790): a repeated DELETE that worked ends with 404.
    An error of another class prevents that.
    """

    __slots__ = ("_left", "_request", "authorization")

    def __init__(self) -> None:
        #: The `Authorization` header, if the other headers must not have it. None: they have it.
        self.authorization: str | None = None
        self._request: aiohttp.ClientRequest | None = None
        self._left = False

    @property
    def unsent(self) -> bool:
        """Whether it is proven that no byte was sent."""
        request = self._request
        return request is not None and not self._left and request.response is None

    @property
    def attempted(self) -> bool:
        """Whether aiohttp began to look for a connection."""
        return self._request is not None

    def heard(self) -> object:
        """Return a new value whenever a byte came, or no answer can come yet."""
        response = None if self._request is None else self._request.response
        if response is None:
            return object()
        # There is no content before the headers.
        return response, getattr(response.content, "total_bytes", None)

    def proxy_secrets(self) -> tuple[str, ...]:
        """Return the credentials of the proxy, ours or the session's, in every form."""
        request = self._request
        if request is None or request.proxy is None:
            return ()
        values = [
            each.get(TO_PROXY, "") for each in (request.headers, request.proxy_headers) if each
        ]
        if request.proxy_auth is not None:
            values.append(request.proxy_auth.encode())
        return shown_forms(request.proxy, values)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send one of aiohttp's requests (a user's middleware may make several for one send)."""
        if self._request is not None:
            self._left = not self.unsent
        self._request = request
        if self.authorization is not None:
            request.headers["Authorization"] = self.authorization
        try:
            return await handler(request)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            dropped = _DroppedError(f"{type(error).__name__}: {error}")
        raise dropped


class Wire(NeverPickled):
    """Sends single requests over a session of aiohttp.

    Args:
        session: the user's session, which `close` leaves open; a function that makes a session, or
            None for the default one: `close` closes these.
        ssl_context: the certificates that the default session trusts; None: the environment's, or
            the system's.
        connect_timeout: seconds for TCP and TLS to be set up.
        read_timeout: seconds of silence after which a send that is not `patient` is given up.
    """

    def __init__(
        self,
        session: Session | None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        self._owned = not isinstance(session, aiohttp.ClientSession)
        if isinstance(session, aiohttp.ClientSession):
            self._session = session
        else:
            self._session = _make_session(ssl_context) if session is None else session()
        if self._session.auth is not None:
            checks.refuse("session", "must have no auth=: the key is sent as Authorization")
        # A request's middlewares replace the session's, which have no public name.
        self._middlewares = tuple(getattr(self._session, "_middlewares", ()))
        self._deadlines = Deadlines()
        # `total` and `sock_read` would set two timers for each request.
        # TCP, a proxy's answer and TLS may each take this long. In a shared session, the wait for
        # a connection would count.
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            connect=3 * connect_timeout if session is None else None,
            sock_connect=connect_timeout,
        )
        self._silence = read_timeout
        self._headers = _header_maker(self._session)

    @property
    def connections(self) -> float:
        """The most connections that the session opens; further requests would queue in it."""
        connector = self._session.connector
        limits = (connector.limit, connector.limit_per_host) if connector else ()
        return min((limit for limit in limits if limit), default=float("inf"))

    def lives_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the session belongs to this loop (aiohttp has no public name for it)."""
        return getattr(self._session, "_loop", loop) is loop

    @property
    def closed(self) -> bool:
        """Whether the session was closed, maybe by its owner."""
        return self._session.closed

    async def close(self) -> None:
        """Close the session, unless it is the user's."""
        self._deadlines.close()
        if self._owned:
            await self._session.close()

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        proxy: Proxy | None,
        api_key: str,
        secrets: tuple[str, ...],
        seconds: float,
        patient: bool,
        tracker: SendTracker,
    ) -> Reply | NoReply:
        """Send one request.

        Args:
            method: the HTTP method.
            url: the whole URL, quoted.
            headers: all headers but the key's and the body's own.
            body: JSON; None: there is none.
            proxy: the proxy to use. None: only the session's own, if it has one.
            api_key: the key.
            secrets: other secrets to mask where the answer is shown.
            seconds: how long it may take in all.
            patient: whether to wait for all of this time, even if the service is silent.
            tracker: records when the first byte may have been sent.
        """
        # To https there is a CONNECT, which carries what is for the proxy.
        relayed = proxy if proxy is not None and url.startswith("http:") else None
        status, began, clock = 0, 0.0, asyncio.get_running_loop().time
        received: CIMultiDict[str] = CIMultiDict()
        chunks: list[bytes] = []
        most = left = bodies.MOST
        if self._session.trust_env:
            # aiohttp reads `.netrc` for the host, and refuses this header beside what it finds.
            tracker.authorization = f"Bearer {api_key}"
        try:
            silence = None if patient else self._silence
            with self._deadlines.within(seconds, silence, tracker.heard):
                response = await self._session.request(
                    method,
                    URL(url, encoded=True),
                    data=body,
                    headers=self._headers(
                        headers, api_key, relayed, body is not None, method == "POST"
                    ),
                    proxy=None if proxy is None else proxy.url,
                    proxy_headers=None if proxy is None else proxy.headers,
                    timeout=self._timeout,
                    # A 301 would turn a POST into a GET, and the key would travel along.
                    allow_redirects=False,
                    raise_for_status=False,
                    auto_decompress=False,  # it stops at a wrong label, and at no size
                    middlewares=(*self._middlewares, tracker),
                )
                try:
                    status, received, began = response.status, response.headers.copy(), clock()
                    if status >= 300:
                        most = left = bodies.MOST_OF_ERROR
                    # Read piece by piece: what came before a cut may hold a secret.
                    while left >= 0 and not response.content.at_eof():
                        chunk = await response.content.readany()
                        left -= len(chunk)
                        chunks.append(chunk)
                finally:
                    response.release()
        except Exception as error:  # noqa: BLE001 - no foreign exception leaves this file
            if not status:
                return _no_reply(error, tracker, (api_key, *secrets))
        content = b"".join(chunks)
        if "Content-Encoding" in received:
            content = bodies.content(content, received.getall("Content-Encoding"), most)
        of_proxy = tracker.proxy_secrets()
        reply = Reply(
            status,
            received,
            content[:most],
            len(content) > most,
            (api_key, *secrets, *of_proxy),
            clock() - began,
        )
        if status < 300:
            reply.mask_headers(*reply.secrets)
        return reply


# The other headers, the key, what is for a proxy, whether there is a body, whether it is a create.
_MadeOf: TypeAlias = tuple[Mapping[str, str], str, Proxy | None, bool, bool]


def _header_maker(session: aiohttp.ClientSession) -> Callable[[*_MadeOf], CIMultiDict[str]]:
    """Return a function that makes a request's headers, or returns the last ones if unchanged.

    It is a closure, since `vars`, `rich.inspect` and crash reporters show attributes.
    """
    last: _MadeOf | None = None
    made = CIMultiDict[str]()

    def headers(*of: *_MadeOf) -> CIMultiDict[str]:
        nonlocal last, made
        if of != last:
            others, api_key, relayed, has_body, creates = of
            made = CIMultiDict(others, **({} if relayed is None else relayed.headers))
            # A create's answer comes unpacked, so that no unpacking can lose the secret.
            made.setdefault("Accept-Encoding", "identity" if creates else bodies.ACCEPTED)
            if not session.trust_env:
                made["Authorization"] = f"Bearer {api_key}"
            if has_body:
                made["Content-Type"] = "application/json"
            last = of
        return made

    return headers


def _make_session(ssl_context: ssl.SSLContext | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # Calls queue in `Transport`; a queue in the session would count as a slow network.
        connector=aiohttp.TCPConnector(
            limit=0, keepalive_timeout=_KEEPALIVE, ssl=ssl_context or default_trust()
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        request_class=WholeRequest,
        max_line_size=_MOST_OF_LINE,
        max_field_size=_MOST_OF_LINE,
        max_headers=_MOST_HEADERS,
    )


def _no_reply(error: Exception, tracker: SendTracker, secrets: tuple[str, ...]) -> NoReply:
    reason = escaped(_reason(error, (*secrets, *tracker.proxy_secrets())))
    if tracker.unsent:
        hopeless = isinstance(error, _CANNOT_SEND)
        return NoReply(Outcome.CANNOT_SEND if hopeless else Outcome.NOT_SENT, reason)
    # With these, aiohttp refuses requests that it cannot send, before any middleware runs.
    if not tracker.attempted and isinstance(error, (ValueError, TypeError, RuntimeError)):
        return NoReply(Outcome.CANNOT_SEND, reason)
    return NoReply(Outcome.NO_ANSWER, reason)


def _reason(error: Exception, secrets: tuple[str, ...]) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        text = f"the proxy refused: {error.status} {error.message}"
        return f"{scrub(text, *secrets)}; {_remedy(error.status)}"
    named = "" if isinstance(error, _DroppedError) else f"{type(error).__name__}: "
    # The error's text has the quoted message, in which no secret would be found.
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    text = f"{named}{_CREDENTIALS.sub('//...@', text)}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        text += "; if your own CA signed it, give that: ssl=, SSL_CERT_FILE, or --ca-file"
    return scrub(text.removesuffix(": "), *secrets)


def _remedy(status: int) -> str:
    if status == 407:
        return "give its user and password in its URL: http://user:password@host:port"
    if status >= 500:
        return "it does not reach the service: ask its administrator, or bypass it with NO_PROXY"
    return "ask its administrator to allow the service, or bypass it with NO_PROXY"
