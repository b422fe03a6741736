"""Which certificates a session trusts by default. `wire` imports this before aiohttp."""

import os
import ssl
import sys


def _named() -> tuple[object, ...]:
    """Return what names the trusted certificates, and the state of the file."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    try:
        state = os.stat(file or "")
    except OSError:
        return file, folder
    return file, folder, state.st_ino, state.st_size, state.st_mtime_ns


# aiohttp makes its default context when it is imported. To read the certificates once more takes
# tens of milliseconds. None: it was imported before, and nothing shows what it read.
_READ_BY_AIOHTTP = None if "aiohttp" in sys.modules else _named()


def default_trust() -> ssl.SSLContext | bool:
    """Return what trusts the environment's certificates; True: aiohttp's default context."""
    named = _named()
    # OpenSSL reads a folder's certificates when it needs them.
    is_default = not any(named[:2]) or named == _READ_BY_AIOHTTP
    return True if is_default else ssl.create_default_context()
