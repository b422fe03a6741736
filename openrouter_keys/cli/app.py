"""The command's grammar, and how any command ends: its exit code, and one line for its error."""

import inspect
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from cyclopts import (
    App,
    CycloptsError,
    Group,
    Parameter,
    UnknownCommandError,
    UnusedCliTokensError,
)

from openrouter_keys._base.masking import scrub
from openrouter_keys._base.version import __version__
from openrouter_keys.cli.exit_codes import (
    BROKEN_PIPE,
    DONE,
    FAILED,
    IN_DOUBT,
    USAGE,
    CommandError,
    UsageError,
    code_of,
)
from openrouter_keys.cli.terminal import streams
from openrouter_keys.cli.terminal.messages import say, write
from openrouter_keys.cli.terminal.text import printable, without_passwords
from openrouter_keys.cli.terminal.warnings import waits_to
from openrouter_keys.errors import (
    InvalidArgumentError,
    OpenRouterError,
)

if TYPE_CHECKING:
    from rich.console import Console

_CODES: Final = """\
Exit codes: 0 done, 1 failed, 2 usage, 3 some failed, 4 authentication,
5 in doubt, 130 interrupted.
"""
_EPILOGUE: Final = f"""\
The management key comes from --api-key-file FILE, or is the first set of
OPENROUTER_MANAGEMENT_KEY, OPENROUTER_PROVISIONING_KEY, OPENROUTER_API_KEY.

{_CODES}"""

_KEYS: Final = Group("Keys", sort_key=10)
_MANY: Final = Group("Many keys", sort_key=20)
_MORE: Final = Group("More", sort_key=30)

# What the library's arguments are called here; the others, and variables, have their own name.
_OPTIONS: Final[Mapping[str, str]] = {
    "server_url": "--base-url",
    "timeout_ms": "--timeout",
    "name": "the name",
    "ref": "REF",
    "hash": "the hash",
    "update": "update",
    "journals": "--journal",
    "older_than": "--older-than",
}

# Each command: its place, its group and a line on it. A command's module is loaded when it runs,
# so that `--help` is there at once.
_COMMANDS: Final = (
    ("list", "keys.list:list_keys", _KEYS, "List keys."),
    ("get", "keys.get:get", _KEYS, "Show one key."),
    ("current", "keys.get:current", _KEYS, "Show the key that this command uses."),
    ("find", "keys.get:find", _KEYS, "Find the key of a leaked secret, read from standard input."),
    (
        "hash",
        "keys.get:hash_secret",
        _KEYS,
        "Print the hash of a secret, read from standard input.",
    ),
    ("create", "keys.create:create", _KEYS, "Create a key; its secret is shown once."),
    ("ensure", "ensure.command:ensure", _KEYS, "Print the one key of a ref; create it if needed."),
    ("release", "ensure.release:release", _KEYS, "Delete the keys of refs, for `ensure` to renew."),
    ("adopt", "adopt.command:adopt", _KEYS, "Put keys that exist into a journal."),
    ("lease", "keys.lease:lease", _KEYS, "Run a program with a key of its own."),
    ("update", "keys.update:update", _KEYS, "Change keys."),
    ("disable", "keys.update:disable", _KEYS, "Stop keys from working."),
    ("enable", "keys.update:enable", _KEYS, "Let disabled keys work again."),
    ("delete", "keys.delete:delete", _KEYS, "Delete keys for good."),
    ("rotate", "rotate.command:rotate", _MANY, "Replace keys by new ones with the same settings."),
    (
        "usage",
        "usage.command:usage",
        _MANY,
        "Show what each key spends, and how much of its limit.",
    ),
    (
        "provision",
        "provision.command:provision",
        _MANY,
        "Create a key for each row of a file, none twice.",
    ),
    (
        "apply",
        "apply.command:apply",
        _MANY,
        "Have the account as a file says, and show what is not.",
    ),
    (
        "sweep",
        "sweep.command:sweep",
        _MANY,
        "List the keys that no journal knows; disable or delete them.",
    ),
    (
        "journal",
        "journal.command:journal",
        _MANY,
        "Show a journal, copy it, and take secrets out of it.",
    ),
    ("emulator", "emulator:emulator", _MORE, "Serve an emulated key API."),
    ("demo", "demo.command:demo", _MORE, "Take a tour against an emulator that checks each step."),
    ("completion", "app:completion", _MORE, "Print a shell's completion script."),
)
# Those that ask no service.
_ALONE: Final = ("hash", "emulator", "demo", "completion")
#: What other programs call a command.
SYNONYMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ls", "keys", "all", "search"), "list"),
    **dict.fromkeys(("show", "describe", "info", "view"), "get"),
    **dict.fromkeys(("add", "new", "make", "generate"), "create"),
    **dict.fromkeys(("rm", "remove", "del", "revoke", "destroy"), "delete"),
    **dict.fromkeys(("set", "edit", "change", "rename", "modify"), "update"),
    **dict.fromkeys(("renew", "replace", "roll"), "rotate"),
    **dict.fromkeys(("import", "bulk", "batch"), "provision"),
    **dict.fromkeys(("costs", "cost", "spend", "stats", "report"), "usage"),
    **dict.fromkeys(("whoami", "me", "status"), "current"),
    **dict.fromkeys(("completions", "autocomplete"), "completion"),
}


def _versions() -> str:
    # Loaded late: it takes as long as all of `--help`.
    from importlib.metadata import version  # noqa: PLC0415

    return f"openrouter-keys {__version__} (aiohttp {version('aiohttp')})"


def _grammar() -> App:
    app = App(
        name="openrouter-keys",
        help="Manage OpenRouter's API keys from a terminal or a script.",
        help_epilogue=_EPILOGUE,
        help_format="plaintext",
        # The last one counts, so that a script can be given other options than it has.
        default_parameter=Parameter(allow_repeating=True),
        version=_versions,
        version_flags=("--version", "-V"),
        group_commands=_MORE,
        group_arguments=Group("Arguments", sort_key=1),
        group_parameters=Group("Options", sort_key=2),
    )
    for number, (name, place, group, line) in enumerate(_COMMANDS):
        path = f"openrouter_keys.cli.{place}"
        footer = {"help_epilogue": _CODES} if name in _ALONE else {}
        app.command(path, name=name, group=group, help=line, sort_key=number, **footer)
    return app


app: Final = _grammar()


def completion(shell: Literal["bash", "zsh", "fish", "powershell"], /) -> None:
    """Print the completion script of a shell: `source <(openrouter-keys completion bash)`.

    Args:
        shell: The shell.
    """
    sys.stdout.write(app.generate_completion(shell=shell))


def run(arguments: Sequence[str]) -> int:
    """Run a command and return the exit code.

    Args:
        arguments: the words after the program's name.
    """
    if not streams.ready():
        return _failed("standard output is closed: there is nowhere to write to", FAILED)
    try:
        with waits_to(say):
            code = _run_command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter would try to flush once more, without a reader.
        streams.discard(sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        # A full disk, say, below a redirection.
        streams.discard(sys.stdout.fileno())
        return _failed(f"cannot write: {error.strerror or error}", FAILED)
    return code


def _run_command(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    try:
        _explain(arguments[:2])
        command, bound, _ = app.parse_args(
            arguments, console=_console(), print_error=False, exit_on_error=False
        )
        _refuse_mixed_options(command, arguments)
        code: object = command(*bound.args, **bound.kwargs)
        if inspect.isawaitable(code):
            code = _waited_for(code)
    except CycloptsError as error:
        return _failed(_misused(error, arguments), USAGE)
    except CommandError as error:
        return _failed(str(error), error.code, error.more)
    except OpenRouterError as error:
        # Loaded late: `--help` needs no client, and what raised this has loaded it.
        from openrouter_keys.client import debugging  # noqa: PLC0415

        if debugging():
            _trace(error)
        return _failed(_worded(error), code_of(error))
    except KeyboardInterrupt as interrupt:
        from openrouter_keys.cli.terminal.interrupts import signal_code  # noqa: PLC0415

        notes, in_doubt = _notes(interrupt)
        code = IN_DOUBT if in_doubt else signal_code()
        return _failed("; ".join(dict.fromkeys(["interrupted", *notes])), code)
    return code if isinstance(code, int) else DONE


def _console() -> "Console | None":
    """Return what help is printed on; None: the grammar's own, which is loaded only for help."""
    if streams.better_size() is None:
        return None
    from openrouter_keys.cli.terminal.tables import console  # noqa: PLC0415

    return console()


def _refuse_mixed_options(command: Callable[..., object], arguments: Sequence[str]) -> None:
    """Refuse a program whose options this command would take for its own, such as a limit."""
    if command.__name__ == "lease" and "--" not in arguments:
        raise UsageError("put -- before the program: its options would be taken for those of lease")


def _explain(words: Sequence[str]) -> None:
    """Make a command's docstring its own help; the list of commands has one line of each."""
    command = app
    for word in words:
        if word.startswith("-") or word not in command:
            return
        command = command[word]
        if (does := command.default_command) is not None:
            text = inspect.cleandoc(does.__doc__ or "").partition("\n\nArgs:")[0]
            # Its lines are those of the source, and not of the terminal.
            command.help = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _waited_for(result: Awaitable[object]) -> object:
    # Loaded late: `--help` needs no event loop.
    import asyncio  # noqa: PLC0415

    from openrouter_keys.cli.terminal.interrupts import FROM_OUTSIDE, interrupts  # noqa: PLC0415

    async def wait() -> object:
        with interrupts(lambda: None, lambda: "stopped at once", FROM_OUTSIDE):
            return await result

    try:
        return asyncio.run(wait())
    except asyncio.CancelledError as cancelled:
        raise KeyboardInterrupt from cancelled


def _failed(problem: str, code: int, more: Sequence[str] = ()) -> int:
    # What was typed may be a secret, and what the service answered may be anything.
    for line in (problem, *more):
        say(line)
    return code


def _trace(error: BaseException) -> None:
    for part in traceback.format_exception(error):
        for line in part.split("\n")[:-1]:
            write(f"{printable(scrub(without_passwords(line)))}\n")


def _misused(error: CycloptsError, arguments: Sequence[str]) -> str:
    problem = " ".join(str(error).split())
    if isinstance(error, UnusedCliTokensError):
        rest = ", ".join(map(repr, error.unused_tokens or ()))
        problem = f"too many arguments: {rest}; quote what holds spaces"
    if isinstance(error, UnknownCommandError):
        problem = problem.partition(" Available commands: ")[0]
        if meant := SYNONYMS.get(arguments[0].lower()):
            problem = f'{problem.partition(" Did you mean ")[0]} Did you mean "{meant}"?'
    known = arguments and arguments[0] in app and not arguments[0].startswith("-")
    more = f"openrouter-keys {arguments[0] + ' ' if known else ''}--help"
    if problem.endswith("?"):
        return f"{problem} See {more}"
    return f"{problem.removesuffix('.')}; see {more}"


def _worded(error: OpenRouterError) -> str:
    """Return the message with the name of the option in place of the library's argument."""
    if not isinstance(error, InvalidArgumentError):
        return str(error)
    argument = error.argument
    own = argument if argument in os.environ else f"--{argument.replace('_', '-')}"
    option = _OPTIONS.get(argument, own)
    return f"{option}: {str(error).removeprefix(f'{argument}: ')}"


def _notes(interrupt: KeyboardInterrupt) -> tuple[list[str], bool]:
    """Return what an interrupt keeps from its reader, and whether a key may be left.

    Its notes say what became of a create that was under way; a command that was ending had an
    error of its own.
    """
    notes, in_doubt, error = list[str](), False, interrupt.__context__
    while error is not None:
        if isinstance(error, CommandError | OpenRouterError):
            notes.append(str(error))
            code = error.code if isinstance(error, CommandError) else code_of(error)
            in_doubt = in_doubt or code == IN_DOUBT
        notes += getattr(error, "__notes__", ())
        error = error.__context__
    return notes, in_doubt
