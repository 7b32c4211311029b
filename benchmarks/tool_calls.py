"""What `canitoolcall` says of our reading of tool calls and reasoning: 469 recorded outputs of nine families of models.

    pip install --no-deps canitoolcall
    PYTHONPATH=src:benchmarks python -m canitoolcall run --engine tool_calls:Ours --python "$(which python)" \
        --env PYTHONPATH=src:benchmarks --out results

The recorded texts are cut into special tokens and single characters, since the families' tokenizers need a network;
special tokens that the server does not keep are dropped, as it drops them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from canitoolcall.adapters.base import Adapter, ReplayInput, Support
from canitoolcall.results import ParsedToolCall, ParseResult

from vitruvius import __version__
from vitruvius.inference import answers
from vitruvius.inference.answers import AnswerPart, Channels, ReasoningFormat
from vitruvius.inference.tools.formats import FORMATS, ToolFormat
from vitruvius.server.api.reading import Reader

FORMS = {form.name: form for form in FORMATS}
GPT_OSS, GEMMA, *_ = answers.FORMATS
THINK = answers.FORMATS[-1]
MAGISTRAL = next(form for form in answers.FORMATS if "[THINK]" in form.texts)
SPECIAL = re.compile(r"<[|｜][^<>\s]{1,40}[|｜]>")
FAMILIES: dict[str, tuple[str, ReasoningFormat]] = {
    "gemma4": ("gemma4", GEMMA),
    "glm": ("glm", THINK),
    "gpt-oss": ("harmony", GPT_OSS),
    "kimi": ("kimi", THINK),
    "llama": ("llama", answers.PLAIN),
    "mistral": ("mistral", MAGISTRAL),
    "qwen3-hermes": ("hermes", THINK),
    "qwen3-xml": ("qwen-xml", THINK),
}


def forms(raw: ReplayInput) -> tuple[ToolFormat, ReasoningFormat]:
    """How its model writes; a server knows it by the chat template, which the recordings do not hold."""
    if raw.family == "deepseek":
        version = re.search(r"v(\d)(\.\d)?", raw.model.lower())
        number = float(f"{version[1]}{version[2] or ''}") if version else 3.0
        return FORMS["dsml" if number >= 3.2 else "deepseek-3.1" if number > 3 else "deepseek"], THINK
    name, reasoning = FAMILIES[raw.family]
    return FORMS[name], reasoning


def pieces(raw: ReplayInput) -> list[str]:
    """Special tokens whole, the rest by characters; "" for a special token that is no text."""
    form, reasoning = forms(raw)
    kept = form.marks | reasoning.texts
    known = sorted({mark for mark in kept if mark.strip()} | set(SPECIAL.findall(raw.text)), key=len, reverse=True)
    found: list[str] = []
    for piece in re.split(f"({'|'.join(map(re.escape, known))})", raw.text):
        found += [piece] if piece in kept else [""] if piece in known else piece
    return found


class Ours(Adapter):
    """The server's reader, without its tokenizer."""

    name: ClassVar[str] = "vitruvius"
    pinned_version: ClassVar[str] = __version__

    def version(self) -> str:
        return __version__

    def supports(self, family: str, model: str) -> Support:
        return Support(family == "deepseek" or family in FAMILIES, "its form is not known")

    def parser_config(self, raw: ReplayInput) -> dict[str, Any]:
        return {"tools": forms(raw)[0].name}

    def units(self, raw: ReplayInput) -> list[int]:
        return list(range(len(pieces(raw))))

    def special_token_ids(self, raw: ReplayInput) -> list[int]:
        return [i for i, piece in enumerate(pieces(raw)) if len(piece) != 1]

    def parse(self, raw: ReplayInput, tools: Sequence[Any]) -> ParseResult:
        return self._read(raw, ["".join(pieces(raw))], tools)

    def parse_stream(self, raw: ReplayInput, chunks: Sequence[Sequence[int]], tools: Sequence[Any]) -> ParseResult:
        texts = pieces(raw)
        return self._read(raw, ("".join(texts[i] for i in chunk) for chunk in chunks), tools)

    def _read(self, raw: ReplayInput, texts: Iterable[str], tools: Sequence[Any]) -> ParseResult:
        form, reasoning = forms(raw)
        schemas = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
        channels = Channels(reasoning, raw.generation_prompt or "", calls=bool(tools))
        reader = Reader(channels, form if tools else None, schemas)
        parts = [part for text in texts for part in reader.push(text)] + list(reader.finish(not raw.truncated))
        told = {"text": "", "reasoning": ""}
        calls = []
        for part in parts:
            if isinstance(part, AnswerPart):
                told[part.channel] += part.text
            else:
                calls.append(ParsedToolCall(name=part.name, arguments_raw=part.arguments))
        return ParseResult(
            content=told["text"] or None, reasoning_content=told["reasoning"] or None, tool_calls=tuple(calls)
        )
