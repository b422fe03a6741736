"""Emulators for tests: where they listen."""

import socket
from urllib.parse import urlsplit

from openrouter_keys.emulator import Emulator


def port_of(emulator: Emulator) -> int:
    return urlsplit(emulator.base_url).port or 0


def connected(emulator: Emulator, *, timeout: float = 30.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(emulator)), timeout)
