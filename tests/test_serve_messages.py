"""`/v1/messages` and `/v1/responses` as the official packages see them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from jsonschema import validate
from serving import SMOLLM2, Spoken, offered, running, saying, service
from test_serve_chat import SAID, SCHEMA, TOKENIZER, hermes

from vitruvius.inference.native import engine

ASKED: Any = [{"role": "user", "content": "Name three fruits."}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather.",
    "input_schema": {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]},
}
CLOCK: Any = {"name": "clock", "input_schema": {"type": "object", "properties": {}}}
FUNCTIONS: Any = [
    {"type": "function", "name": each["name"], "parameters": each["input_schema"], "strict": False}
    for each in (WEATHER, CLOCK)
]


@dataclass
class Clients:
    at: str
    anthropic: anthropic.Anthropic
    openai: openai.OpenAI


def clients(address: str) -> Clients:
    return Clients(
        address,
        anthropic.Anthropic(base_url=address, api_key="none", max_retries=0),
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0),
    )


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Clients]:
    with running(service([offered(SMOLLM2, engine(SMOLLM2, "q8"), TOKENIZER)])) as address:
        yield clients(address)


@pytest.fixture(scope="module")
def spoken() -> Iterator[Clients]:
    """A model that reasons, says something and calls two tools."""
    with running(service([offered("hermes", Spoken(saying(TOKENIZER, SAID)), hermes())])) as address:
        yield clients(address)


def chat(clients: Clients, **options: Any) -> str:
    """What `/v1/chat/completions` answers, greedy."""
    answer = clients.openai.chat.completions.create(model=SMOLLM2, temperature=0, **options)
    return answer.choices[0].message.content or ""


# ------------------------------------------------------------------ Anthropic's


def test_a_message(smollm2: Clients) -> None:
    answer = smollm2.anthropic.messages.create(
        model=SMOLLM2, messages=ASKED, system="Be brief.", max_tokens=12, extra_body={"temperature": 0}
    )
    wanted = chat(smollm2, messages=[{"role": "system", "content": "Be brief."}, *ASKED], max_tokens=12)
    assert [(block.type, block.text) for block in answer.content] == [("text", wanted)]
    assert (answer.role, answer.stop_reason, answer.stop_sequence) == ("assistant", "max_tokens", None)
    usage = answer.usage
    count = smollm2.anthropic.messages.count_tokens(model=SMOLLM2, messages=ASKED, system="Be brief.")
    assert usage.input_tokens + usage.cache_read_input_tokens == count.input_tokens
    assert usage.output_tokens == 12


def test_a_message_in_pieces(smollm2: Clients) -> None:
    asked: dict[str, Any] = {"model": SMOLLM2, "messages": ASKED, "max_tokens": 30, "extra_body": {"temperature": 0}}
    whole = smollm2.anthropic.messages.create(**asked)
    with smollm2.anthropic.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


def test_a_stop_sequence_is_named(smollm2: Clients) -> None:
    answer = smollm2.anthropic.messages.create(
        model=SMOLLM2, messages=ASKED, max_tokens=40, stop_sequences=["2.", "xyz"], extra_body={"temperature": 0}
    )
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "2.")
    assert "2." not in answer.content[0].text


def test_an_answer_that_is_begun_goes_on(smollm2: Clients) -> None:
    begun = [*ASKED, {"role": "assistant", "content": "1. Kiwis\n2."}]
    answer = smollm2.anthropic.messages.create(
        model=SMOLLM2, messages=begun, max_tokens=5, extra_body={"temperature": 0}
    )
    prompt = TOKENIZER.render(ASKED) + "1. Kiwis\n2."
    ids = TOKENIZER.encode(prompt, False)
    wanted = smollm2.openai.completions.create(model=SMOLLM2, prompt=ids, max_tokens=5, temperature=0)
    assert answer.content[0].text == wanted.choices[0].text


def test_thinking_text_and_calls(spoken: Clients) -> None:
    asked: dict[str, Any] = {"model": "hermes", "messages": ASKED, "max_tokens": 500, "tools": [WEATHER, CLOCK]}
    whole = spoken.anthropic.messages.create(**asked)
    blocks = [block.model_dump(exclude={"id", "signature", "citations", "caller"}) for block in whole.content]
    wanted = [
        {"type": "thinking", "thinking": "I need two."},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "name": "get_weather", "input": {"city": "Oslo"}},
        {"type": "tool_use", "name": "clock", "input": {}},
    ]
    assert [{key: value for key, value in block.items() if value is not None} for block in blocks] == wanted
    assert whole.stop_reason == "tool_use"
    with spoken.anthropic.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    dumped = [block.model_dump(exclude={"id"}) for block in final.content]
    assert dumped == [block.model_dump(exclude={"id"}) for block in whole.content]
    one = spoken.anthropic.messages.create(**asked, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert [block.type for block in one.content] == ["thinking", "text", "tool_use"]


def test_events_of_a_message_on_the_wire(spoken: Clients) -> None:
    asked = {"model": "hermes", "messages": ASKED, "max_tokens": 500, "tools": [WEATHER, CLOCK], "stream": True}
    lines = httpx2.post(f"{spoken.at}/v1/messages", json=asked).text.split("\n\n")
    events = [json.loads(line.split("\ndata: ")[1]) for line in lines if line]
    assert [line.split("\n")[0] for line in lines if line] == [f"event: {event['type']}" for event in events]
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-2], kinds[-1]) == ("message_start", "message_delta", "message_stop")
    for i in range(4):
        mine = [event["type"] for event in events if event.get("index") == i]
        assert (mine[0], mine[-1]) == ("content_block_start", "content_block_stop")
        assert set(mine[1:-1]) == {"content_block_delta"}
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}


def test_a_forced_tool(smollm2: Clients) -> None:
    for choice, names in (({"type": "any"}, {"get_weather", "clock"}), ({"type": "tool", "name": "clock"}, {"clock"})):
        answer = smollm2.anthropic.messages.create(
            model=SMOLLM2, messages=ASKED, max_tokens=100, tools=[WEATHER, CLOCK], tool_choice=choice
        )
        (block,) = answer.content
        assert (block.type, answer.stop_reason) == ("tool_use", "tool_use")
        assert block.name in names


def test_results_of_tools(spoken: Clients) -> None:
    """Anthropic's conversation is the same prompt as OpenAI's."""
    theirs = [
        *ASKED,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "clock", "input": {"zone": "UTC"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "12:00"}]},
                {"type": "text", "text": "And?"},
            ],
        },
    ]
    call = {"id": "t1", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "UTC"}'}}
    ours = [
        *ASKED,
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "12:00"},
        {"role": "user", "content": "And?"},
    ]
    counted = spoken.anthropic.messages.count_tokens(model="hermes", messages=theirs)  # type: ignore[arg-type]
    told = httpx2.post(f"{spoken.at}/tokenize", json={"messages": ours}).json()
    assert counted.input_tokens == told["count"]


def test_errors_have_anthropics_form(smollm2: Clients) -> None:
    with pytest.raises(anthropic.NotFoundError, match="there is no model 'claude'"):
        smollm2.anthropic.messages.create(model="claude", messages=ASKED, max_tokens=1)
    answer = httpx2.post(f"{smollm2.at}/v1/messages", json={"messages": ASKED})
    assert (answer.status_code, answer.json()) == (
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens is missing"}},
    )
    listed = smollm2.anthropic.models.list()
    assert [model.id for model in listed.data] == [SMOLLM2]


# ------------------------------------------------------------------ Responses


def test_a_response(smollm2: Clients) -> None:
    answer = smollm2.openai.responses.create(
        model=SMOLLM2, instructions="Be brief.", input="Name three fruits.", max_output_tokens=12, temperature=0
    )
    wanted = chat(smollm2, messages=[{"role": "system", "content": "Be brief."}, *ASKED], max_tokens=12)
    assert (answer.output_text, answer.status) == (wanted, "incomplete")
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage.output_tokens == 12
    assert answer.usage.total_tokens == answer.usage.input_tokens + 12


def test_a_response_in_pieces(smollm2: Clients) -> None:
    asked: dict[str, Any] = {"model": SMOLLM2, "input": ASKED, "max_output_tokens": 40, "temperature": 0}
    asked |= {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    whole = smollm2.openai.responses.create(**asked)
    assert whole.status == "completed"
    events = list(smollm2.openai.responses.create(**asked, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    final = events[-1]
    assert final.type == "response.completed"
    assert final.response.output_text == whole.output_text
    told = [e.token for e in whole.output[0].content[0].logprobs]
    assert "".join(told).startswith(whole.output_text)
    assert [e.token for e in final.response.output[0].content[0].logprobs] == told


def test_reasoning_text_and_calls_in_a_response(spoken: Clients) -> None:
    asked: dict[str, Any] = {"model": "hermes", "input": "What is it?", "tools": FUNCTIONS}
    whole = spoken.openai.responses.create(**asked)
    reasoning, message, *calls = whole.output
    assert (reasoning.type, reasoning.content[0].text) == ("reasoning", "I need two.")
    assert (message.type, whole.output_text) == ("message", "I look.")
    found = [(c.type, c.name, json.loads(c.arguments)) for c in calls]
    assert found == [("function_call", "get_weather", {"city": "Oslo"}), ("function_call", "clock", {})]
    assert whole.status == "completed"
    assert whole.usage.output_tokens_details.reasoning_tokens > 0
    with spoken.openai.responses.stream(**asked) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert [item.type for item in final.output] == [item.type for item in whole.output]
    assert [json.loads(item.arguments) for item in final.output[2:]] == [{"city": "Oslo"}, {}]
    assert final.output_text == "I look."


def test_what_was_answered_goes_back(spoken: Clients) -> None:
    """A client appends the items of the output as they came, and the results."""
    first = spoken.openai.responses.create(model="hermes", input="What is it?", tools=FUNCTIONS)
    results = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "fine"}
        for item in first.output
        if item.type == "function_call"
    ]
    history: Any = [{"role": "user", "content": "What is it?"}, *(item.model_dump() for item in first.output), *results]
    again = spoken.openai.responses.create(model="hermes", input=history)
    calls = [
        {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
        for item in first.output
        if item.type == "function_call"
    ]
    ours = [
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        *({"role": "tool", "tool_call_id": call["id"], "content": "fine"} for call in calls),
    ]
    told = httpx2.post(f"{spoken.at}/tokenize", json={"messages": ours}).json()
    assert again.usage.input_tokens == told["count"]


def test_a_response_by_a_schema(smollm2: Clients) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "fruits", "schema": SCHEMA, "strict": True}}
    answer = smollm2.openai.responses.create(model=SMOLLM2, input="Fruits?", text=form, max_output_tokens=100)
    validate(json.loads(answer.output_text), SCHEMA)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "x", "store": True}, "store"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({}, "input"),
    ],
    ids=str,
)
def test_what_a_response_cannot_be(smollm2: Clients, asked: Any, param: str) -> None:
    answer = httpx2.post(f"{smollm2.at}/v1/responses", json=asked)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
