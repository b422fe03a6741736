"""The options for where secrets go, and the one place that opens it."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Final, TypeVar

from attrs import frozen
from cyclopts import Group, Parameter

from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.secrets.formats import SecretFormat, format_of
from openrouter_keys.cli.secrets.sinks import ProgramSink, Sink, check_new, new_file
from openrouter_keys.cli.values import File, Flag

_GROUP: Final = Group("Secrets", sort_key=80)
_Standard = TypeVar("_Standard")


@Parameter(name="*", group=_GROUP)
@frozen(kw_only=True)
class Destination:
    """Where secrets go."""

    secret_file: Annotated[
        File | None,
        Parameter(
            name=("--secret-file", "--output", "-o"),
            help="Write secrets to this new file, which only you can read.",
        ),
    ] = None
    secret_format: Annotated[
        SecretFormat | None,
        Parameter(help="The format; else by the file's name, or csv, of one key raw."),
    ] = None
    to_command: Annotated[
        str | None,
        Parameter(
            metavar="COMMAND",
            help="Run this program for each key, with the secret on its standard input.",
        ),
    ] = None
    show_secret: Annotated[
        Flag, Parameter(help="Print secrets even where standard output is no terminal.")
    ] = False

    def __attrs_post_init__(self) -> None:
        if self.secret_file is not None and self.to_command is not None:
            raise UsageError("give --secret-file or --to-command, not both")
        # Refused before anything is sent.
        self.command()
        if self.secret_file is not None:
            check_new(self.secret_file)

    @property
    def format(self) -> SecretFormat:
        """The format that was asked for, or that suits the file's name."""
        return self.secret_format or format_of(self.secret_file or "", "csv")

    @property
    def format_of_one(self) -> SecretFormat:
        """The same for one key, which is written raw unless something else is asked for."""
        return self.secret_format or format_of(self.secret_file or "", "raw")

    @property
    def hands_over(self) -> bool:
        """Whether secrets go anywhere but into a journal."""
        return bool(self.secret_file or self.to_command or self.show_secret)

    @contextmanager
    def opened(
        self,
        standard: _Standard,
        *,
        otherwise: SecretFormat = "csv",
        durable: bool = False,
        whole: bool = False,
    ) -> Generator[Sink | _Standard]:
        """Open the sink of the secrets: a new file, a program, or else `standard`.

        Args:
            standard: the sink if no option gives another one.
            otherwise: a file's format, if neither an option nor its name gives one.
            durable: see `new_file`.
            whole: see `new_file`.

        Raises:
            CommandError: the file cannot be made, or there is no such program.
        """
        if self.secret_file is not None:
            format = self.secret_format or format_of(self.secret_file, otherwise)
            # One key is raw unless its file says otherwise; several are known by their names.
            named = otherwise != "raw"
            with new_file(
                self.secret_file, format, durable=durable, whole=whole, named=named
            ) as file:
                yield file
        else:
            yield self.command() or standard

    def refuse_pipe(self, other: str = "") -> None:
        """Refuse to print secrets where standard output is no terminal, unless that is asked for.

        Args:
            other: what else helps, to be said after the options.

        Raises:
            UsageError: nothing says where they go.
        """
        if not (self.hands_over or sys.stdout.isatty()):
            hint = "give --show-secret, or --secret-file FILE"
            raise UsageError(f"secrets would go into a pipe: {hint}{other}")

    def command(self) -> ProgramSink | None:
        """Return the sink of `--to-command`; None: it is not given.

        Raises:
            CommandError: it cannot be read as one, or there is no such program.
        """
        return None if self.to_command is None else ProgramSink.of(self.to_command)
