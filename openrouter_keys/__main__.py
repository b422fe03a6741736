"""The command line: `python -m openrouter_keys`. Only its grammar is here."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from openrouter_keys import checks
from openrouter_keys.cli import CommandError
from openrouter_keys.cli.demo import demo
from openrouter_keys.cli.emulator import emulator, serve
from openrouter_keys.cli.journal import export, status
from openrouter_keys.emulator.contracts import CONTRACT_NAMES

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    0: done, 1: failed, 2: usage, 5: in doubt, 130: interrupted.

    Args:
        arguments: the words after the program's name; None: those of the process.
    """
    options = _grammar().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except CommandError as error:
        sys.stderr.write(f"openrouter-keys {options.command}: {error}\n")
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED


def _grammar() -> argparse.ArgumentParser:
    grammar = argparse.ArgumentParser(
        prog="python -m openrouter_keys", description="OpenRouter's API keys."
    )
    commands = grammar.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _emulator_grammar(commands.add_parser("emulator", help="serve an emulated key API"))
    _demo_grammar(commands.add_parser("demo", help="a tour that checks what it shows"))
    _journal_grammar(commands.add_parser("journal", help="look at a journal of bulk provisioning"))
    return grammar


def _emulator_grammar(grammar: argparse.ArgumentParser) -> None:
    grammar.description = "Serve an emulated key API until SIGINT or SIGTERM."
    grammar.add_argument("--host", default="127.0.0.1", help="the address (default: %(default)s)")
    grammar.add_argument(
        "--allow-remote", action="store_true", help="though other machines reach the address"
    )
    grammar.add_argument("--port", type=_port, default=0, help="0: a free one (default)")
    grammar.add_argument("--api-key", type=_api_key, help="its management key; a fake one if none")
    grammar.add_argument(
        "--state", type=Path, help="a file that keeps keys and ledger; none if none"
    )
    grammar.add_argument(
        "--contract",
        choices=CONTRACT_NAMES,
        default=CONTRACT_NAMES[-1],
        help="the date of the service's contract that it follows (default: %(default)s)",
    )
    grammar.add_argument("--json", action="store_true", help="tell the address and key as JSON")


def _demo_grammar(grammar: argparse.ArgumentParser) -> None:
    grammar.description = "Do everything to an emulator's keys, and check it by its state."
    grammar.add_argument(
        "csv",
        nargs="?",
        type=Path,
        default=Path("examples/customers.csv"),
        help="a CSV file of customers (default: %(default)s)",
    )


def _journal_grammar(grammar: argparse.ArgumentParser) -> None:
    grammar.description = "Look at a journal of bulk provisioning, without changing it."
    actions = grammar.add_subparsers(dest="action", required=True, metavar="ACTION")
    _status_grammar(actions.add_parser("status", help="how its keys stand"))
    _export_grammar(actions.add_parser("export", help="its keys with their secrets, to a file"))


def _status_grammar(grammar: argparse.ArgumentParser) -> None:
    grammar.description = "Tell how a journal's keys stand; the exit code is 5 if one is in doubt."
    grammar.add_argument("path", type=Path, metavar="PATH", help="the journal")
    grammar.add_argument("--json", action="store_true", help="tell it as JSON")


def _export_grammar(grammar: argparse.ArgumentParser) -> None:
    grammar.description = (
        "Write each key whose secret a journal holds: ref, name, hash, key, state."
    )
    grammar.add_argument("path", type=Path, metavar="PATH", help="the journal")
    grammar.add_argument(
        "--output", required=True, metavar="FILE", help="a new file, made private; - for stdout"
    )
    grammar.add_argument(
        "--identity", metavar="FILE", help="the age identity of sealed secrets; - for stdin"
    )
    grammar.add_argument("--format", choices=("jsonl", "csv"), default="jsonl")
    grammar.add_argument("--show-secret", action="store_true", help="though stdout is no terminal")


def _emulator(options: argparse.Namespace) -> int:
    served = emulator(
        options.api_key,
        host=options.host,
        allow_remote=options.allow_remote,
        port=options.port,
        state=options.state,
        contract=options.contract,
    )
    asyncio.run(serve(served, sys.stdout, as_json=options.json))
    return 0


def _demo(options: argparse.Namespace) -> int:
    return demo(options.csv, sys.stdout)


def _journal(options: argparse.Namespace) -> int:
    if options.action == "status":
        return asyncio.run(status(options.path, sys.stdout, as_json=options.json))
    exporting = export(
        options.path,
        options.output,
        sys.stderr,
        identity=options.identity,
        format=options.format,
        show_secret=options.show_secret,
    )
    return asyncio.run(exporting)


_COMMANDS = {"emulator": _emulator, "demo": _demo, "journal": _journal}


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be a number from 0 to 65535")
    return int(text)


def _api_key(text: str) -> str:
    if problem := checks.api_key_problem(text):
        raise argparse.ArgumentTypeError(f"the key {problem}")
    return text


if __name__ == "__main__":
    sys.exit(main())
