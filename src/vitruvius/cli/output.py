"""Where a verb's result goes."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import wrap
from typing import Any

import click

from ..terminal import COLUMNS


def emit(text: str, output: str | None = None) -> None:
    """Prints the result, its first line in bold on a terminal, or writes it to a file."""
    if output is None:
        if columns := COLUMNS.get():
            text = "\n".join(part for line in text.split("\n") for part in _sentences(line, columns))
        first, newline, rest = text.partition("\n")
        click.echo(click.style(first, bold=True) + newline + rest)
    else:
        write(Path(output), text + "\n")


def _sentences(line: str, columns: int) -> list[str]:
    """A line that does not fit, as several, if it is prose: columns of a table are two blanks apart."""
    return [line] if len(line) <= columns or "  " in line else wrap(line, columns, break_on_hyphens=False)


def emit_json(value: Any, output: str | None = None) -> None:
    """Prints or writes a value as JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if output is None:
        click.echo(text)
    else:
        write(Path(output), text + "\n")


def write(path: Path, text: str) -> None:
    """Writes a file, whole or not at all, and says so."""
    from ..checkpoints.files import write_whole

    write_whole(path, text)
    click.echo(f"wrote {path}", err=True)
