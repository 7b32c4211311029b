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

State = Literal["start", "text", "reasoning", "header", "named", "call"]
"""Where an answer is: before any text, in its text, in reasoning, in the name of what follows, or in the arguments of a
call. A mark that leads to "named" ends the name, and it decides."""

REASONING = ("analysis", "thought")  # channels by these names; any other is the answer
RECIPIENT = re.compile(r"\bto=(?:(functions)\.)?([^\s<]+)")  # of a channel that calls a tool


@dataclass(frozen=True)
class AnswerPart:
    """A piece of an answer; of a call, a piece of the arguments of the tool `name`, where the first piece is empty."""

    channel: Literal["text", "reasoning", "call"]
    text: str
    name: str = ""


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


HEADER: Mapping[str, State] = dict.fromkeys(("<|start|>", "<|channel|>", "<|end|>", "<|call|>"), "header")
PLAIN = ReasoningFormat({})
FORMATS = (
    # gpt-oss: <|channel|>NAME<|message|>…<|end|><|start|>assistant<|channel|>NAME<|message|>… (openai/harmony, docs)
    ReasoningFormat(
        {
            **dict.fromkeys(("start", "text", "reasoning", "call"), HEADER),
            "header": {**HEADER, "<|constrain|>": "header", "<|message|>": "named"},
        }
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
        calls: whether calls of tools are told apart; else they are reasoning.
    """

    def __init__(self, form: ReasoningFormat = PLAIN, before: str = "", calls: bool = False) -> None:
        self.form, self.calls = form, calls
        self._header = self._name = ""  # of the channel, and of the tool that it calls
        self._marks = form.marks
        self._find = {state: re.compile("|".join(map(re.escape, marks))) for state, marks in self._marks.items()}
        self._state: State = "start"
        self._fresh = True
        self._marked = False  # whether a mark came last: white space after it is dropped
        self._pending = ""  # white space or the beginning of a mark, as long as more must be seen
        self.push(before[min((at for mark in form.texts if (at := before.find(mark)) >= 0), default=len(before)) :])
        self._pending = ""
        self._state = self._state if self._state in ("reasoning", "header") else "start"
        self._marked = self._marked and self._state == "reasoning"
        self._fresh = True  # no mark has come

    @classmethod
    def of(cls, tokenizer: Tokenizer, variables: Mapping[str, Any], calls: bool = False) -> Channels:
        """As a model with that tokenizer answers a conversation whose template has these variables."""
        form = next((form for form in FORMATS if form.known(tokenizer)), None)
        return cls(form, _generation_prompt(tokenizer, variables), calls) if form else cls()

    @property
    def answering(self) -> bool:
        """Whether what comes next is text of the answer, or may be."""
        return self._state == "text" or (self._state == "start" and self.form is not FORMATS[0])

    @property
    def fresh(self) -> bool:
        """Whether no mark has come: the answer may yet begin with one."""
        return self._fresh and self._state == "start"

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
            self._pending, self._marked, self._fresh = self._pending[found.end() :], True, False
            self._header = f"{self._header}{clear}{found[0]}" if self._state == "header" else found[0]
            if marks[found[0]] == "named":
                self._state = self._named()
                parts += [AnswerPart("call", "", self._name)] if self._state == "call" else []
            else:
                self._state = marks[found[0]]

    def _named(self) -> State:
        """What a channel is, by its name and whom its header names."""
        recipient = RECIPIENT.search(self._header)
        if recipient:
            self._name = recipient[2]
            return "call" if self.calls and recipient[1] else "reasoning"
        name = re.search(r"<\|channel(?:\|)?>\s*(\w+)", self._header)
        return "reasoning" if name and name[1] in REASONING else "text"

    def finish(self) -> list[AnswerPart]:
        """What was held back, at the end."""
        rest, self._pending = self._pending, ""
        if self._state == "header" and self._fresh and rest.strip():  # no header: a text without marks
            return [AnswerPart("text", rest)]
        return [] if self._state == "header" else self._part(rest.rstrip() if self._state == "reasoning" else rest)

    def _clear(self, marks: Mapping[str, State]) -> str:
        """The pending text that cannot belong to a mark or to the white space before one."""
        if not marks:
            return self._pending
        if self._state == "header":
            return ""
        return self._pending[: len(self._pending) - max(begun(self._pending, mark) for mark in marks)].rstrip()

    def _part(self, text: str) -> list[AnswerPart]:
        if not text:
            return []
        if self._state == "call":
            return [AnswerPart("call", text, self._name)]
        return [AnswerPart("reasoning" if self._state == "reasoning" else "text", text)]


def _generation_prompt(tokenizer: Tokenizer, variables: Mapping[str, Any]) -> str:
    """What the template writes where an answer begins; nothing where it refuses so short a conversation."""
    asked = [{"role": "user", "content": "?"}]
    try:
        return tokenizer.render(asked, **variables).rpartition("?")[2]
    except InputError:
        return ""
