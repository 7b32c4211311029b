"""Answers that follow a grammar: whatever a model would rather write, only what the grammar allows comes out."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from jsonschema import validate
from serving import SMOLLM2

import vitruvius as vt
from vitruvius.errors import InputError
from vitruvius.inference.answers import FORMATS, Channels
from vitruvius.inference.grammars import LARGEST, Following, Grammars

TOKENIZER = vt.tokenizer(SMOLLM2)
VOCAB = 49152
GRAMMARS = Grammars(TOKENIZER, VOCAB, TOKENIZER.eos_ids)


def written(kind: Any, text: Any, seed: int, most: int = 200) -> tuple[str, bool]:
    """What random logits make of a grammar, and whether it has ended."""
    random = np.random.default_rng(seed)
    follow = Following(GRAMMARS.matcher(kind, text), TOKENIZER, Channels(), 2, TOKENIZER.eos_ids)
    ids = [5, 6]
    for _ in range(most):
        logits = follow(ids, random.normal(size=VOCAB).astype(np.float32))
        ids.append(int(logits.argmax()))
        if ids[-1] in TOKENIZER.eos_ids:
            return TOKENIZER.decode(ids[2:-1]), True
    return TOKENIZER.decode(ids[2:]), False


@pytest.mark.parametrize(
    ("kind", "text", "fits"),
    [
        ("regex", "[0-9]{3}-[ab]{2,4}", r"[0-9]{3}-[ab]{2,4}"),
        ("regex", "ja|nein", "ja|nein"),
        ("grammar", 'root ::= ("x" | "yy")+ "."', r"(x|yy)+\."),
        ("lark", 'start: "a" B\nB: /[0-9]/', "a[0-9]"),
    ],
)
def test_only_what_is_allowed(kind: Any, text: str, fits: str) -> None:
    for seed in range(3):
        answer, ended = written(kind, text, seed)
        assert ended
        assert re.fullmatch(fits, answer), answer


def test_json_of_a_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "n": {"type": "integer", "minimum": 0, "maximum": 99},
            "kind": {"enum": ["a", "b"]},
            "list": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        },
        "required": ["name", "n", "kind", "list"],
        "additionalProperties": False,
    }
    for seed in range(3):
        answer, ended = written("json_schema", schema, seed, 400)
        assert ended
        validate(json.loads(answer), schema)


def test_reasoning_is_free() -> None:
    """What comes before the mark that ends it does not count."""
    follow = Following(
        GRAMMARS.matcher("regex", "x"), TOKENIZER, Channels(FORMATS[-1], "<think>"), 0, TOKENIZER.eos_ids
    )
    ids: list[int] = []
    for token in TOKENIZER.encode("so</think>"):
        assert np.isfinite(follow(ids, np.zeros(VOCAB, np.float32))).all()
        ids.append(token)
    allowed = np.isfinite(follow(ids, np.zeros(VOCAB, np.float32)))
    assert {TOKENIZER.decode([int(i)]) for i in np.flatnonzero(allowed)} == {"x"}


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("regex", "((", "the regex cannot be used"),
        ("grammar", "root ((", "the grammar cannot be used"),
        ("lark", "start: nothing", "the lark cannot be used"),
        ("json_schema", {"type": "nonsense"}, "the json_schema cannot be used"),
        ("json_schema", {"$ref": "#/x", "x": {"$ref": "#/x"}}, "the json_schema cannot be used"),
        ("regex", "a" * (LARGEST + 1), "characters"),
    ],
)
def test_what_cannot_be_used_is_one_line(kind: Any, text: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        GRAMMARS.matcher(kind, text)
    assert "\n" not in str(error.value)


BOMBS: list[tuple[Any, Any]] = [
    ("regex", "(a{1,9999}){1,9999}"),
    ("regex", "((a{1,99}){1,99}b{1,99}){1,9999}c"),
    ("regex", "(x+x+)+y{1000000}"),
    ("json_schema", {"type": "array", "minItems": 10**9, "items": {"type": "array", "minItems": 10**6}}),
    ("json_schema", {"type": "string", "pattern": "(a{1,9999}){1,9999}"}),
    ("lark", 'start: a\na: a a | "x" |'),
]


@pytest.mark.parametrize(("kind", "text"), BOMBS)
def test_grammars_that_explode_are_followed_or_refused_in_no_time(kind: Any, text: Any) -> None:
    GRAMMARS.matcher("regex", "a")  # what is made once
    begin = time.process_time()
    with suppress(InputError):
        written(kind, text, 0, 20)
    assert time.process_time() - begin < 1.0
