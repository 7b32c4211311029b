"""What goes wrong between clients and the server: each gets its status, nothing hangs, and the others go on."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from serving import SMOLLM2, Spoken, offered, running, service

import vitruvius as vt
from vitruvius.server.api import body
from vitruvius.server.api.application import Service
from vitruvius.server.api.models import Limits

TOKENIZER = vt.tokenizer(SMOLLM2)
PATHS = ["/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages", "/tokenize", "/detokenize"]
ASK: dict[str, Any] = {"prompt": "Hi", "max_tokens": 3, "temperature": 0}


@pytest.fixture(scope="module")
def made() -> Service:
    return service([offered("spoken", Spoken(lambda ids: 100 + len(ids) % 50, 0.001), TOKENIZER)])


@pytest.fixture(scope="module")
def at(made: Service) -> Iterator[str]:
    with running(made) as address:
        yield address


@pytest.fixture(autouse=True)
def others_go_on(made: Service, at: str) -> Iterator[None]:
    yield
    answer = httpx2.post(f"{at}/v1/completions", json=ASK, timeout=20)
    assert (answer.status_code, answer.json()["usage"]["completion_tokens"]) == (200, 3)
    for _ in range(300):
        if not made.models.open and made.models.live[0].resident.scheduler.idle:
            return
        time.sleep(0.01)
    raise AssertionError("something is still on its way")


def raw(at: str, data: bytes, wait: float = 5.0) -> bytes:
    """What comes back for bytes as they are."""
    host, _, port = at.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), wait) as connection:
        connection.sendall(data)
        found = b""
        while piece := connection.recv(65536):
            found += piece
            if b"\r\n\r\n" in found and b"chunked" not in found:
                break
        return found


def headed(path: str, length: object, content: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    return head.encode() + content


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"model": NaN}', "NaN is no JSON number"),
        (b'{"prompt": "\xff"}', "not UTF-8 (byte 12)"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "the request must be an object, got []"),
        (b'{"model": {"a": 1}}', "model must be a text"),
        (b'{"prompt": "\\ud800", "frobnicate": 1, "messages": 3, "input": 2.5, "tokens": "a"}', " must be "),
        (b'{"n": 1e400}', ""),
        (b'{"max_tokens": %s}' % (b"9" * 5000), ""),
    ],
    ids=["empty", "cut", "nan", "utf8", "deep", "list", "model", "surrogate", "infinite", "digits"],
)
def test_bodies_that_are_none(at: str, path: str, content: bytes, said: str) -> None:
    answer = httpx2.post(f"{at}{path}", content=content, headers={"content-type": "application/json"}, timeout=20)
    assert answer.status_code == 400, answer.text
    message = answer.json()["error"]["message"]
    assert "\n" not in message
    assert len(message) <= 500
    if "frobnicate" not in content.decode("latin-1"):
        assert said in message


def test_gigantic_bodies(at: str) -> None:
    """Refused by what they say of themselves, and when they say nothing, by what comes."""
    found = raw(at, headed("/v1/completions", 10**12, b"{"))
    assert found.startswith(b"HTTP/1.1 413")
    assert raw(at, headed("/v1/completions", "many", b"{")).startswith(b"HTTP/1.1 400")

    def pieces() -> Iterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(40):
            yield b"a" * 2**20

    try:
        answer = httpx2.post(f"{at}/v1/completions", content=pieces(), timeout=20)
        assert answer.status_code == 413
    except httpx2.HTTPError:  # the server has hung up before all was sent
        pass


def test_a_long_prompt_is_told_its_length(at: str) -> None:
    answer = httpx2.post(f"{at}/v1/completions", json={**ASK, "prompt": "word " * 200_000}, timeout=60)
    assert answer.status_code == 400
    assert "and the context of spoken is 8,192: shorten it" in answer.json()["error"]["message"]


def test_slow_and_half_closed_connections(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "SLOWEST", 0.3)
    assert raw(at, headed("/v1/completions", 100, b'{"prompt":')).startswith(b"HTTP/1.1 408")
    host, _, port = at.removeprefix("http://").partition(":")
    for content in (b"", b"POST /v1/comple", headed("/v1/completions", 100, b'{"pro')):
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            found = connection.recv(65536)
            assert found == b"" or found.startswith(b"HTTP/1.1 400"), found
    asked = json.dumps({**ASK, "max_tokens": 5000, "stream": True}).encode()
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(headed("/v1/completions", len(asked), asked))
        assert connection.recv(100)
    # and the fixture sees that the request behind it has ended


@pytest.mark.parametrize("garbage", [b"\x00\xff\x16\x03\x01", b"GET / SMTP\r\n\r\n", b"POST / HTTP/1.1\r\nA" * 9000])
def test_what_is_no_http(at: str, garbage: bytes) -> None:
    try:
        found = raw(at, garbage + b"\r\n\r\n")
    except OSError:  # it hung up while we were writing
        return
    assert found == b"" or found.startswith(b"HTTP/1.1 400")


def test_many_connections_and_a_storm_of_cancelled_requests(at: str) -> None:
    host, _, port = at.removeprefix("http://").partition(":")
    idle = [socket.create_connection((host, int(port)), 5) for _ in range(300)]
    asked = json.dumps({**ASK, "max_tokens": 5000, "stream": True}).encode()

    def leave(i: int) -> None:
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(headed("/v1/completions", len(asked), asked))
            if i % 2:
                connection.recv(50)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(leave, range(120)))
        statuses = list(
            pool.map(lambda _: httpx2.post(f"{at}/v1/completions", json=ASK, timeout=60).status_code, range(16))
        )
    assert set(statuses) <= {200, 429}
    for connection in idle:
        connection.close()


GRAMMARS = [
    {"type": "regex", "regex": "(a{1,9999}){1,9999}"},
    {"type": "regex", "regex": "(" * 5000},
    {"type": "regex", "regex": "(x+x+)+y" * 50},
    {"type": "grammar", "grammar": 'start: start start | "a"'},
    {"type": "grammar", "grammar": "start: " + "( " * 3000},
    {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "#"}}},
    {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": [f"{i}" * 20 for i in range(3000)]}}},
    {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nonsense"}}},
    {"type": "json_schema", "json_schema": {"name": "a", "schema": {"pattern": "a{99999999}", "type": "string"}}},
]


@pytest.mark.parametrize("form", GRAMMARS, ids=lambda form: str(form)[:50])
def test_grammars_that_explode(at: str, form: dict[str, Any]) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "response_format": form}
    httpx2.post(f"{at}/v1/chat/completions", json={**asked, "response_format": GRAMMARS[-2]}, timeout=20)  # warm
    begun = time.process_time()  # of this process, in which the server runs: others have the processor too
    answer = httpx2.post(f"{at}/v1/chat/completions", json=asked, timeout=20)
    assert time.process_time() - begun < 1
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert len(answer.json()["error"]["message"]) <= 500


@pytest.mark.parametrize(
    "arguments",
    [
        {"chat_template_kwargs": {"messages": []}},
        {"chat_template_kwargs": {"add_generation_prompt": "a" * 100_000}},
        {"messages": [{"role": "user", "content": "{% for i in range(10**9) %}a{% endfor %}{{ 7*'7' }}"}]},
        {"messages": [{"role": "user", "content": "a"}] * 3000},
        {"messages": [{"role": "tool", "content": "a", "tool_call_id": "none"}]},
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#/nowhere"}}}],
            "tool_choice": "required",
        },
    ],
    ids=["messages", "long", "template", "many", "tool", "ref"],
)
def test_conversations_that_are_odd(at: str, arguments: dict[str, Any]) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, **arguments}
    answer = httpx2.post(f"{at}/v1/chat/completions", json=asked, timeout=30)
    assert answer.status_code in (200, 400), answer.text


def test_more_answers_than_can_wait() -> None:
    few = service([offered("spoken", Spoken(lambda ids: 5, 0.001), TOKENIZER)], limits=Limits(running=2, waiting=2))
    with running(few) as address, ThreadPoolExecutor(12) as pool:
        asked = {**ASK, "max_tokens": 60}
        answers = list(pool.map(lambda _: httpx2.post(f"{address}/v1/completions", json=asked, timeout=60), range(12)))
        assert {answer.status_code for answer in answers} == {200, 429}
        assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 429)
        text = httpx2.get(f"{address}/metrics").text
        assert 'vllm:num_requests_waiting{model_name="spoken"} 0.0' in text
