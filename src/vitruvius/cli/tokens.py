"""`vitruvius tokens FILE`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from . import options, running
from .output import emit, emit_json

if TYPE_CHECKING:
    from ..checkpoints.tokenizer.formatting import TokenCount


@click.command()
@click.argument("file")
@click.option("--model", "models", multiple=True, help="Whose tokenizer; several may be given. Default: all at hand.")
@options.as_json
@options.output
def command(file: str, models: tuple[str, ...], as_json: bool, output: str | None) -> None:
    """How many tokens FILE has in each tokenizer, and how many of them its formatting adds.

    FILE is a text in UTF-8, - reads it from stdin. White space: indentation, empty lines, spaces beyond one. Markdown:
    its marks, and where links lead. JSON: white space between its marks, then the marks themselves.
    """
    from ..checkpoints.sources import at_hand
    from ..checkpoints.tokenizer import tokenizer
    from ..checkpoints.tokenizer.formatting import counted

    text = read(file)
    names = list(dict.fromkeys(models or at_hand()))
    if not names:
        raise InputError("no model with a tokenizer is on this machine: name one with --model (a folder or .gguf file)")
    found = {name: counted(text, tokenizer(name)) for name in names}
    if as_json:
        return emit_json({"file": file, "characters": len(text), "tokenizers": records(text, found)}, output)
    return emit(f"{file}: {len(text):,} characters\n\n{shown(text, found)}", output)


def read(file: str) -> str:
    """The text of a file, or from stdin for "-"."""
    try:
        if file == "-":
            with running.utf8_stdin():
                text = sys.stdin.read()
        else:
            text = Path(file).read_bytes().decode()
    except UnicodeDecodeError as error:
        wrong = f"byte 0x{error.object[error.start]:02x} at {error.start:,}"
        raise InputError(f"{file}: not a text in UTF-8 ({wrong}): convert it, for example with iconv") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    if not text.strip():
        raise InputError(f"{file}: there is no text in it")
    return text


def records(text: str, found: dict[str, TokenCount]) -> list[dict[str, Any]]:
    """What --json prints of each tokenizer."""
    return [
        {
            "model": name,
            "tokens": each.tokens,
            "characters_per_token": len(text) / each.tokens,
            "formatting": {key.replace(" ", "_").casefold(): value for key, value in each.formatting.items()},
        }
        for name, each in found.items()
    ]


def shown(text: str, found: dict[str, TokenCount]) -> str:
    """The table."""
    from ..views.table import table

    kinds = list(next(iter(found.values())).formatting)
    rows = [["", "tokens", "characters per token", *kinds, "without it"]]
    for name, each in found.items():
        shares = [f"{value:,} ({value / each.tokens:.1%})" for value in each.formatting.values()]
        left = each.tokens - sum(each.formatting.values())
        label = Path(name).name if Path(name).exists() else name
        rows.append([label, f"{each.tokens:,}", f"{len(text) / each.tokens:.2f}", *shares, f"{left:,}"])
    return table(rows)
