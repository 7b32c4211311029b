"""The lines of PyTorch that compute a part: the class of its twin, read as text, so that no torch is needed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib import resources
from textwrap import dedent
from typing import NamedTuple


class ForwardSource(NamedTuple):
    """The file below `vitruvius/`, and the `forward` in it."""

    file: str
    code: str


@cache
def forwards() -> dict[str, ForwardSource]:
    """Class of a noun -> the `forward` of its twin."""
    found = {}
    for file in sorted(resources.files("vitruvius.nn").iterdir(), key=lambda each: each.name):
        if file.name.endswith(".py"):
            text = file.read_text("utf-8")
            found.update({noun: ForwardSource(f"nn/{file.name}", code) for noun, code in _twins(text)})
    return found


def _twins(text: str) -> Iterator[tuple[str, str]]:
    for node in ast.parse(text).body:
        if not isinstance(node, ast.ClassDef):
            continue
        nouns = [
            call.args[0].attr
            for call in node.decorator_list
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "twin"
            and isinstance(call.args[0], ast.Attribute)
        ]
        methods = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "forward"]
        for noun in nouns if methods else ():
            yield noun, dedent(_lines(text, methods[0]))


def _lines(text: str, node: ast.FunctionDef) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(lines[node.lineno - 1 : node.end_lineno])
