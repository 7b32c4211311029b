"""What the formatting of a text costs in tokens: each step takes some of it away, and what is left is counted anew.

A step takes away what the one before does, and more, so that what each one saves adds up to what all of them save.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .encoding import Tokenizer

Step = Callable[[str], str]

STRING = r'"((?:[^"\\]|\\.)*)"'


def without_white_space(text: str) -> str:
    """The words and marks as they are, but no indentation, no empty lines, and one space where there were several."""
    lines = (re.sub(r"[^\S\n]+", " ", line).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def without_markdown(text: str) -> str:
    """The words that Markdown shows, without white space and the marks of headings, emphasis, lists, tables, code and
    quotations, and without the targets of links."""
    from markdown_it import MarkdownIt

    pieces: list[str] = []
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "inline":
            shown = (child.content or "\n" * child.type.endswith("break") for child in token.children or ())
            cell = before is not None and before.type in ("td_open", "th_open")
            pieces += ["".join(shown), " " if cell else "\n"]
        elif token.content or token.type == "tr_close":
            pieces.append(token.content or "\n")  # code, HTML
    return without_white_space("".join(pieces))


def without_space_in_json(text: str) -> str:
    """JSON on one line, without spaces between its marks."""
    return re.sub(rf"{STRING}|\s+", lambda found: found[0] if found[0].startswith('"') else "", text)


def without_json_marks(text: str) -> str:
    """The keys and values of JSON alone, a space between them."""
    words = re.sub(rf"{STRING}|[\[\]{{}}:,\s]+", lambda found: f" {found[1] or ''} ", text)
    return re.sub(" +", " ", words).strip()


TEXT: Mapping[str, Step] = {"white space": without_white_space, "Markdown": without_markdown}
JSON: Mapping[str, Step] = {"white space": without_space_in_json, "punctuation": without_json_marks}


def steps(text: str) -> Mapping[str, Step]:
    """What can be taken away from a text: it is JSON, or JSON on each line, or else read as Markdown."""
    lines = [line for line in text.split("\n") if line.strip()]
    return JSON if _is_json(text) or (lines and all(map(_is_json, lines))) else TEXT


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (RecursionError, ValueError):
        return False


@dataclass(frozen=True)
class TokenCount:
    """A text's tokens, and how many each kind of formatting adds to it."""

    tokens: int
    formatting: Mapping[str, int]


def counted(text: str, tokenizer: Tokenizer) -> TokenCount:
    """The tokens of a text, those around it aside. Raises InputError where it cannot be written in UTF-8."""
    total = left = len(tokenizer.encode(text, add_special_tokens=False))
    added = {}
    for name, step in steps(text).items():
        now = len(tokenizer.encode(step(text), add_special_tokens=False))
        added[name], left = left - now, now
    return TokenCount(total, added)
