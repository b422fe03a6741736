"""Prepares the three standard streams for any text."""

import io
import os
import sys


def ready() -> bool:
    """Make the streams ready; return whether there is a standard output.

    A character that a stream cannot encode is shown as an escape: one key's name must not break a
    list, nor lose a secret that stands beside it. Of what is closed, only the output is missed.
    """
    # Their types say that they are there; a shell's `>&-` says otherwise.
    stdin, stdout, stderr = vars(sys)["stdin"], vars(sys)["stdout"], vars(sys)["stderr"]
    if stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - for as long as we live
    if stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (stdout, stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return stdout is not None


def discard(descriptor: int) -> None:
    """Discard what is written to a descriptor from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def speaks_unicode() -> bool:
    """Whether standard output can be given any character."""
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf8")
