"""Unpacks an answer's body, as far as possible and up to a bound.

Pure: no I/O. A body that cannot be unpacked stays unchanged, since its label may be wrong.
"""

import zlib
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Final, TypeAlias

#: What a client can unpack on every Python.
ACCEPTED: Final = "gzip, deflate"
#: The most bytes of a body that are kept, packed and unpacked; a page of 100 keys has 60,000.
MOST: Final = 16 * 2**20
#: The same for an answer that is no success, whose text goes into an error.
MOST_OF_ERROR: Final = 64 * 2**10
# Members of one gzip body; each of them copies what follows.
_MOST_MEMBERS = 64
_PLAIN = (b"{", b"[", b"<")
_GZIP = b"\x1f\x8b"

_Unpack: TypeAlias = Callable[[bytes, int], bytes]


def content(body: bytes, encodings: Iterable[str], most: int) -> bytes:
    """Unpack a body.

    Args:
        body: the received part of it.
        encodings: the values of its `Content-Encoding` headers, in their order.
        most: the most bytes to return; one more is returned if the body is longer.
    """
    named = [name.strip().lower() for value in encodings for name in value.split(",")]
    for name in reversed(named):
        unpack = _UNPACK.get(name)
        # A body that is plain already has a wrong label, or one too many.
        if unpack is not None and body.lstrip()[:1] not in _PLAIN:
            body = unpack(body, most + 1) or body
    return body[: most + 1]


def _gzip(body: bytes, most: int) -> bytes:
    return _members(body, most) if body[:2] == _GZIP else _stream(body, zlib.MAX_WBITS, most)


def _deflate(body: bytes, most: int) -> bytes:
    # It should have a header of zlib, and often has none.
    return _gzip(body, most) or _stream(body, -zlib.MAX_WBITS, most)


def _members(body: bytes, most: int) -> bytes:
    unpacked = b""
    for _ in range(_MOST_MEMBERS):
        if body[:2] != _GZIP or len(unpacked) >= most:
            break
        stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            unpacked += stream.decompress(body, most - len(unpacked))
        except zlib.error:
            return unpacked + _stream(body, zlib.MAX_WBITS | 16, most - len(unpacked))
        body = stream.unused_data
    return unpacked


def _stream(body: bytes, kind: int, most: int) -> bytes:
    """Unpack everything before the first error: it may hold a secret."""
    try:
        return zlib.decompressobj(kind).decompress(body, most)
    except zlib.error:
        pass
    stream, unpacked = zlib.decompressobj(kind), bytearray()
    try:
        for at in range(min(len(body), MOST_OF_ERROR)):
            unpacked += stream.decompress(body[at : at + 1], most - len(unpacked))
            if len(unpacked) >= most:
                break
    except zlib.error:
        pass
    return bytes(unpacked)


def _zstd(body: bytes, most: int) -> bytes:
    for name in ("compression.zstd", "backports.zstd"):  # the first one is Python 3.14's
        try:
            unpacked: bytes = import_module(name).ZstdDecompressor().decompress(body, most)
        except Exception:  # noqa: BLE001, S112 - not there, or no zstd: the body stays as it is
            continue
        return unpacked
    return b""


_UNPACK: Final[dict[str, _Unpack]] = {
    **dict.fromkeys(("gzip", "x-gzip"), _gzip),
    "deflate": _deflate,
    "zstd": _zstd,
}
