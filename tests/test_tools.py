"""Calls of tools in what models write: each form, in any pieces, whole or cut off."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

import pytest

from vitruvius.inference.answers import FORMATS as REASONING
from vitruvius.inference.answers import AnswerPart, Channels
from vitruvius.inference.tools.formats import FORMATS, PLAIN, ToolFormat, tool_format
from vitruvius.inference.tools.reading import ToolCall, typed
from vitruvius.server.api.reading import Reader

FORM = {form.name: form for form in (*FORMATS, PLAIN)}
HARMONY, *_, THINK = REASONING
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "units": {"type": ["string", "null"]}},
}
TOOLS = {"weather": SCHEMA, "now": {}}
OSLO = ("weather", {"city": "Oslo", "days": 3})
NOW: tuple[str, dict[str, Any]] = ("now", {})
DSML = "｜DSML｜"


def read(
    form: str, pieces: list[str], channels: Channels | None = None, complete: bool = True
) -> tuple[str, str, list[tuple[str, Any]]]:
    """Reasoning, text and calls."""
    reader = Reader(channels or Channels(calls=True), FORM[form], TOOLS)
    found = [part for piece in pieces for part in reader.push(piece)] + list(reader.finish(complete))
    parts = [part for part in found if isinstance(part, AnswerPart)]
    calls = [(part.name, json.loads(part.arguments)) for part in found if isinstance(part, ToolCall)]
    told = ["".join(part.text for part in parts if part.channel == name) for name in ("reasoning", "text")]
    return told[0], told[1], calls


CASES: list[tuple[str, str, str, list[Any]]] = [
    ("hermes", '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}\n</tool_call>', "", [OSLO]),
    (
        "hermes",
        (
            'I look.\n\n<tool_call>{"name": "now", "arguments": {}}</tool_call>\n<tool_call>\n'
            '{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}\n</tool_call>\n'
        ),
        "I look.",
        [NOW, OSLO],
    ),
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": "\\"</tool_call>\\" {"}}</tool_call>',
        "",
        [("weather", {"city": '"</tool_call>" {'})],
    ),
    ("hermes", '<tool_call>{"name": "now", "arguments": "{}"}</tool_call> So.', " So.", [NOW]),
    ("hermes", "<tool_call>what now</tool_call>!", "<tool_call>what now</tool_call>!", []),
    ("hermes", "a < b, <tool", "a < b, <tool", []),
    (
        "qwen-xml",
        (
            "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
            "</function>\n</tool_call>"
        ),
        "",
        [OSLO],
    ),
    ("qwen-xml", "<function=now>\n</function>\n</tool_call>", "", [NOW]),
    (
        "qwen-xml",
        (
            "<tool_call><function=weather><parameter=city>\n1\n2\n</parameter><parameter=units>\nnull\n</parameter>"
            "</function></tool_call>"
        ),
        "",
        [("weather", {"city": "1\n2", "units": None})],
    ),
    (
        "glm",
        (
            "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n"
            "<arg_value>3</arg_value>\n</tool_call><tool_call>now</tool_call>"
        ),
        "",
        [OSLO, NOW],
    ),
    (
        "deepseek",
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
            '{"city": "Oslo", "days": 3}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n'
            "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
        "",
        [OSLO, NOW],
    ),
    (
        "deepseek-3.1",
        (
            '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{"city": "Oslo", "days": 3}'
            "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
        "",
        [OSLO],
    ),
    (
        "dsml",
        (
            f'Well.\n\n<{DSML}function_calls>\n<{DSML}invoke name="weather">\n<{DSML}parameter name="city" '
            f'string="true">Oslo</{DSML}parameter>\n<{DSML}parameter name="days" string="false">3</{DSML}parameter>\n'
            f"</{DSML}invoke>\n"
            f'<{DSML}invoke name="now"/>\n</{DSML}function_calls>'
        ),
        "Well.",
        [OSLO, NOW],
    ),
    (
        "kimi",
        (
            "Well. <|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
            '{"city": "Oslo", "days": 3}<|tool_call_end|><|tool_calls_section_end|>'
        ),
        "Well. ",
        [OSLO],
    ),
    ("mistral", '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}]', "", [OSLO]),
    (
        "mistral",
        'So[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]weather[CALL_ID]abc[ARGS]{"city": "Oslo", "days": 3}',
        "So",
        [NOW, OSLO],
    ),
    ("gemma4", '<|tool_call>call:weather{city:<|"|>Oslo<|"|>,days:3}<tool_call|>', "", [OSLO]),
    (
        "gemma4",
        '<|tool_call>call:weather{city:<|"|>a<tool_call|>{b:c}<|"|>}<tool_call|>',
        "",
        [("weather", {"city": "a<tool_call|>{b:c}"})],
    ),
    (
        "llama",
        '{"name": "weather", "parameters": {"city": "Oslo", "days": 3}}; {"name": "now", "parameters": {}}',
        "",
        [OSLO, NOW],
    ),
    ("llama", '<|python_tag|>{"name": "now", "parameters": {}}', "", [NOW]),
    ("llama", "[weather(city='Oslo', days=3), now()]", "", [OSLO, NOW]),
    ("llama", '{"name": "others", "parameters": {}}', '{"name": "others", "parameters": {}}', []),
    ("llama", '{"city": "Oslo"} is JSON', '{"city": "Oslo"} is JSON', []),
    ("llama", "[1, 2]", "[1, 2]", []),
    ("plain", '{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}', "", [OSLO]),
]


@pytest.mark.parametrize(("form", "answer", "text", "calls"), CASES)
def test_text_and_calls(form: str, answer: str, text: str, calls: list[Any]) -> None:
    assert read(form, [answer]) == ("", text, calls)


@pytest.mark.parametrize(("form", "answer", "text", "calls"), CASES)
def test_marks_that_may_be_special_tokens_are_kept(form: str, answer: str, text: str, calls: list[Any]) -> None:
    """A server drops special tokens but those that the form names; whether they are special, the tokenizer decides."""
    special = re.compile(r"<[|｜][^<>\s]{1,40}[|｜]>|<\|\"\|>")
    kept = FORM[form].marks
    assert read(form, [special.sub(lambda mark: mark[0] if mark[0] in kept else "", answer)]) == ("", text, calls)


@pytest.mark.parametrize("form", sorted({case[0] for case in CASES}))
def test_pieces_make_no_difference(form: str) -> None:
    choose = Random(0)
    for _, answer, _, _ in (case for case in CASES if case[0] == form):
        whole = read(form, [answer])
        assert read(form, list(answer)) == whole
        for _ in range(20):
            cuts = sorted(choose.sample(range(len(answer) + 1), min(5, len(answer))))
            pieces = [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
            assert read(form, pieces) == whole


@pytest.mark.parametrize(("form", "answer", "text", "calls"), [case for case in CASES if case[3]])
def test_a_call_that_is_cut_off_is_none(form: str, answer: str, text: str, calls: list[Any]) -> None:
    """And those before it are still calls, each as it is in the whole."""
    marks = FORM[form].begin
    for end in range(len(answer)):
        _, told, found = read(form, [answer[:end]], complete=False)
        assert found == calls[: len(found)]
        assert not any(mark in told for mark in marks) or not found
    assert read(form, [answer[: len(answer) // 2]], complete=False)[2] != calls


def test_calls_beside_reasoning() -> None:
    answer = '\nLet me see.</think>\n\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    for pieces in ([answer], list(answer)):
        channels = Channels(THINK, "<|im_start|>assistant\n<think>", calls=True)
        assert read("hermes", pieces, channels) == ("Let me see.", "", [NOW])


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (
            (
                "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.weather "
                '<|constrain|>json<|message|>{"city": "Oslo", "days": 3}'
            ),
            ("Hm.", "", [OSLO]),
        ),
        (" to=functions.now<|channel|>commentary <|constrain|>json<|message|>{}", ("", "", [NOW])),
        (
            (
                "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.now<|channel|>commentary"
                "<|message|>{}<|call|><|start|>assistant<|channel|>final<|message|>Done"
            ),
            ("", "I look.Done", [NOW]),
        ),
        ("<|channel|>commentary to=functions.now<|message|>not JSON", ("", "not JSON", [])),
        ("no channel", ("", "no channel", [])),
    ],
)
def test_harmony(answer: str, wanted: Any) -> None:
    for pieces in ([answer], list(answer)):
        assert read("harmony", pieces, Channels(HARMONY, "<|start|>assistant", calls=True)) == wanted
    assert Channels(HARMONY).push(answer[:90])  # and without tools, as before


def test_values_are_what_the_schema_says() -> None:
    assert [typed("3", {"type": kind}) for kind in ("string", "integer", "number")] == ["3", 3, 3]
    assert typed("[1]", {"type": "array"}) == [1]
    assert typed("true", None) is True
    assert typed("None", {"type": "null"}) is None
    assert typed("007", {"type": "integer"}) == "007", "no JSON, so it stays what was written"
    assert typed("5", {"anyOf": [{"type": "string"}, {"type": "null"}]}) == "5"
    assert typed("null", {"anyOf": [{"type": "string"}, {"type": "null"}]}) is None
    assert typed("1", {"enum": ["1", "2"]}) == "1"


class Templated:
    """What `tool_format` looks at of a tokenizer."""

    def __init__(self, template: str) -> None:
        self.templates = {"default": template}


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("… <tool_call>\\n{{ call | tojson }}\\n</tool_call>", "hermes"),
        ("… <tool_call>\\n<function={{ name }}> …", "qwen-xml"),
        ("… <tool_call>{{ name }}<arg_key>…", "glm"),
        ("… <｜tool▁calls▁begin｜>…```json", "deepseek"),
        ("… <｜tool▁calls▁begin｜>…<｜tool▁sep｜>", "deepseek-3.1"),
        ("… [TOOL_CALLS] …", "mistral"),
        ("<|start|>assistant<|channel|>final<|message|>", "harmony"),
        ('{"name": "f", "parameters": {}}: … "parameters": …', "llama"),
        ("{{ message.content }}", None),
    ],
)
def test_the_form_is_known_by_the_chat_template(template: str, name: str | None) -> None:
    found: ToolFormat | None = tool_format(Templated(template))  # type: ignore[arg-type]
    assert (found and found.name) == name
