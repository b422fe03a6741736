"""A file of keys to be made: CSV, JSON, lines of JSON or YAML; all of it checked, then read again.

CSV and lines of JSON are read row by row, so that any number of them needs little memory.
"""

import codecs
import io
import os
import stat
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal, TextIO, TypeAlias

from attrs import define, evolve, field
from cyclopts import Parameter

from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.secrets.sources import STANDARD
from openrouter_keys.cli.specs.csv_rows import csv_rows
from openrouter_keys.cli.specs.documents import json_rows, jsonl_rows, yaml_rows
from openrouter_keys.cli.specs.problems import Place, Problem, Problems
from openrouter_keys.cli.specs.rows import Row
from openrouter_keys.cli.specs.totals import Totals
from openrouter_keys.journal.specs import KeySpec

FileFormat: TypeAlias = Literal["csv", "json", "jsonl", "yaml"]
#: The option `--format`.
FormatOption: TypeAlias = Annotated[
    FileFormat | None, Parameter(help="The format of the file; else by its name.")
]

_READ: Final[Mapping[FileFormat, Callable[[TextIO, str], Iterator[Row]]]] = {
    "csv": csv_rows,
    "json": json_rows,
    "jsonl": jsonl_rows,
    "yaml": yaml_rows,
}
_BY_EXTENSION: Final[Mapping[str, FileFormat]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".yaml": "yaml",
    ".yml": "yaml",
}
_STANDARD_INPUT: Final = "standard input"
# In bytes: a pipe is kept in memory, since it can be read only once.
_LARGEST_PIPE: Final = 100_000_000
# The most bytes of a line that are read for an error.
_PART: Final = 16_000_000
_BLOCK: Final = 1_000_000
_UTF8: Final = "utf-8-sig"
# What spreadsheets call Unicode text; its mark says which byte comes first.
_UTF16: Final = "utf-16"
_LINE_ENDS: Final = {
    _UTF8: (b"\n", b"\r"),
    _UTF16: (b"\n\0", b"\r\0", b"\0\n", b"\0\r"),
}
_SAVE: Final = 'save it as UTF-8 ("CSV UTF-8" in a spreadsheet)'
_READABLE: Final = "holds an external API key, and others could read the file: chmod 600 it"


def read_specs(path: str | os.PathLike[str]) -> list[KeySpec]:
    """Read all keys of a file, or none.

    Raises:
        CommandError: it cannot be read, or a row is not usable; with the line and the column.
    """
    with spec_file(str(path), None) as file:
        return [*file]


@define(eq=False)
class SpecFile:
    """An open file of checked keys; each iteration reads it again.

    Attributes:
        name: what it is called in errors.
        totals: what it asks for in all.
        has_durations: whether an expiry is given as a duration.
        last_ref: the ref of the last row; None: there is none.
    """

    name: str
    _format: FileFormat
    _file: BinaryIO
    # A duration counts from now, and is the same each time the file is read.
    _now: datetime = field(factory=lambda: datetime.now(UTC), kw_only=True)
    totals: Totals = field(factory=Totals, init=False)
    has_durations: bool = field(default=False, init=False)
    last_ref: str | None = field(default=None, init=False)
    _expiries: Mapping[str, datetime] = field(factory=dict[str, datetime], init=False)

    def __len__(self) -> int:
        return self.totals.count

    def __iter__(self) -> Iterator[KeySpec]:
        try:
            for row in self._rows():
                read, problems = row.read(self._now), Problems(self.name)
                for problem in read.problems:  # the file was changed meanwhile
                    problems.add(row.place, problem)
                problems.refuse()
                if (spec := read.spec) is not None:
                    known = self._expiries.get(spec.ref) if read.lasts else None
                    yield spec if known is None else evolve(spec, expires_at=known)
        except UnicodeDecodeError:
            raise UsageError(self._no_text()) from None

    @property
    def ends_midline(self) -> bool:
        """Whether the last row may be half of one; a JSON document that is cut is none."""
        ends = _LINE_ENDS[self._encoding()]
        width = len(ends[0])
        size = self._file.seek(0, io.SEEK_END)
        self._file.seek(max(size - width, 0))
        return self._format != "json" and self._file.read() not in ends

    @property
    def may_end_in_a_cell(self) -> bool:
        """Whether a file that is cut within its last row may pass for a whole one."""
        return self._format in ("csv", "yaml")

    def keep(self, expiries: Mapping[str, datetime]) -> None:
        """Keep when keys expire that exist already, where a duration is given.

        Args:
            expiries: the times, by the keys' refs.
        """
        self._expiries = expiries

    def check(self, *, may_be_empty: bool = False) -> None:
        """Check every row before anything is sent.

        Args:
            may_be_empty: whether there may be no rows.

        Raises:
            CommandError: rows are not usable, two have the same ref, or there is none.
        """
        problems = Problems(self.name)
        try:
            self._check(problems)
        except UnicodeDecodeError:
            # What else there is shows in a text with marks in place of what cannot be read.
            problems, self.totals = Problems(self.name), Totals()
            problems.add_to_file(self._no_text())
            self._check(problems, errors="replace")
        problems.refuse()
        if not (self.totals.count or may_be_empty):
            raise UsageError(f"{self.name} has no keys in it: add one, with a name")

    def _check(self, problems: Problems, errors: str = "strict") -> None:
        # Their hashes need a tenth of the memory; where two are the same, the refs are compared.
        seen, doubtful = set[int](), False
        try:
            for row in self._rows(errors):
                read = row.read(self._now)
                for problem in read.problems:
                    problems.add(row.place, problem)
                if (spec := read.spec) is None:
                    continue
                if read.ref is not None:
                    doubtful = doubtful or hash(read.ref) in seen
                    seen.add(hash(read.ref))
                self.totals.add(spec)
                self.last_ref = spec.ref
                self.has_durations = self.has_durations or read.lasts
                external = spec.external
                if external is not None and external.api_key is not None and self._is_readable():
                    problems.add(row.place, Problem(_READABLE))
        except UsageError as error:
            problems.end(str(error))
        if doubtful:
            self._add_twins(problems, errors)

    def _add_twins(self, problems: Problems, errors: str) -> None:
        places: dict[str, Place] = {}
        with suppress(UsageError):  # it is among the problems
            for row in self._rows(errors):
                if (ref := row.read(self._now).ref) is None:
                    continue
                first = places.setdefault(ref, row.place)
                if first != row.place:
                    what = "ref" if row.fields.get("ref") else "name"
                    problem = f"the {what} is that of {first} too: give each a ref of its own"
                    problems.add(row.place, Problem(problem))

    def _is_readable(self) -> bool:
        """Whether others can read the file."""
        if isinstance(self._file, io.BytesIO) or sys.platform == "win32":
            return False
        return bool(stat.S_IMODE(os.fstat(self._file.fileno()).st_mode) & 0o077)

    def _encoding(self) -> str:
        """Return how the text is encoded, and go to its beginning."""
        self._file.seek(0)
        begin = self._file.read(len(codecs.BOM_UTF16))
        self._file.seek(0)
        return _UTF16 if begin in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else _UTF8

    def _rows(self, errors: str = "strict") -> Iterator[Row]:
        text = io.TextIOWrapper(self._file, encoding=self._encoding(), newline="", errors=errors)
        try:
            yield from _READ[self._format](text, self.name)
        finally:
            text.detach()

    def _no_text(self) -> str:
        """Return what is wrong with the bytes of the file."""
        if self._encoding() == _UTF16:
            return f"{self.name} is not UTF-16 text, as it begins: {_SAVE}"
        lines = iter(lambda: self._file.readline(_PART), b"")
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                odd = f"line {number} has the byte 0x{line[error.start]:02X}"
                return f"{self.name} is not UTF-8 text ({odd}): {_convert('WINDOWS-1252')}"
        return f"{self.name} is not UTF-8 text"

    def refuse_empty(self) -> None:
        """Refuse what has nothing in it, which is no row, array or mapping of any format."""
        self._file.seek(0)
        if self._file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            self._file.seek(0)
        if not any(map(bytes.strip, iter(lambda: self._file.read(_BLOCK), b""))):
            raise UsageError(f"{self.name} is empty: add a key, with a name")

    def refuse_wide_text(self) -> None:
        """Refuse UTF-16 without a byte order mark, which bytes come first, and UTF-32."""
        is_marked = self._encoding() == _UTF16
        begin = self._file.read(4)
        if begin in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
            raise UsageError(f"{self.name} is UTF-32 text: {_convert('UTF-32')}")
        if b"\0" in begin and not is_marked:
            raise UsageError(f"{self.name} is UTF-16 text: {_convert('UTF-16')}")


def _convert(encoding: str) -> str:
    return f"{_SAVE}, or convert it: iconv -f {encoding} -t UTF-8 OLD > NEW"


@contextmanager
def spec_file(
    path: str, format: FileFormat | None, *, may_be_empty: bool = False
) -> Generator[SpecFile]:
    """Open a file of keys and check all of it.

    Args:
        path: the file; `-`: standard input.
        format: its format; None: by its name.
        may_be_empty: whether there may be no rows.

    Raises:
        CommandError: it cannot be read, or is not usable; the message has the line and the field.
    """
    name = _STANDARD_INPUT if path == STANDARD else path
    if Path(path).is_dir():
        raise UsageError(f"{path} is a folder: give a file of keys to be made")
    chosen = format or _BY_EXTENSION.get(Path(path).suffix.lower())
    if chosen is None:
        raise UsageError(f"what is {name}? give --format: csv, json, jsonl or yaml")
    try:
        with _opened(path) as file:
            found = SpecFile(name, chosen, file)
            found.refuse_empty()
            found.refuse_wide_text()
            found.check(may_be_empty=may_be_empty)
            yield found
    except OSError as error:
        if error.filename != path:
            raise
        message = f"cannot read {path}: {error.strerror}; give a file of keys to be made"
        raise UsageError(message) from error


def _opened(path: str) -> BinaryIO:
    if path == STANDARD:
        return _kept(sys.stdin.buffer, _STANDARD_INPUT)
    file = open(path, "rb")  # noqa: SIM115 - closed by the caller
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    with file:
        return _kept(file, path)


def _kept(pipe: BinaryIO, name: str) -> BinaryIO:
    text = pipe.read(_LARGEST_PIPE + 1)
    if len(text) > _LARGEST_PIPE:
        problem = f"has more than {_LARGEST_PIPE:,} bytes, and can be read only once"
        raise UsageError(f"{name} {problem}: give a file of keys to be made")
    return io.BytesIO(text)
