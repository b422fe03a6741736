"""Keys in JSON, lines of JSON, or YAML: null is null, and what is not there is left out."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import chain
from typing import Any, Final, NoReturn, Protocol, TextIO, TypeGuard, cast

from attrs import fields_dict

from openrouter_keys.cli.exit_codes import CommandError, UsageError
from openrouter_keys.cli.specs.problems import Place, Problem
from openrouter_keys.cli.specs.rows import EXTERNAL, FIELDS, Row
from openrouter_keys.cli.specs.text import Lines, document
from openrouter_keys.models import External

_SHAPE: Final = "must be an array of keys, or an object whose `keys` is one"
_ITEM: Final = "must be an object with a `name`"
_NAMES: Final = frozenset((*FIELDS, *EXTERNAL, *fields_dict(External), "keys"))
# In characters: they are read as a whole, and YAML slowly.
_LARGEST_JSON: Final = 16_000_000
_LARGEST_YAML: Final = 2_000_000


def json_rows(file: TextIO, name: str) -> Iterator[Row]:
    """Go through an array of keys, or the `keys` of an object.

    Raises:
        CommandError: it is no such JSON.
    """
    value = _parsed(document(file, name, _LARGEST_JSON), name)
    prefix = ""
    if _is_object(value) and value.keys() == {"keys"}:
        value, prefix = value["keys"], "keys"
    if not isinstance(value, list):
        raise UsageError(f"{name}: {_SHAPE}")
    for number, item in enumerate(cast("list[object]", value)):
        yield _row(Place(number, prefix), item)


def jsonl_rows(file: TextIO, name: str) -> Iterator[Row]:
    """Go through lines, each of them a JSON object; blank ones are skipped.

    Raises:
        CommandError: a line is none.
    """
    lines = Lines(file, name)
    for number, line in enumerate(lines, start=1):
        lines.renew()
        if line.strip():
            yield _line(Place(number), line.rstrip("\r\n"))


def _line(place: Place, line: str) -> Row:
    try:
        item = _decoded(line)
    except json.JSONDecodeError as error:
        return _refused(place, f"is no JSON: {error.msg}", f"column {error.colno}")
    except UnusableError as error:
        return _refused(place, str(error))
    return _row(place, item)


def _row(place: Place, item: object) -> Row:
    return Row(place, item) if _is_object(item) else _refused(place, _ITEM)


def _refused(place: Place, problem: str, cell: str = "") -> Row:
    return Row(place, problems=[Problem(problem, cell)])


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    if not isinstance(value, dict):
        return False
    # YAML has other keys than texts.
    return all(isinstance(name, str) for name in cast("dict[object, object]", value))


def _parsed(text: str, name: str) -> object:
    try:
        return _decoded(text)
    except json.JSONDecodeError as error:
        # Its message does not quote the text, which may hold a secret.
        place = f"{name}, line {error.lineno}, column {error.colno}"
        raise UsageError(f"{place}: is no JSON: {error.msg}") from None
    except UnusableError as error:
        raise UsageError(f"{name}: {error}") from None


def _decoded(text: str) -> object:
    """Return a document.

    Raises:
        JSONDecodeError: it is no JSON.
        UnusableError: it cannot be used.
    """
    try:
        decoded: object = _decoder.decode(text)
    except (json.JSONDecodeError, UnusableError):
        raise
    except RecursionError:
        raise UnusableError("is nested too deep") from None
    except ValueError:
        raise UnusableError("a number has too many digits") from None
    return decoded


class UnusableError(ValueError):
    """A document, or a part of it, cannot be used; the message shows no value of it."""


def _each_once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise UnusableError(_twice(name))
        found[name] = value
    return found


def _twice(name: str) -> str:
    # What is no field's name may be a secret in the wrong place.
    return f"the field {name} is there twice" if name in _NAMES else "a field is there twice"


def _no_constant(name: str) -> NoReturn:
    raise UnusableError(f"{name} is no number that JSON has")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_each_once, parse_constant=_no_constant)


# --- YAML ---


# How many nodes a key may have, those of its aliases with each use: a few lines of aliases can
# stand for more than any memory.
_MOST_NODES: Final = 1_000
# PyYAML's time for each bracket grows with those that are open.
_MOST_OPEN: Final = 20
# A number in base 60, such as `1:30`, takes time that grows with the square of its length.
_LONGEST_NUMBER: Final = 400
_NUMBERS: Final = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
_TEXT: Final = "tag:yaml.org,2002:str"
_OBJECT: Final = "tag:yaml.org,2002:map"


# PyYAML has no types of its own: this much of it is used.
class _Mark(Protocol):
    line: int


class _Node(Protocol):
    id: str
    tag: str
    value: Any
    start_mark: _Mark


class _Loader(Protocol):
    flow_level: int
    fetch_flow_collection_start: Callable[[object], None]

    def get_single_node(self) -> _Node | None: ...
    def flatten_mapping(self, node: _Node, /) -> None: ...
    def construct_document(self, node: _Node, /) -> object: ...


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
        loader = yaml.SafeLoader(document(file, name, _LARGEST_YAML))
        _bound_depth(loader)
        sizes: dict[int, int] = {}
        for node in _items(loader.get_single_node(), name):
            place = Place(node.start_mark.line + 1)
            if _size(node, sizes) > _MOST_NODES:
                yield _refused(place, "has too many fields, or aliases that stand for too many")
            else:
                yield _mapped(loader, node, place)
    except yaml.YAMLError as error:
        # Not its text: that shows tags, and names of aliases, which may be secrets.
        raise UsageError(f"{name}{_place(error)}: is no YAML") from None
    except RecursionError:
        raise UsageError(f"{name}: is nested too deep") from None


def _bound_depth(loader: _Loader) -> None:
    begin = loader.fetch_flow_collection_start

    def begin_shallow(token: object) -> None:
        if loader.flow_level >= _MOST_OPEN:
            raise RecursionError
        begin(token)

    loader.fetch_flow_collection_start = begin_shallow


def _items(root: _Node | None, name: str) -> Sequence[_Node]:
    if (
        root is not None
        and root.id == "mapping"
        and [key.value for key, _ in root.value] == ["keys"]
    ):
        ((_, root),) = root.value
    if root is None or root.id != "sequence":
        raise UsageError(f"{name}: {_SHAPE}")
    return cast("Sequence[_Node]", root.value)


def _size(node: _Node, sizes: dict[int, int]) -> int:
    """Return how many nodes there are in one; more than `_MOST_NODES`: too many."""
    if id(node) not in sizes:
        sizes[id(node)] = _MOST_NODES + 1  # of what is within itself
        size = 1
        for each in _within(node):
            size += _size(each, sizes)
            if size > _MOST_NODES:
                break
        sizes[id(node)] = size
    return sizes[id(node)]


def _within(node: _Node) -> Iterable[_Node]:
    if node.id == "mapping":
        return chain.from_iterable(node.value)
    return cast("Iterable[_Node]", node.value) if node.id == "sequence" else ()


def _refuse_long_numbers(node: _Node) -> None:
    if node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
        raise ValueError
    for each in _within(node):
        _refuse_long_numbers(each)


def _mapped(loader: _Loader, node: _Node, place: Place) -> Row:
    if node.tag != _OBJECT:
        return _refused(place, _ITEM)
    names = [str(key.value) for key, _ in node.value]
    for name, count in Counter(names).items():
        if count > 1:
            return _refused(place, _twice(name))
    loader.flatten_mapping(node)
    fields, problems = dict[str, object](), list[Problem]()
    for number, (key, value) in enumerate(node.value, start=1):
        # YAML has other keys than texts.
        if key.id != "scalar" or key.tag != _TEXT:
            return _refused(place, _ITEM)
        try:
            _refuse_long_numbers(value)
            fields[key.value] = loader.construct_document(value)
        except (ValueError, OverflowError):
            field = key.value if key.value in _NAMES else number
            problem = "is no number that is taken, and no time that there is"
            problems.append(Problem(problem, f"field {field}"))
    return Row(place, fields, problems)


def _place(error: Exception) -> str:
    mark = cast("_Mark | None", getattr(error, "problem_mark", None))
    return f", line {mark.line + 1}" if mark is not None else ""


def _yaml() -> _Yaml:
    try:
        return cast("_Yaml", import_module("yaml"))
    except ImportError:
        message = 'YAML needs PyYAML: pip install "openrouter-keys[yaml]", or give JSON'
        raise CommandError(message) from None
