"""The engine room of the server: one thread runs models; queues, cancels, deadlines, faults, memory, many models."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from serving import SMOLLM2, Spoken, offered, running, service

import vitruvius as vt
from vitruvius.errors import InputError
from vitruvius.server.api import memory
from vitruvius.server.api.application import Service
from vitruvius.server.api.models import Limits, Models

TOKENIZER = vt.tokenizer(SMOLLM2)
ASK = {"prompt": "Hi", "max_tokens": 4}


def forever(pause: float = 0.005, **options: Any) -> tuple[Service, Spoken]:
    """A server whose model never stops by itself."""
    runner = Spoken(lambda ids: 100 + len(ids), pause)
    return service([offered("spoken", runner, TOKENIZER)], **options), runner


def until(what: Any) -> None:
    for _ in range(300):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


def post(at: str, **asked: Any) -> httpx2.Response:
    return httpx2.post(f"{at}/v1/completions", json={**ASK, **asked}, timeout=20)


def test_requests_run_beside_each_other() -> None:
    made, runner = forever()
    with running(made) as at, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: post(at, max_tokens=20).json(), range(6)))
    assert {answer["choices"][0]["text"] for answer in answers} == {TOKENIZER.decode(range(101, 121))}
    assert max(runner.steps) >= 3, "they were not stepped one after the other"


def test_who_comes_when_the_queue_is_full_is_told_to_come_again() -> None:
    made, _ = forever(limits=Limits(running=1, waiting=1))
    with running(made) as at, ThreadPoolExecutor(2) as pool:
        two = [pool.submit(post, at, max_tokens=60) for _ in range(2)]
        until(lambda: made.models.open == 2)
        refused = post(at)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["code"] == "queue_full"
        assert [each.result().status_code for each in two] == [200, 200]
        assert post(at).status_code == 200
        too_many = post(at, n=3)
        assert (too_many.status_code, too_many.json()["error"]["param"]) == (400, "n")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_its_request(stream: bool) -> None:
    made, runner = forever()
    with running(made) as at:
        if stream:
            with httpx2.stream(
                "POST", f"{at}/v1/completions", json={**ASK, "max_tokens": 5000, "stream": True}
            ) as answer:
                assert next(answer.iter_lines()).startswith("data: ")
        else:
            with pytest.raises(httpx2.TimeoutException):
                httpx2.post(f"{at}/v1/completions", json={**ASK, "max_tokens": 5000}, timeout=0.3)
        until(lambda: made.models.open == 0)
        until(lambda: made.models.live[0].resident.scheduler.idle)
        steps = len(runner.steps)
        time.sleep(0.1)
        assert len(runner.steps) == steps


@pytest.mark.parametrize("where", ["request", "server"])
def test_a_deadline(where: str) -> None:
    made, _ = forever(limits=Limits(seconds=0.2) if where == "server" else Limits())
    with running(made) as at:
        asked = {"max_tokens": 5000, **({"timeout": 0.2} if where == "request" else {})}
        answer = post(at, **asked)
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout_error")
        streamed = post(at, **asked, stream=True).text
        *_, last, _ = streamed.split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["type"] == "timeout_error"
        assert "[DONE]" not in streamed
        until(lambda: made.models.open == 0)


def test_a_fault_of_the_model_is_told_to_all_who_wait_and_the_next_are_answered() -> None:
    made, runner = forever()
    with running(made) as at, ThreadPoolExecutor(3) as pool:
        three = [pool.submit(post, at, max_tokens=5000, stream=i == 2) for i in range(3)]
        until(lambda: made.models.open == 3 and len(runner.steps) > 5)
        runner.fault = RuntimeError("cannot be")
        first, second, streamed = (each.result() for each in three)
        runner.fault = None
        assert [first.status_code, second.status_code] == [503, 503]
        assert "fault (RuntimeError)" in first.json()["error"]["message"]
        assert "fault (RuntimeError)" in streamed.text
        assert "[DONE]" not in streamed.text
        assert post(at).json()["choices"][0]["text"]
        assert httpx2.get(f"{at}/health").status_code == 200


def test_when_the_thread_has_ended_nobody_waits() -> None:
    made, runner = forever()
    with running(made) as at, ThreadPoolExecutor(1) as pool:
        one = pool.submit(post, at, max_tokens=5000)
        until(lambda: len(runner.steps) > 5)

        def bug() -> None:
            raise KeyError("ours")

        made.models.worker.post(bug)
        assert one.result().status_code == 503
        assert post(at).status_code == 503
        assert httpx2.get(f"{at}/health").status_code == 503


def test_stopping_lets_what_is_at_work_finish() -> None:
    made, runner = forever()
    with ThreadPoolExecutor(1) as pool:
        with running(made) as at:
            one = pool.submit(post, at, max_tokens=60)
            until(lambda: len(runner.steps) > 5)
        answer = one.result()
        assert (answer.status_code, answer.json()["usage"]["completion_tokens"]) == (200, 60)


def test_memory_is_never_exceeded() -> None:
    """A token costs a byte here, and a remembered sequence has room for as much again."""
    made, runner = forever(pause=0.0, memory=1000 + 5000)
    most: list[int] = []
    scheduler = made._ready[0].resident.scheduler
    step = runner.step

    def watched(parts: Any) -> Any:
        most.append(scheduler.reserved)
        return step(parts)

    runner.step = watched  # type: ignore[method-assign]
    with running(made) as at, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: post(at, prompt=f"Number {i}", max_tokens=40).status_code, range(8)))
        assert answers == [200] * 8
        assert max(most) <= 5000
        refused = post(at, max_tokens=8000)
        assert refused.status_code == 400
        assert "bytes of memory" in refused.json()["error"]["message"]


# ------------------------------------------------------------------ many models


@pytest.fixture
def three() -> Iterator[tuple[str, Service, list[str]]]:
    """Three models, of which two fit."""
    opened: list[str] = []
    offers = []
    for i, name in enumerate("abc"):
        made = offered(name, Spoken(lambda ids, i=i: 200 + i, 0.005), TOKENIZER, weights=1_000_000)

        def open_(made: Any = made, name: str = name) -> Any:
            opened.append(name)
            return made.open()

        object.__setattr__(offer := offered(name, *made.open(), weights=1_000_000), "open", open_)
        offers.append(offer)
    made_service = service(offers, memory=2_500_000, limits=Limits(idle=1.0))
    with running(made_service) as at:
        yield at, made_service, opened


def test_models_are_loaded_when_asked_for_and_make_room(three: tuple[str, Service, list[str]]) -> None:
    at, made, opened = three
    live = lambda: [each.offer.name for each in made.models.live]  # noqa: E731
    assert (live(), opened) == (["a"], ["a"])
    for name in "bca":
        text = post(at, model=name, temperature=0).json()["choices"][0]["text"]
        assert text == TOKENIZER.decode([200 + "abc".index(name)] * 4)
        assert name in live()
        assert len(live()) <= 2
    assert opened == ["a", "b", "c", "a"]
    until(lambda: live() == [])  # idle
    assert post(at, model="b").status_code == 200


def test_a_model_in_use_is_not_unloaded(three: tuple[str, Service, list[str]]) -> None:
    at, _, opened = three
    with ThreadPoolExecutor(3) as pool:
        busy = [pool.submit(post, at, model=name, max_tokens=100) for name in "ab"]
        time.sleep(0.1)
        waiting = pool.submit(post, at, model="c")
        assert [each.result().status_code for each in [*busy, waiting]] == [200] * 3
        assert opened == ["a", "b", "c"]


def test_an_unknown_model(three: tuple[str, Service, list[str]]) -> None:
    answer = post(three[0], model="d")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert "there are a, b, c" in answer.json()["error"]["message"]


def test_weights_that_can_never_fit_are_refused_at_once() -> None:
    offer = offered("large", Spoken(lambda ids: 5), TOKENIZER, weights=2**40)
    with pytest.raises(InputError, match=r"large needs 1.0 TiB for its weights, and there are 4.0 GiB"):
        Models([offer], 4 * 2**30, Limits())


@pytest.mark.parametrize(
    ("text", "size"), [("8G", 2**33), ("512m", 2**29), ("1.5 GiB", 3 * 2**29), ("100000", 100_000)]
)
def test_sizes_of_memory(text: str, size: int) -> None:
    assert memory.parsed(text) == size


@pytest.mark.parametrize("text", ["", "G", "0", "-1G", "8 potatoes", "1e9"])
def test_what_is_no_size_of_memory(text: str) -> None:
    with pytest.raises(InputError, match="memory is given as 8G"):
        memory.parsed(text)


# ------------------------------------------------------------------ who may ask


def test_a_key() -> None:
    made, _ = forever(keys=["one", "two"])
    with running(made) as at:
        assert post(at).status_code == 401
        for headers, status in (
            ({"Authorization": "Bearer one"}, 200),
            ({"authorization": "bearer two"}, 200),
            ({"x-api-key": "two"}, 200),
            ({"Authorization": "Bearer three"}, 401),
            ({"Authorization": "Basic one"}, 401),
        ):
            found = httpx2.get(f"{at}/v1/models", headers=headers)
            assert found.status_code == status, headers
        assert httpx2.get(f"{at}/health").status_code == 200
        assert httpx2.get(f"{at}/metrics").status_code == 401


def test_pages_of_others_and_foreign_names() -> None:
    made, _ = forever(origins=["https://chat.example"])
    with running(made) as at:
        assert httpx2.get(f"{at}/v1/models", headers={"Host": "evil.example"}).status_code == 421
        assert httpx2.get(f"{at}/v1/models", headers={"Origin": "https://evil.example"}).status_code == 403
        allowed = httpx2.get(f"{at}/v1/models", headers={"Origin": "https://chat.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://chat.example"
        assert httpx2.get(f"{at}/v1/models", headers={"Origin": at}).status_code == 200
        asked = httpx2.options(f"{at}/v1/completions", headers={"Origin": "https://chat.example"})
        assert asked.status_code == 204


def test_the_thread_is_one() -> None:
    made, runner = forever()
    names: set[str] = set()
    step = runner.step

    def watched(parts: Any) -> Any:
        names.add(threading.current_thread().name)
        return step(parts)

    runner.step = watched  # type: ignore[method-assign]
    with running(made) as at, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: post(at), range(8)))
    assert names == {"models"}
