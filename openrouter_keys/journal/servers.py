"""A PostgreSQL URL, read: what to connect to, and which schema. Connects to nothing."""

import re
from contextlib import suppress
from urllib.parse import quote, unquote

import psycopg
from attrs import field, frozen
from psycopg.conninfo import conninfo_to_dict

from openrouter_keys._base.masking import escaped, scrub
from openrouter_keys._base.pickling import NeverPickled
from openrouter_keys.errors import JournalError
from openrouter_keys.journal.addresses import Address

_SCHEMA = "openrouter_keys"
# What PostgreSQL keeps of a name.
_MOST_BYTES = 63
_SECRETS = ("password", "sslpassword")
_PORTS = re.compile(r"[0-9,]*")
_UNREADABLE = (
    "the journal's PostgreSQL URL cannot be read: give postgresql://USER@HOST/DATABASE, and write "
    "@ : / ? # and % in a password as %40 %3A %2F %3F %23 and %25"
)
# A connection that is cut off is noticed within half a minute, on both sides.
_DEFAULTS = {
    "application_name": "openrouter-keys",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


@frozen
class Server(NeverPickled):
    """A database, and the journal's schema in it.

    Attributes:
        place: the URL without what is secret.
        schema: the schema's name.
        parameters: what libpq needs.
    """

    place: str
    schema: str
    parameters: dict[str, str] = field(repr=False)

    @property
    def quoted(self) -> str:
        """The schema's name in SQL."""
        return '"' + self.schema.replace('"', '""') + '"'

    def shown(self, error: psycopg.Error) -> str:
        """Return what an error of the server says, in one line, without secrets."""
        text = error.diag.message_primary or str(error) or type(error).__name__
        secrets = (self.parameters.get(name) or "" for name in _SECRETS)
        return escaped(scrub(" ".join(text.split()), *secrets))


def server_of(address: Address) -> Server:
    """Read a URL.

    Raises:
        JournalError: it cannot be read; it is not shown.
    """
    base, _, query = address.url.partition("?")
    pairs = [pair for pair in query.split("&") if pair]
    schemas = [pair.partition("=")[2] for pair in pairs if pair.startswith("schema=")]
    left = "&".join(pair for pair in pairs if not pair.startswith("schema="))
    parameters = _parameters(f"{base}?{left}" if left else base)
    schema = unquote(schemas[-1]) if schemas else _SCHEMA
    if not schema or "\0" in schema or len(schema.encode(errors="replace")) > _MOST_BYTES:
        raise JournalError(f"the URL's schema= must be 1 to {_MOST_BYTES} bytes")
    if schema == "information_schema" or schema.startswith("pg_"):
        raise JournalError(f"the URL's schema={schema} is PostgreSQL's own: give another name")
    return Server(_shown(parameters, schema), schema, {**_DEFAULTS, **parameters})


def _parameters(url: str) -> dict[str, str]:
    found: dict[str, str] | None = None
    with suppress(psycopg.Error, ValueError):  # its text may quote the password
        found = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    # A password with a raw `/` makes the rest of itself a port and a database; with a raw `@`, a
    # host.
    authority = url.partition("//")[2].partition("?")[0].partition("/")[0]
    if (
        found is None
        or not _PORTS.fullmatch(found.get("port", ""))
        or "@" in found.get("dbname", "")
        or authority.count("@") > 1
    ):
        raise JournalError(_UNREADABLE)
    return found


def _shown(parameters: dict[str, str], schema: str) -> str:
    user, host = (quote(parameters.get(name, ""), safe=",:") for name in ("user", "host"))
    host = f"[{host}]" if ":" in host else host
    port, database = parameters.get("port", ""), quote(parameters.get("dbname", ""), safe="")
    query = [f"schema={quote(schema, safe='')}"] if schema != _SCHEMA else []
    if parameters.get("host", "").startswith("/"):
        query[:0] = [f"host={host}", *([f"port={port}"] if port else [])]
        host = port = ""
    netloc = (f"{user}@" if user else "") + host + (f":{port}" if port else "")
    return f"postgresql://{netloc}/{database}" + ("?" + "&".join(query) if query else "")
