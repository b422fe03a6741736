"""Which rows of a journal a run has met: a bit for each. No I/O."""


class Seen:
    """The places of rows that were met."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, place: int) -> bool:
        """Remember a row, and return whether it is new."""
        byte, bit = divmod(place, 8)
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 - len(self._bits)))
        is_new = not self._bits[byte] >> bit & 1
        self._bits[byte] |= 1 << bit
        return is_new
