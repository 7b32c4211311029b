"""Answers that must follow a grammar: JSON of a schema, a regular expression, a grammar in Lark's or GBNF's form.

The work is done by `llguidance` (extra `serve`), which says before each token which ones may come, in well under a
millisecond, and refuses what would take too long. Reasoning before the answer is free.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .answers import Channels
from .sampling import Logits

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

    from ..checkpoints.tokenizer import Tokenizer

Kind = Literal["json_schema", "regex", "grammar", "lark"]
LARGEST = 1 << 17  # characters of a grammar
SPACE = r"[ \n\t]{1,40}"  # between what JSON holds; more of it would say nothing
MISSING = "a grammar needs llguidance, which is not installed: pip install 'vitruvius[serve]'"


class Grammars:
    """Makes grammars for one model.

    Args:
        tokenizer: the model's.
        vocab: how many logits it gives.
        ends: the ids that end an answer.
    """

    def __init__(self, tokenizer: Tokenizer, vocab: int, ends: Collection[int]) -> None:
        self.tokenizer, self._vocab, self._ends = tokenizer, vocab, sorted(ends)

    @cached_property
    def _known(self) -> LLTokenizer:
        if find_spec("llguidance") is None:
            raise InputError(MISSING)
        from llguidance import LLTokenizer

        return LLTokenizer(self.tokenizer.serialized(), self._vocab, self._ends)

    def matcher(self, kind: Kind, text: str | Mapping[str, Any]) -> LLMatcher:
        """What follows a grammar. Raises InputError for one that cannot be used."""
        known = self._known
        from llguidance import LLMatcher
        from llguidance.gbnf_to_lark import any_to_lark

        written = text if isinstance(text, str) else json.dumps(text)
        if len(written) > LARGEST:
            raise InputError(f"the {kind} has {len(written):,} characters, and {LARGEST:,} is the most")
        try:
            match kind:
                case "json_schema":
                    grammar = LLMatcher.grammar_from_json_schema(written, overrides={"whitespace_pattern": SPACE})
                case "regex":
                    grammar = LLMatcher.grammar_from_regex(written)
                case "grammar":
                    grammar = LLMatcher.grammar_from_lark(any_to_lark(written))
                case "lark":
                    grammar = LLMatcher.grammar_from_lark(written)
        except Exception as error:  # the converter raises whatever comes, and the library ValueError
            raise InputError(f"the {kind} cannot be used: {error}") from None
        matcher = LLMatcher(known, grammar, log_level=0)
        if matcher.is_error():
            raise InputError(f"the {kind} cannot be used: {matcher.get_error().splitlines()[0]}")
        return matcher


class Following:
    """A `Processor` that lets an answer follow a grammar, after its reasoning.

    Args:
        matcher: the grammar; it is this answer's own.
        tokenizer: of the model.
        channels: how the model marks its reasoning, as it stands after the prompt.
        prompt: tokens of the prompt.
        ends: the ids that end an answer.
    """

    def __init__(
        self, matcher: LLMatcher, tokenizer: Tokenizer, channels: Channels, prompt: int, ends: Collection[int]
    ) -> None:
        self._matcher, self._channels, self._seen, self._ends = matcher, channels, prompt, frozenset(ends)
        self._stream = tokenizer.stream(keep=channels.form.texts)
        ids = {mark: tokenizer.token_id(mark) for mark in channels.form.texts}
        self._marks = frozenset(i for i in ids.values() if i is not None)
        self._opening = [i for mark in channels.form.marks.get("start", {}) if (i := ids.get(mark)) is not None]

    def __call__(self, ids: Sequence[int], logits: Logits) -> Logits:
        """See `Processor`. Raises InputError where the grammar has become too large to follow."""
        for token in ids[self._seen :]:
            if self._channels.answering and token not in self._marks and token not in self._ends:
                self._check(self._matcher.consume_token(token))
            self._channels.push(self._stream.push(token))
        self._seen = len(ids)
        if not self._channels.answering:
            return logits
        allowed = self._allowed(len(logits))
        if self._channels.fresh:
            allowed[self._opening] = True
        return np.where(allowed, logits, np.float32(-np.inf))

    def _allowed(self, vocab: int) -> NDArray[np.bool_]:
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check(not self._matcher.is_error())
        return np.unpackbits(mask, count=vocab, bitorder="little").astype(np.bool_)

    def _check(self, well: bool) -> None:
        if not well:
            raise InputError(f"the grammar cannot be followed: {self._matcher.get_error().splitlines()[0]}")
