"""The server as the official `openai` package sees it, on SmolLM2 with the native engine: values, not shapes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from jsonschema import validate
from serving import SMOLLM2, Spoken, offered, running, saying, service

import vitruvius as vt
from vitruvius.checkpoints.tokenizer import Tokenizer
from vitruvius.inference.native import NativeEngine, engine
from vitruvius.inference.sampling import log_softmax

ASKED = [{"role": "user", "content": "Name three fruits."}]
TOKENIZER = vt.tokenizer(SMOLLM2)


@pytest.fixture(scope="module")
def model() -> NativeEngine:
    return engine(SMOLLM2, "q8")


@pytest.fixture(scope="module")
def at(model: NativeEngine) -> Iterator[str]:
    with running(service([offered(SMOLLM2, model, TOKENIZER)])) as address:
        yield address


@pytest.fixture
def client(at: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{at}/v1", api_key="none", max_retries=0) as made:
        yield made


def greedy(model: NativeEngine, ids: list[int], count: int) -> tuple[list[int], np.ndarray[Any, Any]]:
    """The most probable tokens after a prompt, and the log-probabilities (T + count, V) of what follows each."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(model(np.array([ids]))[0, -1].argmax()))
    return ids, log_softmax(model(np.array([ids]))[0])


# ------------------------------------------------------------------ completions


def test_a_completion_is_what_the_model_writes(client: openai.OpenAI, model: NativeEngine) -> None:
    prompt = "The capital of France is"
    ids, _ = greedy(model, TOKENIZER.encode(prompt), 6)
    answer = client.completions.create(model=SMOLLM2, prompt=prompt, max_tokens=6, temperature=0)
    assert answer.choices[0].text == TOKENIZER.decode(ids[5:])
    assert answer.choices[0].finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 6, 11)
    assert answer.object == "text_completion"


def test_log_probabilities_with_echo(client: openai.OpenAI, model: NativeEngine) -> None:
    prompt = "The capital of France is"
    ids, wanted = greedy(model, TOKENIZER.encode(prompt), 3)
    answer = client.completions.create(
        model=SMOLLM2, prompt=ids[:5], max_tokens=3, temperature=0, echo=True, logprobs=2, seed=1
    )
    choice, told = answer.choices[0], answer.choices[0].logprobs
    assert choice.text == TOKENIZER.decode(ids)
    assert told.tokens == [TOKENIZER.decode([i]) for i in ids]
    assert told.token_logprobs[0] is None
    np.testing.assert_allclose(told.token_logprobs[1:], wanted[np.arange(7), ids[1:]], rtol=1e-4, atol=1e-4)
    for row, top, token in zip(wanted, told.top_logprobs[1:], told.tokens[1:], strict=False):
        best = {TOKENIZER.decode([int(i)]) for i in np.argsort(-row)[:2]}
        assert set(top) == best | {token}
    assert told.text_offset == [choice.text.index(told.tokens[0]), *np.cumsum([len(t) for t in told.tokens])[:-1]]


def test_a_prompt_is_only_read(client: openai.OpenAI, model: NativeEngine) -> None:
    """As evaluators do: `max_tokens=0`, or 1 whose token they drop."""
    ids = TOKENIZER.encode("Paris is the capital")
    none = client.completions.create(model=SMOLLM2, prompt=ids, max_tokens=0, echo=True, logprobs=1)
    one = client.completions.create(model=SMOLLM2, prompt=ids, max_tokens=1, echo=True, logprobs=1, temperature=0)
    assert none.choices[0].text == "Paris is the capital"
    assert len(none.choices[0].logprobs.tokens) == 4
    assert none.choices[0].logprobs.token_logprobs == one.choices[0].logprobs.token_logprobs[:-1]
    assert len(one.choices[0].logprobs.tokens) == 5
    assert none.usage.completion_tokens == 0


def test_batches_of_prompts_and_several_answers(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": SMOLLM2, "max_tokens": 5, "temperature": 1.0, "seed": 3}
    prompts = ["The sun", "A dog"]
    both = client.completions.create(prompt=prompts, n=2, **options)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert both.usage.prompt_tokens == sum(len(TOKENIZER.encode(prompt)) for prompt in prompts)
    for i, prompt in enumerate(prompts):
        alone = client.completions.create(prompt=prompt, n=2, **options)
        assert [c.text for c in alone.choices] == [c.text for c in both.choices[2 * i : 2 * i + 2]]
        assert alone.choices[0].text != alone.choices[1].text
    ids = client.completions.create(prompt=[TOKENIZER.encode(prompt) for prompt in prompts], n=2, **options)
    assert [c.text for c in ids.choices] == [c.text for c in both.choices]


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0, "stop": "\n"},
        {"temperature": 0, "stop": [" three", "fruits"]},
        {"temperature": 0.9, "top_p": 0.8, "seed": 5},
        {"temperature": 1.2, "extra_body": {"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.2}, "seed": 6},
        {"temperature": 0, "presence_penalty": 1.0, "frequency_penalty": 0.5, "logit_bias": {"198": -100}},
        {"temperature": 0, "logprobs": 2, "echo": True},
        {"temperature": 0, "n": 2, "seed": 1},
        {"temperature": 0, "extra_body": {"ignore_eos": True, "min_tokens": 3, "stop_token_ids": [198]}},
    ],
    ids=str,
)
def test_a_stream_is_the_same_as_the_whole(client: openai.OpenAI, options: dict[str, Any]) -> None:
    asked = {"model": SMOLLM2, "prompt": "Name three fruits:", "max_tokens": 12, **options}
    whole = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    *told, last = chunks
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )
    assert {chunk.id for chunk in chunks} == {last.id}
    for choice in whole.choices:
        mine = [c for chunk in told for c in chunk.choices if c.index == choice.index]
        assert "".join(c.text for c in mine) == choice.text
        assert [c.finish_reason for c in mine] == [None] * (len(mine) - 1) + [choice.finish_reason]
        if choice.logprobs:
            tokens = [token for c in mine if c.logprobs for token in c.logprobs.tokens]
            values = [value for c in mine if c.logprobs for value in c.logprobs.token_logprobs]
            assert tokens == choice.logprobs.tokens
            assert values[1:] == pytest.approx(choice.logprobs.token_logprobs[1:], abs=1e-3)
    assert "198" not in options.get("logit_bias", {}) or "\n" not in whole.choices[0].text


def test_a_stop_string_is_no_part_of_the_answer(client: openai.OpenAI) -> None:
    free = client.completions.create(model=SMOLLM2, prompt="Count: 1, 2, 3,", max_tokens=16, temperature=0)
    stopped = client.completions.create(
        model=SMOLLM2, prompt="Count: 1, 2, 3,", max_tokens=16, temperature=0, stop=[" 6"]
    )
    assert stopped.choices[0].text == free.choices[0].text.partition(" 6")[0] != free.choices[0].text
    assert stopped.choices[0].finish_reason == "stop"


def test_numbers_of_tokens_in_every_piece(client: openai.OpenAI) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = client.completions.create(
        model=SMOLLM2, prompt="One", max_tokens=3, temperature=0, stream=True, stream_options=options
    )
    assert [chunk.usage.completion_tokens for chunk in chunks][-1] == 3


# ------------------------------------------------------------------ chat


def test_a_chat(client: openai.OpenAI, model: NativeEngine) -> None:
    prompt = TOKENIZER.chat(ASKED)
    ids, wanted = greedy(model, prompt, 8)
    answer = client.chat.completions.create(
        model=SMOLLM2, messages=ASKED, max_completion_tokens=8, temperature=0, logprobs=True, top_logprobs=3
    )
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", TOKENIZER.decode(ids[len(prompt) :]))
    assert (choice.finish_reason, choice.message.tool_calls, choice.message.refusal) == ("length", None, None)
    for i, told in enumerate(choice.logprobs.content):
        row, token = wanted[len(prompt) - 1 + i], ids[len(prompt) + i]
        assert bytes(told.bytes) == TOKENIZER.decode([token]).encode() == told.token.encode()
        assert told.logprob == pytest.approx(row[token], abs=1e-3)
        assert [top.logprob for top in told.top_logprobs] == pytest.approx(np.sort(row)[::-1][:3], abs=1e-3)
    assert answer.usage.prompt_tokens == len(prompt)


def test_a_chat_in_pieces(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": SMOLLM2, "messages": ASKED, "max_tokens": 40, "seed": 4, "n": 2, "logprobs": True}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])
    for choice in whole.choices:
        mine = [c for chunk in chunks for c in chunk.choices if c.index == choice.index]
        assert [c.delta.role for c in mine] == ["assistant"] + [None] * (len(mine) - 1)
        assert "".join(c.delta.content or "" for c in mine) == choice.message.content
        assert [c.finish_reason for c in mine] == [None] * (len(mine) - 1) + [choice.finish_reason]
        told = [token.token for c in mine if c.logprobs for token in c.logprobs.content]
        assert told == [token.token for token in choice.logprobs.content]
    assert whole.choices[0].message.content != whole.choices[1].message.content


def test_events_as_they_are_on_the_wire(at: str) -> None:
    asked = {"model": SMOLLM2, "messages": ASKED, "max_tokens": 2, "temperature": 0, "stream": True}
    answer = httpx2.post(f"{at}/v1/chat/completions", json=asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    first, *_, before, last, end = answer.text.split("\n\n")
    assert (last, end) == ("data: [DONE]", "")
    assert json.loads(first.removeprefix("data: "))["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    final = json.loads(before.removeprefix("data: "))
    assert (final["choices"][0]["finish_reason"], final["choices"][0]["delta"]) == ("length", {})
    assert "usage" not in final


def test_a_developer_is_the_system_and_parts_are_text(client: openai.OpenAI) -> None:
    def said(*messages: dict[str, Any]) -> str:
        options: dict[str, Any] = {"max_tokens": 12, "temperature": 0}
        return client.chat.completions.create(model=SMOLLM2, messages=messages, **options).choices[0].message.content

    text = {"role": "user", "content": "Who are you?"}
    parts = {"role": "user", "content": [{"type": "text", "text": "Who are you?"}]}
    wanted = said({"role": "system", "content": "You are a pirate."}, text)
    assert said({"role": "developer", "content": "You are a pirate."}, parts) == wanted != said(text)


def test_the_answers_of_others_go_back_as_they_came(client: openai.OpenAI) -> None:
    """A client sends the message that it got, with all its fields."""
    answer = client.chat.completions.create(model=SMOLLM2, messages=ASKED, max_tokens=5, temperature=0)
    again = [*ASKED, answer.choices[0].message.model_dump(), {"role": "user", "content": "More."}]
    more = client.chat.completions.create(model=SMOLLM2, messages=again, max_tokens=5, temperature=0)
    plain = [*ASKED, {"role": "assistant", "content": answer.choices[0].message.content}, again[-1]]
    assert more.usage.prompt_tokens == len(TOKENIZER.chat(plain))
    assert more.usage.prompt_tokens_details.cached_tokens > 30, "the beginning was not read again"


# ------------------------------------------------------------------ formats and tools

SCHEMA = {
    "type": "object",
    "properties": {"fruits": {"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 2}},
    "required": ["fruits"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Rome"]}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "The time."}}


def test_an_answer_by_a_schema(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "fruits", "schema": SCHEMA, "strict": True}}
    asked: dict[str, Any] = {"model": SMOLLM2, "messages": ASKED, "temperature": 0.8, "response_format": form}
    for seed in range(2):
        answer = client.chat.completions.create(**asked, seed=seed, max_tokens=80)
        assert answer.choices[0].finish_reason == "stop"
        validate(json.loads(answer.choices[0].message.content), SCHEMA)
        chunks = client.chat.completions.create(**asked, seed=seed, max_tokens=80, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == answer.choices[0].message.content


def test_a_regex_and_a_grammar(client: openai.OpenAI) -> None:
    for form, allowed in (
        ({"type": "regex", "regex": "(yes|no), [0-9]{2}"}, {f"{w}, {n:02}" for w in ("yes", "no") for n in range(100)}),
        ({"type": "grammar", "grammar": 'root ::= "up" | "down"'}, {"up", "down"}),
    ):
        answer = client.chat.completions.create(
            model=SMOLLM2, messages=ASKED, temperature=1, extra_body={"response_format": form}
        )
        assert answer.choices[0].message.content in allowed


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"get_weather", "clock"}),
        ({"type": "function", "function": {"name": "get_weather"}}, {"get_weather"}),
    ],
)
def test_forced_calls(client: openai.OpenAI, choice: Any, names: set[str], stream: bool) -> None:
    asked: dict[str, Any] = {"model": SMOLLM2, "messages": ASKED, "tools": [WEATHER, CLOCK], "tool_choice": choice}
    for seed in range(2):
        if stream:
            chunks = list(client.chat.completions.create(**asked, seed=seed, stream=True))
            calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
            reason = chunks[-1].choices[0].finish_reason
            assert [call.index for call in calls] == list(range(len(calls)))
            assert not any(chunk.choices[0].delta.content for chunk in chunks)
        else:
            answer = client.chat.completions.create(**asked, seed=seed).choices[0]
            calls, reason = answer.message.tool_calls, answer.finish_reason
            assert answer.message.content is None
        assert reason == "tool_calls"
        (call,) = calls
        assert call.function.name in names
        if call.function.name == "get_weather":
            validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])
        assert call.id.startswith("call_")


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}{% if tools %}{{ tools | tojson }}<think></think>{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SAID = (
    "<think>\nI need two.\n</think>\n\nI look.\n<tool_call>\n"
    '{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>\n<tool_call>\n'
    '{"name": "clock", "arguments": {}}\n</tool_call>'
)


def hermes() -> Tokenizer:
    """SmolLM2's tokenizer with a chat template that knows tools and reasoning."""
    return Tokenizer(TOKENIZER._backend, "hermes", TOKENIZER.eos_ids, {"default": TEMPLATE}, TOKENIZER.specials)


@pytest.fixture(scope="module")
def spoken() -> Iterator[openai.OpenAI]:
    made = service([offered("hermes", Spoken(saying(TOKENIZER, SAID)), hermes())])
    with running(made) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0) as client:
        yield client


def test_reasoning_text_and_parallel_calls(spoken: openai.OpenAI) -> None:
    answer = spoken.chat.completions.create(model="hermes", messages=ASKED, tools=[WEATHER, CLOCK])
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I look.")
    extra = choice.message.model_extra
    assert (extra["reasoning_content"], extra["reasoning"]) == ("I need two.", "I need two.")
    calls = [(c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls]
    assert calls == [("get_weather", {"city": "Oslo"}), ("clock", {})]
    assert 0 < answer.usage.completion_tokens_details.reasoning_tokens < answer.usage.completion_tokens
    chunks = list(spoken.chat.completions.create(model="hermes", messages=ASKED, tools=[WEATHER, CLOCK], stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(d.content or "" for d in deltas) == "I look."
    assert "".join((d.model_extra or {}).get("reasoning_content", "") for d in deltas) == "I need two."
    told = [call for d in deltas for call in d.tool_calls or []]
    assert [(c.index, c.function.name, json.loads(c.function.arguments)) for c in told] == [
        (0, *calls[0]),
        (1, *calls[1]),
    ]
    assert len({c.id for c in told}) == 2
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_one_call_where_several_are_not_wanted(spoken: openai.OpenAI) -> None:
    answer = spoken.chat.completions.create(
        model="hermes", messages=ASKED, tools=[WEATHER, CLOCK], parallel_tool_calls=False
    )
    assert [c.function.name for c in answer.choices[0].message.tool_calls] == ["get_weather"]


def test_without_tools_a_call_is_text(spoken: openai.OpenAI) -> None:
    for options in ({}, {"tools": [CLOCK], "tool_choice": "none"}):
        message = spoken.chat.completions.create(model="hermes", messages=ASKED, **options).choices[0]
        assert message.message.tool_calls is None
        assert "<tool_call>" in message.message.content
        assert message.finish_reason == "stop"


def test_a_call_that_is_cut_off_is_none(spoken: openai.OpenAI) -> None:
    answer = spoken.chat.completions.create(model="hermes", messages=ASKED, tools=[WEATHER, CLOCK], max_tokens=32)
    assert (answer.choices[0].finish_reason, answer.choices[0].message.tool_calls) == ("length", None)
    assert answer.choices[0].message.content == "I look."


def test_results_of_tools_go_to_the_template(spoken: openai.OpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "UTC"}'}}
    messages = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
    ]
    prompt = spoken.post("/../tokenize", body={"messages": messages}, cast_to=httpx2.Response).json()
    text = TOKENIZER.decode(prompt["tokens"])
    assert '<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>' in text
    assert "<|im_start|>tool\n12:00" in text


# ------------------------------------------------------------------ tokenizer


def test_the_tokenizer(at: str) -> None:
    told = httpx2.post(f"{at}/tokenize", json={"prompt": "Hi thére", "return_token_strs": True}).json()
    assert told["tokens"] == TOKENIZER.encode("Hi thére")
    assert "".join(told["token_strs"]) == "Hi thére"
    assert told["count"] == len(told["tokens"])
    assert httpx2.post(f"{at}/tokenize", json={"messages": ASKED}).json()["tokens"] == TOKENIZER.chat(ASKED)
    assert httpx2.post(f"{at}/detokenize", json={"tokens": told["tokens"]}).json() == {"prompt": "Hi thére"}
    info = httpx2.get(f"{at}/tokenizer_info").json()
    assert (info["eos_token"], info["chat_template"]) == ("<|im_end|>", TOKENIZER.templates["default"])


# ------------------------------------------------------------------ what is refused

CHAT = {"messages": ASKED, "max_tokens": 1}
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("completions", {"prompt": "x", "frobnicate": 1}, "frobnicate", "cannot be used"),
    ("completions", {}, "prompt", "prompt is missing"),
    ("completions", {"prompt": ""}, "prompt", "empty"),
    ("completions", {"prompt": "x", "temperature": -1}, "temperature", "a number from 0 to 100, got -1"),
    ("completions", {"prompt": "x", "temperature": "hot"}, "temperature", "got 'hot'"),
    ("completions", {"prompt": "x", "n": 0}, "n", "a whole number from 1"),
    ("completions", {"prompt": "x", "best_of": 2}, "best_of", "must be 1, got 2"),
    ("completions", {"prompt": "x", "store": True}, "store", "must be False"),
    ("completions", {"prompt": "x", "stop": [""]}, "stop[0]", "at least 1"),
    ("completions", {"prompt": "x", "max_tokens": 0}, "max_tokens", "needs echo"),
    ("completions", {"prompt": "x", "logit_bias": {"50000": 1}}, "logit_bias", "token 50000; ids end at 49151"),
    ("completions", {"prompt": [99999]}, "", "token ids run from 0 to 49151"),
    ("completions", {"prompt": "x " * 9000}, "", "the context of smollm2-135m-instruct is 8,192"),
    ("completions", {"prompt": "\ud800"}, "prompt", "halves of characters"),
    ("chat/completions", {"messages": []}, "messages", "at least 1"),
    ("chat/completions", {**CHAT, "messages": [{"role": "king", "content": "x"}]}, "messages[0].role", "got 'king'"),
    ("chat/completions", {**CHAT, "top_logprobs": 2}, "top_logprobs", "needs logprobs"),
    ("chat/completions", {**CHAT, "functions": []}, "functions", "give `tools`"),
    ("chat/completions", {**CHAT, "tool_choice": "required"}, "tool_choice", "there are no tools"),
    ("chat/completions", {**CHAT, "chat_template_kwargs": {"messages": []}}, "chat_template_kwargs", "may not set"),
    ("chat/completions", {**CHAT, "response_format": {"type": "regex", "regex": "(("}}, "", "regex cannot be used"),
    (
        "chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
        "messages[0].content[0]",
        "pictures",
    ),
]


@pytest.mark.parametrize(("path", "asked", "param", "said"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_is_refused_by_name(at: str, path: str, asked: dict[str, Any], param: str, said: str) -> None:
    answer = httpx2.post(f"{at}/v1/{path}", content=json.dumps(asked))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"] or "") == (400, param)
    assert said in error["message"]
    assert "\n" not in error["message"]
    assert error["type"] == "invalid_request_error"


def test_nulls_and_fields_without_effect_are_taken(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": SMOLLM2, "messages": ASKED, "max_tokens": 3, "temperature": 0}
    plain = client.chat.completions.create(**asked).choices[0].message.content
    extra = {"nonsense": None, "user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}
    extra |= {"safety_identifier": "x", "prompt_cache_key": "y", "parallel_tool_calls": True, "stop": None}
    assert client.chat.completions.create(**asked, extra_body=extra).choices[0].message.content == plain


def test_models(client: openai.OpenAI) -> None:
    (listed,) = client.models.list().data
    assert (listed.id, client.models.retrieve(SMOLLM2).id) == (SMOLLM2, SMOLLM2)
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'"):
        client.chat.completions.create(model="gpt", messages=ASKED)
