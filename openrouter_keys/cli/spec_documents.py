"""Keys in JSON, lines of JSON, or YAML: null is null, and what is not there is left out."""

import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, Final, NoReturn, Protocol, TextIO, TypeGuard, cast

from openrouter_keys.cli import USAGE, CommandError
from openrouter_keys.cli.spec_rows import Row

_SHAPE: Final = "must be an array of keys, or an object whose `keys` is one"
_ITEM: Final = "must be an object with a `name`"


def json_rows(file: TextIO, name: str) -> Iterator[Row]:
    """Go through an array of keys, or the `keys` of an object.

    Raises:
        CommandError: it is no such JSON.
    """
    value = _parsed(file.read(), name)
    prefix = ""
    if _is_object(value) and value.keys() == {"keys"}:
        value, prefix = value["keys"], "keys"
    if not isinstance(value, list):
        raise CommandError(f"{name}: {_SHAPE}", USAGE)
    for number, item in enumerate(cast("list[object]", value)):
        yield _row(f"{name}, {prefix}[{number}]", item)


def jsonl_rows(file: TextIO, name: str) -> Iterator[Row]:
    """Go through lines, each of them a JSON object; blank ones are skipped.

    Raises:
        CommandError: a line is none.
    """
    for number, line in enumerate(file, start=1):
        if line.strip():
            where = f"{name}, line {number}"
            yield _row(where, _parsed(line.rstrip("\r\n"), where, is_line=True))


def _row(where: str, item: object) -> Row:
    if not _is_object(item):
        raise CommandError(f"{where}: {_ITEM}", USAGE)
    return Row(where, item)


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    if not isinstance(value, dict):
        return False
    # YAML has other keys than texts.
    return all(isinstance(name, str) for name in cast("dict[object, object]", value))


def _parsed(text: str, where: str, *, is_line: bool = False) -> object:
    try:
        parsed: object = _decoder.decode(text)
    except json.JSONDecodeError as error:
        # Its message does not quote the text, which may hold a secret.
        line = "" if is_line else f", line {error.lineno}"
        place = f"{where}{line}, column {error.colno}"
        raise CommandError(f"{place}: is no JSON: {error.msg}", USAGE) from None
    except (ValueError, RecursionError) as error:
        problem = "is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise CommandError(f"{where}: {problem}", USAGE) from None
    return parsed


def _each_once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the field {name!r} is there twice")
        found[name] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number that JSON has")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_each_once, parse_constant=_no_constant)


# --- YAML ---


# PyYAML has no types of its own: this much of it is used.
class _Mark(Protocol):
    line: int


class _Node(Protocol):
    id: str
    value: Any
    start_mark: _Mark


class _Loader(Protocol):
    def get_single_node(self) -> _Node | None: ...
    def construct_document(self, node: _Node, /) -> object: ...
    def dispose(self) -> None: ...


class _Yaml(Protocol):
    YAMLError: type[Exception]

    def SafeLoader(self, text: str, /) -> _Loader: ...  # noqa: N802 - its own name


def yaml_rows(file: TextIO, name: str) -> Iterator[Row]:
    """Go through a sequence of keys, or the `keys` of a mapping.

    Raises:
        CommandError: it is no such YAML, or PyYAML is not installed.
    """
    yaml = _yaml()
    try:
        loader = yaml.SafeLoader(file.read())
        for node in _items(loader.get_single_node(), name):
            where = f"{name}, line {node.start_mark.line + 1}"
            _refuse_twice(node, where)
            yield _row(where, loader.construct_document(node))
    except yaml.YAMLError as error:
        raise CommandError(f"{name}: is no YAML: {_told(error)}", USAGE) from None
    except RecursionError:
        raise CommandError(f"{name}: is nested too deep", USAGE) from None


def _items(root: _Node | None, name: str) -> Sequence[_Node]:
    if (
        root is not None
        and root.id == "mapping"
        and [key.value for key, _ in root.value] == ["keys"]
    ):
        ((_, root),) = root.value
    if root is None or root.id != "sequence":
        raise CommandError(f"{name}: {_SHAPE}", USAGE)
    return cast("Sequence[_Node]", root.value)


def _refuse_twice(node: _Node, where: str) -> None:
    if node.id == "mapping":
        names = [str(key.value) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise CommandError(f"{where}: the field {name!r} is there twice", USAGE)


def _told(error: Exception) -> str:
    # Never the text around the problem: it may hold a secret.
    mark = cast("_Mark | None", getattr(error, "problem_mark", None))
    place = f" (line {mark.line + 1})" if mark is not None else ""
    return f"{getattr(error, 'problem', None) or 'not readable'}{place}"


def _yaml() -> _Yaml:
    try:
        return cast("_Yaml", import_module("yaml"))
    except ImportError:
        message = 'YAML needs PyYAML: pip install "openrouter-keys[yaml]", or give JSON'
        raise CommandError(message) from None
