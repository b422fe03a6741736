"""The package's version, for the User-Agent and for packaging."""

__version__ = "0.1.0"
