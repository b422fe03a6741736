"""What takes secrets: a new private file, another program, or standard output."""

import asyncio
import os
import shlex
import stat
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TextIO

from attrs import define, field, frozen

from openrouter_keys.cli.exit_codes import CommandError, UsageError
from openrouter_keys.cli.secrets.formats import Handed, SecretFormat, encodable, writer
from openrouter_keys.cli.secrets.programs import cannot_run, check_program, environment
from openrouter_keys.cli.terminal.messages import counted
from openrouter_keys.journal.files import sync_folder


class Sink(Protocol):
    """Takes keys."""

    async def take(self, handed: Handed, /) -> None:
        """Take a key: once this returns, it is taken.

        Raises:
            CommandError: it is not.
        """


@frozen
class TextSink:
    """Writes each key to an open text file."""

    write: Callable[[Handed], object]
    flush: Callable[[], object]

    async def take(self, handed: Handed, /) -> None:
        """Write the key; it survives this process from then on."""
        try:
            self.write(handed)
            self.flush()
        except BrokenPipeError:
            raise  # the reader is gone, as with `| head`
        except OSError as error:
            raise CommandError(f"cannot write the secret: {error.strerror}") from error


@define
class WholeLines:
    """Writes lines to standard output, each with one write, past the buffer of `sys.stdout`.

    If only a part of a line fits, it is removed where that is possible: at the end of a file. A
    buffer might write the rest later, or half of another line.
    """

    _lines: int = 0

    def write(self, line: str) -> None:
        """Write a line.

        Raises:
            OSError: it was not written; the message says what standard output has.
        """
        descriptor = _descriptor()
        if descriptor is None:
            sys.stdout.write(line)
            sys.stdout.flush()
        else:
            self._write(descriptor, line.encode(errors="backslashreplace"))
        self._lines += 1

    def _write(self, descriptor: int, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(descriptor, line[written:])
        except BrokenPipeError:
            raise
        except OSError as error:
            has = f"{counted(self._lines, 'whole line')} before it"
            if written and not _taken_back(descriptor, written):
                has += ", and a part of one after them: delete that"
            elif not self._lines:
                has = "nothing of them"
            raise OSError(error.errno, f"{error.strerror}; standard output has {has}") from None


def _descriptor() -> int | None:
    """Return standard output's descriptor; None: a terminal, or a test's stand-in."""
    try:
        return None if sys.stdout.isatty() else sys.stdout.fileno()
    except OSError:
        return None


def _taken_back(descriptor: int, written: int) -> bool:
    """Cut the last bytes off a file, if nothing was written after them."""
    with suppress(OSError):
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and os.lseek(descriptor, 0, os.SEEK_CUR) == found.st_size:
            os.ftruncate(descriptor, found.st_size - written)
            os.lseek(descriptor, -written, os.SEEK_CUR)
            return True
    return False


@define
class ProgramSink:
    """Runs a program for each key, one at a time, with the secret on its standard input.

    The program gets `OPENROUTER_KEY_REF`, `OPENROUTER_KEY_NAME` and `OPENROUTER_KEY_HASH` in its
    environment, and no management key.

    Args:
        words: the program and its arguments; no shell reads them.
    """

    words: tuple[str, ...]
    _turn: asyncio.Lock = field(factory=asyncio.Lock, init=False)

    @classmethod
    def of(cls, command: str) -> "ProgramSink":
        """Return the sink of a command line.

        Raises:
            CommandError: it cannot be read as one, or there is no such program.
        """
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise UsageError(f"--to-command: {error}") from error
        if not words:
            raise UsageError("--to-command: give a program and its arguments")
        check_program(words[0], "--to-command")
        return cls(words)

    async def take(self, handed: Handed, /) -> None:
        """Run the program; it has taken the key if it exits with 0."""
        async with self._turn:
            code = await self._run(handed)
        if code:
            taken = f"did not take the key {handed.ref or handed.name!r}"
            raise CommandError(f"{self.words[0]} exited with {code} and {taken}")

    async def _run(self, handed: Handed) -> int:
        line = f"{encodable(handed.key)}\n".encode()
        try:
            process = await asyncio.create_subprocess_exec(
                *self.words,
                stdin=asyncio.subprocess.PIPE,
                # The program's output is no data of this command.
                stdout=2,
                env=environment(handed),
                # Ctrl-C stops this command; the program finishes with its key.
                start_new_session=True,
            )
        except OSError as error:
            raise cannot_run(self.words[0], error) from error
        await process.communicate(line)
        return await process.wait()


@contextmanager
def new_file(
    path: str,
    format: SecretFormat,
    *,
    durable: bool = False,
    whole: bool = False,
    named: bool = False,
) -> Generator[TextSink]:
    """Make a private file that takes keys, each whole; a file without keys is removed.

    Args:
        path: a file that is not there yet.
        format: what is written into it.
        durable: a key that it took survives a power cut.
        whole: a file that could not be finished is removed, too.
        named: see `writer`.

    Raises:
        CommandError: it is there, or cannot be made or written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise UsageError(_taken(path)) from error
    except OSError as error:
        raise UsageError(f"cannot make {path}: {error.strerror}") from error
    # The bytes of whole lines: a line that does not fit is cut off.
    keep, taken, spare = False, 0, os.dup(descriptor)
    try:
        with _text_of(descriptor) as file:
            if durable:
                sync_folder(os.path.abspath(path))
            write = writer(format, file.write, named=named)

            def flush() -> None:
                nonlocal keep, taken
                file.flush()
                if durable:
                    os.fsync(descriptor)
                taken = os.fstat(descriptor).st_size
                keep = not whole

            yield TextSink(write, flush)
            file.flush()
            os.fsync(descriptor)
        keep = keep or whole
    except BaseException:
        os.ftruncate(spare, taken)
        raise
    finally:
        os.close(spare)
        if not keep:
            os.unlink(path)


def write_new(path: str, content: bytes, mode: int = 0o600) -> None:
    """Make a file with all of the content, which survives a power cut, or no file.

    Args:
        path: a file that is not there yet.
        content: all of it.
        mode: who may read it; by default, only this user.

    Raises:
        OSError: it is there, or cannot be made or written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        sync_folder(os.path.abspath(path))
    except BaseException:
        os.unlink(path)
        raise


def check_new(path: str) -> None:
    """Refuse a file that could not be made, before anything else is done.

    Raises:
        CommandError: it is there, or its folder is not.
    """
    if os.path.lexists(path):
        raise UsageError(_taken(path))
    if not Path(path).parent.is_dir():
        raise UsageError(f"cannot make {path}: there is no folder {Path(path).parent}")


def free_name(path: str) -> str:
    """Return a path, or a similar one that does not exist yet: `keys-2.csv`."""
    given, number = Path(path), 1
    free = given
    while os.path.lexists(free):
        number += 1
        free = given.with_name(f"{given.stem}-{number}{given.suffix}")
    return str(free)


def _taken(path: str) -> str:
    return f"{path} is there already: give a new file, such as {free_name(path)}"


@contextmanager
def _text_of(descriptor: int) -> Generator[TextIO]:
    """Write to a file that is open, and close it."""
    try:
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
    except OSError as error:
        raise CommandError(f"cannot write the keys: {error.strerror}") from error
