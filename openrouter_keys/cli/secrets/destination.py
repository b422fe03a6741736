"""Where secrets go: a file, a program, or standard output. No network."""

from contextlib import AbstractContextManager
from typing import Annotated, Final

from attrs import frozen
from cyclopts import Group, Parameter

from openrouter_keys.cli.exit_codes import UsageError
from openrouter_keys.cli.secrets.handover import (
    CommandTaker,
    SecretFormat,
    TextTaker,
    check_new,
    format_of,
    new_file,
)
from openrouter_keys.cli.values import File, Flag

_GROUP: Final = Group("Secrets", sort_key=80)


@Parameter(name="*", group=_GROUP)
@frozen(kw_only=True)
class Destination:
    """Where secrets go."""

    secret_file: Annotated[
        File | None,
        Parameter(
            name=("--secret-file", "--output", "-o"),
            help="A new file, which only this user may read.",
        ),
    ] = None
    secret_format: Annotated[
        SecretFormat | None,
        Parameter(help="How they are written; else by the file's name, or csv (one key: raw)."),
    ] = None
    to_command: Annotated[
        str | None,
        Parameter(
            metavar="COMMAND",
            help="A program that is run for each key, with the secret on its standard input.",
        ),
    ] = None
    show_secret: Annotated[
        Flag, Parameter(help="Print secrets, though standard output is no terminal.")
    ] = False

    def __attrs_post_init__(self) -> None:
        if self.secret_file is not None and self.to_command is not None:
            raise UsageError("give --secret-file or --to-command, not both")
        # What is wrong is refused before anything else is done.
        self.command()
        if self.secret_file is not None:
            check_new(self.secret_file)

    @property
    def format(self) -> SecretFormat:
        """The format that was asked for, or that suits the file's name."""
        return self.secret_format or format_of(self.secret_file or "", "csv")

    @property
    def hands_over(self) -> bool:
        """Whether secrets go anywhere but into a journal."""
        return bool(self.secret_file or self.to_command or self.show_secret)

    def file(
        self, *, durable: bool = False, whole: bool = False, otherwise: SecretFormat = "csv"
    ) -> AbstractContextManager[TextTaker] | None:
        """Return the file, to be opened; None: none was asked for. See `new_file`.

        Args:
            durable: see `new_file`.
            whole: see `new_file`.
            otherwise: the format, if neither an option nor the file's name tells.
        """
        if self.secret_file is None:
            return None
        format = self.secret_format or format_of(self.secret_file, otherwise)
        return new_file(self.secret_file, format, durable=durable, whole=whole)

    def command(self) -> CommandTaker | None:
        """Return the program; None: none was asked for.

        Raises:
            CommandError: it cannot be read as one, or there is no such program.
        """
        return None if self.to_command is None else CommandTaker.of(self.to_command)
