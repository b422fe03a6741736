"""Writes `sync.pyi`, which shows the blocking client to editors and tools that run no code.

`python -m tests.stubs` writes it anew. Signatures and docstrings are copied from where each is
written: from `sync.py`, and from the async method that a line of it names.
"""

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

from attrs import define

PACKAGE: Final = Path(__file__).parents[1] / "openrouter_keys"
STUB: Final = PACKAGE / "sync.pyi"

_DOC: Final = "Made by `python -m tests.stubs` of `sync.py` and what it names: change those."
# What a method returns, and what its blocking twin does, which `sync.py` does not import.
_RETURNS: Final = {
    r"AsyncGenerator\[(.+), None\]": (r"Iterator[\1]", "collections.abc"),
    r"AbstractAsyncContextManager\[": ("AbstractContextManager[", "contextlib"),
}


@define(slots=False)
class Source:
    """A file of the package."""

    name: str

    @cached_property
    def text(self) -> str:
        return (PACKAGE / f"{self.name}.py").read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}

    @cached_property
    def homes(self) -> dict[str, str]:
        """The module of each name that the file imports, or defines by an annotated assignment."""
        homes = {
            alias.name: node.module or ""
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in self.tree.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                homes[node.target.id] = f"openrouter_keys.{self.name}"
        return homes

    def lines(self, first: int, last: int | None) -> str:
        return "\n".join(self.text.splitlines()[first - 1 : last])

    def shown(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
        """A function's signature and docstring, as a blocking one's."""
        first = function.body[0]
        if ast.get_docstring(function) is None:
            text = f"{self.lines(function.lineno, first.lineno - 1).rstrip()} ..."
        else:
            text = self.lines(function.lineno, first.end_lineno)
        text = re.sub(r"^    async def", "    def", text)
        for pattern, (returned, _) in _RETURNS.items():
            text = re.sub(f"(?<=-> ){pattern}", returned, text)
        # A stub needs no quotes: of a parameter's annotation, nor of the returned one.
        text = re.sub(r'^(        \w+: )"(.+?)"(?=,$| = )', r"\1\2", text, flags=re.MULTILINE)
        return re.sub(r'^(    \) -> )"(.+)":$', r"\1\2:", text, flags=re.MULTILINE)


SYNC: Final = Source("sync")
ASYNC: Final = {
    cls: source for source in (Source("api_keys"), Source("client")) for cls in source.classes
}


def stub() -> str:
    """The text of the stub."""
    body = "\n\n".join("\n".join(_shown(cls)) for cls in SYNC.classes.values()) + "\n"
    return f'"""{_DOC}"""\n\n{_imports(body)}\n\n{body}'


def _shown(cls: ast.ClassDef) -> Iterator[str]:
    doc = cls.body[0]
    yield SYNC.lines(cls.lineno, doc.end_lineno)
    for node in cls.body[1:]:
        yield ""
        if isinstance(node, ast.FunctionDef):
            if node.name == "__init__":
                yield from _attributes(node)
            yield SYNC.shown(node)
        elif isinstance(node, ast.Assign):
            yield _twin(node)


def _attributes(init: ast.FunctionDef) -> Iterator[str]:
    """The public attributes that `__init__` sets: each to a new object of a class."""
    for node in init.body:
        match node:
            case ast.Assign([ast.Attribute(ast.Name("self"), name)], ast.Call(ast.Name(cls))):
                yield f"    {name}: {cls}\n"
            case _:
                pass


def _twin(node: ast.Assign) -> str:
    """The method that a line such as `create = blocking(AsyncAPIKeys.create)` makes."""
    match node:
        case ast.Assign([ast.Name()], ast.Call(args=[ast.Attribute(ast.Name(cls), name), *_])):
            source = ASYNC[cls]
            for method in source.classes[cls].body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and (
                    method.name == name
                ):
                    return source.shown(method)
            raise ValueError(f"{source.name}.py: {cls} has no {name}")
        case _:
            raise ValueError(f"sync.py:{node.lineno}: not of the form that this script knows")


def _imports(body: str) -> str:
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    homes = dict(pair for source in (*ASYNC.values(), SYNC) for pair in source.homes.items())
    homes |= {re.sub(r"\W.*", "", name): home for name, home in _RETURNS.values()}
    modules: dict[str, list[str]] = {}
    for name in sorted(used & homes.keys()):
        modules.setdefault(homes[name], []).append(name)
    return "\n".join(f"from {home} import {', '.join(modules[home])}" for home in sorted(modules))


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
