"""An answer's text and the reasoning before it, told apart by the marks that models write between them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError
from .text import begun

if TYPE_CHECKING:
    from ..checkpoints.tokenizer import Tokenizer

State = Literal["start", "text", "reasoning", "header", "named"]
"""Where an answer is: before any text, in its text, in reasoning, or in the name of what follows. A mark that leads to
"named" ends the name, and it decides."""

REASONING = ("analysis", "commentary", "thought")  # channels by these names; any other is the answer


@dataclass(frozen=True)
class AnswerPart:
    """A piece of an answer."""

    channel: Literal["text", "reasoning"]
    text: str


@dataclass(frozen=True)
class ReasoningFormat:
    """How a model marks its reasoning: in each state the marks that count, with the state that each leads to."""

    marks: Mapping[State, Mapping[str, State]]

    @property
    def texts(self) -> frozenset[str]:
        """The marks that may be tokens of their own."""
        return frozenset(mark for marks in self.marks.values() for mark in marks if mark.strip())

    def known(self, tokenizer: Tokenizer) -> bool:
        """Whether all marks are tokens, or all are in a chat template."""
        tokens = all(tokenizer.token_id(mark) is not None for mark in self.texts)
        return tokens or any(all(mark in template for mark in self.texts) for template in tokenizer.templates.values())


def between(begin: str, end: str) -> ReasoningFormat:
    """Reasoning between two marks, before the answer; within the answer they are text like any other."""
    return ReasoningFormat({"start": {begin: "reasoning"}, "reasoning": {end: "start"}})


HEADER: Mapping[str, State] = dict.fromkeys(("<|start|>", "<|channel|>", "<|end|>"), "header")
PLAIN = ReasoningFormat({})
FORMATS = (
    # gpt-oss: <|channel|>NAME<|message|>…<|end|><|start|>assistant<|channel|>NAME<|message|>… (openai/harmony, docs)
    ReasoningFormat(
        {"start": HEADER, "text": HEADER, "reasoning": HEADER, "header": {**HEADER, "<|message|>": "named"}}
    ),
    # Gemma 4: <|channel>thought\n…<channel|>…
    ReasoningFormat(
        {
            "start": {"<|channel>": "header"},
            "text": {"<|channel>": "header", "<channel|>": "start"},
            "reasoning": {"<channel|>": "start"},
            "header": {"\n": "named", "<channel|>": "start"},
        }
    ),
    # Command A Reasoning
    ReasoningFormat(
        {
            "start": {"<|START_THINKING|>": "reasoning", "<|START_RESPONSE|>": "text"},
            "text": {"<|END_RESPONSE|>": "text"},
            "reasoning": {"<|END_THINKING|>": "start"},
        }
    ),
    between("[THINK]", "[/THINK]"),  # Magistral
    between("<seed:think>", "</seed:think>"),  # Seed-OSS
    between("◁think▷", "◁/think▷"),  # Kimi-VL Thinking
    between("<think>", "</think>"),  # DeepSeek R1, Qwen3, GLM 4.5, SmolLM3, Kimi K2 …
)


class Channels:
    """Parts of an answer as its text comes. White space around marks belongs to no part.

    What all calls give is the same however the text is cut.

    Args:
        form: how the model marks its reasoning.
        before: the end of the prompt, where the template may have begun or ended a reasoning.
    """

    def __init__(self, form: ReasoningFormat = PLAIN, before: str = "") -> None:
        self.form = form
        self._marks = form.marks
        self._find = {state: re.compile("|".join(map(re.escape, marks))) for state, marks in self._marks.items()}
        self._state: State = "start"
        self._marked = False  # whether a mark came last: white space after it is dropped
        self._pending = ""  # white space or the beginning of a mark, as long as more must be seen
        self.push(before[min((at for mark in form.texts if (at := before.find(mark)) >= 0), default=len(before)) :])
        self._pending, self._state = "", "reasoning" if self._state == "reasoning" else "start"

    @classmethod
    def of(cls, tokenizer: Tokenizer, variables: Mapping[str, Any]) -> Channels:
        """As a model with that tokenizer answers a conversation whose template has these variables."""
        form = next((form for form in FORMATS if form.known(tokenizer)), None)
        return cls(form, _generation_prompt(tokenizer, variables)) if form else cls()

    def push(self, text: str) -> list[AnswerPart]:
        """What can be given out after this text."""
        self._pending += text
        parts: list[AnswerPart] = []
        while True:
            if self._marked and self._state != "header":
                self._pending = self._pending.lstrip()
                self._marked = not self._pending
            marks = self._marks.get(self._state, {})
            found = self._find[self._state].search(self._pending) if marks else None
            clear = self._pending[: found.start()] if found else self._clear(marks)
            if self._state == "start" and clear.strip():
                self._state = "text"
                continue
            if self._state != "header":
                parts += self._part(clear.rstrip() if found else clear)
            if not found:
                self._pending = self._pending[len(clear) :]
                return parts
            self._pending, self._marked = self._pending[found.end() :], True
            state = marks[found[0]]
            named: State = "reasoning" if clear.split()[:1] and clear.split()[0] in REASONING else "text"
            self._state = named if state == "named" else state

    def finish(self) -> list[AnswerPart]:
        """What was held back, at the end."""
        rest, self._pending = self._pending, ""
        return [] if self._state == "header" else self._part(rest.rstrip() if self._state == "reasoning" else rest)

    def _clear(self, marks: Mapping[str, State]) -> str:
        """The pending text that cannot belong to a mark or to the white space before one."""
        if not marks:
            return self._pending
        if self._state == "header":
            return ""
        return self._pending[: len(self._pending) - max(begun(self._pending, mark) for mark in marks)].rstrip()

    def _part(self, text: str) -> list[AnswerPart]:
        return [AnswerPart("reasoning" if self._state == "reasoning" else "text", text)] if text else []


def _generation_prompt(tokenizer: Tokenizer, variables: Mapping[str, Any]) -> str:
    """What the template writes where an answer begins; nothing where it refuses so short a conversation."""
    asked = [{"role": "user", "content": "?"}]
    try:
        return tokenizer.render(asked, **variables).rpartition("?")[2]
    except InputError:
        return ""
